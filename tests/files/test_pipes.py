"""Files and recordings from pipes of unknown length: as strict as from files, and nothing waits in a buffer."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest
from toy_codec import ToyCodec
from toy_command import install_toy

import nac
from nac.container import Reader
from nac.files import playing

RATE, SAMPLES = 16000, 470_000  # three chunks, the last one shorter


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyCodec:
    return install_toy(monkeypatch)


class Pipe(io.RawIOBase):
    """Cannot seek; calls ``waits`` each time that bytes are asked for which have not been written yet.

    ``writes``: what is written to it at a time.
    """

    def __init__(self, writes: list[bytes], waits: Callable[[], None] = lambda: None) -> None:
        self._writes, self._there, self._waits = list(writes), b"", waits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        if not self._there and self._writes:
            self._waits()
            self._there = self._writes.pop(0)
        taken, self._there = self._there[: len(buffer)], self._there[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


class Buffered(io.RawIOBase):
    """An output whose bytes are sent only when it is flushed. ``waiting``: those that are not."""

    def __init__(self) -> None:
        self.size = self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self.size, self.waiting = self.size + len(data), self.waiting + len(data)
        return len(data)

    def flush(self) -> None:
        self.waiting = 0


def sound(samples: int = SAMPLES) -> np.ndarray:
    return np.random.default_rng(0).integers(-9000, 9000, samples).astype("<i2")


def wav(samples: int = SAMPLES, before: bytes = b"") -> bytes:
    """A WAV of unknown length, with chunks ``before`` its samples."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVE" + form + before + b"data\xff\xff\xff\xff" + sound(samples).tobytes()


def packed(samples: int = SAMPLES, *, declared: bool = False) -> bytes:
    """A .nac file that says how long it is at its start, if ``declared``, or else only at its end."""
    out = io.BytesIO()
    if declared:
        nac.write(out, sound(samples), RATE, model="toy", codebooks=2, coding="packed")
    else:
        nac.compress(Pipe([wav(samples)]), out, model="toy", codebooks=2, coding="packed")
    assert Reader(io.BytesIO(out.getvalue())).header.samples == (samples if declared else None)
    return out.getvalue()


def pieces(data: bytes) -> list[bytes]:
    """A .nac file as it is written: header and first chunk, the other chunks, the end."""
    index = Reader(io.BytesIO(data)).index
    ends = [*(index[number].offset for number in range(1, len(index))), len(data) - data[-8], len(data)]
    return [data[low:high] for low, high in zip([0, *ends], ends, strict=False)]


def played(src: object, toy: ToyCodec, monkeypatch: pytest.MonkeyPatch, **part: float | None) -> None:
    @contextmanager
    def speaker(*_: object):
        pytest.fail("the loudspeaker was opened")
        yield

    monkeypatch.setattr(playing, "speaker", speaker)
    playing.play(src, load=lambda name: toy, **part)


@pytest.mark.parametrize("duration", [None, 1.0])
@pytest.mark.parametrize("start", [(SAMPLES + 1) / RATE, 1e6])
def test_a_start_after_the_end_is_refused(
    start: float, duration: float | None, toy: ToyCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, part = packed(), {"start": start, "duration": duration}
    for made in (lambda: Pipe([data]), lambda: io.BytesIO(data)):
        for action in (
            lambda src: nac.decompress(src, io.BytesIO(), **part),
            lambda src: nac.read(src, **part),
            lambda src: nac.cut(src, io.BytesIO(), **part),
            lambda src: played(src, toy, monkeypatch, **part),
        ):
            with pytest.raises(nac.NacError, match=r"^starts after the end: .* of 29.375 s"):
                action(made())


@pytest.mark.parametrize("duration", [None, 1.0])
def test_a_start_at_the_end_gives_nothing(duration: float | None) -> None:
    data, part = packed(), {"start": SAMPLES / RATE, "duration": duration}
    for src in (Pipe([data]), io.BytesIO(data)):
        assert nac.read(src, **part)[0].shape == (0, 1)


WRITTEN: dict[str, Callable[[object, object], object]] = {
    "peel": lambda src, out: nac.peel(src, out, codebooks=1),
    "recode": lambda src, out: nac.peel(src, out, coding="packed"),
    "cut": lambda src, out: nac.cut(src, out, start=1),
    "cat": lambda src, out: nac.cat([src], out),
    "decompress": lambda src, out: nac.decompress(src, out),
    "decompress a part": lambda src, out: nac.decompress(src, out, start=2, duration=27),
    "decompress as float": lambda src, out: nac.decompress(src, out, bits="float"),
    "compress": lambda src, out: nac.compress(src, out, model="toy", codebooks=2, coding="packed"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_waits_in_a_buffer_while_more_is_awaited(name: str) -> None:
    """What is written is sent before more is read, which may take long to come."""
    out, sent = Buffered(), list[int]()

    def waits() -> None:
        assert not out.waiting
        sent.append(out.size)

    recording = wav()  # read in blocks of two seconds
    writes = [recording[:340_000], recording[340_000:680_000], recording[680_000:]]
    WRITTEN[name](Pipe(writes if name == "compress" else pieces(packed(declared=name == "cat")), waits), out)
    assert sent == sorted(sent)
    assert 0 < sent[1] < sent[2] < out.size
    assert not out.waiting


@pytest.mark.parametrize("size", [1000, 100_001, 900_000])
def test_long_chunks_before_the_samples_leave_a_pipe_live(size: int) -> None:
    note = b"junk" + struct.pack("<I", size) + b"x" * size + bytes(size % 2)
    recording, out, sent = wav(before=note), Buffered(), list[int]()
    first = 44 + len(note) + 2 * 170_000
    nac.compress(
        Pipe([recording[:first], recording[first:]], lambda: sent.append(out.size)),
        out,
        model="toy",
        codebooks=2,
        coding="packed",
    )
    assert sent[0] == 0
    assert 160_000 < sent[1] < out.size


def test_samples_of_each_chunk_come_before_the_next_is_awaited() -> None:
    out, sent = Buffered(), list[int]()
    small = io.BytesIO()
    nac.peel(io.BytesIO(packed(6 * 160_000)), small, codebooks=1)  # so that chunks would fit a batch
    nac.decompress(Pipe(pieces(small.getvalue()), lambda: sent.append(out.size)), out)
    steps = np.diff(sent[1:-1])  # from the first chunk to the last
    assert len(steps) >= 4
    assert (steps > 200_000).all()
