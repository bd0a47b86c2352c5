"""Files that move fewer bytes than asked for, at any time none."""

from __future__ import annotations

import io
from typing import Any

import pytest

from nac.streams import read_exactly, write_all

DATA = bytes(range(256)) * 20


class Slow(io.RawIOBase):
    """Moves so many bytes in each call, in turn."""

    def __init__(self, *steps: int | None) -> None:
        self.steps, self.calls, self.taken = steps, 0, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int | None:
        step = self.steps[self.calls % len(self.steps)]
        self.calls += 1
        self.taken += bytes(data[: step or 0])
        return None if step is None else min(step, len(data))

    def read(self, size: int = -1) -> bytes:
        step = self.steps[self.calls % len(self.steps)] or 0
        self.calls += 1
        start = len(self.taken)
        self.taken += DATA[start : start + min(step, size)]
        return bytes(self.taken[start:])


@pytest.mark.parametrize("steps", [(10000,), (1,), (0, 7), (3, 0, 0, 500), (len(DATA), 0)])
def test_every_byte_is_written_once(steps: tuple[int, ...]) -> None:
    for data in (DATA, bytearray(DATA), memoryview(DATA).cast("H"), b""):
        file = Slow(*steps)
        write_all(file, data)
        assert file.taken == bytes(data)


def test_a_file_like_object_may_say_nothing_about_what_it_took() -> None:
    class Silent:
        taken = b""

        def write(self, data: Any) -> None:
            self.taken += bytes(data)

    file = Silent()
    write_all(file, DATA)  # type: ignore[arg-type]
    assert file.taken == DATA


def test_a_file_that_takes_nothing_now_is_an_error() -> None:
    file = Slow(100, None)
    with pytest.raises(BlockingIOError, match="accepts no more"):
        write_all(file, DATA)
    assert file.taken == DATA[:100]


@pytest.mark.parametrize("steps", [(10000,), (1,), (7, 500)])
def test_so_many_bytes_are_read_or_all_that_there_are(steps: tuple[int, ...]) -> None:
    for size in (0, 1, 8, len(DATA) - 1, len(DATA), len(DATA) + 1, 1 << 40):
        assert read_exactly(Slow(*steps), size) == DATA[:size]
