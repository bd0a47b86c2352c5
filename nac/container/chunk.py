"""Chunks: a few seconds of codes, stored codebook by codebook, that can be decoded, copied or reduced separately.

A layer is the codes of one codebook of one stream in a chunk.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.container import codebooks as coded_layers
from nac.container.bits import check_padding, join, packed_bytes, split
from nac.container.chunk_head import PACKED, RANGE, ChunkHead
from nac.container.codebooks import Coding, StreamBytes, StreamCodes
from nac.container.fields import Fields
from nac.container.header import Header
from nac.container.tables import NONE, ProbabilityTables, find_tables, tables_for
from nac.errors import FormatError
from nac.spec import CodecSpec

CHUNK_SECONDS = 10
BATCH_CHUNKS = 8
BATCH_CODES = 1 << 18
"""How many chunks are packed or unpacked at once; a batch with this many codes takes no further chunk."""


def chunk_frames(spec: CodecSpec) -> int:
    """Return the number of frames in a chunk of about ten seconds: a multiple of the segment or block."""
    unit = spec.segment.frames if spec.segment else spec.frame_multiple
    return max(1, round(CHUNK_SECONDS * spec.sample_rate / spec.frame_samples / unit)) * unit


@dataclass(frozen=True)
class Draft:
    """A chunk whose codes are not yet packed; see :meth:`Chunk.pack`."""

    first_frame: int
    frames: int
    codes: Sequence[Sequence[ArrayLike] | None]
    angle: int = 0
    scales: Sequence[ArrayLike | None] | None = None


@dataclass(frozen=True)
class Chunk:
    """``frames`` frames, starting with number ``first_frame``.

    ``layers[stream][codebook]``: the bytes of each codebook of the stream, coarse to fine; no layers if the stream
    is silent in this chunk. A layer is either packed or range coded, whichever is shorter. ``tables``: the name of
    the probability tables used for range coding. ``angle``: rotation of a stereo pair, in units of pi / 128.
    ``scales[stream][segment]``: empty if the codec has no scales or the stream is silent. ``overhang``: the signal
    ends where two segments overlap, so the last segment has only one frame, and the one before it is one frame
    shorter than a full segment.
    """

    first_frame: int
    frames: int
    layers: tuple[tuple[bytes, ...], ...]
    angle: int = 0
    scales: tuple[tuple[float, ...], ...] = ()
    overhang: bool = False
    tables: str = NONE

    @classmethod
    def pack(
        cls,
        header: Header,
        first_frame: int,
        frames: int,
        codes: Sequence[Sequence[ArrayLike] | None],
        *,
        angle: int = 0,
        scales: Sequence[ArrayLike | None] | None = None,
        coding: Coding = "auto",
    ) -> Chunk:
        """Make a chunk from codes.

        ``codes``: for each stream one integer array [frames * codes_per_frame] per codebook, or None if the stream
        is silent. ``scales``: if the codec has them, float32 [segments] for each stream, or None if it is silent;
        one more scale than the frames need sets ``overhang``. ``coding``: see
        :func:`nac.container.codebooks.encode`. Raises ValueError if the codes do not fit the header.
        """
        return cls.pack_all(header, [Draft(first_frame, frames, codes, angle, scales)], coding=coding)[0]

    @classmethod
    def pack_all(cls, header: Header, drafts: Sequence[Draft], *, coding: Coding = "auto") -> list[Chunk]:
        """Make several chunks from codes, faster than with separate calls of :meth:`pack`."""
        tables = tables_for(header.fingerprint)
        layers: list[list[tuple[bytes, ...]]] = [[() for _ in header.stream_codebooks] for _ in drafts]
        by_length: dict[int, dict[tuple[int, int], StreamCodes]] = {}
        for number, draft in enumerate(drafts):
            for stream, (arrays, count) in enumerate(zip(draft.codes, header.stream_codebooks, strict=True)):
                books = header.codebooks[:count]
                if arrays is None or not books:
                    continue
                sizes = [np.size(array) for array in arrays]
                if sizes != [draft.frames * book.codes_per_frame for book in books]:
                    raise ValueError(
                        f"stream {stream}: codebooks of {sizes} codes do not fit {draft.frames} frames"
                    )
                # The first range-coded layer adds the name of the tables and a count for each stream.
                entry = StreamCodes(arrays, books, 4 + len(draft.codes))
                by_length.setdefault(draft.frames, {})[number, stream] = entry
        for frames, group in by_length.items():
            coded = coded_layers.encode(list(group.values()), frames, tables, coding, header.range_codebooks)
            for (number, stream), found in zip(group, coded, strict=True):
                layers[number][stream] = found
        return [
            cls._finished(header, draft, tuple(own), tables) for draft, own in zip(drafts, layers, strict=True)
        ]

    @classmethod
    def _finished(
        cls, header: Header, draft: Draft, layers: tuple[tuple[bytes, ...], ...], tables: ProbabilityTables | None
    ) -> Chunk:
        floats: tuple[tuple[float, ...], ...] = tuple(
            () if row is None or not layer else tuple(np.asarray(row, np.float32).tolist())
            for row, layer in zip(draft.scales or [None] * len(layers), layers, strict=True)
        )
        overhang = header.segment is not None and max(map(len, floats)) > -(-draft.frames // header.segment.frames)
        chunk = cls(draft.first_frame, draft.frames, layers, draft.angle, floats, overhang)
        return replace(chunk, tables=tables.id) if tables and chunk.is_coded(header) else chunk

    def sizes(self, header: Header) -> Iterator[tuple[int, int]]:
        """Yield each layer's size in bytes, as stored and as it would be if packed."""
        for stream in self.layers:
            for layer, book in zip(stream, header.codebooks, strict=False):
                yield len(layer), packed_bytes(book.bits, self.frames * book.codes_per_frame)

    def is_coded(self, header: Header) -> bool:
        """Return whether any layer is range coded."""
        return any(saved for stream in self._saved(header) for saved in stream)

    def _saved(self, header: Header) -> list[list[int]]:
        """Return how many bytes range coding saves in each layer of each stream, up to the last coded layer."""
        found = []
        for stream in self.layers:
            saved = [
                max(0, coded_layers.saving(book, self.frames, len(layer)))
                for layer, book in zip(stream, header.codebooks, strict=False)
            ]
            while saved and not saved[-1]:
                saved.pop()
            found.append(saved)
        return found

    def present(self, stream: int) -> bool:
        """Return whether the stream has codes in this chunk; otherwise it is digital silence."""
        return bool(self.layers[stream])

    def codes(self, header: Header, stream: int, codebooks: int | None = None) -> list[NDArray[np.uint16]]:
        """Return a stream's codes: one array uint16 [frames * codes_per_frame] per codebook, coarse to fine.

        ``codebooks``: return at most this many; by default all. The list is empty if the stream is silent.
        """
        most = [0] * stream + [len(header.codebooks) if codebooks is None else codebooks]
        return self.codes_all(header, [self], most)[0][stream]

    @staticmethod
    def codes_all(
        header: Header, chunks: Sequence[Chunk], codebooks: Sequence[int]
    ) -> list[list[list[NDArray[np.uint16]]]]:
        """Return the codes of several chunks, [chunk][stream][codebook], faster than with separate calls.

        ``codebooks``: return at most this many of each stream, and only as many streams as there are numbers.
        """
        found: list[list[list[NDArray[np.uint16]]]] = [[[] for _ in codebooks] for _ in chunks]
        groups: dict[tuple[int, str], dict[tuple[int, int], StreamBytes]] = {}
        for number, chunk in enumerate(chunks):
            name = chunk.tables if chunk.is_coded(header) else ""
            for stream, (layers, most) in enumerate(zip(chunk.layers, codebooks, strict=False)):
                entry = StreamBytes(layers[:most], header.codebooks[: len(layers[:most])])
                groups.setdefault((chunk.frames, name), {})[number, stream] = entry
        for (frames, name), group in groups.items():
            codes = coded_layers.decode(list(group.values()), frames, find_tables(name) if name else None)
            for (number, stream), arrays in zip(group, codes, strict=True):
                found[number][stream] = arrays
        return found

    @classmethod
    def unpacked(
        cls,
        header: Header,
        chunks: Iterable[Chunk],
        codebooks: Sequence[int] | None = None,
        batch_chunks: int = BATCH_CHUNKS,
    ) -> Iterator[tuple[Chunk, list[list[NDArray[np.uint16]]]]]:
        """Yield the chunks, each with its codes [stream][codebook].

        ``codebooks``: at most this many of each stream. Batches double in size up to ``batch_chunks``, so that the
        first chunk is available soon and a whole file is unpacked fast.
        """
        remaining, count = iter(chunks), 1
        while batch := cls._batch(remaining, header, count):
            yield from zip(batch, cls.codes_all(header, batch, codebooks or header.stream_codebooks), strict=True)
            count = min(2 * count, batch_chunks)

    @staticmethod
    def _batch(chunks: Iterator[Chunk], header: Header, count: int) -> list[Chunk]:
        """Return the next ``count`` chunks, or fewer if they are large."""
        batch, codes = list[Chunk](), 0
        while len(batch) < count and codes < BATCH_CODES and (chunk := next(chunks, None)):
            batch.append(chunk)
            codes += chunk.frames * sum(map(len, chunk.layers)) * header.most_codes
        return batch

    @property
    def next_frame(self) -> int:
        """The number of the frame after the last."""
        return self.first_frame + self.frames

    def part(self, header: Header, start: int = 0, stop: int | None = None) -> Chunk | None:
        """Return the frames from ``start`` up to ``stop`` (by default the end), or None if there are none.

        If the codec has segments, both must be segment borders, or lie outside the chunk.
        """
        first, end = max(start, self.first_frame), self.next_frame if stop is None else min(stop, self.next_frame)
        if first >= end:
            return None
        if (first, end) == (self.first_frame, self.next_frame):
            return self
        return self._repacked(header, first, end, "auto" if self.is_coded(header) else "packed")

    def recoded(self, header: Header, coding: Coding) -> Chunk:
        """Return the same codes stored with another ``coding``; see :meth:`pack`."""
        return self._repacked(header, self.first_frame, self.next_frame, coding)

    def _repacked(self, header: Header, first: int, end: int, coding: Coding) -> Chunk:
        """Return the frames from ``first`` up to ``end`` as a new chunk."""
        low, high = first - self.first_frame, end - self.first_frame
        overhang = self.overhang and end == self.next_frame
        codes = [
            [
                array[low * book.codes_per_frame : high * book.codes_per_frame]
                for array, book in zip(arrays, header.codebooks, strict=False)
            ]
            for arrays in self.codes_all(header, [self], header.stream_codebooks)[0]
        ]
        scales = self.scales
        if header.segment is not None and scales:
            unit = header.segment.frames
            scales = tuple(row[low // unit : -(-high // unit) + overhang] for row in scales)
        streams = [arrays or None for arrays in codes]
        part = Chunk.pack(header, first, end - first, streams, angle=self.angle, scales=scales, coding=coding)
        return replace(part, overhang=overhang)

    def to_bytes(self, header: Header) -> bytes:
        """Return the body of the chunk's record. Raises ValueError if the chunk does not fit the header."""
        present = tuple(stream for stream, layers in enumerate(self.layers) if layers)
        saved = self._saved(header)
        coding = RANGE if any(map(any, saved)) else PACKED
        head = ChunkHead(
            self.first_frame, self.frames, coding, self.overhang, present, self.angle, self.tables, saved
        )
        try:
            head.check(header)
            self._check(header, head)
        except FormatError as error:
            raise ValueError(str(error)) from None
        floats = [scale for stream in self.scales for scale in stream]
        coded, packed = [], []
        for codebook, stream, size in head.order(header):
            layer = self.layers[stream][codebook]
            if head.saved_by(stream, codebook):
                coded.append(layer)
            else:
                packed.append((layer, size))
        return b"".join([head.to_bytes(header), struct.pack(f"<{len(floats)}f", *floats), *coded, join(packed)])

    @classmethod
    def from_bytes(cls, header: Header, body: bytes) -> Chunk:
        """Parse the body of a chunk's record. Raises FormatError if it is not valid."""
        fields = Fields(body, "chunk")
        head = ChunkHead.read(header, fields)
        segments = head.segments(header) * header.has_scale
        scales = tuple(fields.floats(segments * (s in head.present)) for s in range(len(header.stream_codebooks)))
        layers: dict[tuple[int, int], bytes] = {}
        packed = []
        for codebook, stream, size in head.order(header):
            if saved := head.saved_by(stream, codebook):
                layers[stream, codebook] = fields.take(size // 8 - saved)
            else:
                packed.append((codebook, stream, size))
        rows = split(fields.rest(), (size for _, _, size in packed))
        layers |= {(stream, codebook): row for (codebook, stream, _), row in zip(packed, rows, strict=True)}
        coded = tuple(
            tuple(layers[stream, codebook] for codebook in range(count * (stream in head.present)))
            for stream, count in enumerate(header.stream_codebooks)
        )
        chunk = cls(head.first_frame, head.frames, coded, head.angle, scales, head.overhang, head.tables)
        chunk._check(header, head)
        return chunk

    def _check(self, header: Header, head: ChunkHead) -> None:
        if len(self.layers) != len(header.stream_codebooks):
            raise FormatError(
                f"chunk: {len(self.layers)} streams, but {len(header.stream_codebooks)} in the header"
            )
        for layers, count in zip(self.layers, header.stream_codebooks, strict=True):
            if layers and len(layers) != count:
                raise FormatError(f"chunk: {len(layers)} layers for a stream with {count} codebooks")
            for layer, book in zip(layers, header.codebooks, strict=False):
                if not coded_layers.is_coded(layer, book, self.frames):
                    check_padding(layer, book.bits, self.frames * book.codes_per_frame)
        segments = head.segments(header) * header.has_scale
        needed = [segments * bool(layers) for layers in self.layers]
        found = [len(scales) for scales in self.scales] or [0] * len(needed)
        if found != needed:
            raise FormatError(f"chunk: {found} scales for each stream, but {needed} are needed")
        if not all(math.isfinite(scale) for scales in self.scales for scale in scales):
            raise FormatError("chunk: a scale is not finite")
