"""Chunks: some seconds of codes, codebook by codebook, that can be decoded, copied or thinned out on their own."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nac.codecs.base import CodecSpec
from nac.container.bits import check_padding, join, pack, split, unpack
from nac.container.fields import Fields, varint
from nac.container.header import Header
from nac.errors import FormatError

PACKED = 0
MAX_CODES = 1 << 20
MAX_FRAME_NUMBER = 1 << 40
CHUNK_SECONDS = 10
_CODING, _MASK, _OVERHANG = 0x0F, 0x10, 0x20  # of the form byte


def chunk_frames(spec: CodecSpec) -> int:
    """Frames in a chunk of about ten seconds: whole segments or blocks."""
    unit = spec.segment.frames if spec.segment else spec.frame_multiple
    return max(1, round(CHUNK_SECONDS * spec.sample_rate / spec.frame_samples / unit)) * unit


@dataclass(frozen=True)
class Chunk:
    """The frames from ``first_frame`` on, ``frames`` of them.

    ``layers[stream][codebook]``: the coded bytes of each codebook that the stream has, coarse to fine; no layers
    for a stream that is silent here. ``coding``: how they are coded; 0 is packed. ``angle``: of a rotated pair, in
    units of pi / 128. ``scales[stream][segment]``: empty where the codec has no scales or the stream is silent.
    ``overhang``: the signal ends where two segments overlap, so that the last segment has one frame only, and the
    one before it one less than a full one.
    """

    first_frame: int
    frames: int
    layers: tuple[tuple[bytes, ...], ...]
    angle: int = 0
    scales: tuple[tuple[float, ...], ...] = ()
    coding: int = PACKED
    overhang: bool = False

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
    ) -> Chunk:
        """Make a chunk from codes.

        ``codes``: for each stream an integer array [frames * codes_per_frame] for each of its codebooks, or None
        where the stream is silent. ``scales``: where the codec has them, for each stream float32 [segments], or
        None where it is silent; one more than the frames fill makes an ``overhang``. Raises ValueError if the
        codes do not fit the header.
        """
        layers: list[tuple[bytes, ...]] = []
        for stream, (arrays, count) in enumerate(zip(codes, header.stream_codebooks, strict=True)):
            books = header.codebooks[:count]
            if arrays is None or not books:
                layers.append(())
                continue
            sizes = [np.size(array) for array in arrays]
            if sizes != [frames * book.codes_per_frame for book in books]:
                raise ValueError(f"stream {stream}: {frames} frames do not make codebooks of {sizes} codes")
            layers.append(tuple(pack(array, book.bits) for array, book in zip(arrays, books, strict=True)))
        floats: tuple[tuple[float, ...], ...] = tuple(
            () if row is None or not layer else tuple(np.asarray(row, np.float32).tolist())
            for row, layer in zip(scales or [None] * len(layers), layers, strict=True)
        )
        overhang = header.segment is not None and max(map(len, floats)) > -(-frames // header.segment.frames)
        return cls(first_frame, frames, tuple(layers), angle, floats, overhang=overhang)

    def present(self, stream: int) -> bool:
        """Whether the stream has codes here; else it is digital silence."""
        return bool(self.layers[stream])

    def codes(self, header: Header, stream: int, codebooks: int | None = None) -> list[NDArray[np.uint16]]:
        """A stream's codes: one array uint16 [frames * codes_per_frame] a codebook, coarse to fine.

        At most ``codebooks`` of them where that is given; none where the stream is silent.
        """
        layers = self.layers[stream][:codebooks]
        books = header.codebooks[: len(layers)]
        return [
            unpack(layer, bits, self.frames * per_frame)
            for layer, (bits, per_frame) in zip(layers, books, strict=True)
        ]

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
        low, high = first - self.first_frame, end - self.first_frame
        overhang = self.overhang and end == self.next_frame
        codes = [
            [
                array[low * book.codes_per_frame : high * book.codes_per_frame]
                for array, book in zip(self.codes(header, stream), header.codebooks, strict=False)
            ]
            for stream in range(len(self.layers))
        ]
        scales = self.scales
        if header.segment is not None and scales:
            unit = header.segment.frames
            scales = tuple(row[low // unit : -(-high // unit) + overhang] for row in scales)
        part = Chunk.pack(header, first, end - first, [c or None for c in codes], angle=self.angle, scales=scales)
        return replace(part, overhang=overhang)

    def to_bytes(self, header: Header) -> bytes:
        """The body of the chunk's record. Raises ValueError if the chunk does not fit the header."""
        present = tuple(stream for stream, layers in enumerate(self.layers) if layers)
        head = _Head(self.first_frame, self.frames, self.coding, self.overhang, present, self.angle)
        try:
            head.check(header)
            self._check(header, head)
        except FormatError as error:
            raise ValueError(str(error)) from None
        floats = [scale for stream in self.scales for scale in stream]
        layers = ((self.layers[stream][codebook], size) for codebook, stream, size in head.order(header))
        return head.to_bytes(header) + struct.pack(f"<{len(floats)}f", *floats) + join(layers)

    @classmethod
    def from_bytes(cls, header: Header, body: bytes) -> Chunk:
        """Read the body of a chunk's record. Raises FormatError if it breaks the format."""
        fields = Fields(body, "chunk")
        head = _Head.read(header, fields)
        layers: list[list[bytes]] = [[] for _ in header.stream_codebooks]
        segments = head.segments(header) * header.has_scale
        scales = tuple(fields.floats(segments * (stream in head.present)) for stream in range(len(layers)))
        order = list(head.order(header))
        rows = split(fields.rest(), (size for _, _, size in order))
        for (_, stream, _), row in zip(order, rows, strict=True):
            layers[stream].append(row)
        coded = tuple(map(tuple, layers))
        chunk = cls(head.first_frame, head.frames, coded, head.angle, scales, head.coding, head.overhang)
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
            for layer, (bits, per_frame) in zip(layers, header.codebooks, strict=False):
                check_padding(layer, bits, self.frames * per_frame)
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
        head = cls(first_frame, frames, form & _CODING, bool(form & _OVERHANG), present, angle)
        head.check(header)
        return head

    def to_bytes(self, header: Header) -> bytes:
        form, mask = self.coding | _OVERHANG * self.overhang, b""
        if len(self.present) < sum(map(bool, header.stream_codebooks)):
            form |= _MASK
            bits = sum(1 << stream for stream in self.present)
            mask = bits.to_bytes((len(header.stream_codebooks) + 7) // 8, "little")
        head = varint(self.first_frame) + varint(self.frames) + bytes([form]) + mask
        return head + bytes([self.angle]) * header.stereo_pair

    def check(self, header: Header) -> None:
        if self.coding != PACKED:
            raise FormatError(f"chunk: coding {self.coding}; this program reads coding {PACKED}")
        if not 0 <= self.first_frame <= self.first_frame + self.frames < MAX_FRAME_NUMBER:
            raise FormatError(f"chunk: frame {self.first_frame} is beyond {MAX_FRAME_NUMBER}")
        most = self.frames * max(book.codes_per_frame for book in header.codebooks)
        if self.frames < 1 or most > MAX_CODES:
            raise FormatError(f"chunk: {self.frames} frames; 1 to {MAX_CODES} codes of a codebook are allowed")
        if not 0 <= self.angle < (256 if header.stereo_pair else 1):
            raise FormatError(f"chunk: an angle of {self.angle}")
        if header.segment is not None and self.first_frame % header.segment.frames:
            raise FormatError(f"chunk: frame {self.first_frame} does not begin a segment")
        if self.overhang and (header.segment is None or self.frames % header.segment.frames):
            raise FormatError(f"chunk: {self.frames} frames cannot have an overhang")

    def segments(self, header: Header) -> int:
        return -(-self.frames // header.segment.frames) + self.overhang if header.segment else 1

    def order(self, header: Header) -> Iterator[tuple[int, int, int]]:
        """The layers in the order they are stored in, as (codebook, stream, bits)."""
        for codebook, (bits, per_frame) in enumerate(header.codebooks[: max(header.stream_codebooks)]):
            for stream in self.present:
                if header.stream_codebooks[stream] > codebook:
                    yield codebook, stream, bits * self.frames * per_frame


def plausible(header: Header, start: bytes, length: int) -> bool:
    """Whether a chunk's body may begin with ``start`` and have ``length`` bytes; ``start``: 50 bytes or all."""
    fields = Fields(start, "chunk")
    try:
        head = _Head.read(header, fields)
    except FormatError:
        return False
    scales = head.segments(header) * len(head.present) * header.has_scale
    layers = sum(bits for _, _, bits in head.order(header))
    return fields.position + 4 * scales + (layers + 7) // 8 == length
