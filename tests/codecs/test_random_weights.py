"""Codecs with random weights: sound passes through them as through trained ones."""

from __future__ import annotations

from pathlib import Path

import oracles
import pytest
import torch
from narrow_codecs import narrow_codecs
from safetensors.torch import save_file

from nac.codecs import registry
from nac.codecs.registry import MODELS


@pytest.mark.parametrize("name", ["soundstream_16khz", "encodec_24khz"])
def test_codes_and_sound_are_lively(name: str) -> None:
    codec, _ = registry.random(MODELS[name].spec)
    codes = codec.encode(oracles.synthetic(16000, codec.spec.sample_rate))
    assert all(len(array.unique()) >= 3 for array in codes.arrays)
    sound = codec.decode(codes)
    assert 0.01 < sound.std() < 1
    assert torch.equal(sound, registry.random(MODELS[name].spec)[0].decode(codes))


def test_the_tensors_are_a_checkpoint(tmp_path: Path) -> None:
    with narrow_codecs() as codecs:
        for name, codec in codecs.items():
            tensors = registry.random(MODELS[name].spec)[1]
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / name)
            again = registry.load(codec.spec, tmp_path / name, torch.device("cpu"))
            audio = oracles.synthetic(3000, codec.spec.sample_rate, codec.spec.channels)
            assert torch.equal(again.encode(audio).arrays[0], codec.encode(audio).arrays[0])


def test_a_seed_makes_its_own_weights() -> None:
    with narrow_codecs() as codecs:
        for name in codecs:
            first, same, other = (registry.random(MODELS[name].spec, seed=seed)[1] for seed in (1, 1, 2))
            assert first.keys() == same.keys() == other.keys()
            assert all(torch.equal(first[key], same[key]) for key in first)
            assert any(not torch.equal(first[key], other[key]) for key in first)
