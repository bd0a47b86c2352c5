"""What the families share: layers in time-major layout, and receptive fields computed from them.

Signals are float32 [B, T, channels]. In this layout a convolution is a sum of matrix products of shifted views, a
strided one is the same over groups of steps, a transposed one gives its steps already in order, and nothing is
copied or unfolded. Layers compute their outputs in tiles that stay in a core's cache from the first operation to
the last: on a CPU such a network runs near the speed of its matrix products.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs import onednn
from nac.codecs import parallel as workers
from nac.codecs.compiled import compiled
from nac.errors import ModelError

TILE, ROWS = 1 << 18, 1024  # numbers and steps of a signal that are computed at a time, as measured
AT_LEAST, FEWEST = 4, 128  # tiles of a signal if they have so many steps
CPU = torch.device("cpu")
PASS = 1 << 16  # numbers that stay in a core's own cache from one pass to the next


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

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name, float32 on the device: a copy, so that the file it came from can be closed."""
        self._taken.add(name)
        if name not in self._tensors:
            self._missing.append(name)
        elif (found := tuple(self._tensors[name].shape)) != shape:
            self._misshapen.append(f"{name} {list(found)} instead of {list(shape)}")
        else:
            return self._tensors[name].to(self.device, torch.float32, copy=True)
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
    results = workers.each([partial(function, *item) for item in items])
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def tiles(length: int, tile: int, unit: int = 1, device: torch.device = CPU) -> list[Span]:
    """Equal parts of a signal to compute side by side, in whole ``unit``, of about ``tile`` steps at most.

    They depend on its length alone, not on how many threads there are: with them go the shapes, and the rounding.
    A GPU has no use for them, and gets one.
    """
    if device.type != "cpu":
        tile = unit = max(length, 1)
    count = max(-(-length // tile), min(AT_LEAST, length // (FEWEST * unit)), 1)
    size = max(-(-length // (count * unit)), 1) * unit
    return [Span(low, min(low + size, length) - 1) for low in range(0, length, size)]


def in_tiles(compute: Callable[[Span], None], spans: Sequence[Span]) -> None:
    workers.each([partial(compute, span) for span in spans])


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

    def needs(self, span: Span) -> Span:
        return conv_span(span, kernel=self.kernel, stride=self.stride, dilation=self.dilation, left=self.pad[0])


class Product(Protocol):
    """A convolution of stride 1 without padding, [B, T, i] -> [B, T - reach, o]."""

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Added in place to ``onto`` if that is given."""
        ...


def product(weight: Tensor, bias: Tensor | None, *, steps: int, dilation: int = 1) -> Product:
    """What computes it where its weights [o, i, kernel] are. ``steps``: about so many at a time."""
    if not weight.is_cpu or not onednn.works():
        return Taps(weight, bias, dilation)
    if weight.shape[2] == 1:
        return onednn.Rows(weight[..., 0], bias, steps)
    return onednn.Convolution(weight, bias, dilation, steps)


class Taps:
    """See :class:`Product`: a matrix product for each tap of the kernel, summed in place."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int) -> None:
        self._taps, self._bias, self._dilation = weight.permute(2, 1, 0).contiguous(), bias, dilation

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        batch, length = x.shape[0], x.shape[1] - (len(self._taps) - 1) * self._dilation
        if onto is None:
            zero = self._taps.new_zeros(self._taps.shape[2])
            onto = (zero if self._bias is None else self._bias).repeat(batch, length, 1)
        elif self._bias is not None:
            onto.add_(self._bias)
        for k, tap in enumerate(self._taps):
            first = k * self._dilation
            onto.baddbmm_(x[:, first : first + length], tap.expand(batch, -1, -1))
        return onto


class Conv(Sliding):
    """``weight`` [out, in, kernel] as in torch.

    ``kernel`` is a multiple of ``stride``: then it is a convolution of stride 1 over groups of ``stride`` steps,
    which in time-major layout lie side by side already.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, stride: int = 1, dilation: int = 1, pad: tuple[int, int] = (0, 0)
    ) -> None:
        out, channels, kernel = weight.shape
        super().__init__(channels, out, kernel, pad=pad, stride=stride, dilation=dilation)
        # Thin inputs make poor products: their taps are laid side by side instead.
        self._thin = stride == dilation == 1 and channels < 8
        group = kernel if self._thin else stride
        weight = weight.view(out, channels, -1, group).permute(0, 3, 1, 2).reshape(out, group * channels, -1)
        self._product = product(weight, bias, steps=self.tile, dilation=dilation)

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """[B, T, in] -> [B, (T - reach) // stride + 1, out]; added in place to ``onto`` if that is given."""
        batch, steps, channels = x.shape
        if self._thin:
            x = x.unfold(1, self.kernel, 1).transpose(2, 3).reshape(batch, -1, self.kernel * channels)
        elif self.stride > 1:
            x = x[:, : steps // self.stride * self.stride].reshape(batch, -1, self.stride * channels)
        return self._product(x, onto)

    def part(self, x: Tensor, span: Span) -> Tensor:
        return self(x)


class ToAudio(Sliding):
    """A convolution to few channels, [B, T, in] -> [B, T - kernel + 1, out], as one product for all taps."""

    def __init__(self, weight: Tensor, bias: Tensor, *, pad: tuple[int, int] = (0, 0)) -> None:
        out, channels, kernel = weight.shape
        super().__init__(channels, out, kernel, pad=pad)
        self._product = product(weight.permute(2, 0, 1).reshape(-1, channels, 1), None, steps=self.tile)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        parts = self._product(x).view(x.shape[0], x.shape[1], self.kernel, self.out)
        length = x.shape[1] - self.kernel + 1
        out = parts[:, :length, 0] + self._bias
        for k in range(1, self.kernel):
            out += parts[:, k : k + length, k]
        return out

    def part(self, x: Tensor, span: Span) -> Tensor:
        return self(x)


class Transposed:
    """A transposed convolution of kernel ``2 * stride``: a step and the one before give ``stride`` steps.

    ``weight`` [in, out, 2 * stride] as in torch. Of the steps that a signal between single zeros gives, the first
    ``trim`` are cut off and ``T * stride - short`` are kept.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, trim: int = 0, short: int = 0) -> None:
        channels, self.out, kernel = weight.shape
        self.stride, self.trim, self.short = kernel // 2, trim, short
        self.tile, self.unit = tile_of(self.out * self.stride) * self.stride, self.stride
        taps = weight.reshape(channels, self.out, 2, self.stride).permute(2, 0, 3, 1)
        self._conv = Conv(taps.flip(0).reshape(2, channels, -1).permute(2, 1, 0), bias.repeat(self.stride))

    def __call__(self, x: Tensor) -> Tensor:
        """All that the kernel reaches: [B, T, in] -> [B, (T - 1) * stride, out]."""
        return self._conv(x).reshape(x.shape[0], -1, self.out)

    def length(self, steps: int) -> int:
        return steps * self.stride - self.short

    def part(self, x: Tensor, span: Span) -> Tensor:
        first = (span.low + self.trim) % self.stride
        return self(x)[:, first : first + span.high + 1 - span.low]

    def needs(self, span: Span) -> Span:
        return transposed_span(span, kernel=2 * self.stride, stride=self.stride, trim=self.trim)


class Depthwise(Sliding):
    """A convolution of each channel by itself; ``weight`` [channels, 1, kernel]."""

    def __init__(self, weight: Tensor, bias: Tensor, *, dilation: int = 1, pad: tuple[int, int] = (0, 0)) -> None:
        channels, _, kernel = weight.shape
        super().__init__(channels, channels, kernel, pad=pad, dilation=dilation)
        self._weight = weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        # Time-major [B, T, C] is an image [B, C, 1, T] in channels-last layout, for which there are fast kernels.
        image = x.transpose(1, 2).unsqueeze(2)
        out = functional.conv2d(image, self._weight, self._bias, dilation=(1, self.dilation), groups=self.out)
        return out.squeeze(2).transpose(1, 2)

    def part(self, x: Tensor, span: Span) -> Tensor:
        return self(x)


class Convolution(Protocol):
    """A convolution that can compute part of its output."""

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

    def part(self, x: Tensor, span: Span, /) -> Tensor:
        """The outputs ``span`` from just the inputs that they need, zeros around the signal included."""
        ...

    def needs(self, span: Span, /) -> Span: ...


class Tiled(ABC):
    """Base of the layers around a convolution that compute tile by tile."""

    def __init__(self, conv: Convolution) -> None:
        self.conv, self.needs = conv, conv.needs

    def __call__(self, x: Tensor) -> Tensor:
        steps, length = x.shape[1], self.conv.length(x.shape[1])
        out = x.new_empty(x.shape[0], length, self.conv.out)

        def compute(span: Span) -> None:
            low, high = self.needs(span)
            zeros = max(-low, 0), max(high + 1 - steps, 0)
            padded = self.padded(x[:, max(low, 0) : high + 1], zeros)
            out[:, span.low : span.high + 1] = self.conv.part(padded, span)

        in_tiles(compute, tiles(length, self.conv.tile, self.conv.unit, x.device))
        return out

    @abstractmethod
    def padded(self, x: Tensor, zeros: tuple[int, int]) -> Tensor:
        """What the convolution takes: the signal between zeros."""


class Padded(Tiled):
    """A convolution alone."""

    def padded(self, x: Tensor, zeros: tuple[int, int]) -> Tensor:
        return functional.pad(x, (0, 0, *zeros))


class Tanh(Pointwise):
    def __call__(self, x: Tensor) -> Tensor:
        return x.tanh_()


class Snake:
    """``x + sin(a x)^2 / (a + 1e-9)``, with ``a`` for each channel (Ziyin et al. 2020, arXiv:2006.08195)."""

    def __init__(self, alpha: Tensor) -> None:
        self._alpha = alpha.reshape(-1)
        self._inverse = (self._alpha + 1e-9).reciprocal()

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        out = torch.empty_like(x) if out is None else out
        rows = max(PASS // x.shape[2], 1) if x.is_cpu else max(x.shape[1], 1)
        return _snake(x, self._alpha, self._inverse, out, rows)


@compiled
def _snake(x: Tensor, alpha: Tensor, inverse: Tensor, out: Tensor, rows: int) -> Tensor:
    """So many steps at a time."""
    for low in range(0, x.size(1), rows):
        count = min(rows, x.size(1) - low)
        part = x.narrow(1, low, count)
        sine = (part * alpha).sin_()
        torch.addcmul(part, sine.mul_(sine), inverse, out=out.narrow(1, low, count))
    return out


class SnakeConv(Tiled):
    """Snake, then a convolution."""

    def __init__(self, snake: Snake, conv: Convolution) -> None:
        super().__init__(conv)
        self._snake = snake

    def padded(self, x: Tensor, zeros: tuple[int, int]) -> Tensor:
        before, steps, after = zeros[0], x.shape[1], zeros[1]
        out = x.new_empty(x.shape[0], before + steps + after, x.shape[2])
        out[:, :before] = 0
        out[:, before + steps :] = 0
        self._snake(x, out=out[:, before : before + steps])
        return out


class Residual:
    """``x + last(snake(wide(snake(x))))``, added to ``x`` in place; ``wide`` keeps the length."""

    def __init__(self, first: Snake, wide: Conv | Depthwise, second: Snake, last: Conv) -> None:
        self.needs = wide.needs
        self._first, self._wide, self._second, self._last = first, wide, second, last

    def __call__(self, x: Tensor) -> Tensor:
        steps = x.shape[1]
        left, right = self._wide.pad
        spans = tiles(steps, self._wide.tile, device=x.device)
        # What tiles need of their neighbours is kept, who may have changed by then.
        sides = [(x[:, max(low - left, 0) : low], x[:, high + 1 : high + 1 + right]) for low, high in spans]
        kept = {span: (before.clone(), after.clone()) for span, (before, after) in zip(spans, sides, strict=True)}

        def compute(span: Span) -> None:
            part, (before, after) = x[:, span.low : span.high + 1], kept[span]
            held = x.new_empty(x.shape[0], left + part.shape[1] + right, x.shape[2])
            filled = left - before.shape[1]
            held[:, :filled] = 0
            for known in (before, part, after):
                self._first(known, out=held[:, filled : filled + known.shape[1]])
                filled += known.shape[1]
            held[:, filled:] = 0
            inner = self._wide(held)
            self._last(self._second(inner, out=inner), onto=part)

        in_tiles(compute, spans)
        return x


def snake(weights: Weights, name: str, channels: int) -> Snake:
    return Snake(weights.take(f"{name}.alpha", 1, channels, 1))


def conv(weights: Weights, name: str, inner: int, outer: int, kernel: int, dilation: int = 1) -> Conv:
    """A convolution that keeps the length."""
    weight, bias = weights.take(f"{name}.weight", outer, inner, kernel), weights.take(f"{name}.bias", outer)
    reach = (kernel - 1) * dilation // 2
    return Conv(weight, bias, dilation=dilation, pad=(reach, reach))


def depthwise(weights: Weights, name: str, channels: int, kernel: int, dilation: int = 1) -> Depthwise:
    """The same for each channel by itself."""
    weight, bias = weights.take(f"{name}.weight", channels, 1, kernel), weights.take(f"{name}.bias", channels)
    reach = (kernel - 1) * dilation // 2
    return Depthwise(weight, bias, dilation=dilation, pad=(reach, reach))


def down(weights: Weights, name: str, inner: int, outer: int, stride: int) -> Conv:
    """A convolution of kernel ``2 * stride`` that divides the length by ``stride``."""
    weight, bias = weights.take(f"{name}.weight", outer, inner, 2 * stride), weights.take(f"{name}.bias", outer)
    before = (stride + 1) // 2
    return Conv(weight, bias, stride=stride, pad=(before, stride - before))


def up(weights: Weights, name: str, inner: int, outer: int, stride: int, short: int = 0) -> Transposed:
    """A transposed convolution that multiplies the length by ``stride`` (less ``short``)."""
    weight, bias = weights.take(f"{name}.weight", inner, outer, 2 * stride), weights.take(f"{name}.bias", outer)
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
