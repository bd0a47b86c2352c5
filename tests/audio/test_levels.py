"""Samples beyond full scale, outliers, NaN and infinity."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sound_files import RATE, every_way, noise, read_source

import nac
from nac.audio.levels import measure
from nac.errors import AudioError


def written(form: str, samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    if form != "mkv":
        soundfile.write(file, samples, RATE, format=form, subtype="FLOAT")
        return file.getvalue()
    with av.open(file, "w", format="matroska") as container:
        name = "stereo" if samples.shape[1] == 2 else "mono"
        stream = container.add_stream("pcm_f32le", rate=RATE, layout=name)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), "flt", name)
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("form", ["WAV", "W64", "AIFF", "CAF", "AU", "mkv"])
def test_what_is_no_number_is_a_zero_and_told(tmp_path: Path, form: str) -> None:
    sound = noise(9000, 2)
    sound[100], sound[5000, 1], sound[6000, 0] = np.nan, np.inf, -np.inf
    for way in every_way(tmp_path / "x", written(form, sound)):
        samples, source = read_source(way)
        assert np.array_equal(samples, np.nan_to_num(sound, nan=0, posinf=0, neginf=0))
        assert source.notes == ("4 NaN or infinite samples were replaced by zeros",)
        assert source.peak == 1


@pytest.mark.parametrize("wild", [1e20, -1e20, 3e38, 1000.0, 17.0])
def test_a_wild_sample_does_not_silence_the_rest(tmp_path: Path, wild: float) -> None:
    sound = noise(9000)
    sound[4000] = wild
    for way in every_way(tmp_path / "x", written("WAV", sound)):
        samples, source = read_source(way)
        assert samples[4000] == np.sign(wild)
        assert np.array_equal(np.delete(samples, 4000), np.delete(sound, 4000))
        assert source.peak == 1
        assert "1 outlier of up to" in source.notes[0]


def test_what_is_loud_as_a_whole_or_in_places_is_not_wild() -> None:
    for sound in (noise(9000) * 30000, np.concatenate([np.zeros((99000, 1)), noise(1000) * 200]), noise(9000) * 8):
        assert measure([sound.astype("f4")]).notes == ()
    click = noise(9000)
    click[50] = 4
    assert measure([click]).peak == 4
    assert measure([np.full((3, 1), 1e30, "f4")]).peak == np.float32(1e30)


def test_a_recording_above_full_scale_comes_back_at_its_level_where_that_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    time = np.arange(24000)[:, None] / 24000
    loud = (2.5 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", loud, 24000, subtype="FLOAT")
    nac.compress(tmp_path / "x.wav", tmp_path / "x.nac", model="nac_24khz")
    assert "peak is 8.0 dB above full scale" in caplog.text
    level = {}
    for name, bits in (("a.wav", "16"), ("b.wav", "24"), ("c.wav", "float"), ("d.flac", "24"), ("e.flac", None)):
        caplog.clear()
        nac.decompress(tmp_path / "x.nac", tmp_path / name, bits=bits)
        assert ("8.0 dB above full scale" in caplog.text) == (bits != "float")
        level[name] = float(np.sqrt(np.mean(soundfile.read(tmp_path / name)[0] ** 2)))
        assert soundfile.info(tmp_path / name).subtype == {"24": "PCM_24", "float": "FLOAT"}.get(bits, "PCM_16")
    want = float(np.sqrt(np.mean(nac.read(tmp_path / "x.nac")[0] ** 2)))
    assert level.pop("c.wav") == pytest.approx(want, rel=1e-5)
    assert all(found == pytest.approx(want / 2.5, rel=1e-3) for found in level.values())
    for name, message in (("x.flac", "flac has samples of 16 or 24 bits"), ("x.opus", "opus is lossy")):
        with pytest.raises(AudioError, match=message):
            nac.decompress(tmp_path / "x.nac", tmp_path / name, bits="float")


@pytest.mark.parametrize(("samples", "few"), [(4, 1), (8, 2), (40, 10), (64, 16), (100, 16), (300_000, 19)])
def test_a_few_samples_are_wild_and_more_are_the_recording(samples: int, few: int) -> None:
    """Of a short recording up to a quarter, of a long one one in a hundred thousand more."""
    for loud, wild in ((few, True), (few + 1, False)):
        block = np.full((samples, 1), 0.5, np.float32)
        block[:loud] = 500
        found = measure([block[: samples // 2], block[samples // 2 :]])
        assert (found.peak, bool(found.notes)) == (1.0 if wild else 500.0, wild)
