"""Decoding: chunks of codes to blocks of samples, from any position.

Codes -> streams, each decoded as a continuous signal -> rotated back into channels -> resampled to the rate
wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nac.audio import stereo
from nac.audio.resample import Resampler, Samples
from nac.codecs.base import Array, Codec, Codes, Decoder
from nac.container.chunk import BATCH_CHUNKS, Chunk
from nac.container.header import Header
from nac.container.reader import Reader
from nac.errors import FormatError
from nac.files.opening import check_growth
from nac.files.pending import Pending
from nac.spec import CodecSpec

PART = 1 << 21
"""Most samples (all channels, at the higher rate) decoded at a time; most chunks have fewer."""


def decode_blocks(
    reader: Reader,
    codec: Codec[Any],
    *,
    sample_rate: int,
    start: int = 0,
    stop: int | None = None,
    codebooks: tuple[int, ...] | None = None,
) -> Iterator[Samples]:
    """Samples [n, channels] of a file at ``sample_rate`` (Hz), from ``start`` up to ``stop`` or the end.

    Positions are samples per channel at that rate from the start of the file's timeline. ``codebooks``: the most
    of each stream. If the file is cut off or damaged, all samples before that come first, and then the error.
    """
    spec, damage = codec.spec, list[FormatError]()
    resampler = Resampler(spec.sample_rate, sample_rate, start=start * spec.sample_rate // sample_rate)
    low = resampler.first_input
    first = spec.frame_at(low)
    if spec.segment is not None:
        # The end may overhang: the single frame of the last segment then has the number of the one before.
        first = max(0, first - spec.segment.frames)
    position = resampler.first_output
    skip = spec.start(first)
    growth = -(-sample_rate // spec.sample_rate)
    for block in chain(_joined(reader, codec, first, codebooks, PART // growth, damage), [None]):
        if block is not None:
            drop = min(max(0, low - skip), len(block))
            skip += len(block)
            out = resampler.push(block[drop:])
        else:
            out = resampler.flush()
        a, b = max(0, start - position), len(out) if stop is None else max(0, stop - position)
        position += len(out)
        if stop is None:
            check_growth(2 * position * reader.header.channels, reader.size)
        if len(out[a:b]):
            yield out[a:b]
        if stop is not None and position >= stop:
            return  # damage in chunks that were read ahead is outside this part
    if damage:
        raise damage[0]


def _joined(
    reader: Reader,
    codec: Codec[Any],
    first: int,
    codebooks: tuple[int, ...] | None,
    most: int,
    damage: list[FormatError],
) -> Iterator[Samples]:
    """The channels [n, channels] at the codec's rate from frame ``first`` on, about ``most`` samples at a time.

    They end at the first ``damage``, which is added there.
    """
    spec, header = codec.spec, reader.header
    tracks = [Track(codec, first, live=not reader.seekable) for _ in header.stream_codebooks]
    turns = Turns(spec, first)
    at = spec.start(first)
    # A pair turns for 20 ms after the border of a chunk; the context of every codec that has pairs is longer.
    chunks = _undamaged(_chunks(reader, codec.preroll(first)), damage)
    unit = spec.segment.frames if spec.segment else 1
    size = max(1, most // (spec.frame_samples * unit * len(tracks) * spec.channels)) * unit
    part = None
    batch_chunks = BATCH_CHUNKS if reader.seekable else 1
    unpacked = _unpacked(chunks, header, codebooks or header.stream_codebooks, batch_chunks)
    for part in _parts(unpacked, header, first, size):
        for track, codes in zip(tracks, part.codes, strict=True):
            if codes is None:
                track.rest(part.first_frame + part.frames)
            else:
                track.push(codes, part.first_frame)
        turns.push(part)
        ready = min(track.end for track in tracks)
        if ready > at:
            yield _channels([track.take(ready - at) for track in tracks], header, turns, ready - at)
            at = ready
    for track in tracks:
        track.flush()
    if part is None:
        return
    for track, codes in zip(tracks, part.codes, strict=True):
        if codes is None:
            track.silence(spec.end(part.first_frame + part.frames))
    if (ready := min(track.end for track in tracks)) > at:
        yield _channels([track.take(ready - at) for track in tracks], header, turns, ready - at)


def _chunks(reader: Reader, frame: int) -> Iterator[Chunk]:
    """The chunks from the one with a frame on; without seeking, earlier ones are read and skipped."""
    chunks = reader.chunks(reader.index.find(frame) if frame and reader.seekable else 0)
    return (chunk for chunk in chunks if chunk.first_frame + chunk.frames > frame)


def _undamaged(chunks: Iterator[Chunk], damage: list[FormatError]) -> Iterator[Chunk]:
    """The chunks up to the first damage, which is added to ``damage``."""
    try:
        yield from chunks
    except FormatError as error:
        damage.append(error)


@dataclass(frozen=True)
class Part:
    """A chunk, or a part of a long one that is decoded at a time; ``lost``: silence for a missing chunk.

    ``codes``: of each stream, None where it is silent.
    """

    first_frame: int
    frames: int
    codes: list[Codes[Array] | None]
    angle: int = 0
    lost: bool = False


def _parts(chunks: Iterable[Unpacked], header: Header, first: int, size: int) -> Iterator[Part]:
    """Chunks and the gaps before them, in parts of at most ``size`` frames to limit memory."""
    spec = header.spec
    first -= first % (spec.segment.frames if spec.segment else 1)
    next_frame = first
    for chunk, codes in chunks:
        for start in range(max(next_frame, first), chunk.first_frame, size):
            frames = min(size, chunk.first_frame - start)
            yield Part(start, frames, [None] * len(header.stream_codebooks), lost=True)
        for start in range(0, chunk.frames, size):
            frames = min(size, chunk.frames - start)
            stop = None if start + frames == chunk.frames else start + frames
            cut = [None if c is None else c.between(spec, start, stop) for c in codes]
            yield Part(chunk.first_frame + start, frames, cut, chunk.angle)
        next_frame = chunk.first_frame + chunk.frames


class Track:
    """Decodes one stream from frame ``start`` on, silent where it has no codes. ``live``: no code may wait."""

    def __init__(self, codec: Codec[Any], start: int, *, live: bool) -> None:
        self._codec, self._start = codec, start
        self._decoder: Decoder[Any] | None = None
        self._pending = Pending[Codes[Array]](codec, live=live)
        self._ready: list[Samples] = []
        self._from = 0  # first frame of the decoder
        self.end = codec.spec.start(start)  # one past the last sample that is ready

    def push(self, codes: Codes[Array], first: int) -> None:
        """The next frames, of which the first is number ``first``."""
        spec = self._codec.spec
        if self._decoder is None:
            self.silence(spec.start(first))
            start = max(self._start, first)
            self._decoder = self._codec.decoder(origin=first, start=start)
            self._from = self._codec.preroll(start, first)
        codes = codes.between(spec, max(0, self._from - first))
        self._decode(self._decoder, self._pending.push(codes, codes.frames(spec) * spec.frame_samples))

    def rest(self, frame: int) -> None:
        """Close the run, if one is open; silence up to ``frame``."""
        end = self._codec.spec.start(frame)
        self.flush(end)
        self.silence(end)

    def flush(self, end: int | None = None) -> None:
        """Close the run, if one is open; of what was still in the network, only samples before ``end``."""
        if self._decoder is not None:
            self._decode(self._decoder, self._pending.take())
            self._add(self._decoder.flush(), end)
            self._decoder = None

    def _decode(self, decoder: Decoder[Any], parts: list[Codes[Array]]) -> None:
        if parts:
            codes, own = Codes.join(parts), self._codec._signal
            arrays = tuple(own(array, np.int64) for array in codes.arrays)
            self._add(decoder.push(Codes(arrays, None if codes.scale is None else own(codes.scale, np.float32))))

    def take(self, samples: int) -> Samples:
        """The next samples [n, C] that are ready."""
        joined = np.concatenate(self._ready)
        self._ready = [joined[samples:]]
        return joined[:samples]

    def _add(self, audio: Any, end: int | None = None) -> None:
        block = self._codec._numpy(audio)[0].T
        self._ready.append(block if end is None else block[: max(0, end - self.end)])
        self.end += len(self._ready[-1])

    def silence(self, end: int) -> None:
        """Silence up to sample ``end``, if it is not there yet."""
        if end > self.end:
            self._ready.append(np.zeros((end - self.end, self._codec.spec.channels), np.float32))
            self.end = end


Unpacked = tuple[Chunk, list[Codes[Array] | None]]


def _unpacked(
    chunks: Iterable[Chunk], header: Header, codebooks: tuple[int, ...], batch_chunks: int
) -> Iterator[Unpacked]:
    """Chunks with the codes of their streams, None for silent streams."""
    for chunk, streams in Chunk.unpacked(header, chunks, codebooks, batch_chunks):
        scales = chunk.scales if header.has_scale else ((),) * len(streams)
        yield chunk, [_codes(arrays, row) for arrays, row in zip(streams, scales, strict=True)]


def _codes(arrays: list[NDArray[np.uint16]], scales: tuple[float, ...]) -> Codes[Array] | None:
    if not arrays:
        return None
    return Codes(tuple(array[None] for array in arrays), np.array([scales], np.float32) if scales else None)


class Turns:
    """The stereo angle at every sample, from frame ``first`` on."""

    def __init__(self, spec: CodecSpec, first: int) -> None:
        self._spec, self._ready = spec, np.zeros(0, np.float32)
        self._at = spec.start(first)
        self._previous: int | None = None

    def push(self, part: Part) -> None:
        spec = self._spec
        low, high = spec.start(part.first_frame), spec.start(part.first_frame + part.frames)
        steps = stereo.angles(self._previous, part.angle, high - low, spec.sample_rate // 50)
        missing = max(0, low - self._at - len(self._ready))
        self._ready = np.concatenate([self._ready, np.zeros(missing, np.float32), steps[max(0, self._at - low) :]])
        self._previous = None if part.lost else part.angle

    def take(self, samples: int) -> Samples:
        taken, self._ready = self._ready[:samples], self._ready[samples:]
        self._at += samples
        return taken


def _channels(streams: list[Samples], header: Header, turns: Turns, samples: int) -> Samples:
    joined = np.concatenate(streams, axis=1)
    steps = turns.take(samples)
    if header.stereo_pair:
        return stereo.unrotate(joined, steps)
    return joined[:, : header.channels]
