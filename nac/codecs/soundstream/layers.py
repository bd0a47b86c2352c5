"""The layers of Lyra's networks, in float32 and with 8-bit integers, bit-exact as in TFLite's kernels.

Signals are [B, channels, steps].

Integers are stored as float32 and *centred*: a value q with zero point z is stored as q - z, so that 0 means zero,
also in padding. All sums stay below 2**24 in magnitude, so float32 arithmetic on them is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs.layers.chain import Chain as PlainChain
from nac.codecs.layers.chain import Pointwise
from nac.codecs.layers.spans import Span, conv_span, transposed_span, union
from nac.errors import ModelError

SLOPE = float(np.float32(0.3))  # the slope of all leaky ReLUs


class Affine(NamedTuple):
    """An 8-bit quantisation: q means ``scale * (q - zero_point)``."""

    scale: np.float32
    zero_point: int

    @property
    def limits(self) -> tuple[int, int]:
        """The minimum and maximum of centred values."""
        return -128 - self.zero_point, 127 - self.zero_point


class LyraLayer(Protocol):
    """A layer. ``source`` and ``target``: the quantisation of input and output; None for float32."""

    @property
    def source(self) -> Affine | None: ...

    @property
    def target(self) -> Affine | None: ...

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def needs(self, span: Span, /) -> Span:
        """Return the inputs on which the outputs ``span`` depend."""
        ...


@dataclass(frozen=True)
class Quantise(Pointwise):
    target: Affine
    source: None = None

    def __call__(self, x: Tensor) -> Tensor:
        return (x / float(self.target.scale)).round_().clamp_(*self.target.limits)


@dataclass(frozen=True)
class Dequantise(Pointwise):
    source: Affine
    target: None = None

    def __call__(self, x: Tensor) -> Tensor:
        return x * float(self.source.scale)


@dataclass(frozen=True)
class LeakyReLU(Pointwise):
    source: Affine | None = None
    target: Affine | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.source is None or self.target is None:
            return functional.leaky_relu(x, SLOPE)
        # The kernel multiplies by multiples of 1/256 and rounds half up. Because the slope is less than 1, the
        # larger of the two products is the one for the value's sign.
        up = np.rint(256 * (self.source.scale / self.target.scale)) / 256
        down = np.rint(256 * (self.source.scale * np.float32(SLOPE) / self.target.scale)) / 256
        y = torch.maximum(x * float(up), x * float(down))
        return y.add_(0.5).floor_().clamp_(*self.target.limits)


@dataclass(frozen=True, eq=False)
class Convolution:
    """A causal convolution. ``weight``: [out, in / groups, kernel]; integers if quantised, like the bias [out].

    ``ratio`` [out, 1] converts the sums to units of ``target``.
    """

    weight: Tensor
    bias: Tensor
    stride: int = 1
    dilation: int = 1
    source: Affine | None = None
    target: Affine | None = None
    ratio: Tensor | None = None

    @property
    def left(self) -> int:
        """The padding before the signal."""
        return self.dilation * (self.weight.shape[-1] - 1) + 1 - self.stride

    def sums(self, x: Tensor) -> Tensor:
        groups = x.shape[1] // self.weight.shape[1]
        x = functional.pad(x, (self.left, 0)) if self.left else x
        return functional.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, groups)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.sums(x)
        if self.ratio is None or self.target is None:
            return y
        return y.mul_(self.ratio).round_().clamp_(*self.target.limits)

    def needs(self, span: Span) -> Span:
        kernel = self.weight.shape[-1]
        return conv_span(span, kernel=kernel, stride=self.stride, dilation=self.dilation, left=self.left)


class Depthwise(Convolution):
    """A depthwise convolution, as products of shifted signals, which is faster than torch's convolution here."""

    def sums(self, x: Tensor) -> Tensor:
        *before, last = self.weight.unbind(-1)
        y = torch.addcmul(self.bias[:, None], x, last)
        for i, weight in enumerate(reversed(before), start=1):
            shift = i * self.dilation
            y[..., shift:].addcmul_(x[..., :-shift], weight)
        return y


@dataclass(frozen=True, eq=False)
class Transposed:
    """A causal transposed convolution in float32, whose kernel is a multiple of the stride.

    ``weight``: [groups, out * kernel / groups, in / groups]; ``bias``: [out, 1, 1].
    """

    weight: Tensor
    bias: Tensor
    stride: int
    kernel: int
    source: Affine | None = None
    target: Affine | None = None

    def products(self, x: Tensor) -> Tensor:
        """Compute [B, out, i, stride, steps]: what a step adds to the outputs of the i-th step after it."""
        batch, _, steps = x.shape
        y = torch.matmul(self.weight, x.reshape(batch, len(self.weight), -1, steps))
        return y.view(batch, -1, self.kernel // self.stride, self.stride, steps)

    def __call__(self, x: Tensor) -> Tensor:
        first, *later = self.products(x).unbind(2)
        y = first + self.bias
        for i, products in enumerate(later, start=1):
            y[..., i:] += products[..., :-i]
        return y.transpose(2, 3).flatten(2)

    def needs(self, span: Span) -> Span:
        return transposed_span(span, kernel=self.kernel, stride=self.stride)


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantisedTransposed(Transposed):
    """A causal transposed convolution of 8-bit integers in groups, each with its own quantisation.

    The kernel is two strides. Each ``block`` of steps (one frame) is quantised separately, including the bias, and
    then added with overlap in float32; ``overlap`` is the bias that is then counted twice. It and ``ratio``,
    ``low``, ``high``, ``scale`` and ``bias`` have one value per output channel: [out, 1, 1, 1].
    """

    block: int
    overlap: Tensor
    ratio: Tensor
    low: Tensor
    high: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        products = self.products(x)
        blocks = products.view(*products.shape[:-1], -1, self.block)
        head, tail = blocks.unbind(2)  # [B, out, stride, blocks, block]
        head[..., 1:] += tail[..., :-1]
        head, tail = self.rounded(head), self.rounded(tail[..., -1:])
        head[..., 1:, :1] += tail[..., :-1, :] - self.overlap
        return head.flatten(3).transpose(2, 3).flatten(2)

    def rounded(self, sums: Tensor) -> Tensor:
        return (sums + self.bias).mul_(self.ratio).round_().clamp_(self.low, self.high).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class Residual:
    """``x + branch(x)``; for 8-bit integers as in the kernel, with 21-bit multipliers and rounding half up."""

    branch: Chain
    source: Affine | None = None
    target: Affine | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.source is None or self.branch.target is None or self.target is None:
            return y.add_(x)
        scales = [float(addend.scale / self.target.scale) for addend in (self.branch.target, self.source)]
        shift = 20 - (math.frexp(max(scales))[1] - 1)
        a, b = (round(scale * 2**shift) for scale in scales)
        total = (y.int() * a).add_(x.int() * b).add_(1 << shift - 1) >> shift
        return torch.clamp(total, *self.target.limits).to(torch.float32)

    def needs(self, span: Span) -> Span:
        return union(span, self.branch.needs(span))


class Chain(PlainChain):
    """A sequence of layers, made by :func:`chain`."""

    def __init__(self, parts: Sequence[LyraLayer]) -> None:
        super().__init__(parts)
        self.source, self.target = parts[0].source, parts[-1].target


def chain(parts: Sequence[LyraLayer], source: Affine | None = None, *, to_float: bool = False) -> Chain:
    """Connect layers, starting with quantisation ``source``; inserts conversions between float32 and integers."""
    connected: list[LyraLayer] = []
    for layer in parts:
        if source is None and layer.source is not None:
            connected.append(Quantise(layer.source))
        elif source is not None and layer.source is None:
            connected.append(Dequantise(source))
        elif source != layer.source:
            raise ModelError(f"successive layers have different quantisations: {source} and {layer.source}")
        connected.append(layer)
        source = layer.target
    if to_float and source is not None:
        connected.append(Dequantise(source))
    return Chain(connected)
