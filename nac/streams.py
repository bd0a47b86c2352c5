"""Reading and writing all of it, whatever a file object gives or takes at a time."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, Protocol

_PIECE = 1 << 20


class Readable(Protocol):
    """What can be read from front to back."""

    def read(self, size: int, /) -> bytes: ...


def read_exactly(file: Readable, size: int) -> bytes:
    """Read so many bytes, fewer only at the end of the file.

    Memory is taken for what has arrived, never for a length that was only announced.
    """
    pieces, left = [], size
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def write_all(file: BinaryIO, data: Any) -> None:
    """Write all bytes of a buffer. Raises BlockingIOError where the file takes none without waiting."""
    left = memoryview(data).cast("B")
    while left:
        written = file.write(left)
        if written is None and isinstance(file, io.RawIOBase):
            raise BlockingIOError("the output takes no more bytes now, and nac does not wait for it")
        # Unbuffered files take a part at times; objects that are not quite files often return nothing.
        left = left[len(left) if written is None else written :]
