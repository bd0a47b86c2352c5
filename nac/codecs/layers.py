"""What the families share: layers in time-major layout, and receptive fields computed from them.

Signals are float32 [B, T, channels]. In this layout a convolution is a sum of matrix products of shifted views, a
strided one is the same over groups of steps, a transposed one gives its steps already in order, and nothing is
copied or unfolded. Layers compute their outputs in tiles that stay in a core's cache from the first operation to
the last: on a CPU such a network runs near the speed of its matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nac.codecs import kernels, onednn
from nac.codecs import parallel as workers
from nac.codecs.kernels import Activation, Kernel
from nac.errors import ModelError

TILE, ROWS = 1 << 18, 1024  # numbers and steps of a signal that are computed at a time, as measured
CPU = torch.device("cpu")


class Span(NamedTuple):
    """First and last position, both included, on the time axis of a layer's input or output."""

    low: int
    high: int


def conv_span(span: Span, *, kernel: int, stride: int = 1, dilation: int = 1, left: int = 0) -> Span:
    """Inputs that the outputs ``span`` of a convolution depend on; ``left`` is the padding before the signal."""
    return Span(span.low * stride - left, span.high * stride - left + dilation * (kernel - 1))


def transposed_span(span: Span, *, kernel: int, stride: int, trim: int = 0) -> Span:
    """The same for a transposed convolution; ``trim`` samples are cut off the start of its output."""
    return Span(-((kernel - 1 - span.low - trim) // stride), (span.high + trim) // stride)


def union(a: Span, b: Span) -> Span:
    """Both, and what lies between."""
    return Span(min(a.low, b.low), max(a.high, b.high))


def context(needs: Callable[[Span], Span], *, in_units: int, out_units: int) -> tuple[int, int]:
    """Frames before and after a frame that its output depends on.

    ``needs`` maps a span of the network's output to the span of its input; a frame is ``in_units`` steps of the
    input and ``out_units`` steps of the output.
    """
    low, high = needs(Span(0, out_units - 1))
    return max(0, -(low // in_units)), max(0, high // in_units)


class Layer(Protocol):
    """A step of a network over audio or features in time-major layout, float32 [B, T, channels]."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def needs(self, span: Span, /) -> Span:
        """The inputs that the outputs ``span`` depend on."""
        ...


class Pointwise:
    """Base of the layers whose outputs depend on the input of the same step alone."""

    def needs(self, span: Span) -> Span:
        return span


class Chain:
    """Layers one after the other."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def needs(self, span: Span) -> Span:
        for layer in reversed(self.layers):
            span = layer.needs(span)
        return span


class Stage(Protocol):
    """A step of a decoder that multiplies the length by ``stride``, give or take what is cut off the end."""

    @property
    def stride(self) -> int: ...

    def __call__(self, x: Tensor, position: int, /) -> Tensor:
        """``position``: number of the first step of the output."""
        ...

    def needs(self, span: Span, /) -> Span: ...


class Plain(NamedTuple):
    """A stage that is the same everywhere."""

    layers: Chain
    stride: int = 1

    def __call__(self, x: Tensor, position: int) -> Tensor:
        return self.layers(x)

    def needs(self, span: Span) -> Span:
        return self.layers.needs(span)


class Stages:
    """Stages one after the other, each given no more context than the output wanted needs: the later, the less."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def __call__(self, x: Tensor, position: int, wanted: Span) -> Tensor:
        """The outputs ``wanted``, or those of them that there are.

        ``position``: number of the first step of ``x``; the steps of the output are counted accordingly.
        """
        spans = [wanted]
        for stage in reversed(self.stages):
            spans.append(stage.needs(spans[-1]))
        for stage in self.stages:
            x, position = _crop(x, position, spans.pop())
            position *= stage.stride
            x = stage(x, position)
        return _crop(x, position, wanted)[0]

    def needs(self, span: Span) -> Span:
        for stage in reversed(self.stages):
            span = stage.needs(span)
        return span


def _crop(x: Tensor, position: int, span: Span) -> tuple[Tensor, int]:
    """What there is of a span in a signal whose first step is number ``position``, and its own first step."""
    first = max(span.low, position)
    return x[:, first - position : span.high + 1 - position], first


class Weights:
    """The tensors of a checkpoint by name, ticked off as a network takes them.

    What is missing or has another shape is noted and stood in for by zeros, so that :meth:`finish` can tell all.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._tensors, self.device = tensors, torch.device(device)
        self._taken: set[str] = set()
        self._missing: list[str] = []
        self._misshapen: list[str] = []

    def take(self, name: str, *shape: int, copy: bool = True) -> Tensor:
        """The tensor of that name, float32 on the device.

        A ``copy``, so that the file it came from can be closed, unless it is to be packed and not kept.
        """
        self._taken.add(name)
        if name not in self._tensors:
            self._missing.append(name)
        elif (found := tuple(self._tensors[name].shape)) != shape:
            self._misshapen.append(f"{name} {list(found)} instead of {list(shape)}")
        else:
            return self._tensors[name].to(self.device, torch.float32, copy=copy)
        return torch.zeros(shape, device=self.device)

    def finish(self) -> None:
        """Raise ModelError, naming the tensors, unless exactly those of the checkpoint were taken."""
        extra = sorted(self._tensors.keys() - self._taken)
        found = {"missing": self._missing, "unknown": extra, "of a wrong shape": self._misshapen}
        troubles = [f"tensors {what}: {_some(names)}" for what, names in found.items() if names]
        if troubles:
            raise ModelError(f"not the weights of this model: {'; '.join(troubles)}")


def _some(names: Sequence[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def each(function: Callable[..., tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
    """A function of batches [B, ...]: at once on a GPU, item by item and side by side on a CPU.

    A CPU gains nothing from batches of long signals, and the rounding of a product may depend on its shape:
    one by one, an item's result does not depend on what else is in the batch.
    """
    if not batch[0].is_cpu or batch[0].shape[0] == 1:
        return function(*batch)
    items = zip(*(torch.split(tensor, 1) for tensor in batch), strict=True)
    results = workers.parts([partial(function, *item) for item in items])
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def tiles(length: int, tile: int, unit: int = 1, device: torch.device = CPU) -> list[Span]:
    """Equal parts of a signal to compute side by side, in whole ``unit``, of about ``tile`` steps at most.

    They depend on its length alone, not on how many threads there are: with them go the shapes, and the rounding.
    A GPU has no use for them, and gets one.
    """
    if device.type != "cpu":
        tile = unit = max(length, 1)
    rows = length // unit
    several = 4 if rows >= 512 else 2 if rows >= 64 else 1  # for two threads, and each tile has its price
    count = max(-(-length // tile), several)
    size = max(-(-length // (count * unit)), 1) * unit
    return [Span(low, min(low + size, length) - 1) for low in range(0, length, size)]


def in_tiles(compute: Callable[[Span], None], spans: Sequence[Span]) -> None:
    workers.parts([partial(compute, span) for span in spans])


def tile_of(width: int) -> int:
    """Steps in a tile of a signal with so many channels: few enough for the cache, enough to read weights for."""
    return max(TILE // width, ROWS)


class Sliding:
    """Base of convolutions that take the signal between zeros: ``pad`` of them (before, after)."""

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
    if weight.is_cpu and weight.shape[1] > 1 and onednn.works():
        return onednn.kernel(weight, bias, dilation=dilation, steps=steps)
    return Kernel(
        kernels.TAPS, weight.permute(2, 1, 0).contiguous(), bias, dilation, (weight.shape[2] - 1) * dilation
    )


class Conv(Sliding):
    """``weight`` [out, in, kernel] as in torch.

    ``kernel`` is a multiple of ``stride``: then it is a convolution of stride 1 over groups of ``stride`` steps,
    which in time-major layout lie side by side already.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: int = 1, dilation: int = 1, pad: tuple[int, int] = (0, 0)
    ) -> None:
        out, channels, taps = weight.shape
        super().__init__(channels, out, taps, pad=pad, stride=stride, dilation=dilation)
        # Thin inputs make poor products: their taps are laid side by side instead.
        thin = stride == dilation == 1 < taps and channels < 8
        group = taps if thin else stride
        weight = weight.view(out, channels, -1, group).permute(0, 3, 1, 2).reshape(out, group * channels, -1)
        made = kernel(weight, bias, steps=self.tile, dilation=dilation)
        self.weights = made._replace(group=group, thin=thin)


class ToAudio(Sliding):
    """A convolution to few channels, [B, T, in] -> [B, T - kernel + 1, out], as one product for all taps."""

    def __init__(self, weight: Tensor, bias: Tensor, *, pad: tuple[int, int] = (0, 0)) -> None:
        out, channels, taps = weight.shape
        super().__init__(channels, out, taps, pad=pad)
        offset = torch.cat([bias, bias.new_zeros((taps - 1) * out)])
        matrix = weight.permute(2, 0, 1).reshape(-1, channels, 1)
        self.weights = kernel(matrix, offset, steps=self.tile)._replace(summed=taps)


class Transposed:
    """A transposed convolution of kernel ``2 * stride``: a step and the one before give ``stride`` steps.

    ``weight`` [in, out, 2 * stride] as in torch. Of the steps that a signal between single zeros gives, the first
    ``trim`` are cut off and ``T * stride - short`` are kept.
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
    """A convolution of each channel by itself; ``weight`` [channels, 1, kernel]."""

    def __init__(self, weight: Tensor, bias: Tensor, *, dilation: int = 1, pad: tuple[int, int] = (0, 0)) -> None:
        channels, _, taps = weight.shape
        super().__init__(channels, channels, taps, pad=pad, dilation=dilation)
        image = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.weights = Kernel(kernels.BY_CHANNEL, image, bias, dilation, (taps - 1) * dilation)


class Convolution(Protocol):
    """A convolution that can compute part of its output."""

    @property
    def weights(self) -> Kernel: ...

    @property
    def out(self) -> int:
        """Channels of the output."""
        ...

    @property
    def tile(self) -> int:
        """Steps of the output to compute at a time."""
        ...

    @property
    def unit(self) -> int:
        """Steps of the output that come of one product, and are best computed together."""
        ...

    def length(self, steps: int, /) -> int:
        """Steps of the output for so many of the input."""
        ...

    def first(self, span: Span, /) -> int:
        """Which of the steps that come of what ``span`` needs is its first."""
        ...

    def needs(self, span: Span, /) -> Span: ...


PLAIN = Activation(kernels.NONE, torch.empty(0), torch.empty(0))


class Convolved:
    """An activation, then a convolution, tile by tile."""

    def __init__(self, conv: Convolution, by: Activation = PLAIN) -> None:
        self.conv, self.by, self.needs = conv, by, conv.needs

    def __call__(self, x: Tensor) -> Tensor:
        conv, steps, length = self.conv, x.shape[1], self.conv.length(x.shape[1])
        out = x.new_empty(x.shape[0], length, conv.out)

        def compute(span: Span) -> None:
            low, high = self.needs(span)
            zeros, part = (max(-low, 0), max(high + 1 - steps, 0)), out[:, span.low : span.high + 1]
            within = x[:, max(low, 0) : high + 1]
            kernels.convolved(within, zeros, self.by, conv.weights, conv.out, conv.first(span), part)

        in_tiles(compute, tiles(length, conv.tile, conv.unit, x.device))
        return out


class Tanh(Pointwise):
    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh_()


class Residual:
    """``x + last(snake(wide(snake(x))))``, added to ``x`` in place; ``wide`` keeps the length."""

    def __init__(self, first: Activation, wide: Conv | Depthwise, second: Activation, last: Conv) -> None:
        self.needs, self._pad, self._tile = wide.needs, wide.pad, wide.tile
        self._activations, self._kernels = (first, second), (wide.weights, last.weights)

    def __call__(self, x: Tensor) -> Tensor:
        left, right = self._pad
        spans = tiles(x.shape[1], self._tile, device=x.device)
        # What tiles need of their neighbours is kept, who may have changed by then.
        sides = [(x[:, max(low - left, 0) : low], x[:, high + 1 : high + 1 + right]) for low, high in spans]
        kept = {span: (before.clone(), after.clone()) for span, (before, after) in zip(spans, sides, strict=True)}

        def compute(span: Span) -> None:
            part = x[:, span.low : span.high + 1]
            kernels.add_branch(part, *kept[span], self._pad, self._activations, self._kernels)

        in_tiles(compute, spans)
        return x


def snake(weights: Weights, name: str, channels: int) -> Activation:
    """``x + sin(a x)^2 / (a + 1e-9)``, with ``a`` for each channel (Ziyin et al. 2020, arXiv:2006.08195)."""
    alpha = weights.take(f"{name}.alpha", 1, channels, 1).reshape(-1)
    return Activation(kernels.SNAKE, alpha, (alpha + 1e-9).reciprocal())


def conv(weights: Weights, name: str, inner: int, outer: int, kernel: int, dilation: int = 1) -> Conv:
    """A convolution that keeps the length."""
    weight, bias = (
        weights.take(f"{name}.weight", outer, inner, kernel, copy=False),
        weights.take(f"{name}.bias", outer),
    )
    reach = (kernel - 1) * dilation // 2
    return Conv(weight, bias, dilation=dilation, pad=(reach, reach))


def depthwise(weights: Weights, name: str, channels: int, kernel: int, dilation: int = 1) -> Depthwise:
    """The same for each channel by itself."""
    weight, bias = weights.take(f"{name}.weight", channels, 1, kernel), weights.take(f"{name}.bias", channels)
    reach = (kernel - 1) * dilation // 2
    return Depthwise(weight, bias, dilation=dilation, pad=(reach, reach))


def down(weights: Weights, name: str, inner: int, outer: int, stride: int) -> Conv:
    """A convolution of kernel ``2 * stride`` that divides the length by ``stride``."""
    weight, bias = (
        weights.take(f"{name}.weight", outer, inner, 2 * stride, copy=False),
        weights.take(f"{name}.bias", outer),
    )
    before = (stride + 1) // 2
    return Conv(weight, bias, stride=stride, pad=(before, stride - before))


def up(weights: Weights, name: str, inner: int, outer: int, stride: int, short: int = 0) -> Transposed:
    """A transposed convolution that multiplies the length by ``stride`` (less ``short``)."""
    weight, bias = (
        weights.take(f"{name}.weight", inner, outer, 2 * stride, copy=False),
        weights.take(f"{name}.bias", outer),
    )
    return Transposed(weight, bias, trim=(stride + 1) // 2, short=short)


def to_audio(weights: Weights, name: str, channels: int, kernel: int) -> ToAudio:
    """The convolution that ends a decoder."""
    weight, bias = weights.take(f"{name}.weight", 1, channels, kernel), weights.take(f"{name}.bias", 1)
    return ToAudio(weight, bias, pad=(kernel // 2, kernel // 2))


def residual_units(weights: Weights, name: str, first: int, channels: int, *, by_channel: bool) -> list[Layer]:
    """The three residual units of a block of DAC or SNAC, numbered from ``first``: kernel 7, dilations 1, 3, 9."""

    def wide(name: str, dilation: int) -> Conv | Depthwise:
        if by_channel:
            return depthwise(weights, name, channels, 7, dilation)
        return conv(weights, name, channels, channels, 7, dilation)

    units: list[Layer] = []
    for unit, dilation in enumerate((1, 3, 9), first):
        inside = f"{name}.{unit}.block"
        units.append(
            Residual(
                snake(weights, f"{inside}.0", channels),
                wide(f"{inside}.1", dilation),
                snake(weights, f"{inside}.2", channels),
                conv(weights, f"{inside}.3", channels, channels, 1),
            )
        )
    return units
