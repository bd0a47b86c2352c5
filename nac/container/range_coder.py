"""The range coder of ``formats/nac-v1.md``, section 14, for several layers at once.

Many layers are coded side by side by numpy; few are coded one by one, in Python's integers, which is faster then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_MANY = 56
_U = np.uint64
_WORD, _HIGH = _U(16), _U(48)
_LEAST = 1 << 48

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


def encode(spans: Integers) -> list[bytes]:
    """Layers as the fewest bytes that say them. ``spans`` [3, layers, n]: each symbol's start, width and total."""
    layers = spans.shape[1]
    return _encode_many(spans) if layers >= _MANY else [_encode_one(spans[:, layer]) for layer in range(layers)]


def _encode_one(spans: Integers) -> bytes:
    low, range_, words = 0, 2**64 - 1, []
    for start, width, total in zip(*spans.tolist(), strict=True):
        range_ //= total
        low += range_ * start
        range_ *= width
        while range_ < _LEAST:
            words.append(low >> 48)  # a 17th bit is a carry
            low = (low & _LEAST - 1) << 16
            range_ <<= 16
    return _shortest(np.array(words, np.uint32), low, range_)


def _encode_many(spans: Integers) -> list[bytes]:
    _, layers, symbols = spans.shape
    low, range_ = np.zeros(layers, _U), np.full(layers, 2**64 - 1, _U)
    words, at = np.zeros((layers, 3 * symbols + 2), np.uint32), np.zeros(layers, np.int64)
    rows = np.arange(layers)
    for start, width, total in np.ascontiguousarray(spans.transpose(2, 0, 1)).astype(_U):
        range_ //= total
        below = range_ * start
        low += below
        range_ *= width
        if (carry := low < below).any():
            words[rows[carry], at[carry] - 1] += 1
        while (small := range_ < _U(_LEAST)).any():
            put = rows[small]
            words[put, at[put]] = low[small] >> _HIGH
            at[put] += 1
            shift = small * _WORD
            low <<= shift
            range_ <<= shift
    return [_shortest(words[n, : at[n]], int(low[n]), int(range_[n])) for n in range(layers)]


def _shortest(words: NDArray[np.uint32], low: int, range_: int) -> bytes:
    """The fewest bytes of a number from ``low`` up to ``range_`` more, behind these words with their carries."""
    number = int.from_bytes((words & 0xFFFF).astype(">u2").tobytes(), "big")
    number += int.from_bytes((words >> 16).astype(">u2").tobytes(), "big") << 16
    low += number << 64
    cut = next(cut for cut in range(64, -1, -8) if -(-low >> cut) << cut < low + range_)
    value = -(-low >> cut) << cut
    return value.to_bytes(2 * len(words) + 8, "big").rstrip(b"\0")


class Decoder(Protocol):
    """Decoders of layers. Behind a layer's last byte there are zeros without end."""

    def symbols(self, layer: Integers, sums: Doubles) -> Integers:
        """The next symbols, some of each layer.

        ``layer`` [n]: of which layer each is, growing. ``sums`` [n, symbols]: the weights up to every symbol that
        may come, with its own.
        """


def decoder(layers: Sequence[bytes]) -> Decoder:
    return _Many(layers) if len(layers) >= _MANY else _Few(layers)


class _Few:
    def __init__(self, layers: Sequence[bytes]) -> None:
        self._code = [int.from_bytes(layer[:8].ljust(8, b"\0"), "big") for layer in layers]
        self._range = [2**64 - 1] * len(layers)
        padded = [np.frombuffer(layer + bytes(8 + len(layer) % 2), ">u2")[4:].tolist() for layer in layers]
        self._words = [iter(words) for words in padded]

    def symbols(self, layer: Integers, sums: Doubles) -> Integers:
        flat, size, found = sums.astype(np.int64).reshape(-1).data, sums.shape[1], []
        borders = [*np.flatnonzero(np.diff(layer, prepend=-1)).tolist(), len(layer)]
        for begin, end in pairwise(borders):
            number = int(layer[begin])
            code, range_, words = self._code[number], self._range[number], self._words[number]
            for row in range(begin * size, end * size, size):
                last = row + size - 1
                range_ //= flat[last]
                at = bisect_right(flat, code // range_, row, last)
                start = flat[at - 1] if at > row else 0
                code -= range_ * start
                range_ *= flat[at] - start
                while range_ < _LEAST:
                    range_ <<= 16
                    code = code << 16 | next(words, 0)
                found.append(at - row)
            self._code[number], self._range[number] = code, range_
        return np.array(found, np.int64)


class _Many:
    def __init__(self, layers: Sequence[bytes]) -> None:
        words = max(map(len, layers)) // 2 + 5
        padded = b"".join(layer.ljust(2 * words, b"\0") for layer in layers)
        self._in = np.frombuffer(padded, ">u2").astype(_U)
        first = np.arange(len(layers)) * words
        self._last = first + words - 1
        self._at = first + 4
        self._range = np.full(len(layers), 2**64 - 1, _U)
        self._code = self._in.reshape(-1, words)[:, :4] @ np.array([1 << 48, 1 << 32, 1 << 16, 1], _U)

    def symbols(self, layer: Integers, sums: Doubles) -> Integers:
        found = np.empty(len(layer), np.int64)
        layers, first, counts = np.unique(layer, return_index=True, return_counts=True)
        for number in range(counts.max(initial=0)):
            some = np.flatnonzero(number < counts)
            at = first[some] + number
            found[at] = self._next(layers[some], sums.take(at, axis=0))
        return found

    def _next(self, layers: Integers, sums: Doubles) -> Integers:
        """The next symbol of each of these layers."""
        code, range_ = self._code.take(layers), self._range.take(layers)
        total = sums[:, -1]
        range_ //= total.astype(_U)
        value = np.minimum((code // range_).astype(np.float64), total - 1)
        symbols: Integers = (sums > value[:, None]).argmax(axis=1)
        at = np.arange(0, sums.size, sums.shape[1]) + symbols
        start = sums.take(at - 1) * (symbols > 0)
        code -= range_ * start.astype(_U)
        range_ *= (sums.take(at) - start).astype(_U)
        # Bytes that no writer makes bring the code up to the range, from where on every symbol is its largest.
        beyond = code >= range_
        while (small := range_ < _U(_LEAST)).any():
            shift = small * _WORD
            range_ <<= shift
            code <<= shift
            place = self._at.take(layers)
            code |= self._in.take(place) * small
            self._at[layers] = np.minimum(place + small, self._last.take(layers))
        code[beyond] = _U(2**64 - 1)
        self._code[layers], self._range[layers] = code, range_
        return symbols
