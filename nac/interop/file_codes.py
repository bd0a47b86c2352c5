"""All codes of a .nac file as arrays, one for each codebook, and back."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nac.bitrate import stream_count
from nac.container import Chunk, Header, Reader, Writer
from nac.container.chunk import chunk_frames
from nac.container.codebooks import Coding
from nac.errors import ArgumentError, FormatError, NacError
from nac.files.codes import SILENT
from nac.interop.recording import header_for
from nac.spec import CodecSpec

Array = npt.NDArray[Any]
COLUMNS = ("first_frame", "frames", "angle", "overhang", "coded")
"""Columns of the array ``chunks``; ``coded``: some of the chunk's layers are range coded."""
_MOST_MISSING = 1000  # most missing frames per existing one


@dataclass(frozen=True)
class FileCodes:
    """The content of a .nac file. ``codes[stream][codebook]``: of all frames from the first chunk on, or -1.

    ``scales[stream]``: of the segments in which the stream has codes. ``chunks``: int64 [chunks, columns].
    """

    header: Header
    samples: int
    codes: list[list[Array]]
    scales: list[Array]
    chunks: Array

    def write(self, out: Any) -> None:
        """As the bytes of a .nac file. Raises FormatError if that is impossible."""
        try:
            writer = Writer(out, self.header)
            for chunk in self._chunks():
                writer.write(chunk)
            writer.finish(self.samples)
        except (ValueError, IndexError, OverflowError) as error:
            raise FormatError(f"these are not the codes of a file: {error}") from None

    def _chunks(self) -> Iterator[Chunk]:
        header, taken = self.header, [0] * len(self.codes)
        for first, frames, angle, overhang, coded in self.chunks.tolist():
            codes: list[list[Array] | None] = []
            scales: list[Array | None] = []
            segments = -(-frames // header.segment.frames) + overhang if header.segment else 1
            for stream, books in enumerate(self.codes):
                low = first - int(self.chunks[0, 0])
                part = [
                    array[low * unit : (low + frames) * unit]
                    for array, (_, unit) in zip(books, header.codebooks, strict=False)
                ]
                present = bool(part) and not all((array == SILENT).all() for array in part)
                codes.append(part if present else None)
                row = self.scales[stream][taken[stream] :][:segments] if present and header.has_scale else None
                scales.append(row)
                taken[stream] += segments * present
            coding: Coding = "auto" if coded else "packed"
            chunk = Chunk.pack(header, first, frames, codes, angle=angle, scales=scales, coding=coding)
            yield replace(chunk, overhang=bool(overhang))


def of_file(data: bytes) -> FileCodes:
    """The content of the bytes of a .nac file. Raises NacError."""
    reader = Reader(io.BytesIO(data))
    header, chunks = reader.header, list(reader.chunks())
    first, end = (chunks[0].first_frame, chunks[-1].next_frame) if chunks else (0, 0)
    if end - first > _MOST_MISSING * (1 + sum(chunk.frames for chunk in chunks)):
        raise NacError("nearly all of its frames are missing: the arrays would be gigantic")
    kind = np.int16 if max(bits for bits, _ in header.codebooks) < 16 else np.int32
    codes: list[list[Array]] = [
        [np.full((end - first) * book.codes_per_frame, SILENT, kind) for book in header.codebooks[:count]]
        for count in header.stream_codebooks
    ]
    for chunk, streams in Chunk.unpacked(header, chunks):
        for books, there in zip(codes, streams, strict=True):
            for array, found, (_, unit) in zip(books, there, header.codebooks, strict=False):
                array[(chunk.first_frame - first) * unit : (chunk.next_frame - first) * unit] = found
    scales: list[Array] = [
        np.array([scale for chunk in chunks for scale in (chunk.scales or ((),) * len(codes))[stream]], np.float32)
        for stream in range(len(codes))
    ]
    rows = [
        (chunk.first_frame, chunk.frames, chunk.angle, chunk.overhang, chunk.is_coded(header)) for chunk in chunks
    ]
    assert reader.samples is not None
    return FileCodes(header, reader.samples, codes, scales, np.array(rows, np.int64).reshape(-1, len(COLUMNS)))


def of_streams(
    spec: CodecSpec,
    codes: list[list[Array]],
    scales: list[Array] | None = None,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    samples: int | None = None,
    coding: Coding = "auto",
) -> FileCodes:
    """Codes as a recording: ``codes[stream][codebook]``, and ``scales[stream]`` if the codec has them.

    ``sample_rate``, ``channels`` and ``samples`` (per channel): of the recording; by default the codec's rate, all
    channels of all streams, and the length of the frames. Raises NacError if they do not fit.
    """
    present = [_present(books) for books in codes]
    codes = present if any(present) else codes  # a silent recording keeps its codebooks
    if spec.has_scale and scales is None:
        raise NacError(f"codes of {spec.name} need scales, which only arrays from a .nac file have")
    frames = _frames(spec, codes)
    rate = sample_rate or spec.sample_rate
    channels = channels or len(codes) * spec.channels
    if stream_count(spec, channels) != len(codes):
        raise ArgumentError(f"{len(codes)} streams of {spec.name} do not make {channels} channels")
    most = _samples(spec, frames) * rate // spec.sample_rate
    samples = most if samples is None else samples
    if not 0 <= samples <= most:
        raise ArgumentError(f"{samples} samples, but the codes are for {most}")
    header = header_for(spec, 1, channels=channels, samples=samples, sample_rate=rate)
    header = replace(header, stream_codebooks=tuple(len(books) for books in codes))
    units = [book.codes_per_frame for book in spec.codebooks]
    borders = list(pairwise(_borders(codes, units, frames, chunk_frames(spec))))
    overhang = _overhang(spec, frames, scales or [])
    rows = [(low, high - low, 0, overhang and high == frames, coding != "packed") for low, high in borders]
    chunks = np.array(rows, np.int64).reshape(-1, len(COLUMNS))
    return FileCodes(header, samples, codes, scales or [], chunks)


def _present(books: list[Array]) -> list[Array]:
    """Without the finest codebooks if they have no codes."""
    count = len(books)
    while count and (books[count - 1] == SILENT).all():
        count -= 1
    return books[:count]


def _frames(spec: CodecSpec, codes: list[list[Array]]) -> int:
    """The number of frames of all streams. Raises NacError if it differs or is impossible."""
    units = [book.codes_per_frame for book in spec.codebooks]
    lengths = {len(array) / unit for books in codes for array, unit in zip(books, units, strict=False)}
    if not any(lengths):
        raise ArgumentError("there are no codes")
    if (most := max(map(len, codes))) > len(units):
        raise ArgumentError(f"{most} codebooks, but {spec.name} has {len(units)}: codes are [codebooks, frames]")
    if len(lengths) > 1:
        raise ArgumentError(f"the numbers of codes per codebook do not fit {spec.name}")
    frames = int(max(lengths, default=0))
    if {frames} != lengths or frames % spec.frame_multiple:
        raise ArgumentError(f"{spec.name} needs a multiple of {spec.frame_multiple} frames, of {units} codes")
    for stream, books in enumerate(codes):
        for number, (array, book) in enumerate(zip(books, spec.codebooks, strict=False)):
            low, high = (int(array.min()), int(array.max())) if len(array) else (0, 0)
            if low < SILENT or high >= 1 << book.bits:
                wrong = low if low < SILENT else high
                known = f"{spec.name} has codes from 0 to {(1 << book.bits) - 1}"
                raise ArgumentError(f"code {wrong} in codebook {number} of stream {stream}; {known}")
    return frames


def _samples(spec: CodecSpec, frames: int) -> int:
    """Samples per channel, at the codec's rate, in this many frames. Raises NacError if impossible."""
    if spec.segment is None:
        return frames * spec.frame_samples
    most = bisect_right(range(frames * spec.frame_samples + 1), frames, key=spec.frames) - 1
    if spec.frames(most) != frames:
        raise NacError(f"no recording has {frames} frames of {spec.name}")
    return most


def _overhang(spec: CodecSpec, frames: int, scales: list[Array]) -> bool:
    """Whether the last frame is a separate segment, with one more scale. Raises NacError if scales do not fit."""
    if spec.segment is None:
        return False
    counts = {len(scale) - -(-frames // spec.segment.frames) for scale in scales}
    if counts not in ({0}, {1}):
        raise NacError(f"{frames} frames of {spec.name} need one scale per {spec.segment.frames} frames")
    return counts == {1}


def _borders(codes: list[list[Array]], units: list[int], frames: int, size: int) -> list[int]:
    """Chunk borders: every ``size`` frames, and where a stream becomes silent or active."""
    borders = {*range(0, frames, size), frames}
    for books in codes:
        for array, unit in zip(books, units, strict=False):
            silent = array.reshape(frames, unit)[:, 0] == SILENT
            borders |= set((np.flatnonzero(np.diff(silent)) + 1).tolist())
    return sorted(borders)
