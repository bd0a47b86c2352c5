"""Views of files for decoder libraries, and their error messages."""

from __future__ import annotations

from typing import Any, BinaryIO


class View:
    """Bytes ``start`` to ``end`` of a file as a file with its own position, after the bytes ``instead``.

    It has no name, so that a decoder cannot open files beside it.
    """

    name = ""

    def __init__(self, file: BinaryIO, start: int, end: int, instead: bytes = b"") -> None:
        self._file, self._start, self._size, self._instead = file, start, end - start, instead
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer only at the end."""
        size = max(0, self._size - self._at if size < 0 else min(size, self._size - self._at))
        data = self._instead[self._at : self._at + size]
        if len(data) < size:
            self._file.seek(self._start + self._at + len(data))
            data += self._file.read(size - len(data))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position, relative to the start, the current position or the end."""
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        """The position of the next byte."""
        return self._at


def reason(error: Any) -> str:
    """The error message of FFmpeg or libsndfile, on one line."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    lines = str(text).strip().rstrip(".").splitlines()
    return lines[0] if lines else type(error).__name__
