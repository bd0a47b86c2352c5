"""Range coding of codes: fewer bits for what is likely, in integers alone, the same on every machine for ever.

``formats/nac-v1.md``, section 14, defines coder and model, one layer at a time. To encode, all codes of a layer
are weighed at once; to decode, all blocks of all layers of all streams are weighed side by side, a layer some
steps behind the coarser one, so that numpy has rows of work. Floating point carries nothing but integers below
2**53 (2**24 in single precision), so that it is exact in any order.
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

_TOP = 1 << 14  # weight of the likeliest symbol
_WEIGHTS = np.array([max(1, round(_TOP * 2 ** (-step / 32))) for step in range(15 * 32)], np.float64)
_TABLE_WEIGHT = 256, 8  # counted symbols, high and low, that weigh as much as tables do, where there are none
_MOST = 256
_HITS, _MISSES = (1, 8), (4, 1)  # of guesses that a high and a low symbol come again, at first
_LEVEL = 1023
_SCALE = 2.0**-20
_ONES, _UPPER = np.ones(64), np.triu(np.ones((64, 64)))
_HISTORY = np.array([[0, -1], [0, -2], [0, -3], [1, 0]])  # a codebook so many coarser, a frame so many later
_HASH = np.array([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F])
_SLOTS = 1 << 14
_BLOCK = 64  # codes of a layer that are weighed after each other; blocks are weighed side by side

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


class Lane(NamedTuple):
    """A layer to be coded."""

    codebook: int
    stream: int


class Guesses(NamedTuple):
    """For each symbol to be coded: the one that came last time, if ``tried``, and its hit and miss counts."""

    guess: Integers
    tried: NDArray[np.bool_]
    hits: Integers
    misses: Integers


class FloatTables:
    """Probability tables as the arithmetic wants them. A code's *rank* is its position in their ``order``."""

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
        # Behind the last codebook that is known stands one for all that are not.
        self.table_weight = np.concatenate([tables.trust, self.table_weight])
        self._high_bias = tables.high_bias.astype(np.float32) * 64
        self._low_bias = tables.low_bias.astype(np.float32).reshape(-1, self.lows) * 64
        self._high = np.concatenate([weights(self._high_bias), flat[0]])
        self._low = np.concatenate([weights(self._low_bias).reshape(-1, *flat[1].shape[1:]), flat[1]])
        # Behind each codebook's vectors stands that of no code.
        self._embedding = np.zeros((self.deep, self.entries + 1, self.axes), np.float32)
        self._embedding[:, :-1] = np.take_along_axis(tables.embedding, self._order[: self.deep, :, None], 1)
        self._mix = tables.mix.astype(np.float32)
        self._mix_bias = tables.mix_bias[:, None].astype(np.float32)
        self._scale = tables.scale[:, None] * _SCALE
        self._high_out = tables.high.astype(np.float32).transpose(0, 2, 1)
        low = tables.low.astype(np.float32).reshape(self.deep, self.highs, self.lows, -1)
        self._low_out = np.ascontiguousarray(low.transpose(0, 1, 3, 2)).reshape(-1, low.shape[3], self.lows)

    def blocks(self, length: int) -> tuple[int, int]:
        """How many blocks a layer has, and the steps in one. Without tables a layer is one block."""
        return (-(-length // _BLOCK), min(length, _BLOCK)) if self.known else (1, length)

    def ranks(self, codes: Integers) -> Integers:
        """Integers [streams, codebooks, n] to ranks."""
        ranks: Integers = codes.copy()
        for book in range(min(self.known, codes.shape[1])):
            ranks[:, book] = self._ranks[book].take(codes[:, book])
        return ranks

    def codes(self, ranks: Integers) -> Integers:
        """The inverse of :meth:`ranks`."""
        codes: Integers = ranks.copy()
        for book in range(min(self.known, codes.shape[1])):
            codes[:, book] = self._order[book].take(ranks[:, book])
        return codes

    def embedded(self, books: Integers | int, ranks: Integers) -> Singles:
        """The vectors [..., D] of ranks in codebooks."""
        flat = self._embedding.reshape(-1, self.axes)
        found: Singles = flat.take(ranks + books * (self.entries + 1), axis=0)
        return found

    def hidden(self, inputs: Singles, books: slice) -> Singles:
        """What the surroundings [books, n, inputs] say [books, n, R]."""
        sums: Singles = np.matmul(inputs, self._mix[books])
        sums += self._mix_bias[books]
        scaled = sums * self._scale[books]
        np.floor(scaled, out=scaled)
        np.maximum(scaled, 0, out=scaled)
        np.minimum(scaled, _LEVEL, out=scaled)
        return scaled.astype(np.float32)

    def flat_high(self, books: Integers) -> Doubles:
        """The weights of high symbols [n, highs] of some codebooks, whatever the surroundings."""
        return self._high[np.minimum(books, self.known)]

    def flat_low(self, books: Integers, high: Integers) -> Doubles:
        """The weights of low symbols [n, lows] behind the ``high`` ones."""
        return self._low[np.minimum(books, self.known), high]

    def deep_high(self, hidden: Singles, books: slice) -> Doubles:
        """The weights of high symbols [books, n, highs] in surroundings."""
        levels = np.matmul(hidden, self._high_out[books])
        levels += self._high_bias[books, None]
        return weights(levels)

    def deep_low(self, hidden: Singles, books: Integers, high: Integers) -> Doubles:
        """The weights of low symbols [n, lows] behind the ``high`` ones in surroundings [n, R]."""
        rows = books * self.highs + high
        levels = np.matmul(hidden[:, None], self._low_out.take(rows, axis=0))[:, 0]
        levels += self._low_bias.take(rows, axis=0)
        return weights(levels)

    def deep_lows(self, hidden: Singles, book: int, high: Integers) -> Doubles:
        """The same for many of one codebook, sorted by the high symbol."""
        levels = self._low_bias.take(book * self.highs + high, axis=0)
        borders = np.searchsorted(high, np.arange(self.highs + 1)).tolist()
        for symbol, (start, stop) in enumerate(pairwise(borders)):
            if start < stop:
                levels[start:stop] += hidden[start:stop] @ self._low_out[book * self.highs + symbol]
        return weights(levels)


@lru_cache(maxsize=4)
def _float_tables(bits: int, tables: ProbabilityTables | None) -> FloatTables:
    """FloatTables for codes of other bits count as none."""
    return FloatTables(bits, tables if tables and tables.order.shape[1] == 1 << bits else None)


def weights(levels: Singles) -> Doubles:
    """Weights for levels, in 64ths, along the last axis."""
    steps = (levels.max(axis=-1, keepdims=True) - levels) * np.float32(1 / 64)
    found: Doubles = _WEIGHTS.take(steps.astype(np.int32), mode="clip")
    return found


def _weigh(
    known: Doubles, counts: Doubles, counted: Integers | Doubles, table_weight: Doubles, guesses: Guesses
) -> Doubles:
    """The weights of all symbols that may come next [n, symbols].

    ``known``: by the tables; ``counts``: of what came before in the same context, ``counted`` in all.
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
    """The weights [n, symbols] up to each symbol, with its own: a product is faster than adding up short rows."""
    symbols = weighed.shape[1]
    return weighed @ _UPPER[:symbols, :symbols]


def _columns(rows: Integers, count: int, steps: int, none: int) -> Integers:
    """Integers [..., n] as blocks [..., count, steps], the last one filled up with ``none``."""
    filled = np.full((*rows.shape[:-1], count * steps), none)
    filled[..., : rows.shape[-1]] = rows
    return filled.reshape(*rows.shape[:-1], count, steps)


# Encoding: a layer at a time, all of its codes at once.


def encode(
    codes: Integers, bits: int, lanes: Sequence[Lane], tables: ProbabilityTables | None
) -> dict[Lane, bytes]:
    """The layers ``lanes`` of ``codes`` [streams, codebooks, n], ``bits`` wide, as bytes."""
    model, spans, done = _float_tables(bits, tables), [], -1
    order = _Order(codes.shape[2], *model.blocks(codes.shape[2]))
    ranks = model.ranks(codes)
    edge = model.edge
    through = coarser = np.zeros((len(codes), order.blocks, order.steps + 2 * edge, model.axes), np.float32)
    for book, group in groupby(sorted(lanes), lambda lane: lane.codebook):
        streams = np.array([lane.stream for lane in group])
        for next_book in range(done + 1, min(book + 1, model.deep)):
            coarser, through = through, through.copy()
            some = _columns(ranks[:, next_book], order.blocks, order.steps, model.entries)
            through[:, :, edge : edge + order.steps] += model.embedded(next_book, some)
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
    return dict(zip(sorted(lanes), ranges.encode(np.concatenate(spans, axis=1)), strict=True))


class _Order:
    """The order that a layer's codes are coded in: first codes of all blocks, second ones, and so on.

    ``frames`` [n]: which code comes; ``step``: its rank in its block; ``begin``, ``end``: of its step.
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
    """Start, width and total [3, streams, symbols] of all symbols in the order they are coded.

    ``history`` [streams, n]: the ranks of the codes, and of the coarser ones if there are any. ``hidden``: in the
    order that codes are coded in.
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
        some = high[sort]
        known = tables.flat_low(books, some) if hidden is None else tables.deep_lows(hidden[sort], book, some)
        guesses = Guesses(again.guess[sort], again.tried[sort], again.hits[sort], again.misses[sort])
        found = np.empty((3, len(high)), np.int64)
        context = some * streams + stream[sort]
        found[:, sort] = _span(known, low[sort], context, step[sort], tables.table_weight[books, 1], guesses)
        spans.append(found)
    # A step's high symbols come before its low ones.
    together = np.empty((3, streams, len(spans) * length), np.int64)
    inside = np.arange(length) - order.begin
    for which, span in enumerate(spans):
        at = len(spans) * order.begin + which * (order.end - order.begin) + inside
        together[:, :, at] = span.reshape(3, streams, length)
    return together


def _slots(history: list[Integers | None], order: _Order, entries: int) -> Integers:
    """The slots of all codes [streams, n], as they are coded."""
    own, coarser = history
    assert own is not None
    some = _columns(own, order.blocks, order.steps, entries)
    before = np.concatenate([np.full((*some.shape[:2], 3), entries), some], axis=2)
    recent = [before[:, :, 2:-1], before[:, :, 1:-2], before[:, :, :-3]]
    flat = [part.reshape(len(own), -1)[:, order.frames] for part in recent]
    flat.append(np.full_like(flat[0], entries) if coarser is None else coarser[:, order.frames])
    sums: Integers = sum((part * factor for part, factor in zip(flat, _HASH, strict=True)), np.zeros_like(flat[0]))
    return (sums & 0xFFFFFFFF) >> 18


def _last_time(
    slots: Integers, ranks: Integers, stream: Integers, step: Integers, steps: int
) -> tuple[Integers, NDArray[np.bool_]]:
    """The rank that was last in the same slot in earlier steps, and whether there was one."""
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
    """The guesses, and how many were right and wrong in earlier steps."""
    right = tried & (guess == symbol)
    sums = []
    for some, first in ((right, _HITS), (tried & ~right, _MISSES)):
        rows = some.reshape(-1, order.length)
        before = np.concatenate([np.zeros((len(rows), 1), np.int64), rows.cumsum(axis=1)], axis=1)
        sums.append(2 * before[:, order.begin].reshape(-1) + first[which])
    return Guesses(guess, tried, *sums)


def _span(
    known: Doubles, symbols: Integers, context: Integers, step: Integers, table_weight: Doubles, guesses: Guesses
) -> Integers:
    """Start, width and total [3, n] of symbols; counted are those of the same context in earlier steps.

    ``context`` and with it ``step`` grow.
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


# Decoding: all blocks of all layers side by side, a step at a time.


class _Decoding:
    """Layers of streams ("lanes"), a codebook's next to each other; each has cells, one a block."""

    def __init__(self, codes: Integers, tables: FloatTables, layers: dict[Lane, bytes]) -> None:
        self._tables, self._streams, self._length = tables, len(codes), codes.shape[2]
        self._blocks, self._steps = tables.blocks(self._length)
        books = max(layers).codebook + 1
        lanes = [Lane(book, stream) for book in range(books) for stream in range(len(codes))]
        self._books = np.array([lane.codebook for lane in lanes])
        self._decoder = ranges.decoder([layers.get(lane, b"") for lane in lanes])
        self._coded = np.array([lane in layers for lane in lanes])
        self._lay_out(tables.ranks(codes[:, :books]))
        count = len(lanes)
        self._table_weight = tables.table_weight[np.minimum(self._books, tables.known)]
        self._counts = np.zeros((count, tables.highs)), np.zeros((count * tables.highs, tables.lows))
        self._seen = np.full(count * _SLOTS, tables.entries, np.int16)
        self._hits, self._misses = (np.tile(np.array(some)[:, None], count) for some in (_HITS, _MISSES))

    def _lay_out(self, ranks: Integers) -> None:
        """Lay ranks and sums out so that surroundings are found by adding the step."""
        tables, (streams, books, _) = self._tables, ranks.shape
        edge = max(3, tables.edge)
        self._columns = streams * self._blocks
        # Around the codes, and as a last row, stand codes that are none; before the first sums, those of none.
        self._padded = np.full((books + 1, self._steps + 2 * edge, self._columns), tables.entries)
        self._inner = self._padded[:books, edge : edge + self._steps]
        some = _columns(ranks, self._blocks, self._steps, tables.entries)
        self._inner[:] = some.transpose(1, 3, 0, 2).reshape(self._inner.shape)
        deep = min(books, tables.deep)
        self._deep = deep * streams
        self._row = (self._steps + 2 * edge) * self._columns
        self._sums = np.zeros(((deep + 1) * self._row, tables.axes), np.float32)
        book = self._books[:, None]
        column = np.arange(len(self._books) * self._blocks).reshape(-1, self._blocks) % self._columns

        def where(row: Integers, later: int) -> Integers:
            found: Integers = row * self._row + (edge + later - tables.skew * book) * self._columns + column
            return found

        self._own = where(book, 0)
        coarser = [np.where(book < up, books, book - up) for up in (0, 1)]
        self._history = np.stack([where(coarser[up], later) for up, later in _HISTORY.tolist()], axis=2)
        inputs = [where(book + (later < 0), later)[: self._deep] for later in tables.frames]
        self._inputs = np.stack(inputs, axis=2) if inputs else np.zeros((0, 0, 0), np.int64)

    def run(self) -> None:
        """Decode all."""
        skew, books = self._tables.skew, self._books[-1] + 1
        for step in range(self._steps + skew * (books - 1)):
            first, last = max(0, -((self._steps - 1 - step) // skew)), min(books - 1, step // skew)
            self._step(step, slice(first * self._streams, (last + 1) * self._streams))

    def ranks(self) -> Integers:
        """What was decoded [streams, codebooks, n]."""
        books, steps, _ = self._inner.shape
        found = self._inner.reshape(books, steps, self._streams, self._blocks).transpose(2, 0, 3, 1)
        ranks: Integers = found.reshape(self._streams, books, -1)[:, :, : self._length]
        return ranks

    def _step(self, step: int, lanes: slice) -> None:
        """The next codes of the lanes."""
        tables, lows = self._tables, self._tables.lows
        at = step - tables.skew * self._books[lanes]
        # The last block is shorter than the others.
        last = self._length - (self._blocks - 1) * self._steps
        cells = np.flatnonzero((np.arange(self._blocks) < self._blocks - (at >= last)[:, None]).reshape(-1))
        counted = self._blocks * at - np.maximum(at - last, 0)
        lane = cells // self._blocks
        books = self._books[lanes].take(lane)
        hidden, known = self._look(step, lanes, cells, books)
        offset = step * self._columns
        own = self._own[lanes].take(cells) + offset
        recent = self._padded.take(self._history[lanes].reshape(-1, 4).take(cells, axis=0) + offset)
        slot = ((recent @ _HASH & 0xFFFFFFFF) >> 18) + (lane + lanes.start) * _SLOTS
        guess = self._seen.take(slot).astype(np.int64)
        tried = guess < tables.entries
        guess *= tried
        given = self._padded.take(own)
        counts = self._counts[0][lanes]
        guesses = Guesses(guess // lows, tried, self._hits[0, lanes].take(lane), self._misses[0, lanes].take(lane))
        table_weight = self._table_weight[lanes].take(lane, axis=0)
        weighed = _weigh(known, counts.take(lane, axis=0), counted.take(lane), table_weight[:, 0], guesses)
        high = self._next(lanes, lane, weighed, given // lows)
        judged = [(guesses, high)]
        ranks = high
        if lows > 1:
            context = (lane + lanes.start) * tables.highs + high
            known = self._low(hidden, books, high)
            right, wrong = self._hits[1, lanes].take(lane), self._misses[1, lanes].take(lane)
            guesses = Guesses(guess % lows, tried & (guesses.guess == high), right, wrong)
            within = self._counts[0].take(context)
            weighed = _weigh(known, self._counts[1].take(context, axis=0), within, table_weight[:, 1], guesses)
            low = self._next(lanes, lane, weighed, given % lows)
            judged.append((guesses, low))
            np.add.at(self._counts[1].reshape(-1), context * lows + low, 1)
            ranks = high * lows + low
        np.add.at(counts.reshape(-1), lane * tables.highs + high, 1)
        for which, (guesses, symbols) in enumerate(judged):
            hit = guesses.tried & (guesses.guess == symbols)
            self._hits[which, lanes] += 2 * np.bincount(lane, hit, len(counts)).astype(np.int64)
            self._misses[which, lanes] += 2 * np.bincount(lane, guesses.tried ^ hit, len(counts)).astype(np.int64)
        self._seen[slot] = ranks
        self._padded.reshape(-1)[own] = ranks
        if deep := len(hidden):
            # Sums with the new codes, from those without them.
            sums = self._sums.take(own[:deep], axis=0)
            sums += tables.embedded(books[:deep], ranks[:deep])
            self._sums[own[:deep] + self._row] = sums

    def _look(self, step: int, lanes: slice, cells: Integers, books: Integers) -> tuple[Singles, Doubles]:
        """What surroundings say of the cells that have any, and the weights of all cells' high symbols."""
        tables = self._tables
        flat = tables.flat_high
        if lanes.start >= self._deep:
            return np.zeros((0, 0), np.float32), flat(books)
        deep = slice(lanes.start, min(lanes.stop, self._deep))
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
        """The weights of the low symbols behind the high ones."""
        deep, tables = len(hidden), self._tables
        if not deep:
            return tables.flat_low(books, high)
        known = tables.deep_low(hidden, books[:deep], high[:deep])
        if deep == len(books):
            return known
        return np.concatenate([known, tables.flat_low(books[deep:], high[deep:])])

    def _next(self, lanes: slice, lane: Integers, weighed: Doubles, given: Integers) -> Integers:
        """The next symbols of the cells: those ``given`` where a layer is not coded here."""
        coded = np.flatnonzero(self._coded[lanes].take(lane))
        sums, found = _sums(weighed), np.array(given)
        found[coded] = self._decoder.symbols(lane.take(coded) + lanes.start, sums.take(coded, axis=0))
        return found


def decode(codes: Integers, bits: int, layers: dict[Lane, bytes], tables: ProbabilityTables | None) -> Integers:
    """``codes`` [streams, codebooks, n] with those of the layers put in. Any bytes decode to something."""
    model = _float_tables(bits, tables)
    work = _Decoding(codes, model, layers)
    work.run()
    ranks = work.ranks()
    found: Integers = codes.copy()
    found[:, : ranks.shape[1]] = model.codes(ranks)
    return found
