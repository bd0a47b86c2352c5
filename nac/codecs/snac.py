"""SNAC, the Multi-Scale Neural Audio Codec (Siuzdak et al. 2024, arXiv:2410.14411).

DAC with depthwise convolutions, codebooks at several time scales (section 3.1), attention in short windows
(section 3.4) and a decoder that adds noise (section 3.2). The noise is a function of the absolute position, so
decoding a part gives the same samples as decoding the whole signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nac.codecs import checkpoints
from nac.codecs.base import Codec
from nac.codecs.fingerprint import RANDOM
from nac.codecs.layers import rvq
from nac.codecs.layers.blocks import Tanh, conv, depthwise, down, residual_units, snake, to_audio, up
from nac.codecs.layers.chain import Chain, Layer, PlainStage, Stage, Stages
from nac.codecs.layers.convolutions import Convolved, kernel
from nac.codecs.layers.kernels import convolve
from nac.codecs.layers.spans import Span, context
from nac.codecs.layers.tiles import each, in_tiles, tile_of, tiles
from nac.codecs.layers.weights import RandomWeights, Weights
from nac.codecs.reference import Reference
from nac.codecs.windows import Plan, WindowedCodec
from nac.spec import CodecSpec

HEAD = 64  # channels of an attention head


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters: strides in the encoder's order, channels at either end, steps in an attention window."""

    strides: tuple[int, ...] = (2, 3, 8, 8)
    encoder: int = 64
    decoder: int = 1536
    attention: int | None = 32
    codebook: int = 8
    window: int = 32  # frames per window, as measured

    @property
    def latent(self) -> int:
        return self.encoder << len(self.strides)


SHAPES = {
    "snac_24khz": Shape((2, 4, 8, 8), 48, 1024, None),
    "snac_32khz": Shape(),
    "snac_44khz": Shape(),
}


class Attention:
    """Attention with rotary positions (Su et al. 2021, arXiv:2104.09864) in windows without overlap."""

    def __init__(self, weights: Weights, name: str, channels: int, window: int) -> None:
        self.window, self._heads = window, channels // HEAD
        self._scale, self._shift = (weights.take(f"{name}.norm.{part}", channels) for part in ("weight", "bias"))
        into = weights.take(f"{name}.to_qkv.weight", 3 * channels, channels)
        out = weights.take(f"{name}.to_out.weight", channels, channels)
        self._into, self._out = (kernel(matrix[..., None], None) for matrix in (into, out))
        frequencies = weights.take(f"{name}.rel_pos.inv_freq", HEAD // 2, exact=True)
        angles = torch.arange(window, device=frequencies.device)[:, None] * frequencies.repeat(2)
        self._cos, self._sin = angles.cos().to(weights.dtype), angles.sin().to(weights.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply attention to [B, T, C]; T must be a multiple of the window."""
        normal = functional.layer_norm(x, x.shape[-1:], self._scale, self._shift)
        joint = convolve(normal, self._into)
        # [B, T, 3 C] -> query, key, value of [B, windows, heads, window, HEAD]
        query, key, value = joint.view(x.shape[0], -1, self.window, 3, self._heads, HEAD).permute(3, 0, 1, 4, 2, 5)
        mixed = functional.scaled_dot_product_attention(self._rotate(query), self._rotate(key), value)
        return convolve(mixed.transpose(2, 3).reshape(x.shape), self._out).add_(x)

    def _rotate(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * self._cos + torch.cat([-second, first], -1) * self._sin

    def needs(self, span: Span) -> Span:
        first, last = span.low // self.window, span.high // self.window
        return Span(first * self.window, (last + 1) * self.window - 1)


def noise(position: int | Tensor, count: int, stream: int, device: torch.device | str = "cpu") -> Tensor:
    """Nearly normal noise, float32 [count], for the samples from ``position`` on: the same on every machine.

    For positions int64 [B, 1] it is [B, count].

    Each sample is the sum of twelve 16-bit numbers, brought to mean 0 and variance 1. They are cut from three
    values of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators"): those numbered
    ``3 * position`` to ``3 * position + 2``, counted from ``stream * 2**56``. All of it is integer arithmetic; the
    sum has 20 bits and is exact as a float.
    """
    counter = torch.arange(1, 3 * count + 1, device=device) + (3 * position + (stream << 56))
    bits = counter * -0x61C8864680B583EB  # 0x9E3779B97F4A7C15; products wrap around
    bits = (bits ^ _shifted(bits, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    bits = (bits ^ _shifted(bits, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    bits = bits ^ _shifted(bits, 31)
    parts = torch.stack([(bits >> shift) & 0xFFFF for shift in (0, 16, 32, 48)])
    total: Tensor = torch.unflatten(parts.sum(0), -1, (count, 3)).sum(-1) - 6 * 0xFFFF
    return total.to(torch.float32) / 2**16


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Shift right, filling with zeros."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


class Noise:
    """``x + noise * linear(x)``, with equal noise in all channels. ``stream``: number of the noise sequence."""

    def __init__(self, weights: Weights, name: str, channels: int, stream: int) -> None:
        weight = weights.take(f"{name}.linear.weight", channels, channels, 1)
        self._kernel = kernel(weight, None, steps=tile_of(channels))
        self._stream = stream

    def __call__(self, x: Tensor, position: int | Tensor) -> Tensor:
        drawn = noise(position, x.shape[1], self._stream, x.device)[..., None].to(x.dtype)

        def add(span: Span) -> None:
            part = slice(span.low, span.high + 1)
            x[:, part].addcmul_(convolve(x[:, part], self._kernel), drawn[..., part, :])

        in_tiles(add, tiles(x.shape[1], tile_of(x.shape[2]), device=x.device))
        return x


class Block(NamedTuple):
    """A decoder block: upsampling, noise, residual units."""

    up: Convolved
    noise: Noise
    units: Chain
    stride: int

    def __call__(self, x: Tensor, position: int | Tensor) -> Tensor:
        return self.units(self.noise(self.up(x), position))

    def needs(self, span: Span) -> Span:
        return self.up.needs(self.units.needs(span))


def _body(weights: Weights, shape: Shape, first: int) -> Stages:
    """Make the decoder's layers after the attention. ``first``: the number of the first one."""
    width, stages = shape.decoder, list[Stage]()
    for block, stride in enumerate(reversed(shape.strides)):
        name = f"decoder.model.{first + block}.block"
        upsampling = up(weights, f"{name}.1", width, width // 2, stride)
        first_layer = Convolved(upsampling, snake(weights, f"{name}.0", width))
        width //= 2
        units = Chain(residual_units(weights, name, 3, width, by_channel=True))
        stages.append(Block(first_layer, Noise(weights, f"{name}.2", width, block), units, stride))
    end = first + len(shape.strides)
    last = to_audio(weights, f"decoder.model.{end + 1}", width, 7)
    return Stages(
        [*stages, PlainStage(Chain([Convolved(last, snake(weights, f"decoder.model.{end}", width)), Tanh()]))]
    )


def _encoder(weights: Weights, shape: Shape) -> Chain:
    width = shape.encoder
    layers: list[Layer] = [Convolved(conv(weights, "encoder.block.0", 1, width, 7))]
    for block, stride in enumerate(shape.strides, 1):
        name = f"encoder.block.{block}.block"
        layers += residual_units(weights, name, 0, width, by_channel=True)
        strided = down(weights, f"{name}.4", width, 2 * width, stride)
        layers.append(Convolved(strided, snake(weights, f"{name}.3", width)))
        width *= 2
    end = len(shape.strides) + 1
    if shape.attention:
        layers.append(Attention(weights, f"encoder.block.{end}", width, shape.attention))
        end += 1
    return Chain([*layers, Convolved(depthwise(weights, f"encoder.block.{end}", width, 7))])


def _decoder(weights: Weights, shape: Shape) -> tuple[Chain, Stages]:
    """Make the decoder's layers up to the attention, and the rest, which takes most of the time."""
    head: list[Layer] = [
        Convolved(depthwise(weights, "decoder.model.0", shape.latent, 7)),
        Convolved(conv(weights, "decoder.model.1", shape.latent, shape.decoder, 1)),
    ]
    if shape.attention:
        head.append(Attention(weights, "decoder.model.2", shape.decoder, shape.attention))
    return Chain(head), _body(weights, shape, len(head))


class Snac(WindowedCodec):
    """SNAC at 24, 32 or 44.1 kHz, one channel.

    ``weights``: those of the original checkpoints with weight norm folded; otherwise raises ModelError.
    """

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        self.spec, self.device, shape = spec, weights.device, SHAPES[spec.name]
        self._encoder = _encoder(weights, shape)
        decoding = weights.of_decoder()
        self._head, self._body = _decoder(decoding, shape)
        self.fast, self.decode_dtype = weights.fast, decoding.dtype
        self._steps = spec.codebooks[-1].codes_per_frame  # latent vectors per frame
        self._quantisers = [
            rvq.Projected(
                weights,
                f"quantizer.quantizers.{i}",
                2**book.bits,
                shape.codebook,
                shape.latent,
                self._steps // book.codes_per_frame,
            )
            for i, book in enumerate(spec.codebooks)
        ]
        weights.finish()
        self.encode_plan = self._plan(self._encoder.needs, spec.frame_samples, self._steps, shape.window)
        self.decode_plan = self._plan(self._decoder_needs, self._steps, spec.frame_samples, shape.window)

    def _decoder_needs(self, span: Span) -> Span:
        return self._head.needs(self._body.needs(span))

    def _plan(self, needs: Callable[[Span], Span], in_units: int, out_units: int, window: int) -> Plan:
        """Return a plan whose context consists of whole windows of the attention."""
        unit = self.spec.frame_multiple
        left, right = context(needs, in_units=unit * in_units, out_units=unit * out_units)
        return Plan(unit * left, unit * right, window)

    def encode_frames(self, audio: Tensor, codebooks: int) -> tuple[Tensor, ...]:
        quantisers = self._quantisers[:codebooks]
        return each(lambda x: rvq.encode(quantisers, self._encoder(x)), audio.transpose(1, 2))

    def decode_frames(self, arrays: tuple[Tensor, ...], first: int | Tensor) -> Tensor:
        frames = arrays[0].shape[-1] // self.spec.codebooks[0].codes_per_frame
        return self.decode_window(arrays, first, range(frames))

    def decode_window(self, arrays: tuple[Tensor, ...], first: int | Tensor, wanted: range) -> Tensor:
        size = self.spec.frame_samples
        span = Span(wanted.start * size, wanted.stop * size - 1)

        def decode(*codes: Tensor) -> tuple[Tensor]:
            x = self._head(rvq.decode(self._quantisers, codes, self.decode_dtype))
            return (self._body(x, span, first * self._steps).float(),)

        (audio,) = each(decode, *arrays)
        frames = arrays[0].shape[-1] // self.spec.codebooks[0].codes_per_frame
        return functional.pad(audio.transpose(1, 2), (wanted.start * size, (frames - wanted.stop) * size))


def load(spec: CodecSpec, path: Path, device: torch.device, *, fast: bool = False) -> Codec:
    """Load the codec from a checkpoint, a file or a folder. Raises ModelError for other weights."""
    return checkpoints.load(spec, path, device, Snac, fast=fast)


def random(
    spec: CodecSpec, device: torch.device, seed: int = 0, *, fast: bool = False
) -> tuple[Codec, dict[str, Tensor]]:
    """Make the codec with random weights. Returns it and the weights by name."""
    weights = RandomWeights(device, seed, fast=fast)
    return Snac(spec.with_fingerprint(RANDOM), weights), weights.tensors


class SnacReference(Reference):
    """The package snac."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from snac import SNAC as Network

        network: nn.Module = Network(**published_config(spec))
        return network

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio)

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        return self.model.decode(codes)

    def layers(self, codes: Any) -> Sequence[Tensor]:
        layers: Sequence[Tensor] = codes
        return layers


def published_config(spec: CodecSpec) -> dict[str, Any]:
    """Return the contents of a model's config.json."""
    shape, coarsest = SHAPES[spec.name], spec.codebooks[-1].codes_per_frame
    return {
        "sampling_rate": spec.sample_rate,
        "encoder_dim": shape.encoder,
        "encoder_rates": list(shape.strides),
        "decoder_dim": shape.decoder,
        "decoder_rates": list(shape.strides[::-1]),
        "attn_window_size": shape.attention,
        "codebook_size": 2 ** spec.codebooks[0].bits,
        "codebook_dim": shape.codebook,
        "vq_strides": [coarsest // book.codes_per_frame for book in spec.codebooks],
        "noise": True,
        "depthwise": True,
    }
