"""The blocks of DAC and SNAC, made from the tensors of their checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor

from nac.codecs.layers import kernels
from nac.codecs.layers.chain import Layer, Pointwise
from nac.codecs.layers.convolutions import Conv, Depthwise, ToAudio, Transposed
from nac.codecs.layers.kernels import Activation
from nac.codecs.layers.spans import Span
from nac.codecs.layers.tiles import in_tiles, tiles
from nac.codecs.layers.weights import Weights


class Tanh(Pointwise):
    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh_()


class Residual:
    """``x + last(snake(dilated(snake(x))))``, computed in place; ``dilated`` keeps the length."""

    def __init__(self, first: Activation, dilated: Conv | Depthwise, second: Activation, last: Conv) -> None:
        self.needs, self._pad, self._tile = dilated.needs, dilated.pad, dilated.tile
        self._activations, self._kernels = (first, second), (dilated.weights, last.weights)

    def __call__(self, x: Tensor) -> Tensor:
        left, right = self._pad
        spans = tiles(x.shape[1], self._tile, device=x.device)
        # Copy the context of each tile, because neighbouring tiles change in place.
        sides = [(x[:, max(low - left, 0) : low], x[:, high + 1 : high + 1 + right]) for low, high in spans]
        copies = {span: (left.clone(), right.clone()) for span, (left, right) in zip(spans, sides, strict=True)}

        def compute(span: Span) -> None:
            part = x[:, span.low : span.high + 1]
            kernels.add_branch(part, *copies[span], self._pad, self._activations, self._kernels)

        in_tiles(compute, spans)
        return x


def snake(weights: Weights, name: str, channels: int) -> Activation:
    """Make Snake, ``x + sin(a x)^2 / (a + 1e-9)``, ``a`` per channel (Ziyin et al. 2020, arXiv:2006.08195)."""
    alpha = weights.take(f"{name}.alpha", 1, channels, 1, exact=True).reshape(-1)
    most = torch.finfo(weights.dtype).max  # where the inverse exceeds it, the sine is almost zero
    inverse = (alpha + 1e-9).reciprocal().clamp(-most, most)
    return Activation(kernels.SNAKE, alpha.to(weights.dtype), inverse.to(weights.dtype))


def conv(weights: Weights, name: str, inner: int, outer: int, kernel: int, dilation: int = 1) -> Conv:
    """Make a convolution that keeps the length."""
    weight, bias = (
        weights.take(f"{name}.weight", outer, inner, kernel, copy=False),
        weights.take(f"{name}.bias", outer),
    )
    reach = (kernel - 1) * dilation // 2
    return Conv(weight, bias, dilation=dilation, pad=(reach, reach))


def depthwise(weights: Weights, name: str, channels: int, kernel: int, dilation: int = 1) -> Depthwise:
    """Make a depthwise convolution that keeps the length."""
    weight, bias = weights.take(f"{name}.weight", channels, 1, kernel), weights.take(f"{name}.bias", channels)
    reach = (kernel - 1) * dilation // 2
    return Depthwise(weight, bias, dilation=dilation, pad=(reach, reach))


def down(weights: Weights, name: str, inner: int, outer: int, stride: int) -> Conv:
    """Make a convolution with kernel ``2 * stride`` that divides the length by ``stride``."""
    weight, bias = (
        weights.take(f"{name}.weight", outer, inner, 2 * stride, copy=False),
        weights.take(f"{name}.bias", outer),
    )
    before = (stride + 1) // 2
    return Conv(weight, bias, stride=stride, pad=(before, stride - before))


def up(weights: Weights, name: str, inner: int, outer: int, stride: int, short: int = 0) -> Transposed:
    """Make a transposed convolution that multiplies the length by ``stride`` and removes ``short`` steps."""
    weight, bias = (
        weights.take(f"{name}.weight", inner, outer, 2 * stride, copy=False),
        weights.take(f"{name}.bias", outer),
    )
    return Transposed(weight, bias, trim=(stride + 1) // 2, short=short)


def to_audio(weights: Weights, name: str, channels: int, kernel: int) -> ToAudio:
    """Make the last convolution of a decoder."""
    weight, bias = weights.take(f"{name}.weight", 1, channels, kernel), weights.take(f"{name}.bias", 1)
    return ToAudio(weight, bias, pad=(kernel // 2, kernel // 2))


def residual_units(weights: Weights, name: str, first: int, channels: int, *, by_channel: bool) -> list[Layer]:
    """Make the three residual units of a block, numbered from ``first``: kernel 7, dilations 1, 3, 9."""

    def dilated(name: str, dilation: int) -> Conv | Depthwise:
        if by_channel:
            return depthwise(weights, name, channels, 7, dilation)
        return conv(weights, name, channels, channels, 7, dilation)

    units: list[Layer] = []
    for unit, dilation in enumerate((1, 3, 9), first):
        inside = f"{name}.{unit}.block"
        units.append(
            Residual(
                snake(weights, f"{inside}.0", channels),
                dilated(f"{inside}.1", dilation),
                snake(weights, f"{inside}.2", channels),
                conv(weights, f"{inside}.3", channels, channels, 1),
            )
        )
    return units
