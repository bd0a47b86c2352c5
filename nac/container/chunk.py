"""Chunks: some seconds of codes, codebook by codebook, that can be decoded, copied or thinned out on their own."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.container import codebooks as coded_layers
from nac.container.bits import check_padding, join, packed_bytes, split
from nac.container.codebooks import Coding, Packed, Plain
from nac.container.fields import Fields, varint
from nac.container.header import Header
from nac.container.tables import NONE, ProbabilityTables, find_tables, tables_for
from nac.errors import FormatError
from nac.spec import Codebook, CodecSpec

PACKED, RANGE = 0, 1
MAX_CODED = 1 << 23
MAX_CODES = 1 << 20
MAX_FRAME_NUMBER = 1 << 40
CHUNK_SECONDS = 10
TOGETHER = 8
MAX_TOGETHER = 1 << 18
"""Chunks that are packed or unpacked at once, and the codes from which on no more join them."""
_CODING, _MASK, _OVERHANG = 0x0F, 0x10, 0x20  # of the form byte


def chunk_frames(spec: CodecSpec) -> int:
    """Frames in a chunk of about ten seconds: whole segments or blocks."""
    unit = spec.segment.frames if spec.segment else spec.frame_multiple
    return max(1, round(CHUNK_SECONDS * spec.sample_rate / spec.frame_samples / unit)) * unit


@dataclass(frozen=True)
class Draft:
    """A chunk before its codes are packed; see :meth:`Chunk.pack`."""

    first_frame: int
    frames: int
    codes: Sequence[Sequence[ArrayLike] | None]
    angle: int = 0
    scales: Sequence[ArrayLike | None] | None = None


@dataclass(frozen=True)
class Chunk:
    """The frames from ``first_frame`` on, ``frames`` of them.

    ``layers[stream][codebook]``: the coded bytes of each codebook that the stream has, coarse to fine; no layers
    for a stream that is silent here. They are packed, or range coded and then shorter. ``tables``: the name of the
    probability tables that they are range coded with. ``angle``: of a rotated pair, in units of pi / 128.
    ``scales[stream][segment]``: empty where the codec has no scales or the stream is silent. ``overhang``: the
    signal ends where two segments overlap, so that the last segment has one frame only, and the one before it one
    less than a full one.
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

        ``codes``: for each stream an integer array [frames * codes_per_frame] for each of its codebooks, or None
        where the stream is silent. ``scales``: where the codec has them, for each stream float32 [segments], or
        None where it is silent; one more than the frames fill makes an ``overhang``. ``coding``: see
        :func:`nac.container.codebooks.encode`. Raises ValueError if the codes do not fit the header.
        """
        return cls.pack_all(header, [Draft(first_frame, frames, codes, angle, scales)], coding=coding)[0]

    @classmethod
    def pack_all(cls, header: Header, drafts: Sequence[Draft], *, coding: Coding = "auto") -> list[Chunk]:
        """The same for several chunks, which takes less time than one by one."""
        tables = tables_for(header.fingerprint)
        layers: list[list[tuple[bytes, ...]]] = [[() for _ in header.stream_codebooks] for _ in drafts]
        plain: dict[int, dict[tuple[int, int], Plain]] = {}
        for number, draft in enumerate(drafts):
            for stream, (arrays, count) in enumerate(zip(draft.codes, header.stream_codebooks, strict=True)):
                books = header.codebooks[:count]
                if arrays is None or not books:
                    continue
                sizes = [np.size(array) for array in arrays]
                if sizes != [draft.frames * book.codes_per_frame for book in books]:
                    raise ValueError(
                        f"stream {stream}: {draft.frames} frames do not make codebooks of {sizes} codes"
                    )
                # The first layer that is range coded pays for the name of the tables and for each stream's count.
                entry = Plain(arrays, books, 4 + len(draft.codes))
                plain.setdefault(draft.frames, {})[number, stream] = entry
        for frames, alike in plain.items():
            packed = coded_layers.encode(list(alike.values()), frames, tables, coding, header.range_codebooks)
            for (number, stream), found in zip(alike, packed, strict=True):
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
        """Bytes of each layer, as it is and packed."""
        for stream in self.layers:
            for layer, book in zip(stream, header.codebooks, strict=False):
                yield len(layer), packed_bytes(book.bits, self.frames * book.codes_per_frame)

    def is_coded(self, header: Header) -> bool:
        """Whether any layer is range coded."""
        return any(saved for stream in self._saved(header) for saved in stream)

    def _saved(self, header: Header) -> list[list[int]]:
        """The bytes by which each stream's layers are shorter than packed, up to the last one that is."""
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
        """Whether the stream has codes here; else it is digital silence."""
        return bool(self.layers[stream])

    def codes(self, header: Header, stream: int, codebooks: int | None = None) -> list[NDArray[np.uint16]]:
        """A stream's codes: one array uint16 [frames * codes_per_frame] a codebook, coarse to fine.

        At most ``codebooks`` of them where that is given; none where the stream is silent.
        """
        most = [0] * stream + [len(header.codebooks) if codebooks is None else codebooks]
        return self.codes_all(header, [self], most)[0][stream]

    @staticmethod
    def codes_all(
        header: Header, chunks: Sequence[Chunk], codebooks: Sequence[int]
    ) -> list[list[list[NDArray[np.uint16]]]]:
        """Codes of several chunks, [chunk][stream][codebook], which takes less time than one by one.

        ``codebooks``: at most so many of each stream; streams beyond are left out.
        """
        found: list[list[list[NDArray[np.uint16]]]] = [[[] for _ in codebooks] for _ in chunks]
        alike: dict[tuple[int, str], dict[tuple[int, int], Packed]] = {}
        for number, chunk in enumerate(chunks):
            name = chunk.tables if chunk.is_coded(header) else ""
            for stream, (layers, most) in enumerate(zip(chunk.layers, codebooks, strict=False)):
                entry = Packed(layers[:most], header.codebooks[: len(layers[:most])])
                alike.setdefault((chunk.frames, name), {})[number, stream] = entry
        for (frames, name), packed in alike.items():
            codes = coded_layers.decode(list(packed.values()), frames, find_tables(name) if name else None)
            for (number, stream), arrays in zip(packed, codes, strict=True):
                found[number][stream] = arrays
        return found

    @classmethod
    def unpacked(
        cls,
        header: Header,
        chunks: Iterable[Chunk],
        codebooks: Sequence[int] | None = None,
        together: int = TOGETHER,
    ) -> Iterator[tuple[Chunk, list[list[NDArray[np.uint16]]]]]:
        """Chunks, each with its codes [stream][codebook]; ``codebooks``: at most so many of each stream.

        More and more of them at once, up to ``together``: a part of a file waits for little, a whole one takes
        little time.
        """
        left, count = iter(chunks), 1
        while some := cls._some(left, header, count):
            yield from zip(some, cls.codes_all(header, some, codebooks or header.stream_codebooks), strict=True)
            count = min(2 * count, together)

    @staticmethod
    def _some(chunks: Iterator[Chunk], header: Header, count: int) -> list[Chunk]:
        """The next chunks, fewer where they are large."""
        some, codes = list[Chunk](), 0
        while len(some) < count and codes < MAX_TOGETHER and (chunk := next(chunks, None)):
            some.append(chunk)
            codes += chunk.frames * sum(map(len, chunk.layers)) * header.most_codes
        return some

    @property
    def next_frame(self) -> int:
        """The number after its last frame."""
        return self.first_frame + self.frames

    def part(self, header: Header, start: int = 0, stop: int | None = None) -> Chunk | None:
        """Those of its frames that are from ``start`` up to ``stop`` or its end, if there are any.

        In a file with segments both must be borders of segments, or beyond the chunk.
        """
        first, end = max(start, self.first_frame), self.next_frame if stop is None else min(stop, self.next_frame)
        if first >= end:
            return None
        if (first, end) == (self.first_frame, self.next_frame):
            return self
        return self._anew(header, first, end, "auto" if self.is_coded(header) else "packed")

    def recoded(self, header: Header, coding: Coding) -> Chunk:
        """The same codes stored anew; see :meth:`pack`."""
        return self._anew(header, self.first_frame, self.next_frame, coding)

    def _anew(self, header: Header, first: int, end: int, coding: Coding) -> Chunk:
        """The frames from ``first`` up to ``end``, stored anew."""
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
        given = [arrays or None for arrays in codes]
        part = Chunk.pack(header, first, end - first, given, angle=self.angle, scales=scales, coding=coding)
        return replace(part, overhang=overhang)

    def to_bytes(self, header: Header) -> bytes:
        """The body of the chunk's record. Raises ValueError if the chunk does not fit the header."""
        present = tuple(stream for stream, layers in enumerate(self.layers) if layers)
        saved = self._saved(header)
        coding = RANGE if any(map(any, saved)) else PACKED
        head = _Head(self.first_frame, self.frames, coding, self.overhang, present, self.angle, self.tables, saved)
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
        """Read the body of a chunk's record. Raises FormatError if it breaks the format."""
        fields = Fields(body, "chunk")
        head = _Head.read(header, fields)
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

    def _check(self, header: Header, head: _Head) -> None:
        if len(self.layers) != len(header.stream_codebooks):
            raise FormatError(
                f"chunk: {len(self.layers)} streams where the header has {len(header.stream_codebooks)}"
            )
        for layers, count in zip(self.layers, header.stream_codebooks, strict=True):
            if layers and len(layers) != count:
                raise FormatError(f"chunk: {len(layers)} layers of a stream with {count} codebooks")
            for layer, book in zip(layers, header.codebooks, strict=False):
                if not coded_layers.is_coded(layer, book, self.frames):
                    check_padding(layer, book.bits, self.frames * book.codes_per_frame)
        segments = head.segments(header) * header.has_scale
        needed = [segments * bool(layers) for layers in self.layers]
        found = [len(scales) for scales in self.scales] or [0] * len(needed)
        if found != needed:
            raise FormatError(f"chunk: {found} scales where {needed} are needed")
        if not all(math.isfinite(scale) for scales in self.scales for scale in scales):
            raise FormatError("chunk: a scale that is not finite")


class _Head(NamedTuple):
    """What a chunk's body begins with; together with the header it fixes the length of all the rest."""

    first_frame: int
    frames: int
    coding: int
    overhang: bool
    present: tuple[int, ...]
    angle: int
    tables: str
    saved: list[list[int]]

    @classmethod
    def read(cls, header: Header, fields: Fields) -> _Head:
        first_frame, frames, form = fields.varint(), fields.varint(), fields.byte()
        if form & ~(_CODING | _MASK | _OVERHANG):
            raise FormatError(f"chunk: unknown form {form:#04x}")
        present = tuple(stream for stream, count in enumerate(header.stream_codebooks) if count)
        if form & _MASK:
            mask = int.from_bytes(fields.take((len(header.stream_codebooks) + 7) // 8), "little")
            if mask & ~sum(1 << stream for stream in present):
                raise FormatError("chunk: its mask has streams without codebooks")
            present = tuple(stream for stream in present if mask >> stream & 1)
        angle = fields.byte() if header.stereo_pair else 0
        coding, name = form & _CODING, NONE
        saved: list[list[int]] = [[] for _ in header.stream_codebooks]
        if coding == RANGE:
            name = fields.take(4).hex()
            for stream in present:
                count = fields.varint()
                if count > header.stream_codebooks[stream]:
                    raise FormatError(f"chunk: {count} range coded layers of a stream with fewer codebooks")
                saved[stream] = [fields.varint() for _ in range(count)]
        head = cls(first_frame, frames, coding, bool(form & _OVERHANG), present, angle, name, saved)
        head.check(header)
        return head

    def to_bytes(self, header: Header) -> bytes:
        form, mask = self.coding | _OVERHANG * self.overhang, b""
        if len(self.present) < sum(map(bool, header.stream_codebooks)):
            form |= _MASK
            bits = sum(1 << stream for stream in self.present)
            mask = bits.to_bytes((len(header.stream_codebooks) + 7) // 8, "little")
        head = varint(self.first_frame) + varint(self.frames) + bytes([form]) + mask
        head += bytes([self.angle]) * header.stereo_pair
        if self.coding != RANGE:
            return head
        lists = b"".join(
            b"".join(map(varint, [len(row), *row])) for row in map(self.saved.__getitem__, self.present)
        )
        return head + bytes.fromhex(self.tables) + lists

    def check(self, header: Header) -> None:
        if self.coding not in (PACKED, RANGE):
            raise FormatError(f"chunk: coding {self.coding}; this program reads coding {PACKED} and {RANGE}")
        if not 0 <= self.first_frame <= self.first_frame + self.frames < MAX_FRAME_NUMBER:
            raise FormatError(f"chunk: frame {self.first_frame} is beyond {MAX_FRAME_NUMBER}")
        if self.frames < 1 or self.frames * header.most_codes > MAX_CODES:
            raise FormatError(f"chunk: {self.frames} frames; 1 to {MAX_CODES} codes of a codebook are allowed")
        if not 0 <= self.angle < (256 if header.stereo_pair else 1):
            raise FormatError(f"chunk: an angle of {self.angle}")
        if header.segment is not None and self.first_frame % header.segment.frames:
            raise FormatError(f"chunk: frame {self.first_frame} does not begin a segment")
        if self.overhang:
            unit = header.segment.frames if header.segment else 1
            if unit < 2 or self.frames % unit:
                raise FormatError(f"chunk: {self.frames} frames in segments of {unit} cannot have an overhang")
        if self.coding == RANGE:
            self._check_range(header)

    def _check_range(self, header: Header) -> None:
        codes = 0
        for row in self.saved:
            if row and not row[-1]:
                raise FormatError("chunk: its range coded layers end with one that is not")
            if len(row) > header.range_codebooks:
                most = header.range_codebooks
                raise FormatError(
                    f"chunk: codebook {len(row)} is range coded; at this rate only the first {most} may be"
                )
            for saved, book in zip(row, header.codebooks, strict=False):
                if saved:
                    codes += self._check_layer(book, saved)
        if not codes or codes > MAX_CODED:
            raise FormatError(f"chunk: {codes} range coded codes; 1 to {MAX_CODED} are allowed")

    def _check_layer(self, book: Codebook, saved: int) -> int:
        """Codes of a range coded layer. Raises FormatError where it cannot be."""
        if not coded_layers.can_be_coded(book, self.frames):
            raise FormatError(f"chunk: {self.frames} frames of {book.bits} bits cannot be range coded")
        most = coded_layers.saving(book, self.frames, coded_layers.least_bytes(book, self.frames))
        if saved > most:
            raise FormatError(f"chunk: a layer {saved} bytes shorter than packed; at most {most} are allowed")
        return self.frames * book.codes_per_frame

    def saved_by(self, stream: int, codebook: int) -> int:
        """Bytes by which a layer is shorter than packed: 0 if it is packed."""
        row = self.saved[stream]
        return row[codebook] if codebook < len(row) else 0

    def segments(self, header: Header) -> int:
        return -(-self.frames // header.segment.frames) + self.overhang if header.segment else 1

    def order(self, header: Header) -> Iterator[tuple[int, int, int]]:
        """The layers in the order they are stored in, as (codebook, stream, bits)."""
        for codebook, (bits, per_frame) in enumerate(header.codebooks[: max(header.stream_codebooks)]):
            for stream in self.present:
                if header.stream_codebooks[stream] > codebook:
                    yield codebook, stream, bits * self.frames * per_frame


def plausible(header: Header, fields: Fields, length: int) -> bool:
    """Whether a chunk's body may begin with these fields and have ``length`` bytes.

    ``fields``: of as many bytes as :func:`head_bytes` says, or all.
    """
    try:
        head = _Head.read(header, fields)
    except FormatError:
        return False
    scales = head.segments(header) * len(head.present) * header.has_scale
    coded, packed = 0, head.frames * sum(header.frame_bits[stream] for stream in head.present)
    for stream in head.present:
        for saved, book in zip(head.saved[stream], header.codebooks, strict=False):
            if saved:
                packed -= head.frames * book.codes_per_frame * book.bits
                coded += coded_layers.saving(book, head.frames, saved)
    return fields.position + 4 * scales + coded + (packed + 7) // 8 == length


def head_bytes(header: Header) -> int:
    """Bytes that decide :func:`plausible`: more than a chunk's fields before its scales and layers ever take."""
    return 64 + 3 * sum(header.stream_codebooks) + 2 * len(header.stream_codebooks)
