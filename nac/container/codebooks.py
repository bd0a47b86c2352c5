"""The layers of streams in chunks: codes to bytes and back, packed or range coded, whichever is shorter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.container import entropy
from nac.container.bits import pack, unpack
from nac.container.entropy import Lane
from nac.container.fields import varint
from nac.container.tables import ProbabilityTables
from nac.errors import ArgumentError
from nac.spec import Codebook

Coding = Literal["auto", "packed", "range"]
MAX_BITS = 12
"""Wider codes are not range coded."""
MAX_LENGTH = 1 << 11
"""Codes of a range coded layer, at most."""
MAX_CODES_A_BYTE = 32
"""Of a range coded layer, so that a file of few bytes takes little time and memory."""
_TOGETHER = 1 << 18
_LEAST = 192
"""Codes that are coded side by side, at most, and what a layer counts for at least: each takes up to 400 bytes."""


def check_coding(coding: Coding) -> None:
    """Raises ArgumentError for what is none."""
    if coding not in get_args(Coding):
        raise ArgumentError(f"a coding is auto, packed or range, not {coding!r}")


def is_coded(layer: bytes, codebook: Codebook, frames: int) -> bool:
    """Whether a layer is range coded: it is shorter than packed, which is what it is for."""
    return saving(codebook, frames, len(layer)) > 0


def can_be_coded(codebook: Codebook, frames: int) -> bool:
    return codebook.bits <= MAX_BITS and frames * codebook.codes_per_frame <= MAX_LENGTH


def least_bytes(codebook: Codebook, frames: int) -> int:
    """Bytes that a range coded layer has at least: zero bytes at its end fill it up, which mean nothing."""
    return frames * codebook.codes_per_frame // MAX_CODES_A_BYTE


class Packed(NamedTuple):
    """A stream of a chunk, as bytes, with the codebooks that it has."""

    layers: Sequence[bytes]
    books: Sequence[Codebook]


class Plain(NamedTuple):
    """A stream of a chunk, as codes. ``cost``: bytes that the first range coded layer costs beside its own."""

    codes: Sequence[ArrayLike]
    books: Sequence[Codebook]
    cost: int


Stream = TypeVar("Stream", Packed, Plain)


def encode(
    streams: Sequence[Plain], frames: int, tables: ProbabilityTables | None, coding: Coding, most: int = 255
) -> list[tuple[bytes, ...]]:
    """The bytes of streams' layers, coarse to fine. All have so many ``frames`` and the same codebooks or fewer.

    ``coding``: "packed"; "range" to range code all that becomes shorter by it; "auto" the same, but without
    trying where that is not likely. Whether a layer is range coded depends on itself and on coarser ones only, so
    that dropping finer ones gives what encoding without them gives. Streams do not depend on each other: together
    they only take less time. ``most``: codebooks of a stream, from the coarsest on, that may be range coded.
    """
    check_coding(coding)
    packed = [[pack(array, book.bits) for array, book in zip(*stream[:2], strict=True)] for stream in streams]
    coded: dict[Lane, bytes] = {}
    tried = [Plain(codes[:most], books[:most], cost) for codes, books, cost in streams]
    for start, some in [] if coding == "packed" else _batches(tried, frames):
        for (book, number), layer in _coded(some, frames, tables, coding).items():
            coded[Lane(book, start + number)] = layer
    for number, (stream, layers) in enumerate(zip(streams, packed, strict=True)):
        cost = stream.cost
        for book, shape in enumerate(stream.books):
            # A layer's entry takes at least a byte, and so does that of each layer passed over before it.
            cost += 1
            found = coded.get(Lane(book, number))
            if found is not None:
                layer = found.ljust(least_bytes(shape, frames), b"\0")
                saved = saving(shape, frames, len(layer))
                if saved > cost - 1 + len(varint(max(saved, 0))):
                    layers[book], cost = layer, 0
    return [tuple(layers) for layers in packed]


def _coded(
    streams: Sequence[Plain], frames: int, tables: ProbabilityTables | None, coding: Coding
) -> dict[Lane, bytes]:
    """All layers worth a trial, range coded."""
    coded: dict[Lane, bytes] = {}
    for first, group in _groups(max((stream.books for stream in streams), key=len, default=())):
        if not can_be_coded(group[0], frames):
            continue
        codes = np.zeros((len(streams), len(group), frames * group[0].codes_per_frame), np.int64)
        lanes = []
        for number, stream in enumerate(streams):
            for book, array in enumerate(stream.codes[first : first + len(group)]):
                row = np.asarray(array, np.int64)
                codes[number, book] = row
                if coding == "range" or _promising(tables, book) or _repeats(row, group[0].bits):
                    lanes.append(Lane(book, number))
        if lanes:
            layers = entropy.encode(codes, group[0].bits, lanes, tables)
            coded |= {Lane(first + lane.codebook, lane.stream): layer for lane, layer in layers.items()}
    return coded


def decode(
    streams: Sequence[Packed], frames: int, tables: ProbabilityTables | None
) -> list[list[NDArray[np.uint16]]]:
    """The codes of streams' layers, coarse to fine: the inverse of :func:`encode`."""
    return list(chain.from_iterable(_decoded(some, frames, tables) for _, some in _batches(streams, frames)))


def _decoded(
    streams: Sequence[Packed], frames: int, tables: ProbabilityTables | None
) -> list[list[NDArray[np.uint16]]]:
    found: list[list[NDArray[np.uint16]]] = [[] for _ in streams]
    for first, group in _groups(max((stream.books for stream in streams), key=len, default=())):
        bits, count = group[0].bits, frames * group[0].codes_per_frame
        codes = np.zeros((len(streams), len(group), count), np.uint16)
        coded: dict[Lane, bytes] = {}
        plain: dict[Lane, bytes] = {}
        for number, stream in enumerate(streams):
            for book, layer in enumerate(stream.layers[first : first + len(group)]):
                (coded if is_coded(layer, group[0], frames) else plain)[Lane(book, number)] = layer
        if plain:
            books, numbers = zip(*plain, strict=True)
            codes[numbers, books] = unpack(list(plain.values()), bits, count)
        if coded:
            codes = entropy.decode(codes.astype(np.int64), bits, coded, tables).astype(np.uint16)
        for rows, layers, stream in zip(codes, found, streams, strict=True):
            layers.extend(rows[: max(0, len(stream.layers) - first)])
    return found


def saving(book: Codebook, frames: int, size: int) -> int:
    """Whole bytes by which a layer of ``size`` bytes is shorter than its packed bits."""
    return book.bits * frames * book.codes_per_frame // 8 - size


def _batches(streams: Sequence[Stream], frames: int) -> Iterator[tuple[int, Sequence[Stream]]]:
    """Streams that are coded together, each time with the number of the first."""
    start = codes = 0
    for number, stream in enumerate(streams):
        own = sum(max(_LEAST, frames * book.codes_per_frame) for book in stream.books)
        codes += own
        if codes > _TOGETHER and number:
            yield start, streams[start:number]
            start, codes = number, own
    yield start, streams[start:]


def _groups(books: Sequence[Codebook]) -> Iterator[tuple[int, list[Codebook]]]:
    """Runs of alike codebooks, each with the number of its first."""
    first = 0
    for _, run in groupby(books):
        group = list(run)
        yield first, group
        first += len(group)


def _promising(tables: ProbabilityTables | None, book: int) -> bool:
    return tables is None or (book < len(tables.order) and bool(tables.promising[book]))


def _repeats(row: NDArray[np.int64], bits: int) -> bool:
    """Whether one in eight short runs of codes has been there before."""
    run = -(-16 // bits)
    if len(row) < 8 * run:
        return False
    runs = np.lib.stride_tricks.sliding_window_view(row, run) @ (1 << bits * np.arange(run))
    return 8 * np.unique(runs).size < 7 * len(runs)
