"""The layers of one stream in a chunk: codes to bytes and back, packed or range coded, whichever is shorter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.codecs.base import Codebook
from nac.container import entropy
from nac.container.bits import pack, unpack
from nac.container.entropy import Lane
from nac.container.fields import varint
from nac.container.priors import Prior

Coding = Literal["auto", "packed", "range"]
MAX_BITS = 12
"""Wider codes are not range coded."""
MAX_LENGTH = 1 << 13
"""Codes of a range coded layer, at most."""


def is_coded(layer: bytes, codebook: Codebook, frames: int) -> bool:
    """Whether a layer is range coded: it is shorter than packed, which is what it is for."""
    return saving(codebook, frames, len(layer)) > 0


def can_be_coded(codebook: Codebook, frames: int) -> bool:
    return codebook.bits <= MAX_BITS and frames * codebook.codes_per_frame <= MAX_LENGTH


def encode(
    codes: Sequence[ArrayLike],
    books: Sequence[Codebook],
    frames: int,
    prior: Prior | None,
    coding: Coding,
    cost: int,
) -> tuple[bytes, ...]:
    """The bytes of a stream's layers, coarse to fine.

    ``coding``: "packed"; "range" to range code all that becomes shorter by it; "auto" the same, but without
    trying where that is not likely. ``cost``: bytes that the first range coded layer costs beside its own. Whether
    a layer is range coded depends on itself and on coarser ones only, so that dropping finer ones gives what
    encoding without them gives.
    """
    packed = [pack(array, book.bits) for array, book in zip(codes, books, strict=True)]
    if coding == "packed":
        return tuple(packed)
    coded: dict[int, bytes] = {}
    for first, group in _groups(books):
        if can_be_coded(group[0], frames):
            arrays = np.array([np.asarray(array, np.int64) for array in codes[first : first + len(group)]])
            wanted = [
                book
                for book, row in enumerate(arrays)
                if coding == "range" or _promising(prior, book) or _repeats(row, group[0].bits)
            ]
            if wanted:
                layers = entropy.encode(arrays[None], group[0].bits, [Lane(book, 0) for book in wanted], prior)
                coded |= {first + lane.codebook: layer for lane, layer in layers.items()}
    for number, book in enumerate(books):
        # A layer's entry takes at least a byte, and so does that of each layer passed over before it.
        cost += 1
        if number in coded:
            saved = saving(book, frames, len(coded[number]))
            if saved > cost - 1 + len(varint(max(saved, 0))):
                packed[number], cost = coded[number], 0
    return tuple(packed)


def decode(
    layers: Sequence[bytes], books: Sequence[Codebook], frames: int, prior: Prior | None
) -> list[NDArray[np.uint16]]:
    """The codes of a stream's layers, coarse to fine: the inverse of :func:`encode`."""
    codes: list[NDArray[np.uint16]] = []
    for first, group in _groups(books):
        bits, count = group[0].bits, frames * group[0].codes_per_frame
        rows = np.zeros((len(group), count), np.uint16)
        coded = {}
        for number, layer in enumerate(layers[first : first + len(group)]):
            if is_coded(layer, group[0], frames):
                coded[Lane(number, 0)] = layer
            else:
                rows[number] = unpack(layer, bits, count)
        if coded:
            rows = entropy.decode(rows[None].astype(np.int64), bits, coded, prior)[0].astype(np.uint16)
        codes.extend(rows)
    return codes


def saving(book: Codebook, frames: int, size: int) -> int:
    """Whole bytes by which a layer of ``size`` bytes is shorter than its packed bits."""
    return book.bits * frames * book.codes_per_frame // 8 - size


def _groups(books: Sequence[Codebook]) -> Iterator[tuple[int, list[Codebook]]]:
    """Runs of alike codebooks, each with the number of its first."""
    first = 0
    for _, run in groupby(books):
        group = list(run)
        yield first, group
        first += len(group)


def _promising(prior: Prior | None, book: int) -> bool:
    return prior is None or (book < len(prior.bias) and bool(prior.promising[book]))


def _repeats(row: NDArray[np.int64], bits: int) -> bool:
    """Whether one in eight short runs of codes has been there before."""
    run = -(-16 // bits)
    if len(row) < 8 * run:
        return False
    runs = np.lib.stride_tricks.sliding_window_view(row, run) @ (1 << bits * np.arange(run))
    return 8 * np.unique(runs).size < 7 * len(runs)
