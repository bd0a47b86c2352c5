"""Codecs at their official sizes with random weights: to measure and to test without a checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nac.codecs.base import Array, Codec
from nac.codecs.layers import Weights
from nac.spec import CodecSpec

if TYPE_CHECKING:
    from nac.codecs.soundstream import Expected, Parameters


class RandomWeights(Weights):
    """Gives every tensor that a network asks for, and keeps them: ``tensors`` by their canonical names.

    Signals stay about as loud from layer to layer, and codes are lively.
    """

    def __init__(self, device: torch.device | str = "cpu", seed: int = 0) -> None:
        self.tensors: dict[str, Tensor] = {}
        super().__init__(self.tensors, device)
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, name: str, *shape: int, copy: bool = True) -> Tensor:
        self.tensors[name] = self._random(name, shape)
        return super().take(name, *shape, copy=copy)

    def _random(self, name: str, shape: tuple[int, ...]) -> Tensor:
        normal = torch.randn(shape, generator=self._generator)
        if name.endswith("alpha"):
            return normal.abs() + 0.3
        if "bias" in name or len(shape) < 2:
            return normal * 0.02 + name.endswith("norm.weight")
        if "codebook" in name:
            return normal
        added = name.endswith(("block.3.weight", "linear.weight"))  # to what came in, which must not grow
        inputs = shape[1] * max(shape[2:], default=1)
        return normal * ((0.3 if added else 1.0) / math.sqrt(inputs))


def soundstream(spec: CodecSpec, device: torch.device, seed: int = 0) -> tuple[Codec, dict[str, Tensor]]:
    """SoundStream with random parameters, which no reference could take."""
    from nac.codecs import soundstream

    rng = np.random.default_rng(seed)
    everything = (expected for *_, file in soundstream.FILES for expected in file)
    parameters = {expected.name: _parameters(expected, rng) for expected in everything}
    return soundstream.SoundStream(spec, parameters, device), {}


def _parameters(expected: Expected, rng: np.random.Generator) -> Parameters:
    from nac.codecs.soundstream import AXES, Affine, Parameters

    _, kind, shape, quantised = expected
    affine = Affine(np.float32(0.04), -7) if quantised else None
    if kind == "SQUARED_DIFFERENCE":
        return Parameters(rng.standard_normal(shape[-2:]).astype(np.float32))
    if kind == "LEAKY_RELU":
        return Parameters(source=affine, target=affine)
    if kind == "SUB":
        return Parameters(np.zeros(shape, np.float32))
    depthwise = kind == "DEPTHWISE_CONV_2D"
    out, taps = (shape[3], 3) if depthwise else (shape[0], int(np.prod(shape[1:])))
    weight: Array = rng.standard_normal(shape)[:, :, 0].transpose(AXES[kind])
    bias: Array = rng.standard_normal(out)
    if not quantised:
        return Parameters((weight / taps**0.5).astype(np.float32), (0.1 * bias).astype(np.float32))
    scale = np.full(1 if kind == "TRANSPOSE_CONV" else out, 1 / (40 * taps**0.5), np.float32)
    weight = np.clip(np.rint(40 * weight), -127, 127).astype(np.int8)
    return Parameters(weight, np.rint(bias / 0.4 / scale).astype(np.int32), scale, affine, affine)
