"""Pack codes of a fixed number of bits into bytes, least significant bit first, and unpack them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.errors import FormatError


def packed_bytes(bits: int, count: int) -> int:
    """Return the number of bytes that ``count`` packed codes need."""
    return (bits * count + 7) // 8


def pack(codes: ArrayLike, bits: int) -> bytes:
    """Pack a row of codes into bytes; the last byte is padded with zero bits.

    ``codes``: integers [n] from 0 to ``2**bits - 1``; ``bits``: 1 to 16. Raises ValueError for anything else.
    """
    codes = np.asarray(codes)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise ValueError(f"codes must be a row of integers, not {codes.dtype} {list(codes.shape)}")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 1 << bits:
        raise ValueError(f"codes from {codes.min()} to {codes.max()} do not fit into {bits} bits")
    codes = codes.astype(np.uint32)
    per_group, group = _group(bits)
    groups = -(-codes.size // per_group)
    packed = np.zeros(groups * group, np.uint8)
    for i in range(per_group):
        first, shift = divmod(i * bits, 8)
        shifted = codes[i::per_group] << shift
        for byte in range((shift + bits + 7) // 8):
            packed[first + byte :: group][: shifted.size] |= (shifted >> 8 * byte).astype(np.uint8)
    return packed[: packed_bytes(bits, codes.size)].tobytes()


def unpack(rows: Sequence[bytes], bits: int, count: int) -> NDArray[np.uint16]:
    """Unpack rows that :func:`pack` packed. Returns codes, uint16 [rows, count].

    Raises FormatError if a row has the wrong length, or if its padding is not zero.
    """
    for row in rows:
        check_padding(row, bits, count)
    if not count:
        return np.empty((len(rows), 0), np.uint16)
    per_group, group = _group(bits)
    groups = -(-count // per_group)
    codes = np.empty((len(rows), groups, per_group), np.uint16)
    # Every code lies within the four bytes from its first one on; the zeros provide four bytes for the last codes.
    padded = b"".join([row.ljust(groups * group, b"\0") for row in rows]) + bytes(4)
    for i in range(per_group):
        first, shift = divmod(i * bits, 8)
        words = np.ndarray(codes.shape[:2], "<u4", padded, first, (groups * group, group))
        codes[:, :, i] = words >> shift & (1 << bits) - 1
    return codes.reshape(len(rows), groups * per_group)[:, :count]


def join(rows: Iterable[tuple[bytes, int]]) -> bytes:
    """Concatenate rows given as (bytes, number of bits) without gaps; zero bits fill the last byte."""
    joined = bytearray()
    rest = used = 0  # the bits of an incomplete last byte, and their number
    for row, bits in rows:
        if used:
            number = int.from_bytes(row, "little") << used | rest
            row = number.to_bytes((used + bits + 7) // 8, "little")
        whole, used = divmod(used + bits, 8)
        joined += row[:whole]
        rest = row[whole] if used else 0
    if used:
        joined.append(rest)
    return bytes(joined)


def split(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Split what :func:`join` concatenated into rows with these ``sizes`` in bits.

    Raises FormatError if ``data`` has the wrong length, or if its padding is not zero.
    """
    sizes = list(sizes)
    check_padding(data, 1, sum(sizes))
    rows, start = [], 0
    for bits in sizes:
        row, shift = data[start // 8 : (start + bits + 7) // 8], start % 8
        if shift or bits % 8:
            number = int.from_bytes(row, "little") >> shift & (1 << bits) - 1
            row = number.to_bytes((bits + 7) // 8, "little")
        rows.append(row)
        start += bits
    return rows


def check_padding(data: bytes, bits: int, count: int) -> None:
    """Raise FormatError unless ``data`` has the length of ``count`` packed codes and zero padding bits."""
    if len(data) != packed_bytes(bits, count):
        raise FormatError(f"{count} codes of {bits} bits take {packed_bytes(bits, count)} bytes, not {len(data)}")
    used = bits * count % 8
    if used and data[-1] >> used:
        raise FormatError("the padding after the codes is not zero")


def _group(bits: int) -> tuple[int, int]:
    """Return the smallest number of codes that fill whole bytes, and the number of these bytes."""
    if not 1 <= bits <= 16:
        raise ValueError(f"codes have 1 to 16 bits, not {bits}")
    return 8 // gcd(8, bits), bits // gcd(8, bits)
