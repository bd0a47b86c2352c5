"""Range coding of codes: fewer bits for what is likely, in integers alone, the same on every machine for ever.

``formats/nac-v1.md``, section 14, defines coder and model, one layer at a time. Here all layers of a stream are
coded side by side, each a frame or two behind the coarser one, so that numpy has rows of work. Floating point
carries nothing but integers below 2**53 (2**24 in single precision), so that it is exact in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nac.container.priors import Prior

_TOP = 1 << 14  # weight of the likeliest code
_WEIGHTS = np.array([max(1, round(_TOP * 2 ** (-step / 32))) for step in range(15 * 32)], np.float64)
_TRUST = 256
_ODDS = 64
_LEVEL = 1023
_HISTORY = np.array([[0, -1], [0, -2], [0, -3], [1, 0]])  # a codebook so many coarser, a frame so many later
_HASH = np.array([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F])
_SLOTS = 1 << 14
_U = np.uint64
_WORD, _LEAST, _HIGH = _U(16), _U(1 << 48), _U(48)

Codes = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Lane(NamedTuple):
    """A layer to be coded."""

    codebook: int
    stream: int


class Encoder:
    """Range encoders side by side: 64-bit range, 16 bits out at a time; carries are added up at the end."""

    def __init__(self, lanes: int, codes: int) -> None:
        self._low, self._range = np.zeros(lanes, _U), np.full(lanes, 2**64 - 1, _U)
        self._out = np.zeros((lanes, 3 * codes + 2), np.uint32)
        self._at = np.ones(lanes, np.int64)
        self._lanes = np.arange(lanes)

    def encode(self, lanes: slice, start: Numbers, stop: Numbers, total: Numbers) -> None:
        """The next code of each of the lanes."""
        low, wide = self._low[lanes], self._range[lanes]
        wide //= total.astype(_U)
        below = wide * start.astype(_U)
        low += below
        wide *= (stop - start).astype(_U)
        if (carry := low < below).any():
            lane = self._lanes[lanes][carry]
            self._out[lane, self._at[lane] - 1] += 1
        while (small := wide < _LEAST).any():
            lane = self._lanes[lanes][small]
            self._out[lane, self._at[lane]] = low[small] >> _HIGH
            self._at[lane] += 1
            shift = small * _WORD
            low <<= shift
            wide <<= shift

    def finish(self) -> list[bytes]:
        """Each lane's bytes: the fewest that say it."""
        return [self._bytes(lane) for lane in range(len(self._lanes))]

    def _bytes(self, lane: int) -> bytes:
        words = self._out[lane, : self._at[lane]]
        number = int.from_bytes((words & 0xFFFF).astype(">u2").tobytes(), "big")
        number += int.from_bytes((words >> 16).astype(">u2").tobytes(), "big") << 16
        low, wide = number << 64 | int(self._low[lane]), int(self._range[lane])
        cut = next(cut for cut in range(64, -1, -8) if -(-low >> cut) << cut < low + wide)
        value = -(-low >> cut) << cut
        return value.to_bytes(2 * len(words) + 8, "big")[2:].rstrip(b"\0")


class Decoder:
    """Range decoders side by side; behind a layer's last byte there are zeros without end."""

    def __init__(self, layers: Sequence[bytes]) -> None:
        words = max(map(len, layers)) // 2 + 5
        self._in = np.array([np.frombuffer(layer.ljust(2 * words, b"\0"), ">u2") for layer in layers], _U).reshape(
            -1
        )
        first = np.arange(len(layers)) * words
        self._last = first + words - 1
        self._at = first + 4
        self._range = np.full(len(layers), 2**64 - 1, _U)
        self._code = self._in.reshape(-1, words)[:, :4] @ np.array([1 << 48, 1 << 32, 1 << 16, 1], _U)

    def value(self, lanes: slice, total: Numbers) -> Numbers:
        """Where the next codes lie, between 0 and the total."""
        wide = self._range[lanes]
        wide //= total.astype(_U)
        return np.minimum((self._code[lanes] // wide).astype(np.float64), total - 1)

    def take(self, lanes: slice, start: Numbers, stop: Numbers) -> None:
        """The codes that :meth:`value` pointed at have this part of the total."""
        code, wide, at = self._code[lanes], self._range[lanes], self._at[lanes]
        code -= wide * start.astype(_U)
        wide *= (stop - start).astype(_U)
        while (small := wide < _LEAST).any():
            shift = small * _WORD
            wide <<= shift
            code <<= shift
            code |= self._in.take(at) * small
            at += small
            np.minimum(at, self._last[lanes], out=at)


class Model:
    """How likely each code is, judged by the codes before it, for the next code of all lanes at once.

    ``active``: the steps, each with the lanes that have a code then.

    ``codes`` [streams, codebooks, n]: those of the layers that are not coded here, and room for the others.
    """

    def __init__(self, codes: Codes, bits: int, lanes: Sequence[Lane], prior: Prior | None) -> None:
        self._entries = 1 << bits
        self._shape = codes.shape
        contexts = _HISTORY if prior is None else np.concatenate([_HISTORY, prior.contexts])
        books, streams = np.array(lanes).T
        skew = max(1, *(-(-(frame + 1) // up) for up, frame in contexts.tolist() if up))
        self._place(codes, contexts, books, streams, skew)
        steps = np.arange(codes.shape[2] + skew * books[-1])
        first = np.searchsorted(books, -((codes.shape[2] - 1 - steps) // skew))
        last = np.searchsorted(books, steps // skew, "right")
        active = zip(steps.tolist(), map(slice, first.tolist(), last.tolist()), strict=True)
        self.active = [(step, lanes) for step, lanes in active if lanes.start < lanes.stop]
        self._seen = np.full(len(lanes) * _SLOTS, self._entries, np.int16)
        self._right, self._wrong = np.ones(len(lanes), np.int64), np.full(len(lanes), 4)
        self._slots = np.arange(len(lanes)) * _SLOTS
        self._weights = np.zeros((len(lanes), self._entries))
        self._rows = np.arange(len(lanes)) * self._entries
        # Sums of weights are made in two steps, as adding up a whole row is slow.
        self._shift = bits // 2
        self._ones = np.ones(1 << self._shift)
        self._load(prior, books)

    def _place(self, codes: Codes, contexts: Codes, books: Codes, streams: Codes, skew: int) -> None:
        """Lay the codes out so that contexts are found by adding the step."""
        pad = int(np.abs(contexts[:, 1]).max())
        # Around the codes, and as a last row, stand codes that are none.
        padded = np.full((codes.shape[0] * codes.shape[1] + 1, codes.shape[2] + 2 * pad), self._entries)
        padded[:-1, pad : pad + codes.shape[2]] = codes.reshape(-1, codes.shape[2])
        self._codes = padded.reshape(-1)
        rows = books[:, None] - contexts[:, 0]
        rows = np.where(rows < 0, len(padded) - 1, streams[:, None] * codes.shape[1] + rows)
        places = rows * padded.shape[1] + contexts[:, 1] + pad - skew * books[:, None]
        # Before a lane's first code and after its last one it is out of step: the none row must still be hit.
        self._own, self._history, self._context = places[:, 0] + 1, places[:, :4], places[:, 4:]

    def _load(self, prior: Prior | None, books: Codes) -> None:
        if prior is None:
            self._deep, self._trust = 0, np.full(len(books), float(_TRUST))
            self._weights[:] = _WEIGHTS[0]
            self._whole = self._weights.sum(axis=1)
            self._unit = np.floor(self._whole / self._trust) + 1
            return
        self._deep = int(np.searchsorted(books, len(prior.embedding)))
        bias = np.zeros((len(books), self._entries))
        known = books < len(prior.bias)
        bias[known] = prior.bias[books[known]]
        self._weights[:] = _WEIGHTS.take((bias.max(axis=1, keepdims=True) - bias).astype(np.int64), mode="clip")
        self._trust = np.where(known, prior.trust[np.minimum(books, len(prior.trust) - 1)], float(_TRUST))
        self._whole = self._weights.sum(axis=1)
        self._unit = np.floor(self._whole / self._trust) + 1
        self._counts, self._counted = np.zeros((self._deep, self._entries)), np.zeros(self._deep)
        deep = books[: self._deep]
        self._inner, count = _inner(prior), len(prior.contexts)
        self._tables = (deep[:, None] * count + np.arange(count)) * (self._entries + 1)
        self._outer = prior.out[deep].astype(np.float32).transpose(0, 2, 1)
        self._bias = bias[: self._deep].astype(np.float32) * 64

    def weigh(self, step: int, lanes: slice) -> Numbers:
        """Weigh all codes that may come next in these lanes; gives the totals of their weights."""
        self._lanes, self._step = lanes, step
        if lanes.start < self._deep:
            self._weigh_deep(step, slice(lanes.start, min(lanes.stop, self._deep)))
        recent = self._codes.take(self._history[lanes] + step)
        self._slot = ((recent @ _HASH & 0xFFFFFFFF) >> 18) + self._slots[lanes]
        self._guess = self._seen.take(self._slot)
        right, wrong = self._right[lanes], self._wrong[lanes]
        self._tried = self._guess < self._entries
        odds = np.minimum(right, wrong * _ODDS)
        self._extra = self._whole[lanes].astype(np.int64) * odds // wrong * self._tried
        self._guessed = self._rows[lanes] + self._guess * self._tried
        self._weights.reshape(-1)[self._guessed] += self._extra
        self._groups = self._weights[lanes].reshape(-1, len(self._ones)) @ self._ones
        self._sums = self._groups.reshape(lanes.stop - lanes.start, -1).cumsum(axis=1)
        return self._sums[:, -1]

    def _weigh_deep(self, step: int, lanes: slice) -> None:
        """The prior's weights in the surroundings of the next codes, and the counts."""
        near = self._codes.take(self._context[lanes] + step) + self._tables[lanes]
        hidden = self._inner.take(near, axis=0).sum(axis=1).clip(-_LEVEL, _LEVEL)
        levels = np.matmul(hidden[:, None], self._outer[lanes])[:, 0]
        levels += self._bias[lanes]
        np.subtract(levels.max(axis=1, keepdims=True), levels, out=levels)
        levels *= np.float32(1 / 64)
        weights = _WEIGHTS.take(levels.astype(np.int32), mode="clip")
        whole = weights.sum(axis=1)
        unit = np.floor(whole / self._trust[lanes]) + 1
        np.multiply(self._counts[lanes], unit[:, None], out=self._weights[lanes])
        self._weights[lanes] += weights
        self._whole[lanes], self._unit[lanes] = whole + self._counted[lanes] * unit, 0

    def span(self, codes: Codes) -> tuple[Numbers, Numbers]:
        """The sum of the weights below each lane's code, and with it."""
        inside, below = self._group(codes >> self._shift)
        at = codes & len(self._ones) - 1
        stop = below + inside[np.arange(len(codes)), at]
        return stop - self._weights.reshape(-1).take(self._rows[self._lanes] + codes), stop

    def find(self, value: Numbers) -> tuple[Codes, Numbers, Numbers]:
        """The codes whose part of the total holds these values, and what :meth:`span` says of them."""
        group = (self._sums > value[:, None]).argmax(axis=1)
        inside, below = self._group(group)
        codes: Codes = (inside > (value - below)[:, None]).argmax(axis=1) + (group << self._shift)
        return codes, *self.span(codes)

    def _group(self, group: Codes) -> tuple[Numbers, Numbers]:
        """Sums within each lane's group of codes, and the sum of all before it."""
        lanes = np.arange(len(group))
        at = group + (self._rows[self._lanes] >> self._shift)
        inside = self._weights.reshape(-1, len(self._ones)).take(at, axis=0).cumsum(axis=1)
        return inside, self._sums[lanes, group] - inside[:, -1]

    def known(self) -> Codes:
        """The codes of the step, where the model was given them."""
        codes: Codes = self._codes.take(self._own[self._lanes] + self._step)
        return codes

    def learn(self, codes: Codes) -> None:
        """The codes of the step are these."""
        lanes, guess = self._lanes, self._guess
        self._codes[self._own[lanes] + self._step] = codes
        self._seen[self._slot] = codes
        right = codes == guess
        self._right[lanes] += 2 * right
        self._wrong[lanes] += 2 * (self._tried & ~right)
        weights, unit = self._weights.reshape(-1), self._unit[lanes]
        weights[self._guessed] -= self._extra
        weights[self._rows[lanes] + codes] += unit
        self._whole[lanes] += unit
        if lanes.start < self._deep:
            deep = np.arange(lanes.start, min(lanes.stop, self._deep))
            self._counts[deep, codes[: len(deep)]] += 1
            self._counted[deep] += 1

    def result(self) -> Codes:
        """All codes [streams, codebooks, n]."""
        streams, books, length = self._shape
        padded = self._codes.reshape(streams * books + 1, -1)
        pad = (padded.shape[1] - length) // 2
        return padded[:-1, pad : pad + length].reshape(self._shape)


@lru_cache(maxsize=2)
def _inner(prior: Prior) -> NDArray[np.float32]:
    """What each code, or none, adds in each context: [codebook x context x (code or none), R]."""
    books, entries, _ = prior.embedding.shape
    tables = np.zeros((books, len(prior.contexts), entries + 1, prior.mix.shape[3]), np.float32)
    for book in range(books):
        for number, (up, _) in enumerate(prior.contexts.tolist()):
            if up <= book:
                embedding, mix = prior.embedding[book - up], prior.mix[book, number]
                tables[book, number, :-1] = np.floor(
                    (embedding.astype(np.float32) @ mix.astype(np.float32) + 512) / 1024
                )
    return tables.reshape(-1, tables.shape[-1])


def encode(codes: Codes, bits: int, lanes: Sequence[Lane], prior: Prior | None) -> dict[Lane, bytes]:
    """The layers ``lanes`` of ``codes`` [streams, codebooks, n], ``bits`` wide, as bytes."""
    lanes = sorted(lanes)
    model, coder = Model(codes, bits, lanes, prior), Encoder(len(lanes), codes.shape[2])
    for step, active in model.active:
        total = model.weigh(step, active)
        known = model.known()
        coder.encode(active, *model.span(known), total)
        model.learn(known)
    return dict(zip(lanes, coder.finish(), strict=True))


def decode(codes: Codes, bits: int, layers: dict[Lane, bytes], prior: Prior | None) -> Codes:
    """``codes`` [streams, codebooks, n] with those of the layers put in. Any bytes decode to something."""
    lanes = sorted(layers)
    model, coder = Model(codes, bits, lanes, prior), Decoder([layers[lane] for lane in lanes])
    for step, active in model.active:
        found, start, stop = model.find(coder.value(active, model.weigh(step, active)))
        coder.take(active, start, stop)
        model.learn(found)
    return model.result()
