"""Checking every byte of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from nac.container.header import Header
from nac.container.reader import Reader
from nac.container.timeline import Lost


@dataclass(frozen=True)
class Verified:
    """What an undamaged file holds. ``samples``: per channel; ``gaps``: sound it was written without."""

    header: Header
    samples: int
    chunks: int
    frames: int
    gaps: tuple[Lost, ...]


def verify(file: BinaryIO) -> Verified:
    """Read a whole file, from its start and in order, and check it against all its checksums and its end.

    Raises FormatError if it is not a .nac file that this version reads, DamageError at the first sign of damage.
    """
    reader = Reader(file)
    chunks = frames = 0
    for chunk in reader.chunks():
        chunks, frames = chunks + 1, frames + chunk.frames
    assert reader.samples is not None  # the end has been read
    return Verified(reader.header, reader.samples, chunks, frames, tuple(reader.gaps))
