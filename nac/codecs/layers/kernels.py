"""Functions for tiles of a signal, which threads run in parallel.

Signals are float32 [B, T, channels]. Weights are in named tuples, because TorchScript (see
:mod:`nac.codecs.layers.compiled`) does not support other classes.
"""
# TorchScript reads the annotations, so they must be types, not strings.

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs.layers.compiled import compiled


class Kernel(NamedTuple):
    """A convolution with stride 1 over groups of ``group`` steps, [B, T, i] -> [B, T // group - reach, o].

    ``kind``: TAPS, a matrix for each tap, [k, i, o]; ROWS or IMAGE, a matrix or an image kernel packed by oneDNN;
    BY_CHANNEL, a depthwise kernel. ``thin``: overlapping groups, one for each step. ``summed``: the number of taps
    whose products remain to be summed. ``min_steps``: the minimum number of steps to compute.
    """

    kind: int
    weight: Tensor
    bias: Tensor | None
    dilation: int = 1
    reach: int = 0
    group: int = 1
    thin: bool = False
    summed: int = 1
    min_steps: int = 1


TAPS, ROWS, IMAGE, BY_CHANNEL = 0, 1, 2, 3


class Activation(NamedTuple):
    """An activation. ``kind``: NONE, ELU, or SNAKE with factors per channel, before and after the sine."""

    kind: int
    alpha: Tensor
    inverse: Tensor


NONE, ELU, SNAKE = 0, 1, 2


def convolve(x: Tensor, kernel: Kernel) -> Tensor:
    """Apply a kernel: [B, T, i] -> [B, T // group - reach, o]."""
    return _convolve(_grouped(x, kernel), kernel, None)


def add_convolved(x: Tensor, kernel: Kernel, onto: Tensor) -> Tensor:
    """Apply a kernel, and add the result to ``onto`` in place."""
    return _convolve(_grouped(x, kernel), kernel, onto)


def _grouped(x: Tensor, kernel: Kernel) -> Tensor:
    if kernel.thin:
        x = x.unfold(1, kernel.group, 1).transpose(2, 3).reshape(x.size(0), -1, kernel.group * x.size(2))
    elif kernel.group > 1:
        count = x.size(1) // kernel.group
        x = x.narrow(1, 0, count * kernel.group).reshape(x.size(0), count, kernel.group * x.size(2))
    return x


def _convolve(x: Tensor, kernel: Kernel, onto: Tensor | None) -> Tensor:
    length = x.size(1) - kernel.reach
    if kernel.kind == 0 and kernel.summed == 1:
        return _taps(x, kernel, onto)
    if kernel.kind == 0:
        out = _taps(x, kernel, None)
    elif kernel.kind == 1:
        out = torch.ops.mkldnn._linear_pointwise(x, kernel.weight, kernel.bias, "none", [], "")
    elif kernel.kind == 2:
        missing = max(kernel.min_steps - length, 0)
        if missing > 0:
            x = functional.pad(x, [0, 0, 0, missing])
        image, dilation = x.transpose(1, 2).unsqueeze(2), [1, kernel.dilation]
        out = torch.ops.mkldnn._convolution_pointwise(
            image, kernel.weight, kernel.bias, [0, 0], [1, 1], dilation, 1, "none", [], ""
        )
        out = out.squeeze(2).transpose(1, 2).narrow(1, 0, length)
    else:
        image, dilation = x.transpose(1, 2).unsqueeze(2), [1, kernel.dilation]
        image = torch.conv2d(image, kernel.weight, kernel.bias, [1, 1], [0, 0], dilation, x.size(2))
        out = image.squeeze(2).transpose(1, 2)
    if kernel.summed > 1:
        out = _sum(out, kernel.summed)
    return out if onto is None else onto.add_(out)


def _sum(products: Tensor, taps: int) -> Tensor:
    """Sum products of taps: [B, T, taps * o] -> [B, T - taps + 1, o]."""
    parts = products.view(products.size(0), products.size(1), taps, -1)
    length = parts.size(1) - taps + 1
    out = parts.select(2, 0).narrow(1, 0, length).contiguous()
    for tap in range(1, taps):
        out.add_(parts.select(2, tap).narrow(1, tap, length))
    return out


def _taps(x: Tensor, kernel: Kernel, onto: Tensor | None) -> Tensor:
    """Compute a matrix product for each tap, and sum in place."""
    weight, bias = kernel.weight, kernel.bias
    length = x.size(1) - kernel.reach
    if onto is None:
        onto = x.new_zeros([x.size(0), length, weight.size(2)])
    if bias is not None:
        onto.add_(bias)
    for tap in range(weight.size(0)):
        part = x.narrow(1, tap * kernel.dilation, length)
        onto.baddbmm_(part, weight[tap].expand(x.size(0), -1, -1))
    return onto


def sine_(x: Tensor) -> Tensor:
    """Compute the sine in place."""
    return _numpy_sine_(x) if _in_numpy(x) else x.sin_()


def exponential_(x: Tensor) -> Tensor:
    """Compute the exponential function in place."""
    return _numpy_exponential_(x) if _in_numpy(x) else x.exp_()


def _in_numpy(x: Tensor) -> bool:
    """Whether numpy can compute it. On AMD CPUs, it takes a third of the time of PyTorch, which uses MKL."""
    return x.device.type == "cpu" and x.dtype == torch.float32


@torch.jit.ignore  # type: ignore[untyped-decorator]
def _numpy_sine_(x: Tensor) -> Tensor:
    array = x.numpy()
    with np.errstate(invalid="ignore"):
        np.sin(array, out=array)
    return x


@torch.jit.ignore  # type: ignore[untyped-decorator]
def _numpy_exponential_(x: Tensor) -> Tensor:
    array = x.numpy()
    np.exp(array, out=array)
    return x


def activate(x: Tensor, by: Activation, out: Tensor, rows: int) -> Tensor:
    """Apply an activation to ``rows`` steps at a time, which stay in the cache; ``out`` may be ``x``."""
    for low in range(0, x.size(1), rows):
        count = min(rows, x.size(1) - low)
        part, to = x.narrow(1, low, count), out.narrow(1, low, count)
        if by.kind == 2:
            sine = sine_(part * by.alpha)
            torch.addcmul(part, sine.mul_(sine), by.inverse, out=to)
        elif by.kind == 1:
            # exp(x) - 1 for negative x: takes half the time of expm1, and its error of 6e-8 is harmless
            torch.maximum(part, exponential_(part.clamp_max(0)).sub_(1), out=to)
        else:
            to.copy_(part)
    return out


def rows_of(x: Tensor) -> int:
    """Return the number of steps that fit in a core's cache; all on a GPU, where each pass has a cost."""
    return max((1 << 16) // x.size(2) if x.device.type == "cpu" else x.size(1), 1)


@compiled
def convolved(
    x: Tensor,
    before: Tensor,
    after: Tensor,
    zeros: tuple[int, int],
    by: Activation,
    kernel: Kernel,
    width: int,
    first: int,
    out: Tensor,
) -> None:
    """Apply an activation to a signal with the steps ``before`` and ``after`` it, pad with zeros, and convolve.

    ``out`` gets the output steps from ``first`` on, each with ``width`` channels.
    """
    around = zeros[0] + before.size(1) + after.size(1) + zeros[1]
    if by.kind != 0 or around > 0:
        x = _activated(zeros[0], [before, x, after], zeros[1], by)
    y = convolve(x, kernel)
    out.copy_(y.reshape(y.size(0), -1, width).narrow(1, first, out.size(1)))


def _activated(left: int, parts: list[Tensor], right: int, by: Activation) -> Tensor:
    """Apply an activation to the parts of a signal, and pad it with zeros."""
    steps = left + right
    for part in parts:
        steps += part.size(1)
    x = parts[0]
    out = x.new_empty([x.size(0), steps, x.size(2)])
    out.narrow(1, 0, left).zero_()
    rows = rows_of(out)
    for part in parts:
        activate(part, by, out.narrow(1, left, part.size(1)), rows)
        left += part.size(1)
    out.narrow(1, left, right).zero_()
    return out


@compiled
def add_branch(
    x: Tensor,
    before: Tensor,
    after: Tensor,
    pad: tuple[int, int],
    activations: tuple[Activation, Activation],
    kernels: tuple[Kernel, Kernel],
) -> None:
    """Add two convolutions, each after an activation, to ``x`` in place.

    ``before`` and ``after``: the existing steps of the signal on either side, up to ``pad`` of them.
    """
    left, right = pad[0] - before.size(1), pad[1] - after.size(1)
    padded, rows = _activated(left, [before, x, after], right, activations[0]), rows_of(x)
    inner = convolve(padded, kernels[0])
    activate(inner, activations[1], inner, rows)
    add_convolved(inner, kernels[1], x)


@compiled
def with_shortcut(
    x: Tensor, before: Tensor, by: Activation, kernels: tuple[Kernel, Kernel], shortcut: Kernel | None, out: Tensor
) -> None:
    """Compute two convolutions, each after an activation, and add the signal or a convolution of it.

    ``before``: the context of the first convolution.
    """
    inner = convolve(_activated(0, [before, x], 0, by), kernels[0])
    activate(inner, by, inner, rows_of(x))
    if shortcut is not None:
        out.copy_(add_convolved(inner, kernels[1], convolve(x, shortcut)))
    else:
        out.copy_(convolve(inner, kernels[1]).add_(x))
