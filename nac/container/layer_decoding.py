"""Range decoding of layers: all blocks of all layers of all streams in parallel, one step at a time.

Each layer is some steps behind the next coarser one, so that numpy's operations have long rows.
"""

from __future__ import annotations

import numpy as np

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

_HISTORY = np.array([[0, -1], [0, -2], [0, -3], [1, 0]])  # of each code: how many codebooks coarser, frames later


def decode(codes: Integers, bits: int, layers: dict[LayerId, bytes], tables: ProbabilityTables | None) -> Integers:
    """Decode layers into a copy of ``codes`` [streams, codebooks, n]. Any bytes decode to some codes."""
    model = float_tables(bits, tables)
    work = _Decoding(codes, model, layers)
    work.run()
    ranks = work.ranks()
    found: Integers = codes.copy()
    found[:, : ranks.shape[1]] = model.codes(ranks)
    return found


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
        self._seen = np.full(count * SLOTS, tables.entries, np.int16)
        self._hits, self._misses = (np.tile(np.array(first)[:, None], count) for first in (HITS, MISSES))

    def _lay_out(self, ranks: Integers) -> None:
        """Allocate ranks and sums so that the index of a neighbour is a constant plus a multiple of the step."""
        tables, (streams, books, _) = self._tables, ranks.shape
        edge = max(3, tables.edge)
        self._columns = streams * self._blocks
        # The codes are surrounded by "no code", also in a last row; the first row of sums is that of no codebook.
        self._padded = np.full((books + 1, self._steps + 2 * edge, self._columns), tables.entries)
        self._inner = self._padded[:books, edge : edge + self._steps]
        blocks = columns(ranks, self._blocks, self._steps, tables.entries)
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
        slot = ((recent @ HASH & 0xFFFFFFFF) >> 18) + (layer + layers.start) * SLOTS
        guess = self._seen.take(slot).astype(np.int64)
        tried = guess < tables.entries
        guess *= tried
        known_symbols = self._padded.take(own)
        counts = self._counts[0][layers]
        right, wrong = self._hits[0, layers].take(layer), self._misses[0, layers].take(layer)
        guesses = Guesses(guess // lows, tried, right, wrong)
        table_weight = self._table_weight[layers].take(layer, axis=0)
        weighed = weigh(known, counts.take(layer, axis=0), counted.take(layer), table_weight[:, 0], guesses)
        high = self._next(layers, layer, weighed, known_symbols // lows)
        outcomes = [(guesses, high)]
        ranks = high
        if lows > 1:
            context = (layer + layers.start) * tables.highs + high
            known = self._low(hidden, books, high)
            right, wrong = self._hits[1, layers].take(layer), self._misses[1, layers].take(layer)
            guesses = Guesses(guess % lows, tried & (guesses.guess == high), right, wrong)
            within = self._counts[0].take(context)
            weighed = weigh(known, self._counts[1].take(context, axis=0), within, table_weight[:, 1], guesses)
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
        sums, found = cumulative(weighed), np.array(known_symbols)
        found[coded] = self._decoder.symbols(layer.take(coded) + layers.start, sums.take(coded, axis=0))
        return found
