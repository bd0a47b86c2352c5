"""Convert the layers of a chunk to bytes and back: packed or range coded, whichever is shorter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.container import layer_decoding, layer_encoding
from nac.container.bits import pack, unpack
from nac.container.fields import varint
from nac.container.probability_model import LayerId
from nac.container.tables import ProbabilityTables
from nac.errors import ArgumentError
from nac.spec import Codebook

Coding = Literal["auto", "packed", "range"]
MAX_BITS = 12
"""Codes with more bits are not range coded."""
MAX_LENGTH = 1 << 11
"""The most codes in a range-coded layer."""
MAX_CODES_PER_BYTE = 32
"""The most codes per byte of a range-coded layer. Limits the time and memory that a small file can take."""
_BATCH_CODES = 1 << 18
_MIN_CODES = 192
"""The most codes that are coded in parallel, and what a shorter layer counts as. Each takes up to 400 bytes."""


def check_coding(coding: Coding) -> None:
    """Raise ArgumentError for an unknown coding."""
    if coding not in get_args(Coding):
        raise ArgumentError(f"the coding must be auto, packed or range, not {coding!r}")


def is_coded(layer: bytes, codebook: Codebook, frames: int) -> bool:
    """Return whether a layer is range coded: this is so if it is shorter than packed."""
    return saving(codebook, frames, len(layer)) > 0


def can_be_coded(codebook: Codebook, frames: int) -> bool:
    """Return whether the format allows range coding for such a layer."""
    return codebook.bits <= MAX_BITS and frames * codebook.codes_per_frame <= MAX_LENGTH


def least_bytes(codebook: Codebook, frames: int) -> int:
    """Return the minimum length of a range-coded layer; shorter ones are padded with zero bytes."""
    return frames * codebook.codes_per_frame // MAX_CODES_PER_BYTE


class StreamBytes(NamedTuple):
    """The layers of one stream of a chunk, as bytes, and its codebooks."""

    layers: Sequence[bytes]
    books: Sequence[Codebook]


class StreamCodes(NamedTuple):
    """The codes of one stream of a chunk. ``cost``: bytes that the first range-coded layer adds to the chunk."""

    codes: Sequence[ArrayLike]
    books: Sequence[Codebook]
    cost: int


Stream = TypeVar("Stream", StreamBytes, StreamCodes)


def encode(
    streams: Sequence[StreamCodes], frames: int, tables: ProbabilityTables | None, coding: Coding, most: int = 255
) -> list[tuple[bytes, ...]]:
    """Encode layers as bytes, coarse to fine, for each of the streams.

    All streams have ``frames`` frames and the same codebooks, or only the first of them. ``coding``: "packed";
    "range", to range code each layer that becomes shorter; "auto", the same, but layers for which that is unlikely
    are not tried. Whether a layer is range coded depends only on it and on coarser ones, so removing finer layers
    gives the same bytes as encoding without them. Streams are independent; encoding them together is only faster.
    ``most``: how many codebooks of a stream, from the coarsest on, may be range coded.
    """
    check_coding(coding)
    packed = [[pack(array, book.bits) for array, book in zip(*stream[:2], strict=True)] for stream in streams]
    coded: dict[LayerId, bytes] = {}
    tried = [StreamCodes(codes[:most], books[:most], cost) for codes, books, cost in streams]
    for start, batch in [] if coding == "packed" else _batches(tried, frames):
        for (book, number), layer in _coded(batch, frames, tables, coding).items():
            coded[LayerId(book, start + number)] = layer
    for number, (stream, layers) in enumerate(zip(streams, packed, strict=True)):
        cost = stream.cost
        for book, shape in enumerate(stream.books):
            # The entry of a layer takes at least one byte, also that of each packed layer before it.
            cost += 1
            found = coded.get(LayerId(book, number))
            if found is not None:
                layer = found.ljust(least_bytes(shape, frames), b"\0")
                saved = saving(shape, frames, len(layer))
                if saved > cost - 1 + len(varint(max(saved, 0))):
                    layers[book], cost = layer, 0
    return [tuple(layers) for layers in packed]


def _coded(
    streams: Sequence[StreamCodes], frames: int, tables: ProbabilityTables | None, coding: Coding
) -> dict[LayerId, bytes]:
    """Return, range coded, all layers for which range coding is tried."""
    coded: dict[LayerId, bytes] = {}
    for first, group in _groups(max((stream.books for stream in streams), key=len, default=())):
        if not can_be_coded(group[0], frames):
            continue
        codes = np.zeros((len(streams), len(group), frames * group[0].codes_per_frame), np.int64)
        chosen = []
        for number, stream in enumerate(streams):
            for book, array in enumerate(stream.codes[first : first + len(group)]):
                row = np.asarray(array, np.int64)
                codes[number, book] = row
                if coding == "range" or _promising(tables, book) or _repeats(row, group[0].bits):
                    chosen.append(LayerId(book, number))
        if chosen:
            layers = layer_encoding.encode(codes, group[0].bits, chosen, tables)
            coded |= {LayerId(first + id.codebook, id.stream): layer for id, layer in layers.items()}
    return coded


def decode(
    streams: Sequence[StreamBytes], frames: int, tables: ProbabilityTables | None
) -> list[list[NDArray[np.uint16]]]:
    """Decode the layers of each stream, coarse to fine: the inverse of :func:`encode`."""
    return list(chain.from_iterable(_decoded(batch, frames, tables) for _, batch in _batches(streams, frames)))


def _decoded(
    streams: Sequence[StreamBytes], frames: int, tables: ProbabilityTables | None
) -> list[list[NDArray[np.uint16]]]:
    found: list[list[NDArray[np.uint16]]] = [[] for _ in streams]
    for first, group in _groups(max((stream.books for stream in streams), key=len, default=())):
        bits, count = group[0].bits, frames * group[0].codes_per_frame
        codes = np.zeros((len(streams), len(group), count), np.uint16)
        coded: dict[LayerId, bytes] = {}
        packed: dict[LayerId, bytes] = {}
        for number, stream in enumerate(streams):
            for book, layer in enumerate(stream.layers[first : first + len(group)]):
                (coded if is_coded(layer, group[0], frames) else packed)[LayerId(book, number)] = layer
        if packed:
            books, numbers = zip(*packed, strict=True)
            codes[numbers, books] = unpack(list(packed.values()), bits, count)
        if coded:
            codes = layer_decoding.decode(codes.astype(np.int64), bits, coded, tables).astype(np.uint16)
        for rows, layers, stream in zip(codes, found, streams, strict=True):
            layers.extend(rows[: max(0, len(stream.layers) - first)])
    return found


def saving(book: Codebook, frames: int, size: int) -> int:
    """Return how many whole bytes a layer of ``size`` bytes is shorter than the packed one."""
    return book.bits * frames * book.codes_per_frame // 8 - size


def _batches(streams: Sequence[Stream], frames: int) -> Iterator[tuple[int, Sequence[Stream]]]:
    """Split streams into batches that are coded together. Yields the number of the first stream, and the batch."""
    start = codes = 0
    for number, stream in enumerate(streams):
        own = sum(max(_MIN_CODES, frames * book.codes_per_frame) for book in stream.books)
        codes += own
        if codes > _BATCH_CODES and number:
            yield start, streams[start:number]
            start, codes = number, own
    yield start, streams[start:]


def _groups(books: Sequence[Codebook]) -> Iterator[tuple[int, list[Codebook]]]:
    """Yield runs of equal codebooks, each with the number of its first."""
    first = 0
    for _, run in groupby(books):
        group = list(run)
        yield first, group
        first += len(group)


def _promising(tables: ProbabilityTables | None, book: int) -> bool:
    return tables is None or (book < len(tables.order) and bool(tables.promising[book]))


def _repeats(row: NDArray[np.int64], bits: int) -> bool:
    """Return whether at least one in eight short runs of codes repeats an earlier one."""
    run = -(-16 // bits)
    if len(row) < 8 * run:
        return False
    runs = np.lib.stride_tricks.sliding_window_view(row, run) @ (1 << bits * np.arange(run))
    return 8 * np.unique(runs).size < 7 * len(runs)
