"""Checksums of any stretches of a file, of which each byte is summed once, however many are asked for."""

from __future__ import annotations

import google_crc32c

from nac.container.records import Source

_STEP = 1 << 12
_POLYNOMIAL = 0x82F63B78  # x**32 left out; the highest bit is x**0


class Sums:
    """CRC-32C of stretches of a seekable file: what is summed, and kept, is the file up to every few kilobytes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sums = [0]

    def stretch(self, start: int, stop: int) -> int:
        """The checksum of the bytes from ``start`` up to ``stop``, both within the file."""
        return self._up_to(stop) ^ _before(self._up_to(start), stop - start)

    def _up_to(self, position: int) -> int:
        """The checksum of the file up to ``position``."""
        whole, rest = divmod(position, _STEP)
        if len(self._sums) <= whole:
            self._source.seek((len(self._sums) - 1) * _STEP)
        while len(self._sums) <= whole:
            self._sums.append(google_crc32c.extend(self._sums[-1], self._source.read(_STEP)))
        self._source.seek(whole * _STEP)
        found: int = google_crc32c.extend(self._sums[whole], self._source.read(rest))
        return found


def _before(crc: int, count: int) -> int:
    """What a checksum adds to that of the ``count`` bytes behind it: its product with x**(8 count)."""
    for bit in range(count.bit_length()):
        if count >> bit & 1:
            crc = _product(_POWERS[bit], crc)
    return crc


def _product(one: int, other: int) -> int:
    """The product of two polynomials modulo that of the checksum."""
    found = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            found ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return found


_POWERS = [1 << 23]  # x**8, and its squares
for _ in range(47):
    _POWERS.append(_product(_POWERS[-1], _POWERS[-1]))
