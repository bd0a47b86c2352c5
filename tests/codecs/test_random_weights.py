"""Codecs with random weights: sound passes through them as through trained ones."""

from __future__ import annotations

import oracles
import pytest
import torch
from narrow_codecs import narrow_codecs

from nac.codecs.layers import Weights
from nac.codecs.specs import SPECS
from nac.evaluate import random_weights
from nac.weights import checkpoints


@pytest.mark.parametrize("name", ["soundstream_16khz", "encodec_24khz"])
def test_codes_and_sound_are_lively(name: str) -> None:
    codec = random_weights.codec(name)
    codes = codec.encode(oracles.synthetic(16000, codec.spec.sample_rate))
    assert all(len(array.unique()) >= 3 for array in codes.arrays)
    sound = codec.decode(codes)
    assert 0.01 < sound.std() < 1
    assert torch.equal(sound, random_weights.codec(name).decode(codes))


def test_the_tensors_are_a_checkpoint() -> None:
    with narrow_codecs() as codecs:
        for name, codec in codecs.items():
            weights = random_weights.RandomWeights()
            checkpoints.build(SPECS[name], weights)
            again = checkpoints.build(codec.spec, Weights(weights.tensors))
            audio = oracles.synthetic(3000, codec.spec.sample_rate, codec.spec.channels)
            assert torch.equal(again.encode(audio).arrays[0], random_weights.codec(name).encode(audio).arrays[0])
