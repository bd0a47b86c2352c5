"""DAC, the Descript Audio Codec (Kumar et al. 2023, arXiv:2306.06546).

An encoder of residual units with Snake and strided convolutions, residual vector quantisation in few dimensions,
and a decoder that mirrors the encoder (section 3 and appendix A). It is neither causal nor recurrent: the
receptive field is finite, and a long signal is processed in windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nac.codecs import checkpoints
from nac.codecs.base import Codec
from nac.codecs.fingerprint import RANDOM
from nac.codecs.layers import rvq
from nac.codecs.layers.blocks import Tanh, conv, down, residual_units, snake, to_audio, up
from nac.codecs.layers.chain import Chain, Layer, PlainStage, Stages
from nac.codecs.layers.convolutions import Convolved
from nac.codecs.layers.spans import Span, context
from nac.codecs.layers.tiles import each
from nac.codecs.layers.weights import RandomWeights, Weights
from nac.codecs.reference import Reference
from nac.codecs.windows import Plan, WindowedCodec
from nac.spec import CodecSpec


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters: strides in the encoder's order, channels at either end, width of the latent vectors."""

    strides: tuple[int, ...] = (2, 4, 8, 8)
    latent: int = 1024
    encoder: int = 64
    decoder: int = 1536
    codebook: int = 8


SHAPES = {
    "dac_16khz": Shape((2, 4, 5, 8)),
    "dac_24khz": Shape((2, 4, 5, 8)),
    "dac_44khz": Shape(),
    "dac_44khz_16kbps": Shape(latent=128),
}

WINDOW = 192  # frames, as measured: shorter windows spend more time on context, longer ones need more memory


def _encoder(weights: Weights, shape: Shape) -> Chain:
    width = shape.encoder
    layers: list[Layer] = [Convolved(conv(weights, "encoder.block.0", 1, width, 7))]
    for block, stride in enumerate(shape.strides, 1):
        name = f"encoder.block.{block}.block"
        layers += residual_units(weights, name, 0, width, by_channel=False)
        strided = down(weights, f"{name}.4", width, 2 * width, stride)
        layers.append(Convolved(strided, snake(weights, f"{name}.3", width)))
        width *= 2
    end = len(shape.strides) + 1
    last = conv(weights, f"encoder.block.{end + 1}", width, shape.latent, 3)
    return Chain([*layers, Convolved(last, snake(weights, f"encoder.block.{end}", width))])


def _decoder(weights: Weights, shape: Shape) -> Stages:
    width = shape.decoder
    stages = [PlainStage(Chain([Convolved(conv(weights, "decoder.model.0", shape.latent, width, 7))]))]
    for block, stride in enumerate(reversed(shape.strides), 1):
        name = f"decoder.model.{block}.block"
        # Without output padding, an odd stride loses the last step, and the next layers see zeros there.
        upsampling = up(weights, f"{name}.1", width, width // 2, stride, short=stride % 2)
        first = Convolved(upsampling, snake(weights, f"{name}.0", width))
        width //= 2
        stages.append(
            PlainStage(Chain([first, *residual_units(weights, name, 2, width, by_channel=False)]), stride)
        )
    end = len(shape.strides) + 1
    last = to_audio(weights, f"decoder.model.{end + 1}", width, 7)
    return Stages(
        [*stages, PlainStage(Chain([Convolved(last, snake(weights, f"decoder.model.{end}", width)), Tanh()]))]
    )


class Dac(WindowedCodec):
    """DAC at 16, 24 or 44.1 kHz, one channel.

    ``weights``: those of the original checkpoints with weight norm folded; otherwise raises ModelError.
    """

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        self.spec, self.device, shape = spec, weights.device, SHAPES[spec.name]
        decoding = weights.of_decoder()
        self._encoder, self._decoder = _encoder(weights, shape), _decoder(decoding, shape)
        self.fast, self.decode_dtype = weights.fast, decoding.dtype
        self._quantisers = [
            rvq.Projected(weights, f"quantizer.quantizers.{i}", 2**book.bits, shape.codebook, shape.latent)
            for i, book in enumerate(spec.codebooks)
        ]
        weights.finish()
        hop = prod(shape.strides)
        left, right = context(self._encoder.needs, in_units=hop, out_units=1)
        self.encode_plan = Plan(left, right, WINDOW)
        left, right = context(self._decoder.needs, in_units=1, out_units=hop)
        self.decode_plan = Plan(left, right, WINDOW)

    def encode_frames(self, audio: Tensor, codebooks: int) -> tuple[Tensor, ...]:
        quantisers = self._quantisers[:codebooks]
        return each(lambda x: rvq.encode(quantisers, self._encoder(x)), audio.transpose(1, 2))

    def decode_frames(self, arrays: tuple[Tensor, ...], first: int | Tensor) -> Tensor:
        return self.decode_window(arrays, first, range(arrays[0].shape[-1]))

    def decode_window(self, arrays: tuple[Tensor, ...], first: int | Tensor, wanted: range) -> Tensor:
        size = self.spec.frame_samples
        span = Span(wanted.start * size, wanted.stop * size - 1)

        def decode(*codes: Tensor) -> tuple[Tensor]:
            return (self._decoder(rvq.decode(self._quantisers, codes, self.decode_dtype), span).float(),)

        (audio,) = each(decode, *arrays)
        # At 16 and 24 kHz the network ends 8 samples early; nothing says what they should be.
        before = wanted.start * size
        missing = arrays[0].shape[-1] * size - before - audio.shape[1]
        return functional.pad(audio.transpose(1, 2), (before, missing))


def load(spec: CodecSpec, path: Path, device: torch.device, *, fast: bool = False) -> Codec:
    """Load the codec from a checkpoint, a file or a folder. Raises ModelError for other weights."""
    return checkpoints.load(spec, path, device, Dac, canonical, stable, fast=fast)


def random(
    spec: CodecSpec, device: torch.device, seed: int = 0, *, fast: bool = False
) -> tuple[Codec, dict[str, Tensor]]:
    """Make the codec with random weights. Returns it and the weights by name."""
    weights = RandomWeights(device, seed, fast=fast)
    return Dac(spec.with_fingerprint(RANDOM), weights), weights.tensors


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors to the original package's names."""
    return {_name(name): tensor for name, tensor in tensors.items()}


def stable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights to values that are equal for folded and other checkpoints: rounding does not change signs.

    Weights of convolutions are replaced by their signs, eight in a number from 0 to 255, the first one in the
    highest bit; 1 is negative.
    """
    return {
        name: torch.from_numpy(np.packbits(np.signbit(tensor.numpy())))
        if tensor.ndim == 3 and name.endswith(".weight")
        else tensor
        for name, tensor in tensors.items()
    }


def _layers() -> dict[str, str]:
    """Return the original package's names of layers by those in transformers."""
    names: dict[str, str] = {}
    for side, stack, first, strided in (
        ("encoder", "encoder.block", 0, {"snake1": 3, "conv1": 4}),
        ("decoder", "decoder.model", 2, {"snake1": 0, "conv_t1": 1}),
    ):
        names |= {f"{side}.conv1": f"{stack}.0", f"{side}.snake1": f"{stack}.5", f"{side}.conv2": f"{stack}.6"}
        for block in range(4):
            theirs, ours = f"{side}.block.{block}", f"{stack}.{block + 1}.block"
            names |= {f"{theirs}.{name}": f"{ours}.{number}" for name, number in strided.items()}
            for unit in range(3):
                for number, name in enumerate(("snake1", "conv1", "snake2", "conv2")):
                    names[f"{theirs}.res_unit{unit + 1}.{name}"] = f"{ours}.{first + unit}.block.{number}"
    return names


_LAYERS = _layers()


def _name(name: str) -> str:
    layer, _, tensor = name.rpartition(".")
    return f"{_LAYERS.get(layer, layer)}.{tensor}"


class DacReference(Reference):
    """transformers' DacModel."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from transformers import DacConfig, DacModel

        strides = [2, 4, 5, 8] if spec.frame_samples == 320 else [2, 4, 8, 8]
        config = DacConfig(
            downsampling_ratios=strides, n_codebooks=len(spec.codebooks), sampling_rate=spec.sample_rate
        )
        if spec.name == "dac_44khz_16kbps":
            config.hidden_size = 128
        return DacModel(config)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio).audio_codes

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        return self.model.decode(audio_codes=codes).audio_values

    def layers(self, codes: Any) -> Sequence[Tensor]:
        layers: Sequence[Tensor] = codes.unbind(1)
        return layers

    @staticmethod
    def layer(path: str) -> str:
        return _LAYERS.get(path, path)
