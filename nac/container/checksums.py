"""CRC-32C of any byte ranges of a file, computed by reading each byte about once."""

from __future__ import annotations

import google_crc32c

from nac.container.records import RecordReader

_STEP = 1 << 12
_POLYNOMIAL = 0x82F63B78  # without x**32; the highest bit is x**0


class Checksums:
    """CRC-32C of byte ranges of a seekable file. Stores the checksum up to each multiple of 4096 bytes."""

    def __init__(self, source: RecordReader) -> None:
        self._source = source
        self._prefixes = [0]

    def between(self, start: int, stop: int) -> int:
        """Return the checksum of the bytes from ``start`` up to ``stop``, both within the file."""
        return self._up_to(stop) ^ _shifted(self._up_to(start), stop - start)

    def _up_to(self, position: int) -> int:
        """Return the checksum of the file up to ``position``."""
        whole, rest = divmod(position, _STEP)
        if len(self._prefixes) <= whole:
            self._source.seek((len(self._prefixes) - 1) * _STEP)
        while len(self._prefixes) <= whole:
            self._prefixes.append(google_crc32c.extend(self._prefixes[-1], self._source.read(_STEP)))
        self._source.seek(whole * _STEP)
        found: int = google_crc32c.extend(self._prefixes[whole], self._source.read(rest))
        return found


def _shifted(crc: int, count: int) -> int:
    """Multiply a checksum by x**(8 count): its contribution to the checksum of ``count`` bytes more."""
    for bit in range(count.bit_length()):
        if count >> bit & 1:
            crc = _product(_POWERS[bit], crc)
    return crc


def _product(one: int, other: int) -> int:
    """Multiply two polynomials modulo that of the checksum."""
    found = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            found ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return found


_POWERS = [1 << 23]  # x**8, and its squares
for _ in range(47):
    _POWERS.append(_product(_POWERS[-1], _POWERS[-1]))
