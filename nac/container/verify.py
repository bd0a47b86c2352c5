"""Verify every byte of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from nac.container.header import Header
from nac.container.reader import Reader
from nac.container.timeline import Lost


@dataclass(frozen=True)
class Verified:
    """The contents of an undamaged file. ``samples``: per channel; ``gaps``: audio that was never written."""

    header: Header
    samples: int
    chunks: int
    frames: int
    gaps: tuple[Lost, ...]


def verify(file: BinaryIO) -> Verified:
    """Read a whole file in order, and verify all checksums and its end.

    Raises FormatError if it is not a .nac file that this version can read, DamageError at the first damage.
    """
    reader = Reader(file)
    chunks = frames = 0
    for chunk in reader.chunks():
        chunks, frames = chunks + 1, frames + chunk.frames
    assert reader.samples is not None  # the end has been read
    return Verified(reader.header, reader.samples, chunks, frames, tuple(reader.gaps))
