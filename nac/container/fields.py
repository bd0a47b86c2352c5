"""The elementary fields that records are made of: bytes, numbers, text. Everything is little-endian."""

from __future__ import annotations

import struct
from collections.abc import Callable

from nac.errors import FormatError


def varint(value: int) -> bytes:
    """An unsigned number as LEB128: seven bits a byte, the least significant first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(next_byte: Callable[[], int], what: str) -> int:
    """The number that ``next_byte`` gives byte by byte.

    Raises FormatError, naming ``what``, unless it is in its shortest form and below 2**64.
    """
    value = shift = 0
    while True:
        byte = next_byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise FormatError(f"{what}: a number has more than 64 bits")
    if value >> 64 or (shift and not byte):
        raise FormatError(f"{what}: a number is not in its shortest form or has more than 64 bits")
    return value


def text(value: str) -> bytes:
    """UTF-8 after its length in bytes. Raises FormatError for lone surrogates."""
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"text that UTF-8 cannot say: {value!r}") from error
    return varint(len(encoded)) + encoded


class Fields:
    """Reads the fields of one body in order. ``what`` names it in errors, all of them FormatError."""

    def __init__(self, body: bytes, what: str) -> None:
        self._body, self._what = body, what
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        taken = self._body[self.position : self.position + count]
        if len(taken) < count:
            raise FormatError(f"{self._what}: its fields need more bytes than it has")
        self.position += count
        return taken

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._body) - self.position)

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        return read_varint(self.byte, self._what)

    def text(self) -> str:
        encoded = self.take(self.varint())
        try:
            return encoded.decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self._what}: text that is not UTF-8") from None

    def floats(self, count: int) -> tuple[float, ...]:
        return struct.unpack(f"<{count}f", self.take(4 * count))

    def finish(self) -> None:
        """Raise FormatError if anything is left."""
        if left := len(self._body) - self.position:
            raise FormatError(f"{self._what}: {left} bytes too many")
