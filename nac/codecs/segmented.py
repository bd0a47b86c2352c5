"""Decode segments that were coded independently by a codec without own segments, as in .dac files."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nac.codecs.base import Codec, Codes, Encoder
from nac.errors import ModelError
from nac.spec import Segment


class Segmented(Codec):
    """A codec with overlapping segments: each is decoded separately, its middle ``stride`` samples are used."""

    def __init__(self, codec: Codec, segment: Segment) -> None:
        self.codec, self.segment, self.device = codec, segment, codec.device
        self.spec = replace(codec.spec, segment=segment)
        self.margin = segment.margin(codec.spec.frame_samples)

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder:
        raise ModelError(f"{self.spec.name} does not encode in segments")

    def decoder(self, *, origin: int = 0, start: int | None = None) -> SegmentedDecoder:
        return SegmentedDecoder(self, origin, origin if start is None else start)

    def preroll(self, frame: int, origin: int = 0) -> int:
        heard = (self.spec.start(frame) - self.margin) // self.segment.stride  # in whose middle it starts
        return max(min(heard, frame // self.segment.frames) * self.segment.frames, origin)


class SegmentedDecoder:
    """See :class:`nac.codecs.base.Decoder`."""

    def __init__(self, codec: Segmented, origin: int, start: int) -> None:
        self._codec = codec
        first = codec.preroll(start, origin)
        self._skip = codec.spec.start(start) - codec.spec.start(first)
        self._rest: Codes | None = None
        self._low = 0  # the first sample of a segment that is used: 0 for the first segment
        self._end: Tensor | None = None  # the end of the last segment, which is used if none follows

    @torch.inference_mode()
    def push(self, codes: Codes) -> Tensor:
        self._rest = Codes.join([self._rest, codes]) if self._rest else codes
        frames = self._codec.segment.frames
        if not (count := self._rest.arrays[0].shape[-1] // frames):
            return self._join([])
        segments, self._rest = self._split(count * frames)
        rows = Codes(tuple(array.reshape(-1, frames) for array in segments.arrays))
        audio = torch.unflatten(self._decoded(rows), 0, (-1, count))
        return self._join([self._middle(segment) for segment in audio.unbind(1)])

    @torch.inference_mode()
    def flush(self) -> Tensor:
        parts = []
        if self._rest is not None and self._rest.arrays[0].shape[-1]:
            audio = self._decoded(self._rest)
            if audio.shape[-1] > self._low:
                parts.append(self._middle(audio))
        return self._join(parts if self._end is None else [*parts, self._end])

    def _decoded(self, codes: Codes) -> Tensor:
        """Decode whole signals, on the device of their codes."""
        decoder = self._codec.codec.decoder()
        return torch.cat([decoder.push(codes), decoder.flush()], -1)

    def _split(self, frames: int) -> tuple[Codes, Codes]:
        assert self._rest is not None
        codes = self._rest.arrays
        return Codes(tuple(a[:, :frames] for a in codes)), Codes(tuple(a[:, frames:] for a in codes))

    def _middle(self, audio: Tensor) -> Tensor:
        high = self._codec.segment.stride + self._codec.margin
        low, self._low, self._end = self._low, self._codec.margin, audio[..., high:]
        return audio[..., low:high]

    def _join(self, parts: list[Tensor]) -> Tensor:
        batch = 1 if self._rest is None else self._rest.arrays[0].shape[0]
        device = self._codec.device if self._rest is None else self._rest.arrays[0].device
        none = torch.zeros(batch, self._codec.spec.channels, 0, device=device)
        audio = torch.cat(parts, -1) if parts else none
        skipped = min(self._skip, audio.shape[-1])
        self._skip -= skipped
        return audio[..., skipped:]
