"""SEANet, EnCodec's convolutions on either side of an LSTM (Tagliasacchi et al. 2020, arXiv:2009.02095).

Signals are float32 [B, T, C]. Causal networks take a signal in pieces; others take it whole, and normalise it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs.layers import Conv, ToAudio, Transposed, Weights
from nac.codecs.lstm import Lstm

STRIDES = (2, 4, 5, 8)  # in the encoder's order
FILTERS = 32  # channels at the sample rate, doubled at each stride
LATENT = 128


@dataclass
class Stream:
    """Where a network is in a signal: whether the next piece is the ``first`` or ``last``, what it remembers.

    Only causal networks can take a signal in pieces; all but the last are whole frames, and the first has at least
    as many steps at each layer as the padding there.
    """

    first: bool = True
    last: bool = False
    memory: dict[object, Tensor] = field(default_factory=dict)


class Layer(Protocol):
    def __call__(self, x: Tensor, stream: Stream, /) -> Tensor: ...


def elu(x: Tensor) -> Tensor:
    """ELU with exp(x) - 1 for negative x: its error of 6e-8 does no harm, and it takes half the time of expm1."""
    below = x.clamp_max(0).exp_().sub_(1)
    return torch.maximum(x, below, out=below)


def reflect(x: Tensor, left: int, right: int) -> Tensor:
    """Reflections around the signal [B, T, C]; zeros follow one too short for them while it is reflected."""
    missing = max(left, right) + 1 - x.shape[1]
    if missing > 0:
        x = functional.pad(x, (0, 0, 0, missing))
    padded = torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, -right - 1 : -1].flip(1)], 1)
    return padded[:, : padded.shape[1] - max(missing, 0)]


class Norm:
    """Group normalisation with one group: over all steps and channels (Wu and He 2018, arXiv:1803.08494)."""

    def __init__(self, weights: Weights, name: str, channels: int) -> None:
        self._scale, self._shift = (weights.take(f"{name}.norm.{part}", channels) for part in ("weight", "bias"))

    def __call__(self, x: Tensor) -> Tensor:
        normal = functional.layer_norm(x, x.shape[1:])
        return torch.addcmul(self._shift, normal, self._scale, out=normal)


class Reflected:
    """A convolution over a signal that is reflected at its ends, and normalised after it if not causal."""

    def __init__(
        self, weights: Weights, name: str, inner: int, outer: int, kernel: int, *, causal: bool, stride: int = 1
    ) -> None:
        weight = weights.take(f"{name}.conv.weight", outer, inner, kernel)
        bias = weights.take(f"{name}.conv.bias", outer)
        self._conv = ToAudio(weight, bias) if outer < 8 and stride == 1 else Conv(weight, bias, stride=stride)
        self._norm = None if causal else Norm(weights, name, outer)
        self._stride, total = stride, kernel - stride
        self._right = 0 if causal else total // 2
        self._left = total - self._right

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        x = self._conv(self._pad(x, stream))
        return self._norm(x) if self._norm else x

    def _pad(self, x: Tensor, stream: Stream) -> Tensor:
        right = self._right + -x.shape[1] % self._stride if stream.last else 0
        left = self._left if stream.first else 0
        if not stream.first and self._left:
            x = torch.cat([stream.memory[self], x], 1)
        if left or right:
            x = reflect(x, left, right)
        if self._left and not stream.last:
            stream.memory[self] = x[:, x.shape[1] - self._left :].clone()
        return x


class Up:
    """ELU, then a transposed convolution, normalised before it is cut if not causal."""

    def __init__(self, weights: Weights, name: str, inner: int, outer: int, stride: int, *, causal: bool) -> None:
        weight = weights.take(f"{name}.conv.weight", inner, outer, 2 * stride)
        bias = weights.take(f"{name}.conv.bias", outer)
        self._norm = None if causal else Norm(weights, name, outer)
        self._stride = stride
        self._conv = Transposed(weight, bias)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        length = x.shape[1] * self._stride
        x = elu(x)
        if self._norm:
            left = self._stride - self._stride // 2
            return self._norm(self._conv(functional.pad(x, (0, 0, 1, 1))))[:, left : left + length]
        before = torch.zeros_like(x[:, :1]) if stream.first else stream.memory[self]
        stream.memory[self] = x[:, -1:].clone()
        return self._conv(torch.cat([before, x], 1))


class Block:
    """Residual block: ELU, kernel 3, ELU, kernel 1, beside a shortcut of kernel 1."""

    def __init__(self, weights: Weights, name: str, channels: int, *, causal: bool) -> None:
        hidden = channels // 2
        self._wide = Reflected(weights, f"{name}.block.1", channels, hidden, 3, causal=causal)
        self._narrow = Reflected(weights, f"{name}.block.3", hidden, channels, 1, causal=causal)
        self._shortcut = Reflected(weights, f"{name}.shortcut", channels, channels, 1, causal=causal)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        inner = self._narrow(elu(self._wide(elu(x), stream)), stream)
        return self._shortcut(x, stream).add_(inner)


class EluConv:
    """ELU, then a convolution."""

    def __init__(self, conv: Reflected) -> None:
        self._conv = conv

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        return self._conv(elu(x), stream)


class Recurrent:
    """An LSTM and a skip connection."""

    def __init__(self, weights: Weights, name: str, size: int) -> None:
        self._lstm = Lstm(weights, name, size)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        out, stream.memory[self] = self._lstm(x, None if stream.first else stream.memory[self])
        return x + out


@dataclass(frozen=True)
class Network:
    """Half of the codec: convolutions on either side of an LSTM."""

    front: Sequence[Layer]
    lstm: Recurrent
    back: Sequence[Layer]


def run(layers: Sequence[Layer], x: Tensor, stream: Stream) -> Tensor:
    for layer in layers:
        x = layer(x, stream)
    return x


def encoder(weights: Weights, channels: int, *, causal: bool) -> Network:
    width = FILTERS
    front: list[Layer] = [Reflected(weights, "encoder.layers.0", channels, width, 7, causal=causal)]
    for i, stride in enumerate(STRIDES):
        front.append(Block(weights, f"encoder.layers.{3 * i + 1}", width, causal=causal))
        name = f"encoder.layers.{3 * i + 3}"
        front.append(EluConv(Reflected(weights, name, width, 2 * width, 2 * stride, causal=causal, stride=stride)))
        width *= 2
    lstm = Recurrent(weights, "encoder.layers.13", width)
    return Network(
        front, lstm, [EluConv(Reflected(weights, "encoder.layers.15", width, LATENT, 7, causal=causal))]
    )


def decoder(weights: Weights, channels: int, *, causal: bool) -> Network:
    width = FILTERS * 2 ** len(STRIDES)
    front = [Reflected(weights, "decoder.layers.0", LATENT, width, 7, causal=causal)]
    lstm = Recurrent(weights, "decoder.layers.1", width)
    back: list[Layer] = []
    for i, stride in enumerate(reversed(STRIDES)):
        back.append(Up(weights, f"decoder.layers.{3 * i + 3}", width, width // 2, stride, causal=causal))
        width //= 2
        back.append(Block(weights, f"decoder.layers.{3 * i + 4}", width, causal=causal))
    back.append(EluConv(Reflected(weights, "decoder.layers.15", width, channels, 7, causal=causal)))
    return Network(front, lstm, back)
