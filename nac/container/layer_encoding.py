"""Range encoding of layers: one layer at a time, the weights of all of its codes at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from nac.container import range_coder as ranges
from nac.container.probability_model import (
    HASH,
    HITS,
    MISSES,
    SLOTS,
    Doubles,
    FloatTables,
    Guesses,
    Integers,
    LayerId,
    Singles,
    columns,
    cumulative,
    float_tables,
    weigh,
)
from nac.container.tables import ProbabilityTables


def encode(
    codes: Integers, bits: int, layers: Sequence[LayerId], tables: ProbabilityTables | None
) -> dict[LayerId, bytes]:
    """Range code these layers of ``codes`` [streams, codebooks, n], which have ``bits`` bits."""
    model, spans, done = float_tables(bits, tables), [], -1
    order = _Order(codes.shape[2], *model.blocks(codes.shape[2]))
    ranks = model.ranks(codes)
    edge = model.edge
    through = coarser = np.zeros((len(codes), order.blocks, order.steps + 2 * edge, model.axes), np.float32)
    for book, group in groupby(sorted(layers), lambda layer: layer.codebook):
        streams = np.array([layer.stream for layer in group])
        for next_book in range(done + 1, min(book + 1, model.deep)):
            coarser, through = through, through.copy()
            blocks = columns(ranks[:, next_book], order.blocks, order.steps, model.entries)
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
    blocks = columns(own, order.blocks, order.steps, entries)
    before = np.concatenate([np.full((*blocks.shape[:2], 3), entries), blocks], axis=2)
    recent = [before[:, :, 2:-1], before[:, :, 1:-2], before[:, :, :-3]]
    flat = [part.reshape(len(own), -1)[:, order.frames] for part in recent]
    flat.append(np.full_like(flat[0], entries) if coarser is None else coarser[:, order.frames])
    sums: Integers = sum((part * factor for part, factor in zip(flat, HASH, strict=True)), np.zeros_like(flat[0]))
    return (sums & 0xFFFFFFFF) >> 18


def _last_time(
    slots: Integers, ranks: Integers, stream: Integers, step: Integers, steps: int
) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the last rank in the same slot in earlier steps, and whether there was one."""
    slot = slots.reshape(-1) + stream * SLOTS
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
    for outcomes, first in ((right, HITS), (tried & ~right, MISSES)):
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
    weighed = weigh(np.broadcast_to(known, counts.shape), counts, now - begin, table_weight, guesses)
    sums = cumulative(weighed)
    width = weighed[row, symbols]
    return np.stack([sums[row, symbols] - width, width, sums[:, -1]]).astype(np.int64)
