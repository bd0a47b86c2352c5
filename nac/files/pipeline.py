"""The coding pipeline: blocks of samples to chunks of codes, and back.

Samples -> resampled to the codec's rate -> cut into chunks -> rotated into streams -> codes. Streams are encoded
as continuous signals: chunks only group their codes, so chunk borders are not heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nac.audio import stereo
from nac.audio.layout import tagged
from nac.audio.reading import Source
from nac.audio.resample import Resampler, Samples
from nac.bitrate import is_stereo_pair
from nac.codecs.base import Array, Codec, Codes, Decoder, Encoder
from nac.container.chunk import BATCH_CHUNKS, Chunk, Draft, chunk_frames
from nac.container.codebooks import Coding
from nac.container.header import MAX_CHANNELS, MIN_RATE, UNKNOWN_WEIGHTS, Header
from nac.container.reader import Reader
from nac.errors import AudioError, FormatError, ModelError
from nac.files.opening import check_growth
from nac.spec import CodecSpec

PART = 1 << 21
"""Most samples (all channels, at the higher rate) decoded at a time; most chunks have fewer."""
LOUDEST = 1e30
"""The largest peak: the gain for larger ones cannot be stored in a file."""


def make_header(source: Source, spec: CodecSpec, counts: tuple[int, ...], *, mono: bool) -> Header:
    """The header of a file made from a source, with this number of codebooks in each stream.

    Raises AudioError if there are too many channels, too large samples or too low a rate for a file.
    """
    channels = 1 if mono else source.channels
    if channels > MAX_CHANNELS:
        raise AudioError(f"{channels} channels; at most {MAX_CHANNELS} are possible", remedy="mono")
    if source.sample_rate < MIN_RATE:
        raise AudioError(f"a sample rate of {source.sample_rate} Hz; {MIN_RATE} Hz is the lowest")
    if source.peak > LOUDEST:
        raise AudioError(f"a sample of {source.peak:.3g}, where 1 is full scale")
    return Header(
        model=spec.name,
        fingerprint=spec.fingerprint,
        sample_rate=spec.sample_rate,
        frame_samples=spec.frame_samples,
        codebooks=spec.codebooks,
        network_channels=spec.channels,
        stereo_pair=is_stereo_pair(spec, channels),
        stream_codebooks=counts,
        original_sample_rate=source.sample_rate,
        channels=channels,
        sample_format=source.sample_format,
        samples=source.samples,
        gain=float(np.nextafter(np.float32(1 / source.peak), np.float32(0))) if source.peak > 1 else 1.0,
        segment=spec.segment,
        has_scale=spec.has_scale,
        tags=tagged(source.tags, 0, channels) if mono else source.tags,
    )


# Encoding


class Lane:
    """Encodes one stream in runs; between them it is silent and has no codes."""

    def __init__(self, codec: Codec[Any], codebooks: int) -> None:
        self._codec, self._codebooks = codec, codebooks
        self._encoder: Encoder[Any] | None = None
        self._ready: list[Codes[Array]] = []
        self.frames = 0  # frames that are ready

    def push(self, audio: Samples, first_frame: int) -> None:
        """Add samples [n, C] to the run, which begins at ``first_frame`` if none is open."""
        if self._encoder is None:
            self._encoder = self._codec.encoder(self._codebooks, origin=first_frame)
        self._add(self._encoder.push(self._codec._array(np.ascontiguousarray(audio.T)[None], np.float32)))

    def end(self) -> None:
        """Close the run, if one is open."""
        if self._encoder is not None:
            self._add(self._encoder.flush())
            self._encoder = None

    def _add(self, codes: Codes[Any]) -> None:
        scale = None if codes.scale is None else self._codec._numpy(codes.scale)
        self._ready.append(Codes(tuple(self._codec._numpy(array) for array in codes.arrays), scale))
        self.frames += codes.frames(self._codec.spec)

    def take(self, frames: int, *, last: bool) -> Codes[Array]:
        """The next frames that are ready; with ``last``, also all remaining scales."""
        spec, codes = self._codec.spec, Codes.join(self._ready)
        head, rest = _frames(codes, spec, 0, frames), _frames(codes, spec, frames)
        scale = codes.scale
        if scale is not None and spec.segment is not None:
            cut = scale.shape[-1] if last else frames // spec.segment.frames
            taken, scale = scale[:, :cut], scale[:, cut:]
        else:
            taken = None
        self._ready, self.frames = [Codes(rest, scale)], self.frames - frames
        return Codes(head, taken)


def _frames(codes: Codes[Array], spec: CodecSpec, start: int, stop: int | None = None) -> tuple[Array, ...]:
    """The codes of the frames from ``start`` up to ``stop`` or the end, in each codebook."""
    units = (codebook.codes_per_frame for codebook in spec.codebooks)
    return tuple(
        array[:, start * unit : None if stop is None else stop * unit]
        for array, unit in zip(codes.arrays, units, strict=False)
    )


def encode_chunks(source: Source, codec: Codec[Any], header: Header, coding: Coding = "auto") -> Iterator[Chunk]:
    """The chunks of a recording; if it is live, each as soon as its codes are final. Reads to the end.

    ``coding``: see :func:`nac.container.codebooks.encode`.
    """
    drafts = _drafts(source, codec, header)
    while some := list(islice(drafts, 1 if source.live else BATCH_CHUNKS)):
        yield from Chunk.pack_all(header, some, coding=coding)


def _drafts(source: Source, codec: Codec[Any], header: Header) -> Iterator[Draft]:
    """Unpacked chunks, each as soon as its codes are final."""
    spec, size = codec.spec, chunk_frames(codec.spec)
    lanes = [Lane(codec, count) for count in header.stream_codebooks]
    pieces: deque[tuple[int, list[bool]]] = deque()  # angle and present streams of chunks not yet returned
    first, total = 0, 0

    def give(frames: int, *, last: bool) -> Draft:
        nonlocal first
        angle, present = pieces.popleft()
        codes = [lane.take(frames, last=last) if here else None for lane, here in zip(lanes, present, strict=True)]
        draft = _draft(first, frames, angle, codes)
        first += frames
        return draft

    # A full chunk may be the last of a segmented signal, which has one more scale: wait for the next.
    enough = size + (spec.segment is not None)
    for piece in _pieces(source, spec, header):
        if not piece.continues:
            pieces.append((piece.angle, piece.present))
        total += len(piece.streams[0])
        for lane, stream, here in zip(lanes, piece.streams, piece.present, strict=True):
            if here:
                lane.push(stream, piece.number * size)
            else:
                lane.end()
        while total >= spec.start(first + size) and all(
            lane.frames >= enough for lane, here in zip(lanes, pieces[0][1], strict=True) if here
        ):
            yield give(size, last=False)
    for lane in lanes:
        lane.end()
    frames = spec.frames(total)
    while first < frames:
        yield give(min(size, frames - first), last=first + size >= frames)


@dataclass(frozen=True)
class Piece:
    """A piece of signal at the codec's rate: chunk ``number``, or more of it if it ``continues`` the last piece.

    ``streams``: samples [n, C] each; ``present``: which of them have codes; ``angle``: stereo angle of a pair.
    """

    number: int
    streams: list[Samples]
    present: list[bool]
    angle: int = 0
    continues: bool = False


def _sounds(stream: Samples) -> bool:
    return float(np.abs(stream).max(initial=0)) >= stereo.SILENCE


def _draft(first: int, frames: int, angle: int, codes: list[Codes[Array] | None]) -> Draft:
    arrays = [None if c is None else [a[0].astype(np.uint16) for a in c.arrays] for c in codes]
    scales = [None if c is None or c.scale is None else c.scale[0] for c in codes]
    return Draft(first, frames, arrays, angle, scales)


def _pieces(source: Source, spec: CodecSpec, header: Header) -> Iterator[Piece]:
    """The signal at the codec's rate, cut at chunk borders.

    With several streams a chunk comes as a whole, because its silent streams and stereo angle must be known. So
    does a chunk of a file, because its windows can then be computed in parallel.
    """
    size, ramp = chunk_frames(spec), spec.sample_rate // 50
    several = len(header.stream_codebooks) > 1
    angle, previous, number, continues = stereo.MID_SIDE if source.angle is None else source.angle, None, 0, False
    for block, ends in _cut(_resampled(source, spec, header), spec.start(size), whole=several or not source.live):
        if header.stereo_pair:
            if source.angle is None:
                angle = stereo.principal_angle(block, angle)
            block = stereo.rotate(block, stereo.angles(previous, angle, len(block), ramp))
            previous = angle
        streams = split_streams(block, spec.channels)
        # Segments extend into the next chunk, silent or not.
        present = [
            count > 0 and (spec.segment is not None or continues or _sounds(stream))
            for stream, count in zip(streams, header.stream_codebooks, strict=True)
        ]
        yield Piece(number, streams, present, angle if header.stereo_pair else 0, continues)
        number, continues = number + ends, not ends


def split_streams(piece: Samples, channels: int) -> list[Samples]:
    """Channels [n, any] as streams [n, channels] for the network; an odd last channel is doubled."""
    if piece.shape[1] % channels:
        piece = np.concatenate([piece, piece[:, -1:]], axis=1)
    return [piece[:, i : i + channels] for i in range(0, piece.shape[1], channels)]


def _resampled(source: Source, spec: CodecSpec, header: Header) -> Iterator[Samples]:
    resampler = Resampler(source.sample_rate, spec.sample_rate)
    for block in source.blocks:
        if header.channels < source.channels:
            block = block.mean(axis=1, keepdims=True)
        yield resampler.push(block * np.float32(header.gain) if header.gain != 1 else block)
    yield resampler.flush()


def _cut(blocks: Iterable[Samples], length: int, *, whole: bool) -> Iterator[tuple[Samples, bool]]:
    """Blocks cut at every multiple of ``length`` samples, and whether they end there.

    ``whole``: only whole lengths except the last; otherwise also partial ones, from the first sound on.
    """
    held: list[Samples] = []
    have, sounds = 0, False
    for block in blocks:
        while have + len(block) >= length:
            yield np.concatenate([*held, block[: length - have]]), True
            held, block, have, sounds = [], block[length - have :], 0, False
        if len(block):
            held.append(block)
            have += len(block)
            sounds = sounds or _sounds(block)
        if held and sounds and not whole:
            yield np.concatenate(held), False
            held = []
    if held:
        yield np.concatenate(held), False


# Decoding


class Track:
    """Decodes one stream from frame ``start`` on, with silence where it has no codes."""

    def __init__(self, codec: Codec[Any], start: int) -> None:
        self._codec, self._start = codec, start
        self._decoder: Decoder[Any] | None = None
        self._ready: list[Samples] = []
        self._from = 0  # first frame of the decoder
        self.end = codec.spec.start(start)  # one past the last sample that is ready

    def push(self, codes: Codes[Array], first: int) -> None:
        """The next frames, of which the first is number ``first``."""
        spec = self._codec.spec
        if self._decoder is None:
            self._silence(spec.start(first))
            start = max(self._start, first)
            self._decoder = self._codec.decoder(origin=first, start=start)
            self._from = self._codec.preroll(start, first)
        codes = _between(codes, spec, max(0, self._from - first), None)
        own, scale = self._codec._array, codes.scale
        arrays = tuple(own(array, np.int64) for array in codes.arrays)
        self._add(self._decoder.push(Codes(arrays, None if scale is None else own(scale, np.float32))))

    def rest(self, frame: int) -> None:
        """Close the run, if one is open; silence up to ``frame``."""
        end = self._codec.spec.start(frame)
        if self._decoder is not None:
            self._add(self._decoder.flush(), end)
            self._decoder = None
        self._silence(end)

    def flush(self) -> None:
        """Close the run at the end of the signal."""
        if self._decoder is not None:
            self._add(self._decoder.flush())
            self._decoder = None

    def take(self, samples: int) -> Samples:
        """The next samples [n, C] that are ready."""
        joined = np.concatenate(self._ready)
        self._ready = [joined[samples:]]
        return joined[:samples]

    def _add(self, audio: Any, end: int | None = None) -> None:
        block = self._codec._numpy(audio)[0].T
        self._ready.append(block if end is None else block[: max(0, end - self.end)])
        self.end += len(self._ready[-1])

    def _silence(self, end: int) -> None:
        if end > self.end:
            self._ready.append(np.zeros((end - self.end, self._codec.spec.channels), np.float32))
            self.end = end


def check_model(header: Header, spec: CodecSpec, *, force: bool = False) -> None:
    """Raise ModelError unless the codec is the one that made a file; ``force`` allows other weights."""
    ours = (spec.sample_rate, spec.channels, spec.frame_samples, spec.codebooks, spec.segment, spec.has_scale)
    same = (header.sample_rate, header.network_channels, header.frame_samples, header.codebooks, header.segment)
    if header.model != spec.name or (*same, header.has_scale) != ours:
        raise ModelError(f"made with {header.model}, which the given {spec.name} cannot decode")
    if header.fingerprint not in (spec.fingerprint, spec.former, UNKNOWN_WEIGHTS) and not force:
        raise ModelError(
            f"made with {header.model} weights {header.fingerprint}, but the given ones are {spec.fingerprint}",
            remedy="force_model",
        )


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
    tracks = [Track(codec, first) for _ in header.stream_codebooks]
    turns = Turns(spec, first)
    at = spec.start(first)
    chunks = _undamaged(_chunks(reader, min(codec.preroll(first), max(0, first - 1))), damage)
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
    if part is not None and (ready := min(track.end for track in tracks)) > at:
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
            cut = [None if c is None else _between(c, spec, start, stop) for c in codes]
            yield Part(chunk.first_frame + start, frames, cut, chunk.angle)
        next_frame = chunk.first_frame + chunk.frames


def _between(codes: Codes[Array], spec: CodecSpec, start: int, stop: int | None) -> Codes[Array]:
    """The codes of some frames, with the scales of the segments that begin there."""
    scale = codes.scale
    if scale is not None and spec.segment is not None:
        unit = spec.segment.frames
        scale = scale[:, start // unit : None if stop is None else stop // unit]
    return Codes(_frames(codes, spec, start, stop), scale)


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
