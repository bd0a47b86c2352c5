"""The probability model for range coding of codes, in exact integer arithmetic, so equal on every machine.

``formats/nac-v1.md``, section 14, defines coder and model for one layer. The encoder computes the weights of all
codes of a layer at once. The decoder works on all blocks of all layers of all streams in parallel, each layer some
steps behind the next coarser one, so that numpy's operations have long rows. Floating-point arrays contain only
integers below 2**53 (2**24 in single precision), so sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nac.container import range_coder as ranges
from nac.container.tables import ProbabilityTables

_TOP = 1 << 14  # weight of the most likely symbol
_WEIGHTS = np.array([max(1, round(_TOP * 2 ** (-step / 32))) for step in range(15 * 32)], np.float64)
# For codebooks without tables: how many counted high and low symbols weigh as much as the tables.
_TABLE_WEIGHT = 256, 8
_MOST = 256
_HITS, _MISSES = (1, 8), (4, 1)  # initial counts of right and wrong guesses of a high and a low symbol
_LEVEL = 1023
_SCALE = 2.0**-20
_ONES, _UPPER = np.ones(64), np.triu(np.ones((64, 64)))
_HISTORY = np.array([[0, -1], [0, -2], [0, -3], [1, 0]])  # of each code: how many codebooks coarser, frames later
_HASH = np.array([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F])
_SLOTS = 1 << 14
_BLOCK = 64  # codes of a layer that are decoded one after the other; blocks are decoded in parallel

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


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
        sums: Singles = np.matmul(inputs, self._mix[books])
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
        levels = np.matmul(hidden, self._high_out[books])
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
def _float_tables(bits: int, tables: ProbabilityTables | None) -> FloatTables:
    """Convert tables; those for codes with another number of bits are ignored."""
    return FloatTables(bits, tables if tables and tables.order.shape[1] == 1 << bits else None)


def weights(levels: Singles) -> Doubles:
    """Convert levels (in 64ths) to weights along the last axis."""
    steps = (levels.max(axis=-1, keepdims=True) - levels) * np.float32(1 / 64)
    found: Doubles = _WEIGHTS.take(steps.astype(np.int32), mode="clip")
    return found


def _weigh(
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


def _sums(weighed: Doubles) -> Doubles:
    """Return cumulative weights [n, symbols]; a matrix product is faster than cumsum for short rows."""
    symbols = weighed.shape[1]
    return weighed @ _UPPER[:symbols, :symbols]


def _columns(rows: Integers, count: int, steps: int, none: int) -> Integers:
    """Split integers [..., n] into blocks [..., count, steps]; the last one is padded with ``none``."""
    filled = np.full((*rows.shape[:-1], count * steps), none)
    filled[..., : rows.shape[-1]] = rows
    return filled.reshape(*rows.shape[:-1], count, steps)


# Encoding: one layer at a time, all of its codes at once.


def encode(
    codes: Integers, bits: int, layers: Sequence[LayerId], tables: ProbabilityTables | None
) -> dict[LayerId, bytes]:
    """Range code these layers of ``codes`` [streams, codebooks, n], which have ``bits`` bits."""
    model, spans, done = _float_tables(bits, tables), [], -1
    order = _Order(codes.shape[2], *model.blocks(codes.shape[2]))
    ranks = model.ranks(codes)
    edge = model.edge
    through = coarser = np.zeros((len(codes), order.blocks, order.steps + 2 * edge, model.axes), np.float32)
    for book, group in groupby(sorted(layers), lambda layer: layer.codebook):
        streams = np.array([layer.stream for layer in group])
        for next_book in range(done + 1, min(book + 1, model.deep)):
            coarser, through = through, through.copy()
            blocks = _columns(ranks[:, next_book], order.blocks, order.steps, model.entries)
            through[:, :, edge : edge + order.steps] += model.embedded(next_book, blocks)
        done = book
        hidden = None
        if book < model.deep:
            parts = [
                (through if later < 0 else coarser)[streams, :, edge + later : edge + later + order.steps]
                for later in model.frames
            ]
            inputs = np.concatenate(parts, axis=3).reshape(len(streams), -1, model.axes * len(parts))
            rows = inputs[:, order.frames].reshape(1, -1, inputs.shape[2])
            hidden = model.hidden(rows, slice(book, book + 1))[0]
        history = [ranks[streams, book - up] if up <= book else None for up in (0, 1)]
        spans.append(_spans(model, order, book, history, hidden))
    return dict(zip(sorted(layers), ranges.encode(np.concatenate(spans, axis=1)), strict=True))


class _Order:
    """The order of a layer's codes: the first codes of all blocks, then the second ones, and so on.

    For each code in this order: ``frames`` [n], its index in the layer; ``step``, its index in its block;
    ``begin`` and ``end``, where the codes of the same step begin and end.
    """

    def __init__(self, length: int, blocks: int, steps: int) -> None:
        self.length, self.blocks, self.steps = length, blocks, steps
        self.frames = np.argsort(np.arange(length) % steps, kind="stable")
        self.step = self.frames % steps
        self.begin = np.searchsorted(self.step, self.step)
        self.end = np.searchsorted(self.step, self.step, "right")


def _spans(
    tables: FloatTables, order: _Order, book: int, history: list[Integers | None], hidden: Singles | None
) -> Integers:
    """Return start, width and total [3, streams, symbols] of all symbols in the order in which they are coded.

    ``history`` [streams, n]: the ranks of the layer, and of the coarser one if there is one. ``hidden``: the
    network's hidden layer, in coding order.
    """
    assert history[0] is not None
    ranks = history[0][:, order.frames]
    streams, length, lows = len(ranks), order.length, tables.lows
    slots = _slots(history, order, tables.entries)
    stream = np.repeat(np.arange(streams), length)
    step = np.tile(order.step, streams)
    guess, tried = _last_time(slots, ranks.reshape(-1), stream, step, order.steps)
    high, low = np.divmod(ranks.reshape(-1), lows)
    guesses = _record(0, guess // lows, high, tried, order)
    books = np.array([min(book, tables.known)])
    known = tables.flat_high(books) if hidden is None else tables.deep_high(hidden, slice(book, book + 1))[0]
    spans = [_span(known, high, stream, step, tables.table_weight[books, 0], guesses)]
    if lows > 1:
        again = _record(1, guess % lows, low, tried & (guesses.guess == high), order)
        sort = np.argsort(high * streams + stream, kind="stable")
        sorted_high = high[sort]
        if hidden is None:
            known = tables.flat_low(books, sorted_high)
        else:
            known = tables.deep_lows(hidden[sort], book, sorted_high)
        guesses = Guesses(again.guess[sort], again.tried[sort], again.hits[sort], again.misses[sort])
        found = np.empty((3, len(high)), np.int64)
        context = sorted_high * streams + stream[sort]
        found[:, sort] = _span(known, low[sort], context, step[sort], tables.table_weight[books, 1], guesses)
        spans.append(found)
    # The high symbols of a step are coded before its low ones.
    together = np.empty((3, streams, len(spans) * length), np.int64)
    inside = np.arange(length) - order.begin
    for which, span in enumerate(spans):
        at = len(spans) * order.begin + which * (order.end - order.begin) + inside
        together[:, :, at] = span.reshape(3, streams, length)
    return together


def _slots(history: list[Integers | None], order: _Order, entries: int) -> Integers:
    """Return the hash slots of all codes [streams, n], in coding order."""
    own, coarser = history
    assert own is not None
    blocks = _columns(own, order.blocks, order.steps, entries)
    before = np.concatenate([np.full((*blocks.shape[:2], 3), entries), blocks], axis=2)
    recent = [before[:, :, 2:-1], before[:, :, 1:-2], before[:, :, :-3]]
    flat = [part.reshape(len(own), -1)[:, order.frames] for part in recent]
    flat.append(np.full_like(flat[0], entries) if coarser is None else coarser[:, order.frames])
    sums: Integers = sum((part * factor for part, factor in zip(flat, _HASH, strict=True)), np.zeros_like(flat[0]))
    return (sums & 0xFFFFFFFF) >> 18


def _last_time(
    slots: Integers, ranks: Integers, stream: Integers, step: Integers, steps: int
) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the last rank in the same slot in earlier steps, and whether there was one."""
    slot = slots.reshape(-1) + stream * _SLOTS
    key = slot * steps + step
    sort = np.argsort(key, kind="stable")
    found = key[sort]
    last = np.searchsorted(found, found) - 1
    again = (last >= 0) & (slot[sort[last]] == slot[sort])
    guess, tried = np.zeros_like(ranks), np.zeros(len(ranks), np.bool_)
    guess[sort] = ranks[sort[last]] * again
    tried[sort] = again
    return guess, tried


def _record(which: int, guess: Integers, symbol: Integers, tried: NDArray[np.bool_], order: _Order) -> Guesses:
    """Return the guesses with their hits and misses in earlier steps."""
    right = tried & (guess == symbol)
    sums = []
    for outcomes, first in ((right, _HITS), (tried & ~right, _MISSES)):
        rows = outcomes.reshape(-1, order.length)
        before = np.concatenate([np.zeros((len(rows), 1), np.int64), rows.cumsum(axis=1)], axis=1)
        sums.append(2 * before[:, order.begin].reshape(-1) + first[which])
    return Guesses(guess, tried, *sums)


def _span(
    known: Doubles, symbols: Integers, context: Integers, step: Integers, table_weight: Doubles, guesses: Guesses
) -> Integers:
    """Return start, width and total [3, n] of symbols. Counts are those of the same context in earlier steps.

    ``context``, and ``step`` within each context, must be in increasing order.
    """
    row = np.arange(len(symbols))
    sums = np.zeros((len(symbols) + 1, known.shape[1]))
    sums[row + 1, symbols] = 1
    sums = sums.cumsum(axis=0)
    key = context * (step.max() + 1) + step
    begin, now = np.searchsorted(context, context), np.searchsorted(key, key)
    counts = sums.take(now, axis=0)
    counts -= sums.take(begin, axis=0)
    weighed = _weigh(np.broadcast_to(known, counts.shape), counts, now - begin, table_weight, guesses)
    sums = _sums(weighed)
    width = weighed[row, symbols]
    return np.stack([sums[row, symbols] - width, width, sums[:, -1]]).astype(np.int64)


# Decoding: all blocks of all layers in parallel, one step at a time.


class _Decoding:
    """Decodes layers in parallel. They are numbered by codebook, then by stream; each has one cell per block."""

    def __init__(self, codes: Integers, tables: FloatTables, coded: dict[LayerId, bytes]) -> None:
        self._tables, self._streams, self._length = tables, len(codes), codes.shape[2]
        self._blocks, self._steps = tables.blocks(self._length)
        books = max(coded).codebook + 1
        layers = [LayerId(book, stream) for book in range(books) for stream in range(len(codes))]
        self._books = np.array([layer.codebook for layer in layers])
        self._decoder = ranges.decoder([coded.get(layer, b"") for layer in layers])
        self._coded = np.array([layer in coded for layer in layers])
        self._lay_out(tables.ranks(codes[:, :books]))
        count = len(layers)
        self._table_weight = tables.table_weight[np.minimum(self._books, tables.known)]
        self._counts = np.zeros((count, tables.highs)), np.zeros((count * tables.highs, tables.lows))
        self._seen = np.full(count * _SLOTS, tables.entries, np.int16)
        self._hits, self._misses = (np.tile(np.array(first)[:, None], count) for first in (_HITS, _MISSES))

    def _lay_out(self, ranks: Integers) -> None:
        """Allocate ranks and sums so that the index of a neighbour is a constant plus a multiple of the step."""
        tables, (streams, books, _) = self._tables, ranks.shape
        edge = max(3, tables.edge)
        self._columns = streams * self._blocks
        # The codes are surrounded by "no code", also in a last row; the first row of sums is that of no codebook.
        self._padded = np.full((books + 1, self._steps + 2 * edge, self._columns), tables.entries)
        self._inner = self._padded[:books, edge : edge + self._steps]
        blocks = _columns(ranks, self._blocks, self._steps, tables.entries)
        self._inner[:] = blocks.transpose(1, 3, 0, 2).reshape(self._inner.shape)
        deep = min(books, tables.deep)
        self._deep = deep * streams
        self._row = (self._steps + 2 * edge) * self._columns
        self._sums = np.zeros(((deep + 1) * self._row, tables.axes), np.float32)
        book = self._books[:, None]
        column = np.arange(len(self._books) * self._blocks).reshape(-1, self._blocks) % self._columns

        def index(row: Integers, later: int) -> Integers:
            found: Integers = row * self._row + (edge + later - tables.skew * book) * self._columns + column
            return found

        self._own = index(book, 0)
        coarser = [np.where(book < up, books, book - up) for up in (0, 1)]
        self._history = np.stack([index(coarser[up], later) for up, later in _HISTORY.tolist()], axis=2)
        inputs = [index(book + (later < 0), later)[: self._deep] for later in tables.frames]
        self._inputs = np.stack(inputs, axis=2) if inputs else np.zeros((0, 0, 0), np.int64)

    def run(self) -> None:
        """Decode all steps."""
        skew, books = self._tables.skew, self._books[-1] + 1
        for step in range(self._steps + skew * (books - 1)):
            first, last = max(0, -((self._steps - 1 - step) // skew)), min(books - 1, step // skew)
            self._step(step, slice(first * self._streams, (last + 1) * self._streams))

    def ranks(self) -> Integers:
        """Return the decoded ranks [streams, codebooks, n]."""
        books, steps, _ = self._inner.shape
        found = self._inner.reshape(books, steps, self._streams, self._blocks).transpose(2, 0, 3, 1)
        ranks: Integers = found.reshape(self._streams, books, -1)[:, :, : self._length]
        return ranks

    def _step(self, step: int, layers: slice) -> None:
        """Decode the next code of each block of the layers."""
        tables, lows = self._tables, self._tables.lows
        at = step - tables.skew * self._books[layers]
        # The last block is shorter than the others.
        last = self._length - (self._blocks - 1) * self._steps
        cells = np.flatnonzero((np.arange(self._blocks) < self._blocks - (at >= last)[:, None]).reshape(-1))
        counted = self._blocks * at - np.maximum(at - last, 0)
        layer = cells // self._blocks
        books = self._books[layers].take(layer)
        hidden, known = self._predict(step, layers, cells, books)
        offset = step * self._columns
        own = self._own[layers].take(cells) + offset
        recent = self._padded.take(self._history[layers].reshape(-1, 4).take(cells, axis=0) + offset)
        slot = ((recent @ _HASH & 0xFFFFFFFF) >> 18) + (layer + layers.start) * _SLOTS
        guess = self._seen.take(slot).astype(np.int64)
        tried = guess < tables.entries
        guess *= tried
        known_symbols = self._padded.take(own)
        counts = self._counts[0][layers]
        right, wrong = self._hits[0, layers].take(layer), self._misses[0, layers].take(layer)
        guesses = Guesses(guess // lows, tried, right, wrong)
        table_weight = self._table_weight[layers].take(layer, axis=0)
        weighed = _weigh(known, counts.take(layer, axis=0), counted.take(layer), table_weight[:, 0], guesses)
        high = self._next(layers, layer, weighed, known_symbols // lows)
        outcomes = [(guesses, high)]
        ranks = high
        if lows > 1:
            context = (layer + layers.start) * tables.highs + high
            known = self._low(hidden, books, high)
            right, wrong = self._hits[1, layers].take(layer), self._misses[1, layers].take(layer)
            guesses = Guesses(guess % lows, tried & (guesses.guess == high), right, wrong)
            within = self._counts[0].take(context)
            weighed = _weigh(known, self._counts[1].take(context, axis=0), within, table_weight[:, 1], guesses)
            low = self._next(layers, layer, weighed, known_symbols % lows)
            outcomes.append((guesses, low))
            np.add.at(self._counts[1].reshape(-1), context * lows + low, 1)
            ranks = high * lows + low
        np.add.at(counts.reshape(-1), layer * tables.highs + high, 1)
        for which, (guesses, symbols) in enumerate(outcomes):
            hit = guesses.tried & (guesses.guess == symbols)
            miss = guesses.tried ^ hit
            self._hits[which, layers] += 2 * np.bincount(layer, hit, len(counts)).astype(np.int64)
            self._misses[which, layers] += 2 * np.bincount(layer, miss, len(counts)).astype(np.int64)
        self._seen[slot] = ranks
        self._padded.reshape(-1)[own] = ranks
        if deep := len(hidden):
            # Add the vectors of the new codes to the sums of the coarser ones.
            sums = self._sums.take(own[:deep], axis=0)
            sums += tables.embedded(books[:deep], ranks[:deep])
            self._sums[own[:deep] + self._row] = sums

    def _predict(self, step: int, layers: slice, cells: Integers, books: Integers) -> tuple[Singles, Doubles]:
        """Return the hidden layer of the cells that have a network, and the weights of all cells' high symbols."""
        tables = self._tables
        flat = tables.flat_high
        if layers.start >= self._deep:
            return np.zeros((0, 0), np.float32), flat(books)
        deep = slice(layers.start, min(layers.stop, self._deep))
        network = slice(deep.start // self._streams, deep.stop // self._streams)
        inputs = self._sums.take(self._inputs[deep] + step * self._columns, axis=0)
        hidden = tables.hidden(inputs.reshape(-1, self._columns, tables.axes * len(tables.frames)), network)
        known = tables.deep_high(hidden, network).reshape(-1, tables.highs)
        cells = cells[: np.searchsorted(cells, len(known))]
        hidden = hidden.reshape(-1, hidden.shape[2])
        if len(cells) < len(known):
            hidden, known = hidden.take(cells, axis=0), known.take(cells, axis=0)
        return hidden, np.concatenate([known, flat(books[len(cells) :])]) if len(cells) < len(books) else known

    def _low(self, hidden: Singles, books: Integers, high: Integers) -> Doubles:
        """Return the weights of the low symbols, given the high ones."""
        deep, tables = len(hidden), self._tables
        if not deep:
            return tables.flat_low(books, high)
        known = tables.deep_low(hidden, books[:deep], high[:deep])
        if deep == len(books):
            return known
        return np.concatenate([known, tables.flat_low(books[deep:], high[deep:])])

    def _next(self, layers: slice, layer: Integers, weighed: Doubles, known_symbols: Integers) -> Integers:
        """Return the next symbols of the cells: decoded ones, or ``known_symbols`` if the layer is not coded."""
        coded = np.flatnonzero(self._coded[layers].take(layer))
        sums, found = _sums(weighed), np.array(known_symbols)
        found[coded] = self._decoder.symbols(layer.take(coded) + layers.start, sums.take(coded, axis=0))
        return found


def decode(codes: Integers, bits: int, layers: dict[LayerId, bytes], tables: ProbabilityTables | None) -> Integers:
    """Decode layers into a copy of ``codes`` [streams, codebooks, n]. Any bytes decode to some codes."""
    model = _float_tables(bits, tables)
    work = _Decoding(codes, model, layers)
    work.run()
    ranks = work.ranks()
    found: Integers = codes.copy()
    found[:, : ranks.shape[1]] = model.codes(ranks)
    return found
