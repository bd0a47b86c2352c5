"""EnCodec (Défossez et al. 2022, arXiv:2210.13438).

SEANet convolutions (Tagliasacchi et al. 2020, arXiv:2009.02095) with an LSTM on either side of a residual vector
quantiser (section 3.1). The model at 24 kHz is causal: its convolutions and its LSTM keep their state from one
block to the next, so a signal of any length is processed as a whole. The model at 48 kHz works on segments of one
second, with normalised loudness, which overlap by 1 %.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nac.codecs import checkpoints
from nac.codecs.base import Codec, Codes
from nac.codecs.batches import Job
from nac.codecs.fingerprint import RANDOM
from nac.codecs.layers import rvq, seanet
from nac.codecs.layers.causal import CausalCodec, Stage, Stream, as_float, run
from nac.codecs.layers.seanet import Shape
from nac.codecs.layers.tiles import each
from nac.codecs.layers.weights import RandomWeights, Weights
from nac.codecs.reference import Reference
from nac.spec import CodecSpec, Segment

BLOCK = 75  # frames per block of the 24 kHz model: one second
GROUP = 8  # segments that the 48 kHz model computes at once
SHAPE = Shape(strides=(2, 4, 5, 8), width=32, latent=128)


class _Encodec(Codec):
    """Base class of both models. ``weights``: named as in transformers, with weight norm folded."""

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        self.spec, self.device = spec, weights.device
        shape = replace(SHAPE, causal=spec.segment is None)
        self.encode_network = seanet.encoder(weights, spec.channels, shape)
        decoding = weights.of_decoder()
        self.decode_network = seanet.decoder(decoding, spec.channels, shape)
        self.fast, self.decode_dtype = weights.fast, decoding.dtype
        self.quantisers = [
            rvq.Euclidean(weights.take(f"quantizer.layers.{i}.codebook.embed", 2**book.bits, SHAPE.latent))
            for i, book in enumerate(spec.codebooks)
        ]
        weights.finish()


# 24 kHz


class Encodec24(_Encodec, CausalCodec):
    """EnCodec at 24 kHz, one channel. Every frame depends on all earlier ones."""

    block = BLOCK

    def encode_stages(self, codebooks: int) -> Sequence[Stage]:
        network, quantisers = self.encode_network, self.quantisers[:codebooks]

        def quantise(x: Tensor, stream: Stream) -> Tensor:
            return torch.stack(rvq.encode(quantisers, x), 1)

        return Stage(network.front), Stage(network.middle, batched=True), Stage([*network.back, quantise])

    def decode_stages(self) -> Sequence[Stage]:
        network = self.decode_network

        def look_up(codes: Tensor, stream: Stream) -> Tensor:
            return rvq.decode(self.quantisers, codes.unbind(1), self.decode_dtype)

        back = Stage([*network.back, as_float])
        return Stage([look_up, *network.front]), Stage(network.middle, batched=True), back


# 48 kHz


class Encodec48(_Encodec):
    """EnCodec at 48 kHz, two channels, in segments that are coded independently and cross-faded.

    Each frame of a segment depends on all of its frames. Segments are computed in groups, counted from the start
    of the signal, so that the LSTM's weights are read once per group; a segment's result does not depend on the
    others.
    """

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        super().__init__(spec, weights)
        assert spec.segment
        self.segment: Segment = spec.segment
        self.samples = spec.segment.frames * spec.frame_samples
        self.overlap = self.samples - spec.segment.stride

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder48:
        return Encoder48(self, self.spec.check_codebooks(codebooks), origin)

    def decoder(self, *, origin: int = 0, start: int | None = None) -> Decoder48:
        return Decoder48(self, origin, origin if start is None else start)

    def preroll(self, frame: int, origin: int = 0) -> int:
        segment, inner = divmod(frame, self.segment.frames)
        fading = inner * self.spec.frame_samples < self.overlap
        return max((segment - fading) * self.segment.frames, origin)

    def at_once(self, segment: int, there: int) -> int:
        """Return how many of the ``there`` segments from number ``segment`` on to compute now.

        A whole group; on a GPU, all.
        """
        group = GROUP - segment % GROUP
        return there if self._on_gpu else group if there >= group else 0

    def encode_segments(self, audio: Tensor, codebooks: int) -> tuple[Tensor, ...]:
        """Segments of equal length [S, C, n] to their codes and, last, their scales."""
        network, quantisers = self.encode_network, self.quantisers[:codebooks]

        def front(x: Tensor) -> tuple[Tensor, Tensor]:
            scale = x.mean(1).square().mean(-1).sqrt() + 1e-8
            return run(network.front, (x / scale[:, None, None]).transpose(1, 2), Stream(last=True)), scale

        def back(x: Tensor) -> tuple[Tensor, ...]:
            return rvq.encode(quantisers, run(network.back, x, Stream(last=True)))

        x, scale = each(front, audio)
        return *each(back, run(network.middle, x, Stream(last=True))), scale

    def decode_segments(self, *codes: Tensor) -> Tensor:
        """The inverse."""
        *arrays, scale = codes
        network = self.decode_network

        def front(*arrays: Tensor) -> tuple[Tensor]:
            return (run(network.front, rvq.decode(self.quantisers, arrays, self.decode_dtype), Stream(last=True)),)

        def back(x: Tensor) -> tuple[Tensor]:
            return (run([*network.back, as_float], x, Stream(last=True)),)

        (x,) = each(front, *arrays)
        (audio,) = each(back, run(network.middle, x, Stream(last=True)))
        return audio.transpose(1, 2) * scale[:, None, None]


@dataclass(frozen=True)
class _Segments:
    """Encodes segments with a number of codebooks or, if None, decodes them: see :class:`Job`."""

    codec: Encodec48
    codebooks: int | None = None

    def __call__(self, arrays: tuple[Tensor, ...], asides: Sequence[None]) -> tuple[Tensor, ...]:
        if self.codebooks is None:
            return (self.codec.decode_segments(*arrays),)
        return self.codec.encode_segments(arrays[0], self.codebooks)

    def job(self, *arrays: Tensor) -> Job[Tensor]:
        return Job(self, arrays, (None,) * len(arrays[0]))


class Encoder48:
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: Encodec48, codebooks: int, origin: int) -> None:
        self._codec, self._codebooks = codec, codebooks
        self._segment = origin // codec.segment.frames
        self._rest = torch.zeros(1, codec.spec.channels, 0, device=codec.device)

    def push(self, audio: Tensor) -> Codes:
        self._codec._check_audio(audio)
        audio = self._codec._signal(audio, np.float32)
        self._rest = torch.cat([self._rest, audio], -1) if self._rest.shape[-1] else audio.clone()
        parts = []
        while count := self._codec.at_once(self._segment, self._whole):
            parts.append(self._encode(count))
        self._rest = self._rest.clone()
        return self._join(parts)

    def flush(self) -> Codes:
        parts = [self._encode(self._whole)] if self._whole else []
        while self._rest.shape[-1]:
            parts.append(self._encode(1))
        return self._join(parts)

    @property
    def _whole(self) -> int:
        """The number of buffered segments with full length."""
        return max(self._rest.shape[-1] - self._codec.overlap, 0) // self._codec.segment.stride

    def _encode(self, count: int) -> Codes:
        length = min(self._codec.samples, self._rest.shape[-1])
        stride = self._codec.segment.stride
        batch, segments = len(self._rest), self._rest.unfold(-1, length, stride)[:, :, :count].transpose(1, 2)
        ((*codes, scale),) = self._codec._run(
            [_Segments(self._codec, self._codebooks).job(segments.flatten(0, 1))]
        )
        self._rest = self._rest[..., count * stride :]
        self._segment += count
        return Codes(tuple(array.reshape(batch, -1) for array in codes), scale.reshape(batch, -1))

    def _join(self, parts: list[Codes]) -> Codes:
        none = torch.zeros(self._rest.shape[0], 0, device=self._rest.device)
        return Codes.join(parts or [Codes((none.long(),) * self._codebooks, none)])


class Decoder48:
    """See :class:`nac.codecs.base.Decoder`.

    A signal whose last segment is at most half a frame long ends with segments of 149 and 1 frames. So a segment
    is known to be whole only when another frame follows it, and the last 150 frames are split if they have two
    scales.
    """

    def __init__(self, codec: Encodec48, origin: int, start: int) -> None:
        self._codec = codec
        self._segment = codec.preroll(start, origin) // codec.segment.frames
        self._skip = codec.spec.start(start) - self._segment * codec.segment.stride
        self._rest: Codes | None = None
        self._fading: Tensor | None = None  # the part of the last segment that overlaps the next
        self._weight: Tensor | None = None

    def push(self, codes: Codes) -> Tensor:
        self._codec._check_codes(codes)
        assert codes.scale is not None
        arrays = tuple(self._codec._signal(array, np.int64) for array in codes.arrays)
        codes = Codes(arrays, self._codec._signal(codes.scale, np.float32))
        self._rest = Codes.join([self._rest, codes]) if self._rest else codes
        parts = []
        while count := self._codec.at_once(self._segment, self._followed):
            parts += self._decode(count, self._codec.segment.frames)
        return self._join(parts)

    def flush(self) -> Tensor:
        parts = self._decode(self._followed, self._codec.segment.frames) if self._followed else []
        while self._rest and (frames := self._rest.arrays[0].shape[-1]):
            scales = 0 if self._rest.scale is None else self._rest.scale.shape[-1]
            parts += self._decode(1, frames - (frames == self._codec.segment.frames and scales > 1))
        return self._join(parts if self._fading is None else [*parts, self._fading])

    @property
    def _followed(self) -> int:
        """The number of buffered segments that are followed by another frame."""
        return (
            0 if self._rest is None else max(self._rest.arrays[0].shape[-1] - 1, 0) // self._codec.segment.frames
        )

    def _decode(self, count: int, frames: int) -> list[Tensor]:
        """Decode ``count`` segments of ``frames`` frames. Returns the samples up to the next segment's start."""
        assert self._rest is not None
        assert self._rest.scale is not None
        taken = [a[:, : count * frames].reshape(-1, frames) for a in self._rest.arrays]
        scale = self._rest.scale[:, :count]
        left = tuple(a[:, count * frames :].clone() for a in self._rest.arrays)
        self._rest = Codes(left, self._rest.scale[:, count:].clone())
        ((audio,),) = self._codec._run([_Segments(self._codec).job(*taken, scale.flatten())])
        self._segment += count
        return [self._fade(segment) for segment in torch.unflatten(audio, 0, scale.shape).unbind(1)]

    def _fade(self, audio: Tensor) -> Tensor:
        """Cross-fade with triangular weights as long as the first segment, normalised to a sum of one."""
        if self._weight is None:
            ramp = torch.linspace(0, 1, audio.shape[-1] + 2, device=audio.device)[1:-1]
            self._weight = 0.5 - (ramp - 0.5).abs()
        stride = self._codec.segment.stride
        if self._fading is not None:
            both = min(self._fading.shape[-1], audio.shape[-1])
            rise, fall = self._weight[:both], self._weight[stride : stride + both]
            mixed = (self._fading[..., :both] * fall + audio[..., :both] * rise) / (rise + fall)
            audio = torch.cat([mixed, audio[..., both:]], -1)
        self._fading = audio[..., stride:]
        return audio[..., :stride]

    def _join(self, parts: list[Tensor]) -> Tensor:
        batch = 1 if self._rest is None else self._rest.arrays[0].shape[0]
        device = self._codec.device if self._rest is None else self._rest.arrays[0].device
        none = torch.zeros(batch, self._codec.spec.channels, 0, device=device)
        audio = torch.cat(parts, -1) if parts else none
        skipped = min(self._skip, audio.shape[-1])
        self._skip -= skipped
        return audio[..., skipped:]


def build(spec: CodecSpec, weights: Weights) -> Codec:
    """Make the codec for a specification. Raises ModelError for other weights."""
    return (Encodec48 if spec.segment else Encodec24)(spec, weights)


def load(spec: CodecSpec, path: Path, device: torch.device, *, fast: bool = False) -> Codec:
    """Load the codec from a checkpoint, a file or a folder. Raises ModelError for other weights."""
    return checkpoints.load(spec, path, device, build, canonical, fast=fast)


def random(
    spec: CodecSpec, device: torch.device, seed: int = 0, *, fast: bool = False
) -> tuple[Codec, dict[str, Tensor]]:
    """Make the codec with random weights. Returns it and the weights by name."""
    weights = RandomWeights(device, seed, fast=fast)
    return build(spec.with_fingerprint(RANDOM), weights), weights.tensors


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors as in transformers, and remove those needed only for training."""
    return {_name(name): tensor for name, tensor in tensors.items() if not _TRAINING.search(name)}


_TRAINING = re.compile(r"codebook\.(inited|cluster_size|embed_avg)$")


def _name(name: str) -> str:
    """Convert a name of the original package to that in transformers."""
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = re.sub(r"\.(conv|convtr)\.(\1|norm)\.", lambda m: f".{m[2].removesuffix('tr')}.", name)
    return re.sub(r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.", name)


class EncodecReference(Reference):
    """transformers' EncodecModel."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from transformers import EncodecConfig, EncodecModel

        options: dict[str, Any] = {}
        if spec.segment:
            options = {
                "sampling_rate": 48000,
                "audio_channels": 2,
                "normalize": True,
                "chunk_length_s": 1.0,
                "overlap": 0.01,
                "norm_type": "time_group_norm",
                "use_causal_conv": False,
                "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
            }
        return EncodecModel(EncodecConfig(**options))

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio, bandwidth=24.0, return_dict=False)

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        frames, scales, missing = codes
        return self.model.decode(frames, scales, last_frame_pad_length=missing, return_dict=False)[0]

    def layers(self, codes: Any) -> Sequence[Tensor]:
        return torch.cat(list(codes[0]), -1).unbind(1)
