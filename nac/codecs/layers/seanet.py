"""SEANet, the convolutions of EnCodec and Mimi (Tagliasacchi et al. 2020, arXiv:2009.02095).

Signals are float32 [B, T, C]. Causal networks process a signal in pieces; others process it at once, with
normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs import parallel as workers
from nac.codecs.devices import on_gpu
from nac.codecs.layers import kernels
from nac.codecs.layers.causal import Stream, StreamLayer
from nac.codecs.layers.convolutions import PLAIN, Conv, Convolved, ToAudio, Transposed, within
from nac.codecs.layers.kernels import Activation
from nac.codecs.layers.lstm import Lstm
from nac.codecs.layers.spans import Span
from nac.codecs.layers.tiles import in_tiles, tile_of, tiles
from nac.codecs.layers.weights import Weights

Edges = Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
"""Returns the padding of a signal [B, T, C] for a number of steps before and after it."""


ELU = Activation(kernels.ELU, torch.empty(0), torch.empty(0))


def reflect(x: Tensor, left: int, right: int) -> tuple[Tensor, Tensor]:
    """Reflections of a signal; one that is too short is extended with zeros meanwhile."""
    steps, missing = x.shape[1], max(left, right) + 1 - x.shape[1]
    if missing > 0:
        x = functional.pad(x, (0, 0, 0, missing))
    before, after = x[:, 1 : left + 1].flip(1), x[:, -right - 1 : -1].flip(1)
    return before, torch.cat([x[:, steps:], after], 1)[:, :right] if missing > 0 else after


def zeros(x: Tensor, left: int, right: int) -> tuple[Tensor, Tensor]:
    """Zeros."""
    return x.new_zeros(x.shape[0], left, x.shape[2]), x.new_zeros(x.shape[0], right, x.shape[2])


def repeat(x: Tensor, left: int, right: int) -> tuple[Tensor, Tensor]:
    """The first and the last step."""
    return x[:, :1].expand(-1, left, -1), x[:, -1:].expand(-1, right, -1)


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters.

    ``strides``: in the encoder's order. ``width``: channels at the sample rate, doubled at each stride.
    ``latent``: dimensions of latent vectors. ``last``: kernel of the last convolution of encoder and decoder.
    ``edges``: the padding of convolutions; with reflections, the first piece must have at least as many steps at
    each layer as the padding. ``shortcut``: a convolution in the skip connection of each residual block. ``lstm``:
    an LSTM at the lowest rate. Networks that are not ``causal`` normalise the output of each convolution.
    """

    strides: tuple[int, ...]
    width: int
    latent: int
    last: int = 7
    edges: Edges = reflect
    shortcut: bool = True
    lstm: bool = True
    causal: bool = True


class Norm:
    """Group normalisation with one group: over all steps and channels (Wu and He 2018, arXiv:1803.08494)."""

    def __init__(self, weights: Weights, name: str, channels: int) -> None:
        self._scale, self._shift = (weights.take(f"{name}.norm.{part}", channels) for part in ("weight", "bias"))

    def __call__(self, x: Tensor) -> Tensor:
        if on_gpu(x):
            normal = functional.layer_norm(x, x.shape[1:])
            return torch.addcmul(self._shift, normal, self._scale, out=normal)
        parts = [x[:, span.low : span.high + 1] for span in tiles(x.shape[1], tile_of(x.shape[2]))]
        sums = np.array(workers.parts([partial(_sums, part) for part in parts])).sum(0) / x.numel()
        scale = self._scale / math.sqrt(sums[1] - sums[0] ** 2 + 1e-5)
        shift = self._shift - scale * float(sums[0])
        workers.parts([partial(torch.addcmul, shift, part, scale, out=part) for part in parts])
        return x


def _sums(x: Tensor) -> tuple[float, float]:
    """Return the sum of the numbers, and that of their squares."""
    flat = x.flatten()
    return float(flat.sum()), float(flat.dot(flat))


class Padded:
    """``activation``, padding and a convolution, with normalisation if it is not causal."""

    def __init__(
        self,
        weights: Weights,
        name: str,
        inner: int,
        outer: int,
        kernel: int,
        *,
        shape: Shape,
        stride: int = 1,
        bias: bool = True,
        activation: Activation = PLAIN,
    ) -> None:
        weight = weights.take(f"{name}.conv.weight", outer, inner, kernel, copy=False)
        offset = weights.take(f"{name}.conv.bias", outer) if bias else weight.new_zeros(outer)
        conv = ToAudio(weight, offset) if outer < 8 and stride == 1 else Conv(weight, offset, stride=stride)
        self.conv, self._convolved = conv, Convolved(conv, activation)
        self._norm = None if shape.causal else Norm(weights, name, outer)
        self._stride, self._edges, total = stride, shape.edges, kernel - stride
        self._right = 0 if shape.causal else total // 2
        self._left = total - self._right

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        x = self._convolved(x, *self.around(x, stream))
        return self._norm(x) if self._norm else x

    def around(self, x: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """Return the steps before and after ``x``: those of the last piece, or padding."""
        right = self._right + -x.shape[1] % self._stride if stream.last else 0
        before, after = self._edges(x, self._left if stream.first else 0, right)
        if not stream.first and self._left:
            before = stream.memory[self]
        if self._left and not stream.last:
            known = x if x.shape[1] >= self._left else torch.cat([before, x], 1)
            stream.memory[self] = known[:, known.shape[1] - self._left :].clone()
        return before, after


class Up:
    """ELU and a transposed convolution; if it is not causal, with normalisation before the ends are removed."""

    def __init__(self, weights: Weights, name: str, inner: int, outer: int, stride: int, *, shape: Shape) -> None:
        weight = weights.take(f"{name}.conv.weight", inner, outer, 2 * stride, copy=False)
        bias = weights.take(f"{name}.conv.bias", outer)
        self._norm = None if shape.causal else Norm(weights, name, outer)
        self._stride = stride
        self._conv = Convolved(Transposed(weight, bias, trim=stride, short=stride), ELU)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        length = x.shape[1] * self._stride
        if self._norm:
            left = self._stride - self._stride // 2
            return self._norm(self._conv(x, *zeros(x, 1, 1)))[:, left : left + length]
        before = torch.zeros_like(x[:, :1]) if stream.first else stream.memory[self]
        stream.memory[self] = x[:, -1:].clone()
        return self._conv(x, before)


class Block:
    """A residual block: ELU, kernel 3, ELU, kernel 1; the skip connection may have a convolution with kernel 1."""

    def __init__(self, weights: Weights, name: str, channels: int, *, shape: Shape) -> None:
        hidden, self._causal = channels // 2, shape.causal
        self._first = Padded(weights, f"{name}.block.1", channels, hidden, 3, shape=shape, activation=ELU)
        self._second = Padded(weights, f"{name}.block.3", hidden, channels, 1, shape=shape, activation=ELU)
        self._shortcut = (
            Padded(weights, f"{name}.shortcut", channels, channels, 1, shape=shape) if shape.shortcut else None
        )

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        if self._causal:
            return self._at_once(x, self._first.around(x, stream)[0])
        inner = self._second(self._first(x, stream), stream)
        return inner.add_(self._shortcut(x, stream) if self._shortcut else x)

    def _at_once(self, x: Tensor, before: Tensor) -> Tensor:
        """Compute all three convolutions, which have no normalisation, tile by tile."""
        out = torch.empty_like(x)
        first, second = self._first.conv, self._second.conv
        shortcut, steps = self._shortcut.conv.weights if self._shortcut else None, before.shape[1]

        def compute(span: Span) -> None:
            low, high = span
            part, tile = out[:, low : high + 1], x[:, low : high + 1]
            context = torch.cat(within((before, x), low, low + steps), 1)
            kernels.with_shortcut(tile, context, ELU, (first.weights, second.weights), shortcut, part)

        in_tiles(compute, tiles(x.shape[1], second.tile, device=x.device))
        return out


class Recurrent:
    """An LSTM and a skip connection."""

    def __init__(self, weights: Weights, name: str, size: int) -> None:
        self._lstm = Lstm(weights, name, size)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        out, stream.memory[self] = self._lstm(x, None if stream.first else stream.memory[self])
        return x + out


@dataclass(frozen=True)
class Network:
    """An encoder or decoder: convolutions before and after the ``middle``, which contains the LSTM, if any."""

    front: Sequence[StreamLayer]
    middle: Sequence[StreamLayer]
    back: Sequence[StreamLayer]


def encoder(weights: Weights, channels: int, shape: Shape) -> Network:
    """Make the encoder."""
    width = shape.width
    front: list[StreamLayer] = [Padded(weights, "encoder.layers.0", channels, width, 7, shape=shape)]
    for i, stride in enumerate(shape.strides):
        front.append(Block(weights, f"encoder.layers.{3 * i + 1}", width, shape=shape))
        name = f"encoder.layers.{3 * i + 3}"
        front.append(
            Padded(weights, name, width, 2 * width, 2 * stride, shape=shape, stride=stride, activation=ELU)
        )
        width *= 2
    end = 3 * len(shape.strides) + 1
    middle = [Recurrent(weights, f"encoder.layers.{end}", width)] if shape.lstm else []
    name = f"encoder.layers.{end + 1 + shape.lstm}"
    return Network(
        front, middle, [Padded(weights, name, width, shape.latent, shape.last, shape=shape, activation=ELU)]
    )


def decoder(weights: Weights, channels: int, shape: Shape) -> Network:
    """Make the decoder."""
    width = shape.width * 2 ** len(shape.strides)
    front = [Padded(weights, "decoder.layers.0", shape.latent, width, 7, shape=shape)]
    middle = [Recurrent(weights, "decoder.layers.1", width)] if shape.lstm else []
    back: list[StreamLayer] = []
    for number, stride in zip(count(2 + shape.lstm, 3), reversed(shape.strides)):
        back.append(Up(weights, f"decoder.layers.{number}", width, width // 2, stride, shape=shape))
        width //= 2
        back.append(Block(weights, f"decoder.layers.{number + 1}", width, shape=shape))
    name = f"decoder.layers.{3 * len(shape.strides) + 2 + shape.lstm}"
    back.append(Padded(weights, name, width, channels, shape.last, shape=shape, activation=ELU))
    return Network(front, middle, back)
