"""The probability model for range coding of codes, in exact integer arithmetic, so equal on every machine.

``formats/nac-v1.md``, section 14, defines coder and model for one layer; :mod:`nac.container.layer_encoding` and
:mod:`nac.container.layer_decoding` apply them. Floating-point arrays contain only integers below 2**53 (2**24 in
single precision), so sums are exact in any order.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from nac.container.tables import ProbabilityTables

_TOP = 1 << 14  # weight of the most likely symbol
_WEIGHTS = np.array([max(1, round(_TOP * 2 ** (-step / 32))) for step in range(15 * 32)], np.float64)
# For codebooks without tables: how many counted high and low symbols weigh as much as the tables.
_TABLE_WEIGHT = 256, 8
_MOST = 256
HITS, MISSES = (1, 8), (4, 1)  # initial counts of right and wrong guesses of a high and a low symbol
_LEVEL = 1023
_SCALE = 2.0**-20
_ONES, _UPPER = np.ones(64), np.triu(np.ones((64, 64)))
HASH = np.array([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F])
SLOTS = 1 << 14
_ROWS = 32  # rows of a product
_BLOCK = 64  # codes of a layer that are decoded one after the other; blocks are decoded in parallel

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


F = TypeVar("F", np.float32, np.float64)


def product(rows: NDArray[F], matrices: NDArray[F]) -> NDArray[F]:
    """Multiply rows [books, n, i] by matrices [books, i, o], all of integers: exact in any order.

    A few rows at a time, so that BLAS uses one thread: on a busy machine, waiting for another takes far longer.
    """
    books, count, inner = rows.shape
    tiles, outer = count // _ROWS, matrices.shape[2]
    whole = tiles * _ROWS
    parts = np.matmul(rows[:, :whole].reshape(books, tiles, _ROWS, inner), matrices[:, None])
    return np.concatenate([parts.reshape(books, whole, outer), np.matmul(rows[:, whole:], matrices)], axis=1)


class LayerId(NamedTuple):
    """A layer of a chunk: the codes of one codebook of one stream."""

    codebook: int
    stream: int


class Guesses(NamedTuple):
    """For each symbol, if ``tried``: the ``guess`` (the last symbol in the same slot), and its hits and misses."""

    guess: Integers
    tried: NDArray[np.bool_]
    hits: Integers
    misses: Integers


class FloatTables:
    """Probability tables as floating-point arrays. A code's *rank* is its position in their ``order``.

    ``known``: the number of codebooks with tables; the first ``deep`` of them also have a network. A rank is a
    high symbol (of ``highs``) and a low one (of ``lows``). ``edge``: the distance in frames of the network's
    farthest input; ``skew``: how many steps a layer must be decoded behind the coarser one.
    """

    def __init__(self, bits: int, tables: ProbabilityTables | None) -> None:
        self.entries, self.lows = 1 << bits, 1 << (bits // 2 if bits > 5 else 0)
        self.highs = self.entries // self.lows
        self.deep, self.known = (len(tables.embedding), len(tables.order)) if tables else (0, 0)
        self.frames: list[int] = tables.frames.tolist() if tables else []
        self.edge, self.skew = max(map(abs, self.frames), default=0), max(self.frames, default=0) + 1
        self.axes = tables.embedding.shape[2] if tables else 0
        flat = np.full((1, self.highs), float(_TOP)), np.full((1, self.highs, self.lows), float(_TOP))
        self.table_weight = np.array([_TABLE_WEIGHT], np.float64)
        self._high, self._low = flat
        if tables is None:
            return
        self._order = tables.order.astype(np.int64)
        self._ranks = self._order.argsort(axis=1)
        # The entry after the last known codebook is for all unknown ones.
        self.table_weight = np.concatenate([tables.trust, self.table_weight])
        self._high_bias = tables.high_bias.astype(np.float32) * 64
        self._low_bias = tables.low_bias.astype(np.float32).reshape(-1, self.lows) * 64
        self._high = np.concatenate([weights(self._high_bias), flat[0]])
        self._low = np.concatenate([weights(self._low_bias).reshape(-1, *flat[1].shape[1:]), flat[1]])
        # The vector after those of each codebook is the one for "no code".
        self._embedding = np.zeros((self.deep, self.entries + 1, self.axes), np.float32)
        self._embedding[:, :-1] = np.take_along_axis(tables.embedding, self._order[: self.deep, :, None], 1)
        self._mix = tables.mix.astype(np.float32)
        self._mix_bias = tables.mix_bias[:, None].astype(np.float32)
        self._scale = tables.scale[:, None] * _SCALE
        self._high_out = tables.high.astype(np.float32).transpose(0, 2, 1)
        low = tables.low.astype(np.float32).reshape(self.deep, self.highs, self.lows, -1)
        self._low_out = np.ascontiguousarray(low.transpose(0, 1, 3, 2)).reshape(-1, low.shape[3], self.lows)

    def blocks(self, length: int) -> tuple[int, int]:
        """Return the number of blocks of a layer, and of steps in a block. Without tables, there is one block."""
        return (-(-length // _BLOCK), min(length, _BLOCK)) if self.known else (1, length)

    def ranks(self, codes: Integers) -> Integers:
        """Convert codes [streams, codebooks, n] to ranks."""
        ranks: Integers = codes.copy()
        for book in range(min(self.known, codes.shape[1])):
            ranks[:, book] = self._ranks[book].take(codes[:, book])
        return ranks

    def codes(self, ranks: Integers) -> Integers:
        """Convert ranks [streams, codebooks, n] to codes."""
        codes: Integers = ranks.copy()
        for book in range(min(self.known, codes.shape[1])):
            codes[:, book] = self._order[book].take(ranks[:, book])
        return codes

    def embedded(self, books: Integers | int, ranks: Integers) -> Singles:
        """Return the vectors [..., D] of ranks of codebooks."""
        flat = self._embedding.reshape(-1, self.axes)
        found: Singles = flat.take(ranks + books * (self.entries + 1), axis=0)
        return found

    def hidden(self, inputs: Singles, books: slice) -> Singles:
        """Compute the network's hidden layer [books, n, R] from its inputs [books, n, inputs]."""
        sums = product(inputs, self._mix[books])
        sums += self._mix_bias[books]
        scaled = sums * self._scale[books]
        np.floor(scaled, out=scaled)
        np.maximum(scaled, 0, out=scaled)
        np.minimum(scaled, _LEVEL, out=scaled)
        return scaled.astype(np.float32)

    def flat_high(self, books: Integers) -> Doubles:
        """Return the weights of high symbols [n, highs] of codebooks, without the network."""
        return self._high[np.minimum(books, self.known)]

    def flat_low(self, books: Integers, high: Integers) -> Doubles:
        """Return the weights of low symbols [n, lows], given the ``high`` ones, without the network."""
        return self._low[np.minimum(books, self.known), high]

    def deep_high(self, hidden: Singles, books: slice) -> Doubles:
        """Return the weights of high symbols [books, n, highs], given the ``hidden`` layer."""
        levels = product(hidden.reshape(-1, *hidden.shape[-2:]), self._high_out[books])
        levels += self._high_bias[books, None]
        return weights(levels)

    def deep_low(self, hidden: Singles, books: Integers, high: Integers) -> Doubles:
        """Return the weights of low symbols [n, lows], given the ``high`` ones and the ``hidden`` layer [n, R]."""
        rows = books * self.highs + high
        levels = np.matmul(hidden[:, None], self._low_out.take(rows, axis=0))[:, 0]
        levels += self._low_bias.take(rows, axis=0)
        return weights(levels)

    def deep_lows(self, hidden: Singles, book: int, high: Integers) -> Doubles:
        """Return the same for many symbols of one codebook, sorted by the high symbol."""
        levels = self._low_bias.take(book * self.highs + high, axis=0)
        borders = np.searchsorted(high, np.arange(self.highs + 1)).tolist()
        for symbol, (start, stop) in enumerate(pairwise(borders)):
            if start < stop:
                levels[start:stop] += hidden[start:stop] @ self._low_out[book * self.highs + symbol]
        return weights(levels)


@lru_cache(maxsize=4)
def float_tables(bits: int, tables: ProbabilityTables | None) -> FloatTables:
    """Convert tables; those for codes with another number of bits are ignored."""
    return FloatTables(bits, tables if tables and tables.order.shape[1] == 1 << bits else None)


def weights(levels: Singles) -> Doubles:
    """Convert levels (in 64ths) to weights along the last axis."""
    steps = (levels.max(axis=-1, keepdims=True) - levels) * np.float32(1 / 64)
    found: Doubles = _WEIGHTS.take(steps.astype(np.int32), mode="clip")
    return found


def weigh(
    known: Doubles, counts: Doubles, counted: Integers | Doubles, table_weight: Doubles, guesses: Guesses
) -> Doubles:
    """Return the weights [n, symbols] of all possible next symbols.

    ``known``: weights from the tables; ``counts``: how often each symbol came before in the same context;
    ``counted``: their sum.
    """
    whole = known @ _ONES[: known.shape[1]]
    unit = np.floor(whole / table_weight) + 1
    weighed: Doubles = counts * unit[:, None]
    weighed += known
    extra = np.floor((whole + counted * unit) * np.minimum(guesses.hits, guesses.misses * _MOST) / guesses.misses)
    extra *= guesses.tried
    weighed.reshape(-1)[np.arange(0, weighed.size, weighed.shape[1]) + guesses.guess] += extra
    return weighed


def cumulative(weighed: Doubles) -> Doubles:
    """Return cumulative weights [n, symbols]; a matrix product is faster than cumsum for short rows."""
    symbols = weighed.shape[1]
    sums: Doubles = product(weighed[None], _UPPER[None, :symbols, :symbols])[0]
    return sums


def columns(rows: Integers, count: int, steps: int, none: int) -> Integers:
    """Split integers [..., n] into blocks [..., count, steps]; the last one is padded with ``none``."""
    filled = np.full((*rows.shape[:-1], count * steps), none)
    filled[..., : rows.shape[-1]] = rows
    return filled.reshape(*rows.shape[:-1], count, steps)
