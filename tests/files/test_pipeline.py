"""Recordings to .nac and back with a codec that keeps the sound: time, level, channels and chunks."""

from __future__ import annotations

import errno
import io
import os
import struct
import time
import tracemalloc
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_codec import HOP, ToyCodec

import nac
from nac.audio.memory import in_memory
from nac.audio.writing import OUTPUT_FORMATS
from nac.codecs import registry
from nac.codecs.family import Model
from nac.container import Chunk, Header, Reader, Writer
from nac.container.header import UNKNOWN_WEIGHTS
from nac.errors import AudioError, NacError
from nac.files import chunks_to_samples, decoding, encoding, opening, playing, samples_to_chunks, verify
from nac.spec import CodecSpec, Segment
from nac.weights import models

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch):
    """Makes a toy codec the model "toy"."""

    def make(**options: int) -> ToyCodec:
        codec = ToyCodec(**options)
        model = Model(codec.spec, "tests", "none", ())
        monkeypatch.setattr(registry, "MODELS", {"toy": model})
        monkeypatch.setattr(models, "load", lambda name, **_: codec)
        return codec

    return make


def encode(samples: np.ndarray, rate: int, subtype: str = "PCM_16", **options: object) -> bytes:
    wav, out = io.BytesIO(), io.BytesIO()
    # As integers, whose rounding is ours, not the library's.
    data = np.round(samples * 32768).astype(np.int16) if subtype == "PCM_16" else samples
    soundfile.write(wav, data, rate, format="WAV", subtype=subtype)
    wav.seek(0)
    nac.compress(wav, out, model="toy", **{"codebooks": 2, **options})
    return out.getvalue()


def decode(data: bytes, **options: object) -> tuple[np.ndarray, int]:
    return nac.read(io.BytesIO(data), **options)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Uniform noise on a grid of 16 bits."""
    return (np.random.default_rng(seed).integers(-16384, 16384, (samples, channels)) / 32768).astype(np.float32)


def smooth(samples: int, rate: int, channels: int = 1) -> np.ndarray:
    """Sines below 3 kHz, another for each channel."""
    time = np.arange(samples)[:, None] / rate
    return (0.4 * np.sin(2 * np.pi * (300 + 700 * np.arange(channels)) * time)).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("codec_rate", [16000, 24000, 44100])
def test_impulses_stay_where_they_are(toy, rate: int, codec_rate: int) -> None:
    toy(sample_rate=codec_rate)
    samples = np.zeros((3 * rate + 17, 1), np.float32)
    places = [rate // 3, rate // 2 + 7, rate - 1, 2 * rate + 13, 3 * rate - 400]
    samples[places] = 0.9
    back, back_rate = decode(encode(samples, rate))
    assert back_rate == rate
    assert back.shape == samples.shape
    for place in places:
        low = place - 50
        assert low + int(np.argmax(np.abs(back[low : place + 50]))) == place


@pytest.mark.parametrize("rate", RATES)
def test_sound_below_the_codecs_bandwidth_comes_back(toy, rate: int) -> None:
    toy(sample_rate=16000)
    samples = smooth(2 * rate + 5, rate)
    back, _ = decode(encode(samples, rate))
    inner = slice(rate // 10, -rate // 10)
    assert np.abs(back - samples)[inner].max() < 1e-3


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(0, 3000) | st.sampled_from([159_999, 160_000, 160_001, 320_000, 333_333]),
    channels=st.integers(1, 8),
    rate=st.sampled_from([16000, 8000, 44100]),
    multiple=st.sampled_from([1, 4]),
)
def test_every_length_and_channel_count_comes_back(samples: int, channels: int, rate: int, multiple: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        codec = ToyCodec(frame_multiple=multiple)
        patch.setattr(registry, "MODELS", {"toy": Model(codec.spec, "tests", "none", ())})
        patch.setattr(models, "load", lambda name, **_: codec)
        original = noise(samples, channels)
        back, _ = decode(encode(original, rate))
        assert back.shape == original.shape
        if rate == 16000 and channels != 2:
            assert np.array_equal(back, original)
        elif rate == 16000 and samples:
            assert np.abs(back - original).max() < 2e-4


def test_reading_a_part_gives_the_samples_of_the_whole(toy) -> None:
    toy(sample_rate=24000)
    rate = 44100
    data = encode(noise(21 * rate, 2), rate)
    whole, _ = decode(data)
    random = np.random.default_rng(1)
    for start in [0.0, 0.5, 9.99, 10.0, 10.001, 20.5, *random.uniform(0, 20, 2)]:
        for duration in (0.0, 1.5, 99.0) if start in (0.5, 20.5) else (0.01, 1.5):
            part, _ = decode(data, start=start, duration=duration)
            first = round(start * rate)
            assert np.array_equal(part, whole[first : first + round(duration * rate)])
            piped, _ = nac.read(Pipe(data), start=start, duration=duration)
            assert np.array_equal(piped, part)


def test_a_pipe_gives_the_same_bytes_as_a_file(toy, tmp_path: Path) -> None:
    toy()
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(30000, 2), 44100, subtype="PCM_24")
    nac.compress(path, tmp_path / "x.nac", model="toy", codebooks=2)
    out = Pipe()
    nac.compress(Pipe(path.read_bytes()), out, model="toy", codebooks=2)
    assert out.getvalue() == (tmp_path / "x.nac").read_bytes()
    nac.decompress(tmp_path / "x.nac", tmp_path / "y.wav")
    back = Pipe()
    nac.decompress(Pipe(out.getvalue()), back)
    assert back.getvalue() == (tmp_path / "y.wav").read_bytes()
    assert soundfile.info(tmp_path / "y.wav").frames == 30000


@pytest.mark.parametrize(
    ("samples", "multiple"), [(0, 1), (1, 1), (16_020, 16), (159_990, 1), (160_000, 1), (500_001, 1)]
)
def test_a_wav_of_unknown_length_keeps_its_length(toy, samples: int, multiple: int) -> None:
    toy(frame_multiple=multiple)
    wav = io.BytesIO()
    soundfile.write(wav, noise(samples), 16000, format="WAV", subtype="PCM_16")
    head = wav.getvalue()[:40] + b"\xff\xff\xff\xff"
    out, back = Pipe(), Pipe()
    nac.compress(Pipe(head + wav.getvalue()[44:]), out, model="toy", codebooks=2)
    assert Reader(io.BytesIO(out.getvalue())).header.samples is None
    nac.decompress(Pipe(out.getvalue()), back)
    assert back.getvalue()[44:] == wav.getvalue()[44:]
    assert decode(out.getvalue())[0].shape == (samples, 1)


def test_a_sound_on_the_left_stays_on_the_left(toy) -> None:
    toy()
    left = noise(400_000, 2)
    left[:, 1] = 0
    data = encode(left, 16000)
    back, _ = decode(data)
    assert not back[:, 1].any()
    assert np.abs(back[:, 0] - left[:, 0]).max() < 1e-4
    assert streams_present(data) == [[True, False]] * 3
    right, _ = decode(encode(left[:, ::-1], 16000))
    assert not right[:, 0].any()
    assert right[:, 1].any()


def test_identical_channels_cost_one_stream(toy) -> None:
    toy()
    mono = noise(400_000)
    twice = encode(np.repeat(mono, 2, axis=1), 16000)
    assert streams_present(twice) == [[True, False]] * 3
    assert len(twice) < len(encode(mono, 16000)) + 64
    back, _ = decode(twice)
    assert np.array_equal(back[:, 0], back[:, 1])


def test_a_panned_source_needs_little_of_the_second_stream(toy) -> None:
    toy()
    panned = smooth(200_000, 16000) * np.array([[0.9, 0.3]], np.float32)
    reader = Reader(io.BytesIO(encode(panned, 16000)))
    codec, second = ToyCodec(), []
    for chunk in reader.chunks():
        import torch

        codes = [torch.from_numpy(a.astype(np.int64))[None] for a in chunk.codes(reader.header, 1)]
        second.append(codec.decode_frames(tuple(codes), 0).abs().max() if codes else 0)
    assert max(second) < 0.01


def test_the_balance_may_change_along_the_way(toy) -> None:
    toy()
    sound = noise(500_000, 2)
    sound[:160_000, 1] = 0
    sound[320_000:, 0] = 0
    back, _ = decode(encode(sound, 16000))
    assert np.abs(back - sound).max() < 2e-4
    assert not back[:159_900, 1].any()


def test_the_balance_turns_the_short_way(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """From chunk to chunk: the first stream keeps its sign wherever the angle passes."""
    toy()
    monkeypatch.setattr("nac.container.chunk.CHUNK_SECONDS", 1)
    angles = np.repeat([76, 88, 100, 112, 124, 136], 16_000)[:, None] * np.pi / 128
    sound = noise(96_000) * np.hstack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    data = encode(sound, 16000)
    found = [whole.angle for whole in Reader(io.BytesIO(data)).chunks()]
    assert [(after - before) % 256 for before, after in pairwise(found)] == [12] * 5
    assert np.abs(decode(data)[0] - sound).max() < 2e-4


def test_after_a_gap_the_balance_is_at_once_that_of_the_next_chunk(toy) -> None:
    toy()
    sound = noise(480_000, 2)
    sound[:, 0] = 0
    data = encode(sound, 16000)
    whole, _ = decode(data)
    reader, file = Reader(io.BytesIO(data)), io.BytesIO()
    writer = Writer(file, reader.header)
    for number in (0, 2):
        writer.write(reader.chunk(number))
    writer.finish(len(sound))
    back, _ = decode(file.getvalue())
    assert np.array_equal(back[320_000:], whole[320_000:])
    assert not back[:, 0].any()


def test_a_stream_that_falls_silent_starts_afresh(toy) -> None:
    toy()
    three = noise(700_000, 3)
    three[160_000:320_000, 2] = 0
    three[480_000:640_000, 1] = 0
    data = encode(three, 16000)
    assert streams_present(data) == [
        [True, True, True],
        [True, True, False],
        [True, True, True],
        [True, False, True],
        [True, True, True],
    ]
    whole, _ = decode(data)
    assert np.array_equal(whole, three)
    part, _ = decode(data, start=19.5, duration=22)
    assert np.array_equal(part, whole[312_000:664_000])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_silence_costs_next_to_nothing(toy, channels: int) -> None:
    """Of a file as of a pipe, and without a trace of what the network makes of silence."""
    toy()
    sound = noise(800_000, channels)
    sound[100_000:640_000] = 0
    data = encode(sound, 16000)
    present = [[True] * channels, [False] * channels, [False] * channels, [False] * channels, [True] * channels]
    assert [row[:channels] for row in streams_present(data)] == present
    back = decode(data)[0]
    assert np.abs(back - sound).max() < (5e-5 if channels == 2 else 1e-9)  # a pair is rotated, and so rounded
    assert not back[160_000:640_000].any()
    sizes = [
        len(chunk.to_bytes(reader.header)) for reader in [Reader(io.BytesIO(data))] for chunk in reader.chunks()
    ]
    assert max(sizes[1:4]) < 10
    assert np.array_equal(decode(data, start=15, duration=30)[0], back[240_000:720_000])
    wav, out = io_wav(np.round(sound * 32768).astype(np.int16)), Pipe()
    nac.compress(Pipe(wav), out, model="toy", codebooks=2)
    assert out.getvalue() == data
    alone = encode(np.zeros((5_000_000, channels), np.float32), 16000)
    assert len(alone) < 700
    assert not decode(alone)[0].any()
    assert decode(alone)[0].shape == (5_000_000, channels)


def streams_present(data: bytes) -> list[list[bool]]:
    reader = Reader(io.BytesIO(data))
    return [[chunk.present(s) for s in range(len(chunk.layers))] for chunk in reader.chunks()]


def test_two_channels_of_a_stereo_network_are_one_stream(toy) -> None:
    toy(channels=2)
    for channels, streams in ((1, 1), (2, 1), (3, 2)):
        sound = noise(100_000, channels)
        data = encode(sound, 16000)
        assert len(Reader(io.BytesIO(data)).header.stream_codebooks) == streams
        assert np.array_equal(decode(data)[0], sound)


def test_an_odd_last_channel_is_given_twice() -> None:
    piece = np.arange(6, dtype=np.float32).reshape(2, 3)
    first, last = samples_to_chunks.split_streams(piece, 2)
    assert first.tolist() == [[0, 1], [3, 4]]
    assert last.tolist() == [[2, 2], [5, 5]]
    assert [stream.tolist() for stream in samples_to_chunks.split_streams(piece, 1)] == [
        [[0], [3]],
        [[1], [4]],
        [[2], [5]],
    ]


def test_mono_mixes_down(toy) -> None:
    toy()
    sound = noise(20_000, 4)
    back, _ = decode(encode(sound, 16000, mono=True))
    assert np.abs(back - sound.mean(axis=1, keepdims=True)).max() < 1e-4


def test_samples_above_full_scale_do_not_clip(toy, tmp_path: Path) -> None:
    toy()
    loud = smooth(40_000, 16000) * 5  # peaks at 2
    data = encode(loud, 16000, subtype="FLOAT")
    back, _ = decode(data)
    assert np.abs(back - loud).max() < 2e-4
    (tmp_path / "x.nac").write_bytes(data)
    nac.decompress(tmp_path / "x.nac", tmp_path / "x.wav")
    whole, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    assert 0.99 < np.abs(whole).max() <= 1
    assert np.abs(whole * 2 - loud[:, 0]).max() < 1e-3


def test_a_gain_above_one_is_undone_in_every_output(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nac does not write one, but the format allows it."""
    codec, sound, heard = toy(), smooth(20_000, 16000), list[np.ndarray]()
    reader, file, out = Reader(io.BytesIO(encode(sound, 16000))), io.BytesIO(), io.BytesIO()
    writer = Writer(file, replace(reader.header, gain=2.0))
    for chunk in reader.chunks():
        writer.write(chunk)
    writer.finish(len(sound))
    monkeypatch.setattr(playing, "speaker", lambda *_: nullcontext(heard.append))
    file.seek(0)
    playing.play(file, load=lambda _: codec)
    file.seek(0)
    nac.decompress(file, out)
    out.seek(0)
    for back in (np.concatenate(heard), decode(file.getvalue())[0], soundfile.read(out, always_2d=True)[0]):
        assert np.abs(back - sound / 2).max() < 1e-4


def test_the_bitrate_that_is_told_is_that_of_the_codes_used(toy, tmp_path: Path) -> None:
    toy()
    data = encode(noise(9), 16000)
    told = nac.decompress(io.BytesIO(data), io.BytesIO(), codebooks=1).kbps
    assert told == nac.peel(io.BytesIO(data), tmp_path / "x.nac", codebooks=1).kbps
    assert told == nac.info(tmp_path / "x.nac").kbps < nac.info(io.BytesIO(data)).kbps


@pytest.mark.parametrize("part", [{}, {"start": 0.5, "duration": 2.0}, {"start": 2.0}, {"duration": 9.0}])
@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_what_is_told_of_the_work_is_its_length(toy, form: str, part: dict[str, float]) -> None:
    toy()
    done: list[tuple[float, float | None]] = []
    data = encode(smooth(60_000, 22050), 22050, progress=lambda *seconds: done.append(seconds))
    assert {total for _, total in done} == {60_000 / 22050}
    assert sum(seconds for seconds, _ in done) == pytest.approx(60_000 / 22050)
    done.clear()
    length = min(part.get("duration", 9.0), 60_000 / 22050 - part.get("start", 0.0))
    out = io.BytesIO()
    result = nac.decompress(
        io.BytesIO(data), out, format=form, verify=True, progress=lambda *seconds: done.append(seconds), **part
    )
    assert result.seconds == pytest.approx(length, abs=1e-4)
    assert result.bytes_out == len(out.getvalue())
    assert {total for _, total in done} == {result.seconds}
    assert sum(seconds for seconds, _ in done) == pytest.approx(result.seconds)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_what_reaches_full_scale_keeps_its_level(toy, subtype: str, caplog: pytest.LogCaptureFixture) -> None:
    """And no gain is stored; what exceeds it by ever so little has one."""
    toy()
    sound = noise(5000)
    sound[77] = -1.0
    data = encode(sound, 16000, subtype=subtype)
    assert Reader(io.BytesIO(data)).header.gain == 1
    assert np.array_equal(decode(data)[0], sound)
    if subtype == "FLOAT":
        sound[78] = np.nextafter(np.float32(1), np.float32(2))
        assert Reader(io.BytesIO(encode(sound, 16000, subtype=subtype))).header.gain < 1
    assert caplog.messages == []


def test_what_the_codec_adds_above_full_scale_is_not_wrapped(toy, tmp_path: Path, monkeypatch) -> None:
    codec = toy()
    plain = codec.decode_frames
    monkeypatch.setattr(codec, "decode_frames", lambda arrays, first: plain(arrays, first) * 3)
    (tmp_path / "x.nac").write_bytes(encode(smooth(40_000, 16000), 16000))
    nac.decompress(tmp_path / "x.nac", tmp_path / "x.wav")
    back, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    original = 3 * smooth(40_000, 16000)[:, 0]
    assert np.abs(back - np.clip(original, -1, 1)).max() < 1e-3


def test_samples_that_are_no_numbers_become_silence(toy) -> None:
    toy()
    sound = smooth(20_000, 16000)
    sound[[500, 600, 700]] = [[np.nan], [np.inf], [-np.inf]]
    back, _ = decode(encode(sound, 16000, subtype="FLOAT"))
    sound[[500, 600, 700]] = 0
    assert np.abs(back - sound).max() < 1e-4


def test_codes_of_a_file_are_those_of_the_whole_signal(toy, tmp_path: Path) -> None:
    codec = toy()
    sound = noise(400_000)
    (tmp_path / "x.nac").write_bytes(encode(sound, 16000))
    import torch

    want = codec.encode(torch.from_numpy(sound.T)[None])
    got = nac.read_codes(tmp_path / "x.nac")
    assert [len(stream) for stream in got] == [2]
    for mine, whole in zip(got[0], want.arrays, strict=True):
        assert np.array_equal(mine, whole[0].numpy())
    part = nac.read_codes(tmp_path / "x.nac", start=9.9, duration=5.2, codebooks=1)
    first, last = int(9.9 * 16000) // HOP, -(-int(15.1 * 16000) // HOP)
    assert np.array_equal(part[0][0], got[0][0][first * HOP : last * HOP])


def test_the_same_input_gives_the_same_bytes(toy) -> None:
    toy()
    sound = noise(300_000, 2)
    assert encode(sound, 44100) == encode(sound, 44100)


def test_every_flipped_bit_is_noticed_and_every_cut(toy, tmp_path: Path) -> None:
    toy()
    data = encode(noise(100), 16000)
    (tmp_path / "good.nac").write_bytes(data)
    nac.decompress(tmp_path / "good.nac", tmp_path / "good.wav")
    changed = [data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :] for i in range(len(data))]
    for bad in [*changed, *(data[:i] for i in range(len(data))), data + b"x"]:
        for source in (io.BytesIO(bad), Pipe(bad)):
            with pytest.raises(nac.NacError) as error:
                nac.decompress(source, tmp_path / "bad.wav")
            assert "\n" not in str(error.value)
            assert not (tmp_path / "bad.wav").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.nac", "good.wav"]


def test_an_output_that_comes_back_as_another_file_is_refused(toy) -> None:
    toy()
    one, other = encode(noise(100), 16000), encode(noise(100), 16000, codebooks=1)
    verify.read_back(io.BytesIO(one), Reader(io.BytesIO(one)).header, 100)
    for back, samples in ((other, 100), (one, 101)):
        with pytest.raises(NacError, match="another file"):
            verify.read_back(io.BytesIO(back), Reader(io.BytesIO(one)).header, samples)


def test_a_file_that_cannot_be_read_to_its_end_is_no_whole_one(toy) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 300:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    toy()
    checked = verify.check(Broken(encode(noise(20_000), 16000)))
    assert (checked.ok, checked.chunks) == (False, 0)
    assert "cannot be read: Input/output error" in checked.error


def test_damage_in_a_part_is_told_before_a_model_is_loaded(toy) -> None:
    toy()
    whole = encode(noise(500_000), 16000)
    index = Reader(io.BytesIO(whole)).index
    data = bytearray(whole)
    data[index[1].offset + 300] ^= 1
    for part in ({}, {"start": 15.0}, {"start": 12.0, "duration": 3.0}, {"duration": 10.5}):
        for action in (
            lambda src, **how: nac.read(src, **how),
            lambda src, **how: nac.decompress(src, io.BytesIO(), **how),
        ):
            with pytest.raises(nac.DamageError):
                action(io.BytesIO(data), load=lambda name: pytest.fail("loaded"), **part)
    info = nac.info(io.BytesIO(data))
    assert (bool(info.damage), info.lost) == (True, [])  # what a damaged chunk had is not yet known to be lost
    cut = whole[: index[2].offset]
    with pytest.raises(nac.FormatError):  # one sample of the first frame that is missing
        nac.read(io.BytesIO(cut), start=19.0, duration=1 + 1 / 16000, load=lambda name: pytest.fail("loaded"))
    part, _ = decode(bytes(data), start=1.0, duration=8.0)
    assert len(part) == 8 * 16000


@pytest.mark.parametrize(("lost", "low", "high"), [({0}, 0, 1), ({1}, 1, 2), ({1, 2}, 1, 3)])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_missing_in_a_part_is_told_and_nothing_else(
    toy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lost: set[int],
    low: int,
    high: int,
    channels: int,
) -> None:
    """Where the part begins or ends within what is missing, or has nothing else, too; from a pipe all is told."""
    toy()
    monkeypatch.setattr("nac.container.chunk.CHUNK_SECONDS", 1)
    reader, file = Reader(io.BytesIO(encode(noise(60_000, channels), 16000))), io.BytesIO()
    writer = Writer(file, reader.header)
    for number, whole in enumerate(reader.chunks()):
        if number not in lost:
            writer.write(whole)
    writer.finish(60_000)
    words = [f"0:{low:02}.0-0:{high:02}.0 lost before this file was written, and silent now"]
    for start, end in product(np.arange(0, 3.7, 0.4), (0.1, 0.7, 1.4, 9)):
        caplog.clear()
        nac.decompress(io.BytesIO(file.getvalue()), io.BytesIO(), start=start, duration=end)
        assert caplog.messages == (words if start < high and start + end > low else []), (start, end)
    caplog.clear()
    nac.decompress(Pipe(file.getvalue()), io.BytesIO())
    assert caplog.messages == words
    info = nac.info(io.BytesIO(file.getvalue()))
    assert (info.lost, info.damage) == ([f"0:{low:02}.0-0:{high:02}.0 lost"], "")


def test_what_info_tells_of_damage_is_the_first_of_it_and_gaps_elsewhere(
    toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy()
    monkeypatch.setattr("nac.container.chunk.CHUNK_SECONDS", 1)
    reader, file = Reader(io.BytesIO(encode(noise(110_000), 16000))), io.BytesIO()
    writer = Writer(file, reader.header)
    for number, whole in enumerate(reader.chunks()):
        if number != 4:
            writer.write(whole)
    writer.finish(110_000)
    data = bytearray(file.getvalue())
    for number in (1, 2):
        data[Reader(io.BytesIO(file.getvalue())).index[number].offset + 300] ^= 1
    found = nac.info(io.BytesIO(data))
    assert "0:01.0" in found.damage
    assert (found.lost, found.complete) == (["0:04.0-0:05.0 lost"], True)
    cut = nac.info(io.BytesIO(data[:-9]))  # without its end, it has the chunks before the damage
    assert (cut.chunks, cut.lost, cut.complete) == (1, [], False)
    assert "0:01.0" in cut.damage


def test_a_float_pipe_keeps_what_is_above_full_scale(toy) -> None:
    toy()
    wav = io.BytesIO()
    soundfile.write(wav, smooth(40_000, 16000) * 5, 16000, format="WAV", subtype="FLOAT")
    out = Pipe()
    nac.compress(Pipe(wav.getvalue()), out, model="toy", codebooks=2)
    assert out.getvalue() == encode(smooth(40_000, 16000) * 5, 16000, subtype="FLOAT")


@pytest.mark.parametrize("options", [{"kbps": -3}, {"kbps": float("nan")}, {"kbps": 300, "codebooks": 2}])
def test_bitrates_that_cannot_be(toy, options: dict[str, float]) -> None:
    toy()
    with pytest.raises(nac.NacError):
        encode(noise(100), 16000, **{"codebooks": None, **options})


def test_stretches_that_cannot_be(toy, tmp_path: Path) -> None:
    toy()
    data = encode(noise(20_000), 16000)
    (tmp_path / "x.nac").write_bytes(data)
    assert len(decode(data, duration=float("inf"))[0]) == 20_000
    for stretch in ({"start": -5}, {"start": float("nan")}, {"start": float("inf")}, {"duration": -1}):
        for read in (lambda s: decode(data, **s), lambda s: nac.read_codes(tmp_path / "x.nac", **s)):
            with pytest.raises(nac.NacError):
                read(stretch)
    with pytest.raises(nac.NacError):
        nac.read_codes(tmp_path / "x.nac", codebooks=0)


def test_segments_of_a_model_that_has_none_are_refused(toy) -> None:
    """Only DAC's files hold windows of a network that has no segments of its own."""
    codec = models.load("nac_24khz")
    wav, out = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, noise(5000), 24000, format="WAV")
    wav.seek(0)
    nac.compress(wav, out, model="nac_24khz", load=lambda _: codec)
    out.seek(0)
    reader = Reader(out)
    segmented = io.BytesIO()
    writer = Writer(segmented, replace(reader.header, segment=Segment(4, 1280)))
    for chunk in reader.chunks():
        writer.write(chunk)
    writer.finish(5000)
    with pytest.raises(nac.ModelError, match="made with nac_24khz, which"):
        nac.decompress(Pipe(segmented.getvalue()), Pipe(), load=lambda _: codec)


def test_other_weights_are_refused(toy) -> None:
    codec = toy()
    data = encode(noise(5000), 16000)
    codec.spec = codec.spec.with_fingerprint("f" * 16)
    with pytest.raises(nac.ModelError, match=r"0123456789abcdef.*ffffffffffffffff"):
        decode(data)
    back = Pipe()
    nac.decompress(Pipe(data), back, force_model=True)
    assert len(back.getvalue()) == 44 + 10000


def test_weights_known_by_a_former_fingerprint_and_other_networks(toy) -> None:
    codec = toy()
    header = Reader(io.BytesIO(encode(noise(9), 16000))).header
    codec.spec = replace(codec.spec, fingerprint="fedcba9876543210", former=header.fingerprint)
    decoding.check_model(header, codec.spec)
    decoding.check_model(
        replace(header, fingerprint=UNKNOWN_WEIGHTS), codec.spec
    )  # as of a file of another program
    for other in (
        {"model": "toys"},
        {"sample_rate": 16001},
        {"network_channels": 2},
        {"frame_samples": 41},
        {"codebooks": header.codebooks[:1]},
        {"segment": Segment(100, 90)},
        {"has_scale": True},
    ):
        with pytest.raises(nac.ModelError, match="cannot decode"):
            decoding.check_model(_like(header, **other), codec.spec, force=True)


def _like(header: Header, **other: object) -> Header:
    """A copy that need not be possible."""
    made = copy(header)
    for field, value in other.items():
        object.__setattr__(made, field, value)
    return made


@pytest.mark.parametrize("samples", [1, 47519, 47520, 47521, 47680, 48000, 95040, 95041, 95200, 95201, 475_300])
def test_frames_of_segments(samples: int) -> None:
    from nac.codecs.registry import MODELS

    spec: CodecSpec = MODELS["encodec_48khz"].spec
    pieces = [min(48000, samples - start) for start in range(0, samples, 47520)]
    assert spec.frames(samples) == sum(-(-piece // 320) for piece in pieces)


class Pipe(io.RawIOBase):
    """Bytes that can be read once or written once, and never sought."""

    def __init__(self, data: bytes = b"") -> None:
        self._left, self._written = memoryview(data), bytearray()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = len(self._left) if size < 0 else min(size, 4096)
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def getvalue(self) -> bytes:
        return bytes(self._written)


class Nowhere(Pipe):
    """Keeps nothing, so that only the program's memory is measured."""

    def write(self, data: bytes) -> int:
        return len(data)


@pytest.mark.parametrize("multiple", [1, 4])
def test_decoding_in_small_parts_gives_the_same(toy, monkeypatch: pytest.MonkeyPatch, multiple: int) -> None:
    toy(frame_multiple=multiple)
    sound = noise(500_000, 2)
    sound[:160_000, 1] = 0
    sound[320_000:, 0] = 0
    data = encode(sound, 16000)
    reader = Reader(io.BytesIO(data))
    out = io.BytesIO()
    writer = Writer(out, reader.header)
    for number in (0, 1, 3):  # the third is lost
        writer.write(reader.chunk(number))
    writer.finish(500_000)
    for file in data, out.getvalue():
        monkeypatch.setattr(chunks_to_samples, "PART", 1 << 21)
        whole, rate = decode(file)
        monkeypatch.setattr(chunks_to_samples, "PART", 30_000)
        assert np.array_equal(decode(file)[0], whole)
        for start in 9.98, 21.5:
            some, _ = decode(file, start=start, duration=9)
            assert np.array_equal(some, whole[round(start * rate) :][: 9 * rate])


def bomb(*first_frames: int, channels: int = 1, samples: int | None = None, rate: int = 16000) -> bytes:
    """A small file with a chunk at each of these frames."""
    spec = ToyCodec().spec
    header = Header(
        model="toy",
        fingerprint=spec.fingerprint,
        sample_rate=16000,
        frame_samples=40,
        codebooks=spec.codebooks,
        network_channels=1,
        stereo_pair=channels == 2,
        stream_codebooks=(1,) * channels,
        original_sample_rate=rate,
        channels=channels,
        samples=samples,
    )
    out = io.BytesIO()
    writer = Writer(out, header)
    for first in first_frames:
        writer.write(Chunk.pack(header, first, 1, [[np.zeros(40, int)]] + [None] * (channels - 1)))
    writer.finish(40 * rate // 16000 if samples is None else samples)
    return out.getvalue()


@pytest.mark.parametrize(("channels", "rate"), [(1, 16000), (2, 48000), (255, 16000)])
@pytest.mark.parametrize("samples", [None, 4000, 16000 * 86400 * 7])
@pytest.mark.parametrize("first_frames", [(0, 1 << 39), (1 << 39,)])
def test_a_few_bytes_do_not_become_a_week(
    toy,
    monkeypatch: pytest.MonkeyPatch,
    channels: int,
    rate: int,
    samples: int | None,
    first_frames: tuple[int, ...],
) -> None:
    toy()
    monkeypatch.setattr(opening, "_ALWAYS", 1 << 20)  # both for speed
    monkeypatch.setattr(opening, "_GROWTH", 1 << 18)
    data = bomb(*first_frames, channels=channels, rate=rate, samples=samples)
    assert len(data) < 800
    for file in io.BytesIO(data), Pipe(data):
        began = time.process_time()
        tracemalloc.start()
        with pytest.raises(NacError, match="nearly all silence"):
            nac.decompress(file, Nowhere())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 << 20
        assert time.process_time() - began < 10
    part, _ = nac.read(io.BytesIO(data), duration=0.001)
    assert part.shape == (rate // 1000, channels)


@pytest.mark.parametrize(
    ("size", "most"), [(20, 64 << 20), (67, 64 << 20), (68, 68_000_000), (1000, 1_000_000_000)]
)
def test_a_file_may_become_64_mib_or_a_million_times_as_large_and_no_more(size: int, most: int) -> None:
    opening.check_growth(most, size)
    with pytest.raises(NacError, match="nearly all silence"):
        opening.check_growth(most + 1, size)


def test_a_few_bytes_do_not_become_a_week_of_codes(tmp_path: Path) -> None:
    path = tmp_path / "x.nac"
    path.write_bytes(bomb(0, 1 << 39, samples=4000))
    with pytest.raises(NacError, match="nearly all silence"):
        nac.read_codes(path)
    assert len(nac.read_codes(path, duration=0.0025)[0][0]) == 40


@pytest.mark.parametrize("given", [9_999, 10_001])
def test_a_source_of_another_length_than_it_declares_is_refused(toy, given: int) -> None:
    codec, out = toy(), io.BytesIO()
    source = replace(in_memory(noise(given), 16000), samples=10_000)
    header = encoding.make_header(source, codec.spec, (2,), mono=False)
    with pytest.raises(AudioError, match=f"has {given} samples, not the 10000"):
        encoding.write_nac(out, source, codec, header, "packed")


def test_rates_and_channels_that_take_gigabytes_are_refused(toy) -> None:
    toy()
    with pytest.raises(AudioError, match="255 channels at 16777216 Hz"):
        nac.read(io.BytesIO(bomb(0, 1, channels=255, rate=1 << 24)))
    for message, (rate, channels, kind) in {
        "255 channels at 16777216 Hz": (1 << 24, 255, np.int16),
        "a sample rate of 999 Hz; 1000 Hz is the lowest": (999, 1, np.int16),
        "256 channels; at most 255 are possible": (16000, 256, np.int16),
        "a sample of 1e\\+38": (16000, 1, np.float32),
    }.items():
        wav = bytearray(io_wav(np.full((3, channels), 1e38 if kind == np.float32 else 0, kind)))
        wav[24:28] = struct.pack("<I", rate)
        with pytest.raises(AudioError, match=message):
            nac.compress(io.BytesIO(wav), Pipe(), model="toy")


@pytest.mark.parametrize("channels", [255, 256, 300])
def test_any_number_of_channels_can_be_mixed_down(toy, channels: int) -> None:
    """Which is what those are told to do that have too many."""
    toy()
    wav, out = io_wav(np.full((50, channels), 999, np.int16)), io.BytesIO()
    nac.compress(io.BytesIO(wav), out, model="toy", codebooks=2, mono=True)
    assert (decode(out.getvalue())[0] * 32768 == 999).all()


def test_the_lowest_rate_and_most_channels_are_possible(toy) -> None:
    toy()
    for rate, channels in ((1000, 1), (16000, 255)):
        wav = bytearray(io_wav(np.zeros((3, channels), np.int16)))
        wav[24:28] = struct.pack("<I", rate)
        nac.compress(io.BytesIO(wav), Pipe(), model="toy")


def io_wav(samples: np.ndarray) -> bytes:
    wav = io.BytesIO()
    soundfile.write(wav, samples, 16000, format="WAV", subtype="FLOAT" if samples.dtype == np.float32 else None)
    return wav.getvalue()


def test_no_function_replaces_a_file_unasked(toy, tmp_path: Path) -> None:
    toy()
    source, out = tmp_path / "a.nac", tmp_path / "out.wav"
    source.write_bytes(encode(noise(4000), 16000))
    for write in (
        lambda: nac.peel(source, out, codebooks=1),
        lambda: nac.cut(source, out, duration=0.1),
        lambda: nac.cat([source], out),
        lambda: nac.decompress(source, out),
    ):
        out.write_bytes(b"mine")
        with pytest.raises(NacError, match="exists"):
            write()
        assert out.read_bytes() == b"mine"
