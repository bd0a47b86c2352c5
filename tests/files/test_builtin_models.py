"""The models in the package in whole files: compressed, read from anywhere, peeled, cut, joined, as datasets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

import nac
from nac.codecs.registry import MODELS

AUDIO = Path(__file__).parents[2] / "examples" / "audio"
NAMES = ["nac_24khz", "nac_48khz"]


@pytest.fixture(scope="module")
def recording() -> tuple[np.ndarray, int]:
    """Stereo, of more than one window and chunk."""
    samples, rate = soundfile.read(AUDIO / "guitar.flac", dtype="float32", always_2d=True)
    samples = np.tile(samples[:, [0, -1]], (2, 1))[: 11 * rate]
    samples[:, 1] = 0.5 * samples[:, 1] + 0.2 * np.roll(samples[:, 1], 1000)
    return samples, rate


@pytest.fixture(scope="module", params=NAMES)
def file(request: pytest.FixtureRequest, recording: tuple[np.ndarray, int]) -> bytes:
    return nac.encode(*recording, model=request.param, kbps=9)


def test_stereo_comes_back(file: bytes, recording: tuple[np.ndarray, int]) -> None:
    samples, rate = recording
    info = nac.info(io.BytesIO(file))
    assert (info.channels, info.streams, info.chunks, info.sample_rate) == (2, 2, 2, rate)
    assert info.fingerprint == nac.load(info.model).spec.fingerprint
    decoded, found = nac.decode(file)
    assert (decoded.shape, found) == (samples.shape, rate)
    assert np.isfinite(decoded).all()
    for channel in range(2):
        assert np.corrcoef(decoded[:, channel], samples[:, channel])[0, 1] > 0.8


def test_any_stretch_is_that_of_the_whole(file: bytes, recording: tuple[np.ndarray, int]) -> None:
    rate = recording[1]
    whole = nac.decode(file)[0]
    for start, duration in ((0.0, 1.0), (3.4, 0.5), (9.9, 0.3), (10.2, 9.0)):
        low = round(start * rate)
        part = nac.read(io.BytesIO(file), start=start, duration=duration)[0]
        assert np.array_equal(part, whole[low : low + round(duration * rate)])


def test_cut_and_joined_and_peeled(file: bytes) -> None:
    whole, codes = nac.decode(file)[0], nac.read_codes(io.BytesIO(file))
    parts = [io.BytesIO(), io.BytesIO()]
    nac.cut(io.BytesIO(file), parts[0], duration=7)
    nac.cut(io.BytesIO(file), parts[1], start=7)
    joined = io.BytesIO()
    nac.cat([io.BytesIO(part.getvalue()) for part in parts], joined)
    decoded = nac.decode(joined.getvalue())[0]
    assert decoded.shape == whole.shape
    np.testing.assert_array_equal(decoded, whole)
    peeled = io.BytesIO()
    nac.peel(io.BytesIO(file), peeled, codebooks=2)
    for fewer, stream in zip(nac.read_codes(io.BytesIO(peeled.getvalue())), codes, strict=True):
        assert np.array_equal(fewer, stream[: len(fewer)])
    assert np.isfinite(nac.decode(peeled.getvalue())[0]).all()


def test_equal_channels_cost_one(recording: tuple[np.ndarray, int]) -> None:
    samples, rate = recording
    for name in NAMES:
        both, one = (
            nac.encode(np.repeat(samples[:, :1], count, axis=1), rate, model=name, kbps=3) for count in (2, 1)
        )
        assert nac.info(io.BytesIO(both)).codebooks[0] == nac.info(io.BytesIO(one)).codebooks[0]
        decoded = nac.decode(both)[0]
        assert np.array_equal(decoded[:, 0], decoded[:, 1])


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize(
    "frequency", [50, 75, 150, 440, 1000, 1500, 2345, 3000, 6000, 9000, 12_000, 15_000, 18_000]
)
def test_a_lone_tone_keeps_its_level_and_pitch(rate: int, frequency: int) -> None:
    sine = (0.3 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)).astype(np.float32)
    file = nac.encode(sine[:, None], rate, model="nac_48khz", kbps=3)
    middle = slice(rate // 5, -rate // 5)
    power, before = (np.square(np.abs(np.fft.rfft(x[middle]))) for x in (nac.decode(file)[0][:, 0], sine))
    near = np.abs(np.arange(len(power)) * rate / (rate - 2 * (rate // 5)) - frequency) < 40
    assert abs(10 * np.log10(power[near].sum() / before[near].sum())) < 3
    assert power[~near].sum() < 0.1 * power.sum()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 319, 640, 641, 24_000])
def test_short_and_silent_recordings(name: str, length: int) -> None:
    rate = MODELS[name].spec.sample_rate
    for samples in (np.zeros(length, np.float32), np.linspace(-1, 1, length, dtype=np.float32)):
        decoded = nac.decode(nac.encode(samples, rate, model=name))[0]
        assert decoded.shape == (length, 1)
        assert np.isfinite(decoded).all()
    assert not nac.decode(nac.encode(np.zeros(length), rate, model=name))[0].any()


def test_as_a_dataset(file: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.nac").write_bytes(file)
    codes = nac.read_codes(io.BytesIO(file))[0]
    (item,) = nac.Dataset(tmp_path, codebooks=4)
    assert np.array_equal(np.asarray(item), codes[:4])
