"""Records, of which a file consists: type, length, body and a checksum of all three."""

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
    """Return the CRC-32C of the concatenated parts, as stored in a file."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return struct.pack("<I", crc)


class Record(NamedTuple):
    """A record that was read. ``start`` and ``end`` are byte offsets in the file."""

    type: int
    body: bytes
    start: int
    end: int


def frame(kind: int, body: bytes) -> bytes:
    """Return the bytes of a record. Raises FormatError if the body is too long."""
    if len(body) > MAX_BODY:
        raise FormatError(f"a record of {len(body)} bytes; at most {MAX_BODY} are allowed: use shorter chunks")
    head = bytes([kind]) + varint(len(body))
    return head + body + checksum(head, body)


class RecordReader:
    """Reads bytes and records of a file, in order, or in any order if it is ``seekable``.

    Offsets count from the file's position when this object was made. Reads are complete even if the file returns
    fewer bytes at a time. Memory is allocated for bytes that have arrived, not for a declared length.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seekable = file.seekable()
        self._base = file.tell() if self.seekable else 0
        self.position = 0

    def seek(self, offset: int) -> None:
        """Seek to an offset. Raises OSError if the file is not seekable, unless it is the current position."""
        if self.seekable:
            self._file.seek(self._base + offset)
            self.position = offset
        elif offset != self.position:
            raise OSError("the file is not seekable: its chunks can only be read once, in order")

    def size(self) -> int:
        """Return the offset of the end of a seekable file."""
        return max(self._file.seek(0, 2) - self._base, 0)

    def read(self, count: int) -> bytes:
        """Read ``count`` bytes, fewer only at the end of the file."""
        data = read_exactly(self._file, count)
        self.position += len(data)
        return data

    def need(self, count: int) -> bytes:
        """Read ``count`` bytes. Raises DamageError if the file ends before that."""
        data = self.read(count)
        if len(data) < count:
            raise DamageError(f"cut short at byte {self.position}")
        return data

    def length(self, limit: int, what: str) -> int:
        """Read a length field. Raises DamageError if it is malformed or above ``limit``."""
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
        """Read a record. Raises DamageError if it is cut short or its checksum is wrong."""
        start = self.position
        kind = self.need(1)
        length = self.length(MAX_BODY, "a record")
        body = self.need(length)
        if self.need(4) != checksum(kind, varint(length), body):
            raise DamageError(f"damaged within bytes {start} to {self.position - 1}")
        return Record(kind[0], body, start, self.position)
