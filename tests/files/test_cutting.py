"""Cutting and joining files without decoding: the samples of the whole, to the bit."""

from __future__ import annotations

import io
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from container_files import SPEECH, written
from narrow_codecs import narrow_codecs
from sound_files import Stream
from torch import Tensor
from toy_codec import ToyCodec

import nac
from nac import cli
from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.family import Model
from nac.codecs.registry import MODELS
from nac.codecs.windows import Tensors
from nac.container import Chunk, Header, Reader, SampleFormat, Writer, verify
from nac.errors import DamageError, ModelError, NacError
from nac.spec import Codebook
from nac.weights import models


class FarSighted(ToyCodec):
    """Every sample is moved by the frames around it, and by where it stands: a cut without them is noticed."""

    def decode_frames(self, arrays: Tensors, first: int) -> Tensor:
        plain = super().decode_frames(arrays, first)
        means = plain.mean(1).reshape(len(plain), -1, self.spec.frame_samples).mean(-1)
        left, right = self.decode_plan.left, self.decode_plan.right
        around = torch.nn.functional.pad(means, (left, right)).unfold(-1, left + 1 + right, 1)
        weights = torch.arange(1, left + right + 2) / 50
        numbers = torch.arange(first, first + means.shape[1]) % 1000 / 10000
        moved = (around * weights).sum(-1) + numbers
        return plain + moved.repeat_interleave(self.spec.frame_samples, 1)[:, None]


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> FarSighted:
    """A quick codec, known to those who cut, that is the only model."""
    made = FarSighted(frame_multiple=2)
    model = Model(replace(made.spec, fingerprint=""), "tests", "none", (), made.decode_plan)
    monkeypatch.setattr(registry, "MODELS", {"toy": model})
    monkeypatch.setattr(models, "load", lambda name, **_: made)
    return made


def noise(seconds: float, rate: int, channels: int, seed: int = 0) -> np.ndarray:
    """With a balance that changes, so that a pair is turned."""
    random = np.random.default_rng(seed)
    samples = random.integers(-9000, 9000, (round(seconds * rate), channels)) * np.linspace(0.1, 1, channels)
    samples[: len(samples) // 2] = samples[: len(samples) // 2, ::-1]
    return samples.astype(np.int16)


def compressed(codec: Codec, samples: np.ndarray, rate: int, codebooks: int = 2, coding: str = "packed") -> bytes:
    wav, out = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, samples, rate, format="WAV", subtype="PCM_16")
    wav.seek(0)
    nac.compress(wav, out, model=codec.spec.name, codebooks=codebooks, coding=coding, load=lambda _: codec)
    return out.getvalue()


def decoded(data: bytes, codec: Codec) -> np.ndarray:
    return nac.read(io.BytesIO(data), load=lambda _: codec)[0]


def cut(data: bytes, **stretch: float) -> bytes:
    out = io.BytesIO()
    nac.cut(io.BytesIO(data), out, **stretch)
    verify(io.BytesIO(out.getvalue()))
    return out.getvalue()


def cat(*parts: bytes) -> bytes:
    out = io.BytesIO()
    nac.cat([io.BytesIO(part) for part in parts], out)
    verify(io.BytesIO(out.getvalue()))
    return out.getvalue()


def test_the_table_of_contexts_is_that_of_the_networks() -> None:
    with narrow_codecs() as codecs:
        codecs |= {name: nac.load(name) for name in ("nac_24khz", "nac_48khz")}
        for name, codec in codecs.items():
            plan = MODELS[name].decode_plan
            assert plan
            if own := getattr(codec, "decode_plan", None):
                assert (plan.left, plan.right) == (own.left, own.right)
                assert plan.window % own.window == 0  # narrow ones have short windows
            elif segment := codec.spec.segment:
                for frame in range(2 * segment.frames, 9 * segment.frames, segment.frames):
                    assert plan.preroll(frame) == codec.preroll(frame - segment.frames)
                    assert plan.end(frame) == frame + segment.frames
    for model in MODELS.values():
        spec, plan = model.spec, model.decode_plan
        assert plan
        if spec.channels == 1:  # what turns a pair, in 20 ms, is read with the context
            assert plan.left * spec.frame_samples > spec.sample_rate // 50
        unit = spec.segment.frames if spec.segment else spec.frame_multiple
        assert plan.left % unit == plan.window % unit == 0


def test_the_table_of_contexts_is_that_of_soundstream(random_lyra_weights: Path) -> None:
    assert (
        nac.load("soundstream_16khz", weights=random_lyra_weights).decode_plan
        == MODELS["soundstream_16khz"].decode_plan  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize(("rate", "channels"), [(16000, 2), (16000, 3), (22050, 2), (44100, 1)])
def test_a_cut_has_the_samples_of_the_whole(codec: FarSighted, rate: int, channels: int) -> None:
    data = compressed(codec, noise(14.3, rate, channels), rate)
    whole = decoded(data, codec)
    random = np.random.default_rng(rate)
    stretches = [(start, random.uniform(0, 3)) for start in (*random.uniform(0, 14, 3), 9.99, 10.0, 10.001)]
    for start, duration in ((0.0, 3.0), (12.01, 99.0), (7.0, 0.0), *stretches):
        part = cut(data, start=start, duration=duration)
        first = round(start * rate)
        wanted = whole[first : first + round(duration * rate)]
        assert np.array_equal(decoded(part, codec), wanted)
        assert len(part) < len(data) * (duration + 3) / 14.3 + 100
        piped = Pipe()
        nac.cut(Pipe(data), piped, start=start, duration=duration)
        assert piped.getvalue() == part
        assert duration or not nac.info(io.BytesIO(part)).chunks
        if duration > 1:
            again = cut(part, start=0.4, duration=0.3)
            inner = wanted[round(0.4 * rate) :][: round(0.3 * rate)]
            assert np.array_equal(decoded(again, codec), inner)
            direct, _ = nac.read(io.BytesIO(part), start=0.4, duration=0.3)
            assert np.array_equal(direct, inner)


def range_coded() -> bytes:
    """40 seconds of 2000 frames of 8 codes with three values."""
    header = replace(SPEECH, samples=None, stream_codebooks=(8,))
    random, chunks = np.random.default_rng(0), []
    for first in range(0, 2000, 500):
        rows = [random.integers(0, 3, 500) for _ in range(8)]
        chunks.append(Chunk.pack(header, first, 500, [rows]))
        assert chunks[-1].is_coded(header)
    return written(header, chunks, 40 * 48000).getvalue()


def test_what_is_told_of_the_bytes_of_a_file_is_true_of_them() -> None:
    coded, packed = range_coded(), io.BytesIO()
    nac.peel(io.BytesIO(coded), packed, codebooks=8, coding="packed")
    plain, less = (nac.info(io.BytesIO(data)) for data in (packed.getvalue(), coded))
    assert (plain.coding, plain.saved, less.coding) == ("packed", 0, "range")
    for one in (plain, less):
        assert one.actual_kbps == round(one.bytes * 8 / 1000 / 40, 3)
    codes = 2000 * sum(book.bits for book in SPEECH.codebooks[:8]) // 8
    # Beside its codes, a chunk says how they are coded.
    assert less.saved == pytest.approx((plain.bytes - less.bytes) / codes, abs=0.01)


def test_range_coded_chunks_are_cut_and_joined() -> None:
    data = range_coded()
    parts = [cut(data, duration=16), cut(data, start=16, duration=11.3), cut(data, start=27.3)]
    assert len(parts[1]) < 0.6 * len(data)
    with nac.open(io.BytesIO(data)) as whole, nac.open(io.BytesIO(cat(*parts))) as joined:
        assert all({*row.tolist()} == {0, 1, 2} for row in whole.codes()[0])
        assert all(map(np.array_equal, whole.codes()[0], joined.codes()[0]))
        with nac.open(io.BytesIO(parts[1])) as part:
            assert all(map(np.array_equal, whole.frame_codes(800, 1300)[0], part.frame_codes(800, 1300)[0]))


@pytest.mark.parametrize("name", ["encodec_48khz", "snac_32khz"])
def test_segments_and_attention(name: str) -> None:
    with narrow_codecs() as codecs:
        codec = codecs[name]
        # The last samples of encodec_48khz make an overhang.
        samples = 9 * 47520 + 100 if name == "encodec_48khz" else 200_000
        rate = codec.spec.sample_rate
        data = compressed(codec, noise(samples / rate, rate, 2), rate)
        whole = decoded(data, codec)
        for start, duration in ((4.2, 0.5), (5.5, 9.0)):
            first = round(start * rate)
            part = cut(data, start=start, duration=duration)
            assert np.array_equal(decoded(part, codec), whole[first : first + round(duration * rate)])
        pieces = [cut(data, duration=3), cut(data, start=3, duration=2.3), cut(data, start=5.3)]
        assert np.array_equal(decoded(cat(*pieces), codec), whole)


def test_encodec_at_24_khz_is_nearly_the_whole() -> None:
    with narrow_codecs() as codecs:
        codec = codecs["encodec_24khz"]
        data = compressed(codec, noise(8, 24000, 1), 24000, coding="packed")
        whole, part = decoded(data, codec), cut(data, start=6, duration=1)
        assert np.abs(decoded(part, codec) - whole[144_000:168_000]).max() < 1e-5
        assert len(part) < 0.7 * len(data)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_parts_of_a_recording_join_without_a_seam(codec: FarSighted, rate: int) -> None:
    data = compressed(codec, noise(13.3, rate, 2), rate)
    edges = [0.0, 0.003, 4.0, 10.0, 10.0001]
    parts = [
        cut(data, start=low, duration=high - low) for low, high in zip(edges, [*edges[1:], 99.0], strict=True)
    ]
    assert np.array_equal(decoded(cat(*parts), codec), decoded(data, codec))
    inner = cat(*parts[1:3])
    assert np.array_equal(decoded(inner, codec), decoded(data, codec)[round(0.003 * rate) : 10 * rate])
    piped = Pipe()
    nac.cat([Pipe(parts[1]), Pipe(parts[2])], piped)
    assert piped.getvalue() == inner


def test_other_recordings_follow_within_a_frame(codec: FarSighted) -> None:
    rate, block = 16000, codec.spec.frame_samples * codec.spec.frame_multiple
    sounds = [noise(seconds, rate, 1, seed) for seed, seconds in enumerate((1.3, 12.0001, 0.7))]
    joined = decoded(cat(*(compressed(codec, sound, rate) for sound in sounds)), codec)
    place = 0
    for sound in sounds:
        found = joined[place : place + len(sound)] - sound / np.float32(32768)
        assert np.abs(found).max() < 0.2  # what the codec adds; noise it is not has 0.5
        place += -(-len(sound) // block) * block
    assert len(joined) == place - (-len(sounds[-1]) % block)
    # Two cuts at times that would fit, but of two recordings.
    ones, others = (compressed(codec, noise(9, rate, 1, seed), rate) for seed in (0, 1))
    one, other = cut(ones, duration=3), cut(others, start=3, duration=3)
    assert 6 * rate <= len(decoded(cat(one, other), codec)) <= 6 * rate + 2 * block
    # And two parts of one, of which the second begins before the end of the first, or after it.
    for start in (2.9999, 3.0001):
        parts = cat(one, cut(ones, start=start, duration=3))
        assert 6 * rate <= nac.info(io.BytesIO(parts)).samples <= 6 * rate + 2 * block


@pytest.mark.parametrize("samples", [1, 110, 111, 221, 222, 5000])
def test_joined_recordings_lose_no_sample_at_their_ends(codec: FarSighted, samples: int) -> None:
    """At another rate than the codec's an end lies between two of its samples, and may just begin a frame."""
    one = compressed(codec, noise(samples / 44100, 44100, 1), 44100)
    block = codec.spec.frame_samples * 44100 / 16000 * codec.spec.frame_multiple
    for count in (2, 3, 10):
        assert 0 <= nac.info(io.BytesIO(cat(*[one] * count))).samples - count * samples <= count * block


def changed(data: bytes, **how: object) -> bytes:
    """A file with other fields of its chunks, each given as a function of the old value."""
    reader = Reader(io.BytesIO(data))
    chunks = [
        replace(chunk, **{field: new(getattr(chunk, field)) for field, new in how.items()})
        for chunk in reader.chunks()
    ]
    return written(reader.header, chunks, reader.samples).getvalue()


def test_parts_with_the_same_codes_and_another_loudness_are_not_of_one_recording() -> None:
    with narrow_codecs() as codecs:
        codec = codecs["encodec_48khz"]
        data = compressed(codec, noise(5, 48000, 2), 48000)
        quiet = changed(data, scales=lambda rows: tuple(tuple(scale / 2 for scale in row) for row in rows))
        first = cut(data, duration=2.2)
        assert np.array_equal(decoded(cat(first, cut(data, start=2.2)), codec), decoded(data, codec))
        with pytest.raises(NacError, match="overlapping segments: only parts of one recording join"):
            cat(first, cut(quiet, start=2.2))


def test_parts_with_the_same_codes_and_another_balance_are_not_of_one_recording(
    codec: FarSighted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the join keeps its balance to the last sample."""
    monkeypatch.setattr(FarSighted, "decode_frames", ToyCodec.decode_frames)
    data = compressed(codec, noise(5, 16000, 2), 16000)
    turned = changed(data, angle=lambda angle: (angle + 64) % 256)
    first, rest = cut(data, duration=3.0), cut(turned, start=3.0)
    joined = decoded(cat(first, rest), codec)
    assert np.array_equal(joined[:48000], decoded(first, codec))
    assert np.array_equal(joined[-len(decoded(rest, codec)) + 400 :], decoded(rest, codec)[400:])


def test_empty_recordings_join(codec: FarSighted) -> None:
    some, none = (compressed(codec, noise(seconds, 16000, 1), 16000) for seconds in (1.3001, 0))
    for parts in ([none, some], [some, none], [none, some, none]):
        assert np.array_equal(decoded(cat(*parts), codec), decoded(some, codec))
    assert cat(some, none, some) == cat(some, some)
    assert len(decoded(cat(none, none), codec)) == 0
    # One that was cut from the end of another begins late, and what follows is whole nevertheless.
    late = cut(compressed(codec, noise(0.7, 16000, 1, 1), 16000), start=0.7)
    assert nac.info(io.BytesIO(late)).seconds == 0
    joined, alone = decoded(cat(late, some), codec), decoded(some, codec)
    assert 0 <= len(joined) - len(alone) <= codec.spec.frame_samples * codec.spec.frame_multiple
    assert np.abs(joined[len(joined) - len(alone) :] - alone).max() < 0.2


@pytest.mark.parametrize("samples", [1, 110, 111, 221, 222, 5000])
def test_all_of_its_length_has_all_its_codes(codec: FarSighted, samples: int) -> None:
    """At another rate than the codec's the end lies between two of its samples, and may just begin a frame."""
    data, length = compressed(codec, noise(samples / 44100, 44100, 1), 44100), samples / 44100
    whole = nac.read_codes(io.BytesIO(data))
    for duration in (length, 2 * length, 1e9):
        part = nac.read_codes(io.BytesIO(data), duration=duration)
        assert [array.tolist() for array in part[0]] == [array.tolist() for array in whole[0]], duration


def test_a_pipe_of_unknown_length_takes_no_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    header = replace(SPEECH, samples=None)
    codes = [random.integers(0, 16, (header.stream_codebooks[0], 5000)) for _ in range(8)]
    chunks = [Chunk.pack(header, 5000 * n, 5000, [codes[n % 8]]) for n in range(1000)]
    data = written(header, chunks, 1000 * 4_800_000).getvalue()
    (tmp_path / "first.nac").write_bytes(written(header, chunks[:1], 4_800_000).getvalue())
    source = Stream(data)
    del chunks
    tracemalloc.start()
    nac.cat([tmp_path / "first.nac", source], tmp_path / "out.nac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data) / 4
    assert nac.info(tmp_path / "out.nac").samples == 1001 * 4_800_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_too_small_for_a_pipe_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = written(replace(SPEECH, samples=None), [], 0).getvalue()
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_: os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", 0)
    )
    with pytest.raises(NacError, match=r"no room for it in .*: No space left on device"):
        nac.cat([Stream(data)], tmp_path / "out.nac")
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_refused(codec: FarSighted, tmp_path: Path) -> None:
    files = {
        "a": compressed(codec, noise(1, 16000, 1), 16000),
        "rate": compressed(codec, noise(1, 8000, 1), 8000),
        "channels": compressed(codec, noise(1, 16000, 2), 16000),
        "codebooks": compressed(codec, noise(1, 16000, 1), 16000, codebooks=1),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for what in ("rate", "channels", "codebooks"):
        with pytest.raises(NacError, match=f"{what}: cannot follow: its .*{what}"):
            nac.cat([tmp_path / "a", tmp_path / what], tmp_path / "out")
    header = Reader(io.BytesIO(files["a"])).header
    for field, value in {"model": "other", "fingerprint": "0" * 16, "gain": 0.5}.items():
        other = io.BytesIO()
        Writer(other, replace(header, samples=0, **{field: value})).finish(0)
        with pytest.raises(NacError, match="cannot follow"):
            nac.cat([tmp_path / "a", io.BytesIO(other.getvalue())], tmp_path / "out")
    two = replace(header, channels=2, stream_codebooks=(1, 1), samples=0)
    for pair in (False, True):  # rotated, and one stream for each channel
        ours, theirs = io.BytesIO(), io.BytesIO()
        Writer(ours, replace(two, stereo_pair=pair)).finish(0)
        Writer(theirs, replace(two, stereo_pair=not pair)).finish(0)
        with pytest.raises(NacError, match="cannot follow"):
            nac.cat([io.BytesIO(ours.getvalue()), io.BytesIO(theirs.getvalue())], tmp_path / "out")
    (tmp_path / "cut off").write_bytes(files["a"][:-40])
    with pytest.raises(DamageError, match="cut off: "):
        nac.cat([tmp_path / "a", tmp_path / "cut off"], tmp_path / "out")
    with pytest.raises(NacError, match="own output"):
        nac.cat([tmp_path / "rate", tmp_path / "a"], tmp_path / "a", force=True)
    with pytest.raises(NacError, match="after the end"):
        nac.cut(tmp_path / "a", tmp_path / "out", start=2)
    unknown = io.BytesIO()
    Writer(unknown, replace(header, model="from the future", samples=0)).finish(0)
    with pytest.raises(NacError, match="from the future"):
        cut(unknown.getvalue())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "other",
    [{"sample_rate": 16001}, {"frame_samples": 41}, {"codebooks": (Codebook(8, 40),)}, {"has_scale": True}],
)
def test_a_network_of_the_same_name_and_another_shape_is_neither_cut_nor_joined(
    codec: FarSighted, other: dict[str, object]
) -> None:
    """A version to come may have changed it: what its frames depend on is not known."""
    header = Reader(io.BytesIO(compressed(codec, noise(0.1, 16000, 1), 16000, codebooks=1))).header
    data = written(replace(header, samples=0, **other), [], 0).getvalue()
    for action in (cut, cat):
        with pytest.raises(ModelError, match="made with a toy that this version of nac does not know how to cut"):
            action(data)


def test_what_is_lost_stays_lost(codec: FarSighted) -> None:
    reader = Reader(io.BytesIO(compressed(codec, noise(40, 16000, 1), 16000)))
    chunks = list(reader.chunks())
    file = io.BytesIO()
    writer = Writer(file, reader.header)
    for chunk in (chunks[0], chunks[3]):
        writer.write(chunk)
    writer.finish(40 * 16000)
    whole = decoded(file.getvalue(), codec)
    for start, duration in ((5, 10), (12, 5), (15, 20)):
        part = cut(file.getvalue(), start=start, duration=duration)
        assert np.array_equal(decoded(part, codec), whole[start * 16000 :][: duration * 16000])


def test_tags_that_all_have_are_kept(codec: FarSighted) -> None:
    header = Reader(io.BytesIO(compressed(codec, noise(0, 16000, 1), 16000))).header
    files = []
    for title in "aba":  # that the first and the last share one is not enough
        file = io.BytesIO()
        tags = (("title", title), ("album", "x"))
        Writer(file, replace(header, tags=tags)).finish(0)
        files.append(file.getvalue())
    for number in (2, 3):
        assert Reader(io.BytesIO(cat(*files[:number]))).header.tags == (("album", "x"),)
    assert Reader(io.BytesIO(cut(files[0]))).header.tags == (("title", "a"), ("album", "x"))


def test_the_sample_format_is_kept_if_all_have_it(codec: FarSighted) -> None:
    """It says what decompression writes by default, so one file must not speak for the others."""
    header = Reader(io.BytesIO(compressed(codec, noise(0, 16000, 1), 16000))).header
    files = {}
    for form in (SampleFormat.S16, SampleFormat.S24):
        file = io.BytesIO()
        Writer(file, replace(header, sample_format=form)).finish(0)
        files[form] = file.getvalue()
    small, large = files.values()
    assert Reader(io.BytesIO(cat(large, large))).header.sample_format == SampleFormat.S24
    for mixed in ((small, large), (large, small), (large, large, small)):
        assert Reader(io.BytesIO(cat(*mixed))).header.sample_format == SampleFormat.UNKNOWN


def test_parts_of_a_chunk() -> None:
    header = Header(
        model="x",
        fingerprint="0" * 16,
        sample_rate=16000,
        frame_samples=320,
        codebooks=(Codebook(4), Codebook(5, 2)),
        network_channels=1,
        stereo_pair=False,
        stream_codebooks=(2, 1),
        original_sample_rate=16000,
        channels=2,
    )
    first = [np.arange(6), np.arange(12)]
    chunk = Chunk.pack(header, 10, 6, [first, None])
    assert chunk.part(header, 10, 16) is chunk.part(header) is chunk
    assert chunk.part(header, 16) is chunk.part(header, 0, 10) is None
    assert chunk.part(header, 12, 14) == Chunk.pack(header, 12, 2, [[first[0][2:4], first[1][4:8]], None])


def test_the_commands(codec: FarSighted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = compressed(codec, noise(3, 16000, 1), 16000)
    Path("x.nac").write_bytes(data)

    def run(*words: str, stdin: bytes | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(cli.main, list(words), input=stdin)
        assert result.exit_code == code, result.output
        return result

    assert "x.nac -> a.nac: 0:01.5" in run("cut", "x.nac", "--duration", "0:01.5", "-o", "a.nac").stderr
    piped = run("cut", "-", "--start", "1.5", "-o", "-", "-q", stdin=data).stdout_bytes
    assert "a.nac + - -> whole.nac: 0:03.0" in run("cat", "a.nac", "-", "-o", "whole.nac", stdin=piped).stderr
    assert np.array_equal(decoded(Path("whole.nac").read_bytes(), codec), decoded(data, codec))
    assert "--start or --duration" in run("cut", "x.nac", "-o", "y.nac", code=2).stderr
    assert "once" in run("cat", "-", "-", "-o", "y.nac", code=2).stderr
    assert "exists" in run("cat", "x.nac", "x.nac", "-o", "a.nac", code=1).stderr
    assert "after the end" in run("cut", "x.nac", "--start", "4", "-o", "y.nac", code=1).stderr
    assert not Path("y.nac").exists()
