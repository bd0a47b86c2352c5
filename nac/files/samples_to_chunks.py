"""Encoding: blocks of samples to chunks of codes.

Samples -> resampled to the codec's rate -> cut into chunks -> rotated into streams -> codes. Streams are encoded
as continuous signals: chunks only group their codes, so chunk borders are not heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from nac.audio import stereo
from nac.audio.reading import Source
from nac.audio.resample import Resampler, Samples
from nac.codecs.base import Array, Codec, Codes, Encoder
from nac.container.chunk import BATCH_CHUNKS, Chunk, Draft, chunk_frames
from nac.container.codebooks import Coding
from nac.container.header import Header
from nac.files.pending import Pending
from nac.spec import CodecSpec


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
    lanes = [Lane(codec, count, live=source.live) for count in header.stream_codebooks]
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
    pending: list[Samples] = []
    have, sounds = 0, False
    for block in blocks:
        while have + len(block) >= length:
            yield np.concatenate([*pending, block[: length - have]]), True
            pending, block, have, sounds = [], block[length - have :], 0, False
        if len(block):
            pending.append(block)
            have += len(block)
            sounds = sounds or _sounds(block)
        if pending and sounds and not whole:
            yield np.concatenate(pending), False
            pending = []
    if pending:
        yield np.concatenate(pending), False


class Lane:
    """Encodes one stream in runs; between them it is silent and has no codes. ``live``: no sample may wait."""

    def __init__(self, codec: Codec[Any], codebooks: int, *, live: bool) -> None:
        self._codec, self._codebooks = codec, codebooks
        self._encoder: Encoder[Any] | None = None
        self._pending = Pending[Samples](codec, live=live)
        self._ready: list[Codes[Array]] = []
        self.frames = 0  # frames that are ready

    def push(self, audio: Samples, first_frame: int) -> None:
        """Add samples [n, C] to the run, which begins at ``first_frame`` if none is open."""
        if self._encoder is None:
            self._encoder = self._codec.encoder(self._codebooks, origin=first_frame)
        self._encode(self._encoder, self._pending.push(audio, len(audio)))

    def end(self) -> None:
        """Close the run, if one is open."""
        if self._encoder is not None:
            self._encode(self._encoder, self._pending.take())
            self._add(self._encoder.flush())
            self._encoder = None

    def _encode(self, encoder: Encoder[Any], parts: list[Samples]) -> None:
        if parts:
            audio = np.ascontiguousarray(np.concatenate(parts).T)
            self._add(encoder.push(self._codec._signal(audio[None], np.float32)))

    def _add(self, codes: Codes[Any]) -> None:
        scale = None if codes.scale is None else self._codec._numpy(codes.scale)
        self._ready.append(Codes(tuple(self._codec._numpy(array) for array in codes.arrays), scale))
        self.frames += codes.frames(self._codec.spec)

    def take(self, frames: int, *, last: bool) -> Codes[Array]:
        """The next frames that are ready; with ``last``, also all remaining scales."""
        spec, codes = self._codec.spec, Codes.join(self._ready)
        taken, rest = codes.between(spec, 0, frames), codes.between(spec, frames)
        self._ready, self.frames = [rest], self.frames - frames
        return Codes(taken.arrays, codes.scale) if last else taken
