"""Receptive fields: the inputs on which an output of a network depends, computed from its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Span(NamedTuple):
    """First and last position, both included, on the time axis of a layer's input or output."""

    low: int
    high: int


def conv_span(span: Span, *, kernel: int, stride: int = 1, dilation: int = 1, left: int = 0) -> Span:
    """Return the inputs on which outputs of a convolution depend; ``left``: padding before the signal."""
    return Span(span.low * stride - left, span.high * stride - left + dilation * (kernel - 1))


def transposed_span(span: Span, *, kernel: int, stride: int, trim: int = 0) -> Span:
    """Return the same for a transposed convolution; ``trim``: samples removed at the start of its output."""
    return Span(-((kernel - 1 - span.low - trim) // stride), (span.high + trim) // stride)


def union(a: Span, b: Span) -> Span:
    """Return the smallest span that contains both."""
    return Span(min(a.low, b.low), max(a.high, b.high))


def context(needs: Callable[[Span], Span], *, in_units: int, out_units: int) -> tuple[int, int]:
    """Return the number of frames before and after a frame on which its output depends.

    ``needs`` maps a span of the network's output to the span of its input; a frame is ``in_units`` steps of the
    input and ``out_units`` steps of the output.
    """
    low, high = needs(Span(0, out_units - 1))
    return max(0, -(low // in_units)), max(0, high // in_units)
