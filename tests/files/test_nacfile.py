"""NacFile: read like soundfile.SoundFile, from anywhere, and written while the samples come in."""

from __future__ import annotations

import errno
import gc
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from container_files import written
from narrow_codecs import NAMES, narrow_codecs
from toy_codec import ToyCodec

import nac
from nac.codecs.base import Codec
from nac.container import verify

RATE = 16000


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield {**made, "toy": ToyCodec()}


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, (samples, channels)).astype(np.int16)


ELSEWHERE: dict[str, Any] = {
    "env": {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
    "capture_output": True,
    "text": True,
    "timeout": 120,
}


@pytest.fixture
def toy_file(toy: ToyCodec) -> tuple[bytes, np.ndarray]:
    """A file of the toy codec, which keeps the samples, and these as nac.read gives them."""
    samples = noise(40 * 1000 + 7)
    return nac.encode(samples, RATE, kbps=1e6), samples.astype(np.float32) / 32768


# Reading


def test_positions_are_those_of_soundfile(toy_file: tuple[bytes, np.ndarray], tmp_path: Path) -> None:
    data, samples = toy_file
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="PCM_16")
    with nac.open(io.BytesIO(data)) as mine, soundfile.SoundFile(tmp_path / "x.wav") as theirs:
        assert len(mine) == mine.samples == theirs.frames
        assert (mine.sample_rate, mine.channels, mine.mode) == (theirs.samplerate, theirs.channels, theirs.mode)
        random = np.random.default_rng(1)
        for _ in range(40):
            if random.random() < 0.5:
                whence = int(random.integers(3))
                place = {0: 0, 1: theirs.tell(), 2: theirs.frames}[whence]
                target = int(random.integers(theirs.frames + 1))
                assert mine.seek(target - place, whence) == theirs.seek(target - place, whence)
            frames = int(random.integers(-1, 9000))
            dtype = ("int16", "int32", "float32", "float64")[random.integers(4)]
            assert np.array_equal(mine.read(frames, dtype), theirs.read(frames, dtype, always_2d=True))
            assert mine.tell() == theirs.tell()
        mine.seek(0)
        assert np.array_equal(mine.read(), samples)
        assert mine.read().shape == (0, 1)


@pytest.mark.parametrize(
    ("size", "overlap", "frames"), [(7000, 0, -1), (4096, 99, -1), (900, 899, 2000), (50_000, 3, -1)]
)
def test_blocks_are_those_of_soundfile(
    toy_file: tuple[bytes, np.ndarray], tmp_path: Path, size: int, overlap: int, frames: int
) -> None:
    data, samples = toy_file
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="PCM_16")
    with nac.open(io.BytesIO(data)) as mine, soundfile.SoundFile(tmp_path / "x.wav") as theirs:
        mine.seek(500), theirs.seek(500)
        expected = list(theirs.blocks(size, overlap, frames, dtype="float32", always_2d=True))
        got = list(mine.blocks(size, overlap, frames))
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert np.array_equal(one, other)


def test_one_channel_can_come_flat(toy: ToyCodec) -> None:
    with nac.open(io.BytesIO(nac.encode(noise(5000), RATE))) as file:
        assert file.read(100).shape == (100, 1)
        assert file.read(100, always_2d=False).shape == (100,)
        assert [block.shape for block in file.blocks(4000, always_2d=False)] == [(4000,), (800,)]
    for channels in (2, 3):  # nothing else can
        with nac.open(io.BytesIO(nac.encode(noise(5000, channels), RATE))) as file:
            assert file.read(100, always_2d=False).shape == (100, channels)
            assert [block.shape[1:] for block in file.blocks(3000, always_2d=False)] == [(channels,)] * 2


@pytest.mark.parametrize("name", [*NAMES, "toy"])
@pytest.mark.parametrize(("rate", "channels"), [(None, 1), (22050, 2)])
def test_what_is_read_in_parts_is_what_is_read_at_once(
    codecs: dict[str, Codec], name: str, rate: int | None, channels: int
) -> None:
    codec = codecs[name]
    samples = noise(round(1.1 * (rate or codec.spec.sample_rate)), channels)
    data = nac.encode(samples, rate or codec.spec.sample_rate, codec=codec)
    whole, _ = nac.read(io.BytesIO(data), codec=codec)
    random = np.random.default_rng(2)
    with nac.open(io.BytesIO(data), codec=codec) as file:
        parts = [file.read(int(random.integers(1, 4000))) for _ in range(4)]
        assert np.array_equal(np.concatenate([*parts, file.read()]), whole)
        for place in (*random.integers(0, len(samples), 3), len(samples)):
            file.seek(int(place))
            assert np.array_equal(file.read(700), whole[place : place + 700])


def test_a_cut_file_counts_from_its_own_start() -> None:
    data, part = nac.encode(noise(40_007), RATE, model="nac_24khz"), io.BytesIO()
    samples, _ = nac.decode(data)
    nac.cut(io.BytesIO(data), part, start=0.7, duration=1.1)
    part.seek(0)
    with nac.open(part) as file:
        assert len(file) == 17_600
        file.seek(100)
        assert np.array_equal(file.read(), samples[11_300 : 11_200 + 17_600])
        for start, duration in ((0.0, 0.2), (0.5, 0.2), (0.5, 0.6)):
            codes = file.codes(start=start, duration=duration)[0]
            expected = nac.read_codes(io.BytesIO(data), start=0.7 + start, duration=duration)[0]
            assert all(map(np.array_equal, codes, expected))


@pytest.mark.parametrize("rate", [8000, RATE, 44100])
def test_frames_are_numbered_on_the_time_of_the_recording_a_file_was_cut_from(toy: ToyCodec, rate: int) -> None:
    data, part = nac.encode(noise(4 * rate), rate), io.BytesIO()
    nac.cut(io.BytesIO(data), part, start=2.5, duration=1.0)
    part.seek(0)
    with nac.open(io.BytesIO(data)) as whole, nac.open(part) as file:
        assert (whole.frames, file.frames) == (range(4 * 400), range(1000, 1400))
        assert (whole.first_frame, file.first_frame) == (0, 1000)
        mine, theirs = (one.frame_codes(file.frames.start, file.frames.stop)[0] for one in (file, whole))
        assert all(map(np.array_equal, mine, theirs))


@pytest.mark.parametrize("samples", [0, 1, 110, 111, 112, 220, 221, 331])
def test_frames_are_those_that_have_codes_wherever_a_recording_ends(toy: ToyCodec, samples: int) -> None:
    """At another rate than the codec's, its end lies between two samples of the codec."""
    with nac.open(io.BytesIO(nac.encode(noise(samples), 44100))) as file:
        assert file.frames == range(len(file.codes()[0][0]) // 40)


def test_codes_of_a_file_that_was_cut_off_are_those_of_its_parts(toy_file: tuple[bytes, np.ndarray]) -> None:
    data, _ = toy_file
    with nac.open(io.BytesIO(data)) as file:
        whole = file.codes(duration=1.0)
        beyond = file.frame_codes(file.frames.stop - 5, file.frames.stop + 5)
        assert all(map(np.array_equal, beyond[0], file.frame_codes(file.frames.stop - 5)[0]))
    with nac.open(io.BytesIO(data[:-1])) as file:
        assert all(map(np.array_equal, file.codes(duration=1.0)[0], whole[0]))
        for asked in ({}, {"start": 1.0}, {"duration": 99.0}):
            with pytest.raises(nac.FormatError):
                file.codes(**asked)


def test_frames_that_do_not_exist_have_no_codes(toy_file: tuple[bytes, np.ndarray]) -> None:
    with nac.open(io.BytesIO(toy_file[0])) as file:
        stop = file.frames.stop
        found = [
            file.frame_codes(low, high) for low, high in ((5, 5), (9, 5), (stop, None), (stop + 9, stop + 20))
        ]
        for codes in (*found, file.codes(start=1.0, duration=0), file.codes(duration=0)):
            assert [(array.shape, array.dtype) for array in codes[0]] == [((0,), np.int32)] * 2


def test_lost_frames_have_no_codes_wherever_a_part_begins_or_ends(
    toy: ToyCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nac.container.chunk.CHUNK_SECONDS", 1)
    data = nac.encode(noise(4 * RATE), RATE, codebooks=1)
    with nac.open(io.BytesIO(data)) as file:
        expected = file.codes()[0][0]
        kept = [file.chunk(number) for number in (0, 2, 3)]
        holey = written(file.header, kept, 4 * RATE).getvalue()
    expected[RATE : 2 * RATE] = -1
    with nac.open(io.BytesIO(holey)) as file:
        borders = (0, 399, 400, 401, 600, 799, 800, 801, 1600)
        for low, high in combinations(borders, 2):
            assert np.array_equal(file.frame_codes(low, high)[0][0], expected[low * 40 : high * 40])
        assert np.array_equal(file.codes(start=1.5, duration=1.0)[0][0], expected[24_000:40_000])


def test_more_codebooks_than_there_are_give_all(toy: ToyCodec) -> None:
    for there in (1, 2):
        data = nac.encode(noise(1000, 2), RATE, codebooks=there)
        for asked in (1, 2):
            for codes in (
                nac.read_codes(io.BytesIO(data), codebooks=asked),
                nac.open(io.BytesIO(data)).codes(codebooks=asked),
                nac.open(io.BytesIO(data)).frame_codes(0, 9, codebooks=asked),
            ):
                assert [len(stream) for stream in codes] == [min(there, asked)] * 2
        with pytest.raises(ValueError, match="codebooks"):
            nac.read_codes(io.BytesIO(data), codebooks=3)


def test_memory_does_not_grow_with_the_file(toy: ToyCodec) -> None:
    import tracemalloc

    def peak(seconds: int) -> int:
        data = nac.encode(np.tile(noise(RATE), (seconds, 1)), RATE, kbps=1e6, coding="packed")
        with nac.open(io.BytesIO(data)) as file:
            file.read(10)  # imports, and what is made once
            tracemalloc.start()
            for _ in file.blocks(4096):
                pass
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    assert peak(120) < 1.5 * peak(30)


def test_codes_and_samples_can_be_read_in_turn(toy_file: tuple[bytes, np.ndarray]) -> None:
    data, samples = toy_file
    with nac.open(io.BytesIO(data)) as file:
        for start in range(0, 8000, 2000):
            assert np.array_equal(file.read(2000), samples[start : start + 2000])
            assert len(file.codes(start=1, duration=0.5)[0][0]) == 8000
    assert file.closed


def test_damage_is_told_after_the_samples_before_it(toy: ToyCodec) -> None:
    samples = noise(25 * RATE)
    data = bytearray(nac.encode(samples, RATE, kbps=1e6))
    with nac.open(io.BytesIO(data)) as file:
        assert file.chunks == 3
        whole = file.read()
        place = file._reader.index[2].offset
    data[place + 300] ^= 1
    with nac.open(io.BytesIO(data)) as file:
        good = file.read()
        assert len(good) >= 19 * RATE
        assert np.array_equal(good, whole[: len(good)])
        for _ in range(2):
            with pytest.raises(nac.DamageError):
                file.read(1)
        file.seek(RATE)
        assert np.array_equal(file.read(500), whole[RATE : RATE + 500])


def test_what_cannot_be_read_is_refused(toy_file: tuple[bytes, np.ndarray]) -> None:
    file = nac.open(io.BytesIO(toy_file[0]))
    for place, whence in ((-1, 0), (1, 2), (40_008, 0), (0, 3)):
        with pytest.raises(ValueError, match=r"sample|whence"):
            file.seek(place, whence)
    for size, overlap in ((0, 0), (10, 10), (10, -1)):
        with pytest.raises(ValueError, match="cannot overlap"):
            file.blocks(size, overlap)
    with pytest.raises(ValueError, match="open for reading"):
        file.write(noise(10))
    with pytest.raises(ValueError, match="mode"):
        nac.open(io.BytesIO(toy_file[0]), "a")  # type: ignore[arg-type]
    for options in (
        {"kbps": 3},
        {"sample_rate": 8000},
        {"channels": 1},
        {"codebooks": 1},
        {"coding": "packed"},
        {"tags": {}},
        {"model": "nac_24khz"},
        {"force": True},
    ):
        with pytest.raises(ValueError, match="of what is written"):
            nac.open(io.BytesIO(toy_file[0]), **options)  # type: ignore[arg-type]
    file.close()
    file.close()
    for action in (file.read, file.blocks):
        with pytest.raises(ValueError, match="closed"):
            action()


# Writing


def names() -> list[str]:
    """Of the files in the current folder."""
    return sorted(path.name for path in Path().iterdir())


def split(samples: np.ndarray, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    borders = sorted(random.integers(0, len(samples), 7).tolist())
    return np.split(samples, borders)


@pytest.mark.parametrize("name", [*NAMES, "toy"])
@pytest.mark.parametrize(("rate", "channels"), [(None, 1), (22050, 2)])
def test_blocks_give_the_codes_of_the_whole(
    codecs: dict[str, Codec], name: str, rate: int | None, channels: int, tmp_path: Path
) -> None:
    codec = codecs[name]
    rate = rate or codec.spec.sample_rate
    samples = noise(round(1.1 * rate), channels)
    path = tmp_path / "x.nac"
    with nac.open(path, "w", sample_rate=rate, channels=channels, codec=codec, tags={"title": "x"}) as file:
        for block in split(samples, channels):
            file.write(block if channels > 1 else block[:, 0])
        assert (len(file), file.tell(), file.sample_rate, file.channels) == (
            len(samples),
            len(samples),
            rate,
            channels,
        )
        assert not path.exists()
    assert file.closed
    expected = io.BytesIO(nac.encode(samples, rate, codec=codec, tags={"title": "x"}))
    with nac.open(path) as mine, nac.open(expected) as theirs:
        assert mine.samples == theirs.samples == len(samples)
        assert mine.tags == {"title": "x"}
        assert mine.header.sample_format == theirs.header.sample_format
        for one, other in zip(mine.codes(), theirs.codes(), strict=True):
            assert all(map(np.array_equal, one, other))
    assert verify(io.BytesIO(path.read_bytes())).samples == len(samples)


class Pipe(io.RawIOBase):
    """Only written to; says when something comes."""

    def __init__(self) -> None:
        self.data, self.came = bytearray(), threading.Event()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        self.came.set()
        return len(data)


def test_chunks_come_out_while_blocks_go_in(toy: ToyCodec) -> None:
    pipe = Pipe()
    with nac.open(pipe, "w", sample_rate=RATE, channels=1) as file:
        file.write(noise(100))
        assert pipe.came.wait(10)  # the header
        pipe.came.clear()
        had = len(pipe.data)
        for _ in range(25):
            file.write(noise(RATE))
        assert pipe.came.wait(10)
        assert len(pipe.data) > had + 10_000
    assert nac.info(io.BytesIO(bytes(pipe.data))).samples == 25 * RATE + 100
    assert not pipe.closed


def test_a_file_of_nothing(toy: ToyCodec) -> None:
    with nac.open("x.nac", "w", sample_rate=RATE, channels=2):
        pass
    assert nac.read("x.nac")[0].shape == (0, 2)


def test_floats_beyond_full_scale_are_clipped(toy: ToyCodec) -> None:
    with nac.open("x.nac", "w", sample_rate=RATE, channels=1, kbps=1e6) as file:
        file.write(np.array([0.5, 3, -3, np.nan]))
    assert nac.read("x.nac", dtype="int16")[0][:, 0].tolist() == [16384, 32767, -32768, 0]


def test_an_exception_leaves_no_file(toy: ToyCodec) -> None:
    def fail() -> None:
        with nac.open("x.nac", "w", sample_rate=RATE, channels=1) as file:
            file.write(noise(30 * RATE))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names() == []
    with nac.open("y.nac", "w", sample_rate=RATE, channels=1) as file:
        for wrong in (noise(10, 2), np.zeros(10, np.uint8)):
            with pytest.raises((ValueError, TypeError)):
                file.write(wrong)
        file.write(noise(10))
    assert nac.info("y.nac").samples == 10
    assert names() == ["y.nac"]


def test_a_file_that_is_dropped_leaves_nothing(toy: ToyCodec) -> None:
    file = nac.open("x.nac", "w", sample_rate=RATE, channels=1)
    file.write(noise(30 * RATE))
    del file
    gc.collect()
    assert names() == []
    assert "nac-recorder" not in [thread.name for thread in threading.enumerate()]


class Full(Pipe):
    def write(self, data: Any) -> int:
        if len(self.data) > 20_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


HALF = """
import os, sys
import numpy as np
import nac
from toy_codec import ToyCodec

def half():
    file = nac.open("made.nac", "w", sample_rate=16000, channels=1, codec=ToyCodec())
    for _ in range(40):
        file.write(np.zeros((16000, 1), np.float32))
    return file

"""
THREE_PROGRAMS = """
import ctypes
for forever in (False, True, False):
    if not (child := os.fork()):
        file = half()
        if forever:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
        sys.exit(7)
    assert os.waitpid(child, 0)[1] == 7 << 8
    assert not os.listdir()
"""
CHILD = """
file = half()
if not (child := os.fork()):
    file.close()
    sys.exit(7)
assert os.waitpid(child, 0)[1] == 7 << 8
file.close()
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")


@needs_fork
def test_a_program_that_ends_with_a_file_open_leaves_nothing(tmp_path: Path) -> None:
    """Three of them, forked by one that has loaded what they need. In one the file is never dropped."""
    ended = subprocess.run([sys.executable, "-c", HALF + THREE_PROGRAMS], **ELSEWHERE, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@needs_fork
def test_a_child_leaves_the_file_to_its_parent(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HALF + CHILD], **ELSEWHERE, cwd=tmp_path, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["made.nac"]
    assert len(nac.open(tmp_path / "made.nac")) == 40 * 16000


def test_a_full_disk_is_told_while_writing(toy: ToyCodec) -> None:
    file = nac.open(Full(), "w", sample_rate=RATE, channels=1, kbps=1e6)

    def fill() -> None:
        for _ in range(100):
            file.write(noise(RATE))

    with pytest.raises(nac.NacError, match="No space left"):
        fill()
    assert file.closed
    file.close()
    with (
        pytest.raises(nac.NacError, match="No space left"),
        nac.open(Full(), "w", sample_rate=RATE, channels=1) as file,
    ):
        file.write(noise(15 * RATE))


def test_what_cannot_be_written_is_refused(toy: ToyCodec) -> None:
    Path("x.nac").write_bytes(b"mine")
    right: dict[str, Any] = {"sample_rate": RATE, "channels": 1}
    for options, message in (
        ({"channels": 1}, "sample_rate"),
        ({**right, "channels": 0}, "0 channels"),
        ({**right, "channels": 256}, "256 channels"),
        ({**right, "sample_rate": 0}, "0 Hz"),
        ({**right, "kbps": 0.01}, "at least"),
        ({**right, "model": "none"}, "unknown model 'none'"),
    ):
        with pytest.raises(nac.NacError, match=message):
            nac.open("y.nac", "w", **options)
    with pytest.raises(nac.NacError, match="exists"):
        nac.open("x.nac", "w", **right)
    assert names() == ["x.nac"]
    with nac.open("x.nac", "w", **right, force=True) as file:
        file.write(noise(10))
        with pytest.raises(ValueError, match="open for writing"):
            file.codes()
        with pytest.raises(ValueError, match="open for writing"):
            file.read()
        with pytest.raises(ValueError, match="seek"):
            file.seek(0)
    assert nac.info("x.nac").samples == 10


def test_a_closed_file_has_no_position(toy_file: tuple[bytes, np.ndarray]) -> None:
    file = nac.open(io.BytesIO(toy_file[0]))
    file.close()
    for use in (file.tell, lambda: file.seek(0), file.read):
        with pytest.raises(ValueError, match="the file is closed"):
            use()


@pytest.mark.parametrize("samples", [0, 10, 30 * RATE])
@pytest.mark.parametrize("aborted", [False, True])
def test_a_closed_file_takes_no_more_samples(toy: ToyCodec, samples: int, aborted: bool) -> None:
    file = nac.open("x.nac", "w", sample_rate=RATE, channels=1)
    if samples:
        file.write(noise(samples))
    if aborted:
        file.__exit__(KeyError, KeyError(), None)
    file.close()
    for _ in range(3):
        with pytest.raises(ValueError, match="the file is closed"):
            file.write(noise(10))
    file.close()
    assert names() == ([] if aborted else ["x.nac"])
    assert aborted or nac.info("x.nac").samples == samples
