"""Sequences of layers and stages, and the context that they need.

Signals are float32 [B, T, channels].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from nac.codecs.layers.spans import Span


class Layer(Protocol):
    """A layer for audio or features in time-major layout, float32 [B, T, channels]."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def needs(self, span: Span, /) -> Span:
        """Return the inputs on which the outputs ``span`` depend."""
        ...


class Pointwise:
    """Base class of layers whose outputs depend only on the input of the same step."""

    def needs(self, span: Span) -> Span:
        return span


class Chain:
    """A sequence of layers."""

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
    """A decoder stage that multiplies the length by ``stride``, except for steps cut off at the end."""

    @property
    def stride(self) -> int: ...

    def __call__(self, x: Tensor, position: int | Tensor, /) -> Tensor:
        """``position``: number of the first step of the output; int64 [B, 1] for rows with different positions."""
        ...

    def needs(self, span: Span, /) -> Span: ...


class PlainStage(NamedTuple):
    """A stage that does not depend on the position."""

    layers: Chain
    stride: int = 1

    def __call__(self, x: Tensor, position: int | Tensor) -> Tensor:
        return self.layers(x)

    def needs(self, span: Span) -> Span:
        return self.layers.needs(span)


class Stages:
    """A sequence of stages, each of which gets only the context that the wanted output needs."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)

    def __call__(self, x: Tensor, wanted: Span, position: int | Tensor = 0) -> Tensor:
        """Compute the outputs ``wanted``, counted from that of the first step of ``x``, as far as they exist.

        ``position``: the number of that step in the signal, for stages that depend on it; int64 [B, 1] for rows
        with different positions.
        """
        spans, start = [wanted], 0
        for stage in reversed(self.stages):
            spans.append(stage.needs(spans[-1]))
        for stage in self.stages:
            x, start = _crop(x, start, spans.pop())
            start, position = start * stage.stride, position * stage.stride
            x = stage(x, position + start)
        return _crop(x, start, wanted)[0]

    def needs(self, span: Span) -> Span:
        for stage in reversed(self.stages):
            span = stage.needs(span)
        return span


def _crop(x: Tensor, start: int, span: Span) -> tuple[Tensor, int]:
    """Return the existing part of a span of a signal whose first step is number ``start``, and its first step."""
    first = max(span.low, start)
    return x[:, first - start : span.high + 1 - start], first
