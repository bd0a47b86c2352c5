"""Sorting names with bounded memory: most of them are on the disk."""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

BUFFERED = 100_000
"""Most names in memory at a time."""
_READ = 1 << 14
_END = b"\0"  # cannot occur in names


class Sorter:
    """Takes tuples of equal length in any order, and returns them sorted, once."""

    def __init__(self) -> None:
        self._buffer: list[tuple[str, ...]] = []
        self._runs: list[BinaryIO] = []
        self._width = 1

    def add(self, *names: str) -> None:
        self._width = len(names)
        self._buffer.append(names)
        if len(self._buffer) >= BUFFERED:
            self._buffer.sort()
            self._runs.append(_written(self._buffer))
            self._buffer = []

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        self._buffer.sort()
        try:
            yield from heapq.merge(self._buffer, *(_read(run, self._width) for run in self._runs))
        finally:
            for run in self._runs:
                run.close()


def _written(names: list[tuple[str, ...]]) -> BinaryIO:
    """A file with names, deleted when it is closed."""
    file: BinaryIO = tempfile.TemporaryFile(prefix="nac-")  # noqa: SIM115 (to stay open)
    file.writelines(os.fsencode(name) + _END for pair in names for name in pair)
    file.seek(0)
    return file


def _read(file: BinaryIO, width: int) -> Iterator[tuple[str, ...]]:
    names = _names(file)
    while found := tuple(islice(names, width)):
        yield found


def _names(file: BinaryIO) -> Iterator[str]:
    rest = b""
    while piece := file.read(_READ):
        *whole, rest = (rest + piece).split(_END)
        yield from map(os.fsdecode, whole)
