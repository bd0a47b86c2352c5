"""The elementary fields of records: bytes, numbers, text. All are little-endian."""

from __future__ import annotations

import struct
from collections.abc import Callable

from nac.errors import FormatError


def varint(value: int) -> bytes:
    """Encode an unsigned number as LEB128: seven bits per byte, the least significant first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(next_byte: Callable[[], int], what: str) -> int:
    """Decode a LEB128 number whose bytes ``next_byte`` returns.

    Raises FormatError, which names ``what``, unless the number is in its shortest form and below 2**64.
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
    """Encode text as its length in bytes and its UTF-8. Raises FormatError for lone surrogates."""
    try:
        encoded = value.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"text that UTF-8 cannot represent: {value!r}") from error
    return varint(len(encoded)) + encoded


class Fields:
    """Reads the fields of one record body in order. All errors are FormatError and name ``what``."""

    def __init__(self, body: bytes, what: str) -> None:
        self._body, self._what = body, what
        self.position = 0

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        taken = self._body[self.position : self.position + count]
        if len(taken) < count:
            raise FormatError(f"{self._what}: it is too short for its fields")
        self.position += count
        return taken

    def rest(self) -> bytes:
        """Return all remaining bytes."""
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
            raise FormatError(f"{self._what}: a text is not UTF-8") from None

    def floats(self, count: int) -> tuple[float, ...]:
        return struct.unpack(f"<{count}f", self.take(4 * count))

    def finish(self) -> None:
        """Raise FormatError if any bytes remain."""
        if left := len(self._body) - self.position:
            raise FormatError(f"{self._what}: {left} bytes too many")
