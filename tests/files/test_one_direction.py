"""Two channels with the sound of one get the codebooks of one."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from container_files import SPEECH

import nac
from nac.audio import reading, stereo
from nac.bitrate import allocate, default_kbps, ladder
from nac.codecs.registry import MODELS
from nac.container import Chunk, Reader, Writer, verify
from nac.files.opening import opened

SPEC = MODELS["nac_24khz"].spec
RATE = 24000
RELATIONS = {"left": (1, 0), "right": (0, 1), "equal": (1, 1), "opposite": (1, -1)}


def voice(seconds: float = 3.0) -> np.ndarray:
    """Something to code, that begins with silence so that the angle has to be known beforehand."""
    clock = np.arange(int(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * f * clock) / k for k, f in enumerate((220, 445, 671, 1330), 1))
    return np.round(6000 * sound * (clock > 0.5) * np.minimum(1, clock)).astype(np.int16)


def compressed(folder: Path, channels: np.ndarray, **options: object) -> bytes:
    soundfile.write(folder / "sound.wav", channels, RATE, subtype="PCM_16")
    nac.compress(folder / "sound.wav", folder / "sound.nac", model="nac_24khz", force=True, **options)
    return (folder / "sound.nac").read_bytes()


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("kbps", [1.5, 6, 7, 12])
def test_the_codes_are_those_of_one_channel(relation: str, kbps: float, tmp_path: Path) -> None:
    sound = voice()
    mono = nac.open(io.BytesIO(compressed(tmp_path, sound, kbps=kbps)))
    pair = nac.open(io.BytesIO(compressed(tmp_path, np.outer(sound, RELATIONS[relation]).astype("i2"), kbps=kbps)))
    first, second = pair.codes()
    (only,) = mono.codes()
    assert pair.info().kbps == mono.info().kbps
    assert (len(first), len(second)) == (len(only), 0)
    if relation in ("equal", "left", "right"):  # the opposite is the same sound upside down
        same = np.mean([np.mean(a == b) for a, b in zip(first, only, strict=True)])
        assert same > (0.999 if relation == "equal" else 0.0)


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_channels_come_back_related_so(relation: str, tmp_path: Path) -> None:
    weights = np.array(RELATIONS[relation])
    compressed(tmp_path, np.outer(voice(), weights).astype("i2"), kbps=6)
    samples, _ = nac.read(tmp_path / "sound.nac")
    level = samples @ weights / (weights @ weights)
    assert np.abs(samples - np.outer(level, weights)).max() < 1e-6
    assert np.square(level[RATE:]).mean() > 0.001


@pytest.mark.parametrize("relation", ["equal", "left"])
def test_peeling_gives_the_file_of_the_lower_bitrate(relation: str, tmp_path: Path) -> None:
    channels = np.outer(voice(), RELATIONS[relation]).astype("i2")
    whole = compressed(tmp_path, channels, kbps=9)
    for kbps in (0.75, 1.5, 3, 6):
        less = io.BytesIO()
        nac.peel(io.BytesIO(whole), less, kbps=kbps)
        assert less.getvalue() == compressed(tmp_path, channels, kbps=kbps)


def test_peeling_drops_a_stream_with_its_scales() -> None:
    """No network of today has both pairs and scales, but the format allows it."""
    header = replace(SPEECH, stereo_pair=True, channels=2, stream_codebooks=(2, 2), has_scale=True, samples=1920)
    codes, scale = [np.arange(2, dtype=np.uint16)] * 2, np.ones(1, np.float32)
    file, out = io.BytesIO(), io.BytesIO()
    writer = Writer(file, header)
    writer.write(Chunk.pack(header, 0, 2, [codes, codes], scales=[scale, scale / 2]))
    writer.finish(1920)
    nac.peel(io.BytesIO(file.getvalue()), out, kbps=0.2)
    out.seek(0)
    assert verify(out).header.stream_codebooks == (1, 0)
    out.seek(0)
    assert [chunk.scales for chunk in Reader(out).chunks()] == [((1.0,), ())]


def test_sound_that_is_different_anywhere_is_a_pair(tmp_path: Path) -> None:
    channels = np.repeat(voice(21)[:, None], 2, axis=1)
    channels[-100, 1] += 300
    compressed(tmp_path, channels, kbps=6)
    with opened(tmp_path / "sound.nac") as reader:
        assert reader.header.stream_codebooks == (5, 3)


def test_a_pipe_cannot_know_and_loses_nothing(tmp_path: Path) -> None:
    compressed(tmp_path, np.repeat(voice()[:, None], 2, axis=1), kbps=6)
    data = (tmp_path / "sound.wav").read_bytes()

    class Pipe(io.RawIOBase):
        at = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            part = data[self.at : self.at + len(buffer)]
            buffer[: len(part)] = part
            self.at += len(part)
            return len(part)

    out = io.BytesIO()
    nac.compress(Pipe(), out, model="nac_24khz", kbps=6)  # type: ignore[arg-type]
    samples, _ = nac.read(io.BytesIO(out.getvalue()))
    assert len(samples) == 3 * RATE
    assert np.abs(samples[:, 0] - samples[:, 1]).max() < 1e-6


def test_what_is_told_apart() -> None:
    sound = voice(1).astype(np.float32)[:, None] / 32768
    for relation, angle in zip(
        RELATIONS.values(), (stereo.LEFT, stereo.RIGHT, stereo.MID_SIDE, stereo.OPPOSITE), strict=True
    ):
        blocks = np.array_split(sound * np.float32(relation), 7)
        assert stereo.CommonAngle(2).scan(blocks) == angle
        assert stereo.CommonAngle(2).scan([*blocks, sound[-100:] * np.float32([0.5, 0.4])]) is None
    assert stereo.CommonAngle(2).scan([sound * np.float32([1, 0]), sound * np.float32([0, 1])]) is None
    assert stereo.CommonAngle(2).scan([np.zeros((100, 2), np.float32)]) is None


@pytest.mark.parametrize("form", ["WAV", "OGG"])
def test_floats_and_lossy_files_are_scanned_once(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For their level and for the relation of their channels, and then read."""
    path, openings = tmp_path / "sound", []
    channels = np.repeat(voice()[:, None], 2, axis=1)
    soundfile.write(path, channels, RATE, format=form, subtype="FLOAT" if form == "WAV" else "VORBIS")
    open_once = reading._open
    monkeypatch.setattr(reading, "_open", lambda file: openings.append(file) or open_once(file))
    with reading.open_source(path) as source:
        assert source.angle == stereo.MID_SIDE
        assert sum(map(len, source.blocks)) == source.samples == len(channels)
    assert len(openings) == 2


def test_many_channels_get_more_by_default() -> None:
    assert [default_kbps(channels) for channels in (1, 2, 6, 8)] == [8, 8, 24, 32]
    assert sum(map(SPEC.kbps, allocate(SPEC, 6))) == pytest.approx(22.5)
    assert allocate(SPEC, 6) == (5,) * 6


def test_the_ladder_of_a_lone_stream_is_that_of_one_channel() -> None:
    steps = ladder(SPEC, 2, pair=True, alone=True)
    assert [step[0] for step in steps] == [step[0] for step in ladder(SPEC, 1, pair=False)]
    assert {step[1] for step in steps} == {0}


def test_an_array_gives_the_bytes_of_the_file(tmp_path: Path) -> None:
    channels = np.repeat(voice()[:, None], 2, axis=1)
    file = compressed(tmp_path, channels, kbps=6)
    assert nac.encode(channels, RATE, model="nac_24khz", kbps=6) == file
