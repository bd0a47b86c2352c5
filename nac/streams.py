"""Complete reads and writes for file objects that transfer only parts at a time."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, Protocol

_PIECE = 1 << 20


class Readable(Protocol):
    """A file that can be read in order."""

    def read(self, size: int, /) -> bytes: ...


def read_exactly(file: Readable, size: int) -> bytes:
    """Read ``size`` bytes, fewer only at the end of the file.

    Memory is allocated for bytes that have arrived, not for a declared length.
    """
    pieces, left = [], size
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def write_all(file: BinaryIO, data: Any) -> None:
    """Write all bytes of a buffer. Raises BlockingIOError if a non-blocking file takes none."""
    left = memoryview(data).cast("B")
    while left:
        written = file.write(left)
        if written is None and isinstance(file, io.RawIOBase):
            raise BlockingIOError("the output is non-blocking and accepts no more bytes")
        # Unbuffered files may write only a part; file-like objects often return None.
        left = left[len(left) if written is None else written :]
