"""The range coder of ``formats/nac-v1.md``, section 14, for several layers at once.

Many layers are coded in parallel with numpy; a few are coded one by one with Python's integers, which is faster.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_PARALLEL_FROM = 56
_U = np.uint64
_WORD, _HIGH = _U(16), _U(48)
_MIN_RANGE = 1 << 48

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


def encode(spans: Integers) -> list[bytes]:
    """Encode layers, each as its shortest code. ``spans`` [3, layers, n]: start, width, total of each symbol."""
    layers = spans.shape[1]
    if layers >= _PARALLEL_FROM:
        return _encode_parallel(spans)
    return [_encode_one(spans[:, layer]) for layer in range(layers)]


def _encode_one(spans: Integers) -> bytes:
    low, range_, words = 0, 2**64 - 1, []
    for start, width, total in zip(*spans.tolist(), strict=True):
        range_ //= total
        low += range_ * start
        range_ *= width
        while range_ < _MIN_RANGE:
            words.append(low >> 48)  # a 17th bit is a carry
            low = (low & _MIN_RANGE - 1) << 16
            range_ <<= 16
    return _shortest(np.array(words, np.uint32), low, range_)


def _encode_parallel(spans: Integers) -> list[bytes]:
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
        while (small := range_ < _U(_MIN_RANGE)).any():
            put = rows[small]
            words[put, at[put]] = low[small] >> _HIGH
            at[put] += 1
            shift = small * _WORD
            low <<= shift
            range_ <<= shift
    return [_shortest(words[n, : at[n]], int(low[n]), int(range_[n])) for n in range(layers)]


def _shortest(words: NDArray[np.uint32], low: int, range_: int) -> bytes:
    """Return the fewest bytes for a number in [low, low + range_), appended to ``words`` with their carries."""
    number = int.from_bytes((words & 0xFFFF).astype(">u2").tobytes(), "big")
    number += int.from_bytes((words >> 16).astype(">u2").tobytes(), "big") << 16
    low += number << 64
    cut = next(cut for cut in range(64, -1, -8) if -(-low >> cut) << cut < low + range_)
    value = -(-low >> cut) << cut
    return value.to_bytes(2 * len(words) + 8, "big").rstrip(b"\0")


class Decoder(Protocol):
    """Decodes several layers. After a layer's last byte it reads zeros without limit."""

    def symbols(self, layer: Integers, sums: Doubles) -> Integers:
        """Decode the next symbols, any number for each layer.

        ``layer`` [n]: the layer of each symbol, in increasing order. ``sums`` [n, symbols]: the cumulative weights
        of all possible symbols, each including its own.
        """


def decoder(layers: Sequence[bytes]) -> Decoder:
    return _ParallelDecoder(layers) if len(layers) >= _PARALLEL_FROM else _SequentialDecoder(layers)


class _SequentialDecoder:
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
                while range_ < _MIN_RANGE:
                    range_ <<= 16
                    code = code << 16 | next(words, 0)
                found.append(at - row)
            self._code[number], self._range[number] = code, range_
        return np.array(found, np.int64)


class _ParallelDecoder:
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
            active = np.flatnonzero(number < counts)
            at = first[active] + number
            found[at] = self._next(layers[active], sums.take(at, axis=0))
        return found

    def _next(self, layers: Integers, sums: Doubles) -> Integers:
        """Decode the next symbol of each of these layers."""
        code, range_ = self._code.take(layers), self._range.take(layers)
        total = sums[:, -1]
        range_ //= total.astype(_U)
        value = np.minimum((code // range_).astype(np.float64), total - 1)
        symbols: Integers = (sums > value[:, None]).argmax(axis=1)
        at = np.arange(0, sums.size, sums.shape[1]) + symbols
        start = sums.take(at - 1) * (symbols > 0)
        code -= range_ * start.astype(_U)
        range_ *= (sums.take(at) - start).astype(_U)
        # In invalid bytes the code can reach the range; from then on every symbol is the largest.
        beyond = code >= range_
        while (small := range_ < _U(_MIN_RANGE)).any():
            shift = small * _WORD
            range_ <<= shift
            code <<= shift
            word = self._at.take(layers)
            code |= self._in.take(word) * small
            self._at[layers] = np.minimum(word + small, self._last.take(layers))
        code[beyond] = _U(2**64 - 1)
        self._code[layers], self._range[layers] = code, range_
        return symbols
