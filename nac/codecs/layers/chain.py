"""Layers and stages one after the other, and the context that they need.

Signals are float32 [B, T, channels].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from nac.codecs.layers.spans import Span


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
