"""Uncompressed samples, read from files; WAV also from pipes as it arrives."""

from __future__ import annotations

import shutil
from typing import BinaryIO

from nac.audio.headers import CHUNKS, Declared
from nac.audio.kinds import Kind
from nac.audio.resample import Samples
from nac.audio.whole import bytes_of_sound, check_rest, cut_off, drop, is_chunk, is_known
from nac.errors import AudioError
from nac.streams import read_exactly

_HEADER_LIMIT = 1 << 20  # most bytes of a pipe that are buffered


class PlainInput:
    """A file of uncompressed samples. Raises AudioError if some are missing. ``samples``: None if unknown."""

    notes: tuple[str, ...] = ()

    def __init__(self, file: Pipe | BinaryIO, kind: Kind, said: Declared, end: int | None) -> None:
        assert said.coding is not None
        self._file, self._kind, self._said, self._decode = file, kind, said, said.coding.decode
        if not said.channels or not said.sample_rate:
            raise AudioError("audio without a sample rate or channels")
        self.sample_rate, self.channels, self.mask = said.sample_rate, said.channels, said.mask
        self.tags, self.sample_format = said.tags, said.coding.format
        self._read = 0  # bytes
        self._size: int | None
        """Bytes of samples; None: up to the end."""
        if not isinstance(file, Pipe):
            assert end is not None
            self._size = bytes_of_sound(file, kind, said, end)
        else:
            self._size = said.size if is_known(said.size) or (said.size == 0 and is_chunk(file.peek(4))) else None
        self.samples = None if self._size is None else self._size // said.width

    def read(self, size: int) -> Samples:
        """The next ``size`` samples, or all that are left, [n, channels]; n = 0 at the end."""
        width, wanted = self._said.width, size * self._said.width
        if self._size is None:
            wanted = self._up_to_doubt(wanted)
        if self._size is not None:
            wanted = min(wanted, (self._size - self._read) // width * width)
        if not isinstance(self._file, Pipe):
            self._file.seek(self._said.start + self._read)
        data = read_exactly(self._file, wanted)
        self._read += len(data)
        if self._size is not None and len(data) < wanted:
            raise cut_off(self._size // width * width - self._read // width * width)
        if isinstance(self._file, Pipe) and self._size is not None and not data:
            drop(self._file, self._size - self._read)  # an incomplete last sample
            check_rest(self._file, self._kind, self._size)  # to the end, so that the writer is not cut off either
        return self._decode(data[: len(data) // width * width]).reshape(-1, self.channels)

    def _up_to_doubt(self, wanted: int) -> int:
        """Stops at the declared size on a pipe, where that may be real or a placeholder for "unknown"."""
        doubt = (self._said.size or 0) // self._said.width * self._said.width
        if isinstance(self._file, Pipe) and doubt and self._read <= doubt:
            if self._read < doubt:
                return min(wanted, doubt - self._read)
            if self._chunk_follows((self._said.size or 0) - doubt):
                self._size = self._said.size
        return wanted

    def _chunk_follows(self, rest: int) -> bool:
        """Whether a chunk begins behind this many more bytes on a pipe, and those that pad the declared size."""
        assert isinstance(self._file, Pipe)
        form = CHUNKS.get(self._kind)
        padding = -(self._said.size or 0) % form.unit if form else 0
        following = self._file.peek(rest + padding + 4)[rest:]
        return is_chunk(following[:4]) or (not following[:padding].strip(b"\0") and is_chunk(following[padding:]))

    def close(self) -> None:
        pass


class Pipe:
    """A pipe that can seek in what was read so far, which is buffered until :meth:`let_go`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._buffer, self._at = file, b"", 0
        self._holds = True

    def read(self, size: int, /) -> bytes:
        """The next bytes, fewer only at the end."""
        if not self._holds:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data + read_exactly(self._file, size - len(data))
        if self._at + size > _HEADER_LIMIT:
            return b""  # treated as the end: files with such long headers are not streamed
        self._buffer += read_exactly(self._file, max(0, self._at + size - len(self._buffer)))
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def seek(self, at: int, /) -> None:
        self._at = at

    def let_go(self) -> None:
        """Drop what was read from the buffer."""
        self._buffer, self._holds = self._buffer[self._at :], False

    def peek(self, size: int) -> bytes:
        """The next bytes, without moving the position."""
        data = self.read(size)
        self._buffer = data + self._buffer
        return data

    def copy(self, target: BinaryIO) -> None:
        """All bytes from the first one, while they are still buffered."""
        target.write(self._buffer)
        shutil.copyfileobj(self._file, target, 1 << 20)
