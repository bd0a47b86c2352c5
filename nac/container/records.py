"""Records, the parts a file consists of: type, length, body and a checksum over all three."""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

import google_crc32c

from nac.container.fields import read_varint, varint
from nac.errors import DamageError, FormatError
from nac.streams import read_exactly

CHUNK = 0x43
END = 0x45
MAX_BODY = 16 << 20


def checksum(*parts: bytes) -> bytes:
    """CRC-32C of the joined parts, as it is stored."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return struct.pack("<I", crc)


class Record(NamedTuple):
    """One record as read: ``start`` and ``end`` are its bytes' place in the file."""

    type: int
    body: bytes
    start: int
    end: int


def frame(kind: int, body: bytes) -> bytes:
    """The bytes of a record. Raises FormatError if the body is too long for one."""
    if len(body) > MAX_BODY:
        raise FormatError(f"a record of {len(body)} bytes; at most {MAX_BODY} are allowed, so use shorter chunks")
    head = bytes([kind]) + varint(len(body))
    return head + body + checksum(head, body)


class Source:
    """A file that is read in order, and out of order too if it is ``seekable``.

    Offsets count from where the file stood when given. Reads exactly what is asked for, however the file serves
    it, and never allocates for an announced length before the bytes are there.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seekable = file.seekable()
        self._base = file.tell() if self.seekable else 0
        self.position = 0

    def seek(self, offset: int) -> None:
        """Go to an offset; where the file is not seekable, that can only be where it stands."""
        if self.seekable:
            self._file.seek(self._base + offset)
            self.position = offset
        elif offset != self.position:
            raise OSError("this file cannot seek: its chunks can be read once, in order")

    def size(self) -> int:
        """The offset of the end of a seekable file."""
        return max(self._file.seek(0, 2) - self._base, 0)

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end of the file."""
        data = read_exactly(self._file, count)
        self.position += len(data)
        return data

    def need(self, count: int) -> bytes:
        """The next ``count`` bytes. Raises DamageError if the file ends before."""
        data = self.read(count)
        if len(data) < count:
            raise DamageError(f"cut short at byte {self.position}")
        return data

    def length(self, limit: int, what: str) -> int:
        """An announced length. Raises DamageError if it is malformed or above ``limit``."""
        start = self.position
        try:
            length = read_varint(lambda: self.need(1)[0], what)
        except DamageError:
            raise
        except FormatError as error:
            raise DamageError(f"damaged at byte {start}: {error}") from None
        if length > limit:
            raise DamageError(f"{what} at byte {start} claims {length} bytes; at most {limit} are allowed")
        return length

    def record(self) -> Record:
        """The next record. Raises DamageError if it is cut short or its checksum is not that of its bytes."""
        start = self.position
        kind = self.need(1)
        length = self.length(MAX_BODY, "a record")
        body = self.need(length)
        if self.need(4) != checksum(kind, varint(length), body):
            raise DamageError(f"damaged within bytes {start} to {self.position - 1}")
        return Record(kind[0], body, start, self.position)
