"""Convolutions in time-major layout.

Signals are float32 [B, T, channels]. In this layout, a convolution is a sum of matrix products of shifted views, a
strided one is the same for groups of steps, the steps of a transposed one are already in order, and nothing is
copied or unfolded. Layers compute their outputs in tiles that stay in a core's cache from the first operation to
the last: on a CPU, such a network reaches nearly the speed of its matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nac.codecs.devices import on_gpu
from nac.codecs.layers import kernels, onednn
from nac.codecs.layers.kernels import Activation, Kernel
from nac.codecs.layers.spans import Span, conv_span, transposed_span
from nac.codecs.layers.tiles import ROWS, in_tiles, tile_of, tiles


class Sliding:
    """Base class of convolutions with zero padding: ``pad`` steps (before, after)."""

    def __init__(
        self, inner: int, out: int, kernel: int, *, pad: tuple[int, int], stride: int = 1, dilation: int = 1
    ) -> None:
        self.out, self.kernel, self.stride, self.dilation, self.pad = out, kernel, stride, dilation, pad
        self.tile, self.unit = tile_of(max(out, inner * stride)), 1

    def length(self, steps: int) -> int:
        return (steps + sum(self.pad) - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def first(self, span: Span) -> int:
        return 0

    def needs(self, span: Span) -> Span:
        return conv_span(span, kernel=self.kernel, stride=self.stride, dilation=self.dilation, left=self.pad[0])


def kernel(weight: Tensor, bias: Tensor | None, *, steps: int = ROWS, dilation: int = 1) -> Kernel:
    """What computes a convolution where its weights [o, i, kernel] are, about so many ``steps`` at a time."""
    if not on_gpu(weight) and weight.shape[1] > 1 and onednn.works():
        return onednn.kernel(weight, bias, dilation=dilation, steps=steps)
    return Kernel(
        kernels.TAPS, weight.permute(2, 1, 0).contiguous(), bias, dilation, (weight.shape[2] - 1) * dilation
    )


class Conv(Sliding):
    """A convolution with ``weight`` [out, in, kernel] as in torch.

    ``kernel`` must be a multiple of ``stride``: then it is a convolution with stride 1 over groups of ``stride``
    steps, which are contiguous in time-major layout.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: int = 1, dilation: int = 1, pad: tuple[int, int] = (0, 0)
    ) -> None:
        out, channels, taps = weight.shape
        super().__init__(channels, out, taps, pad=pad, stride=stride, dilation=dilation)
        # Products with few input channels are slow, so their taps are concatenated.
        thin = stride == dilation == 1 < taps and channels < 8
        group = taps if thin else stride
        weight = weight.view(out, channels, -1, group).permute(0, 3, 1, 2).reshape(out, group * channels, -1)
        made = kernel(weight, bias, steps=self.tile, dilation=dilation)
        self.weights = made._replace(group=group, thin=thin)


class ToAudio(Sliding):
    """A convolution with few output channels, [B, T, in] -> [B, T - kernel + 1, out]: one product for all taps."""

    def __init__(self, weight: Tensor, bias: Tensor, *, pad: tuple[int, int] = (0, 0)) -> None:
        out, channels, taps = weight.shape
        super().__init__(channels, out, taps, pad=pad)
        offset = torch.cat([bias, bias.new_zeros((taps - 1) * out)])
        matrix = weight.permute(2, 0, 1).reshape(-1, channels, 1)
        self.weights = kernel(matrix, offset, steps=self.tile)._replace(summed=taps)


class Transposed:
    """A transposed convolution with kernel ``2 * stride``: outputs depend on a step and the previous one.

    ``weight`` [in, out, 2 * stride] as in torch. The signal is padded with one zero on each side; of the outputs,
    the first ``trim`` are removed and ``T * stride - short`` are kept.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, trim: int = 0, short: int = 0) -> None:
        channels, self.out, taps = weight.shape
        self.stride, self.trim, self.short = taps // 2, trim, short
        rows = tile_of(self.out * self.stride)
        self.tile, self.unit = rows * self.stride, self.stride
        weight = weight.reshape(channels, self.out, 2, self.stride).flip(2).permute(3, 1, 0, 2)
        self.weights = kernel(weight.reshape(-1, channels, 2), bias.repeat(self.stride), steps=rows)

    def length(self, steps: int) -> int:
        return steps * self.stride - self.short

    def first(self, span: Span) -> int:
        return (span.low + self.trim) % self.stride

    def needs(self, span: Span) -> Span:
        return transposed_span(span, kernel=2 * self.stride, stride=self.stride, trim=self.trim)


class Depthwise(Sliding):
    """A depthwise convolution; ``weight`` [channels, 1, kernel]."""

    def __init__(self, weight: Tensor, bias: Tensor, *, dilation: int = 1, pad: tuple[int, int] = (0, 0)) -> None:
        channels, _, taps = weight.shape
        super().__init__(channels, channels, taps, pad=pad, dilation=dilation)
        image = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.weights = Kernel(kernels.BY_CHANNEL, image, bias, dilation, (taps - 1) * dilation)


class Convolution(Protocol):
    """A convolution that can compute a part of its output."""

    @property
    def weights(self) -> Kernel: ...

    @property
    def out(self) -> int:
        """The number of output channels."""
        ...

    @property
    def tile(self) -> int:
        """The number of output steps per tile."""
        ...

    @property
    def unit(self) -> int:
        """The number of output steps that are computed by one product."""
        ...

    def length(self, steps: int, /) -> int:
        """Return the number of output steps for ``steps`` input steps."""
        ...

    def first(self, span: Span, /) -> int:
        """Return the index of ``span``'s first step in the output for the input that it needs."""
        ...

    def needs(self, span: Span, /) -> Span: ...


PLAIN = Activation(kernels.NONE, torch.empty(0), torch.empty(0))


class Convolved:
    """An activation and a convolution, computed tile by tile."""

    def __init__(self, conv: Convolution, by: Activation = PLAIN) -> None:
        self.conv, self.by, self.needs = conv, by, conv.needs

    def __call__(self, x: Tensor, before: Tensor | None = None, after: Tensor | None = None) -> Tensor:
        """``before`` and ``after``: the steps on either side of ``x``, if the signal is in three parts."""
        parts = (x[:, :0] if before is None else before), x, (x[:, :0] if after is None else after)
        conv, steps = self.conv, sum(part.shape[1] for part in parts)
        out = x.new_empty(x.shape[0], conv.length(steps), conv.out)

        def compute(span: Span) -> None:
            low, high = self.needs(span)
            zeros, part = (max(-low, 0), max(high + 1 - steps, 0)), out[:, span.low : span.high + 1]
            left, inside, right = within(parts, low, high + 1)
            kernels.convolved(inside, left, right, zeros, self.by, conv.weights, conv.out, conv.first(span), part)

        in_tiles(compute, tiles(out.shape[1], conv.tile, conv.unit, x.device))
        return out


def within(parts: Sequence[Tensor], low: int, high: int) -> list[Tensor]:
    """Return the steps from ``low`` on and before ``high`` of each part of a signal."""
    found = []
    for part in parts:
        found.append(part[:, max(low, 0) : max(high, 0)])
        low, high = low - part.shape[1], high - part.shape[1]
    return found
