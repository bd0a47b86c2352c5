"""EnCodec, DAC, SNAC and Mimi against their reference implementations, at official size, from official layouts.

Codes must be equal, save for choices between entries equally near; audio must agree within 1e-4.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import oracles
import pytest
import torch
from torch import Tensor

from nac.codecs import registry
from nac.codecs.base import Codec, Codes
from nac.codecs.registry import MODELS
from nac.codecs.windows import WindowedCodec

NAMES = [name for name, model in MODELS.items() if model.spec.family in oracles.FAMILIES]


@dataclass
class Pair:
    ours: Codec
    theirs: oracles.Oracle


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Our codec with the weights that the reference saved. One at a time: they are large."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tests may run side by side, and threads that wait for each other take longest
    theirs = oracles.oracle(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    ours = registry.load(theirs.spec, theirs.save(folder), torch.device("cpu"))
    for file in folder.iterdir():
        file.unlink()
    yield Pair(ours, theirs)
    torch.set_num_threads(threads)
    del ours, theirs
    gc.collect()


def clips(pair: Pair) -> list[Tensor]:
    """Sounds as long as tell something: odd lengths, speech, and music in stereo."""
    spec = pair.theirs.spec
    rate = spec.sample_rate
    seconds = {"encodec": 1.3, "dac": 0.3, "snac": 0.5, "mimi": 1.3}[spec.family]
    samples = int(seconds * rate) | 1
    sounds = [oracles.synthetic(samples, rate, spec.channels, seed=7)]
    if oracles.AUDIO.exists():
        speech = oracles.recording("speech_mono_44k1.flac", rate, 1.0, samples)
        sounds.append(speech.expand(1, spec.channels, -1))
        stereo = oracles.recording("music_stereo_44k1.flac", rate, 2.0, samples)
        sounds.append(stereo[:, -spec.channels :])
    return sounds


def test_codes_and_audio_are_the_references(pair: Pair) -> None:
    equal = total = 0
    for audio in clips(pair):
        ours, theirs = pair.ours.encode(audio), pair.theirs.encode(audio)
        pair.theirs.assert_near_ties(audio, ours, theirs)
        for a, b in zip(ours.arrays, theirs.arrays, strict=True):
            equal, total = equal + int((a == b).sum()), total + b.numel()
        if theirs.scale is not None:
            torch.testing.assert_close(ours.scale, theirs.scale, rtol=1e-6, atol=1e-9)
        assert all(len(array.unique()) > array.numel() / 10 for array in theirs.arrays[-1:]), "dull codes"
        assert_same_audio(pair, theirs)
    assert equal >= 0.999 * total


def assert_same_audio(pair: Pair, codes: Codes) -> None:
    spec = pair.theirs.spec
    ours, theirs = pair.ours.decode(codes), pair.theirs.decode(codes)
    missing = 8 if spec.name in ("dac_16khz", "dac_24khz") else 0
    assert theirs.shape[-1] == ours.shape[-1] - missing
    torch.testing.assert_close(ours[..., : theirs.shape[-1]], theirs, rtol=0, atol=1e-4)
    assert theirs.std() > 1e-3


@pytest.mark.parametrize("samples", [1, 7, 319, 640, 2049])
def test_short_signals(pair: Pair, samples: int) -> None:
    spec = pair.theirs.spec
    audio = oracles.synthetic(samples, spec.sample_rate, spec.channels, seed=samples)
    ours, theirs = pair.ours.encode(audio), pair.theirs.encode(audio)
    assert ours.frames(spec) == spec.frames(samples)
    pair.theirs.assert_near_ties(audio, ours, theirs)
    assert_same_audio(pair, theirs)
    assert pair.ours.decode(theirs, samples).shape[-1] == samples


def test_a_recording_longer_than_attention_sees(pair: Pair) -> None:
    """More than twice as long, so that in the later half nothing is as at the beginning."""
    spec = pair.theirs.spec
    if spec.family != "mimi":
        pytest.skip("sees no further than the clips are long, or all there is")
    audio = oracles.synthetic(21 * spec.sample_rate + 77, spec.sample_rate, seed=5)
    ours, theirs = pair.ours.encode(audio), pair.theirs.encode(audio)
    pair.theirs.assert_near_ties(audio, ours, theirs)
    equal = sum(int((a == b).sum()) for a, b in zip(ours.arrays, theirs.arrays, strict=True))
    assert equal >= 0.999 * sum(array.numel() for array in theirs.arrays)
    assert_same_audio(pair, theirs)


def test_windows_are_the_whole_signal(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference takes a signal whole, and we in windows, from blocks cut anywhere."""
    spec = pair.theirs.spec
    if not isinstance(pair.ours, WindowedCodec):
        pytest.skip("not computed in windows")
    for plan in ("encode_plan", "decode_plan"):
        monkeypatch.setattr(pair.ours, plan, replace(getattr(pair.ours, plan), window=4))
    frames = 12 if spec.family == "snac" else 28
    audio = oracles.synthetic(frames * spec.frame_samples, spec.sample_rate, seed=3)
    theirs = pair.theirs.encode(audio)
    encoder, decoder = pair.ours.encoder(), pair.ours.decoder()
    cut = audio.shape[-1] * 2 // 3 + 1
    ours = Codes.join([encoder.push(audio[..., :cut]), encoder.push(audio[..., cut:]), encoder.flush()])
    pair.theirs.assert_near_ties(audio, ours, theirs)
    sound = torch.cat([decoder.push(theirs), decoder.flush()], -1)
    reference = pair.theirs.decode(theirs)
    torch.testing.assert_close(sound[..., : reference.shape[-1]], reference, rtol=0, atol=1e-4)


def test_original_layouts(pair: Pair, tmp_path: Path) -> None:
    """The same weights as the original packages save them."""
    if not isinstance(pair.theirs, oracles.Encodec | oracles.Mimi) and pair.theirs.name != "dac_16khz":
        pytest.skip("published in one layout, or as another model of the family")
    file = pair.theirs.save_original(tmp_path)
    again = registry.load(pair.theirs.spec, file, torch.device("cpu"))
    file.unlink()
    audio = oracles.synthetic(5000, pair.theirs.spec.sample_rate, pair.theirs.spec.channels)
    codes = pair.ours.encode(audio)
    pair.theirs.assert_near_ties(audio, again.encode(audio), codes)
    torch.testing.assert_close(again.decode(codes), pair.ours.decode(codes), rtol=0, atol=1e-4)
    assert again.spec.fingerprint == pair.ours.spec.fingerprint


def test_every_prefix_of_the_codebooks(pair: Pair) -> None:
    spec = pair.theirs.spec
    audio = oracles.synthetic(spec.frame_samples * spec.frame_multiple, spec.sample_rate, spec.channels)
    everything = pair.ours.encode(audio)
    sounds = []
    for count in sorted({1, 2, len(spec.codebooks) // 2, len(spec.codebooks)}):
        some = pair.ours.encode(audio, count)
        assert len(some.arrays) == count
        assert all(torch.equal(a, b) for a, b in zip(some.arrays, everything.arrays, strict=False))
        sounds.append(pair.ours.decode(some))
        assert sounds[-1].shape == (1, spec.channels, everything.frames(spec) * spec.frame_samples)
    assert not any(torch.equal(a, b) for a, b in pairwise(sounds))
