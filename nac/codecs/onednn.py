"""Products and convolutions by oneDNN with weights that are packed once, for the processor at hand.

PyTorch's own convolution packs its weights anew in every call, and its products go to MKL, which runs at half of
what an AMD processor can do. The calls here are those that PyTorch's compiler makes. They are private to it: this
is the one place that knows them, and :func:`works` tries them before anything relies on them.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

FEWEST = 128  # steps of a convolution whose packing may depend on their number
NOTHING: list[float] = []


class Rows:
    """Rows [T, i] times the transpose of a matrix [o, i], plus a bias [o].

    A row's result does not depend on how many there are.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None = None, rows: int = 1024) -> None:
        """``rows``: about how many there will be at a time."""
        self._packed = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), rows)
        self._bias = bias

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """[..., T, i] -> [..., T, o]; added in place to ``onto`` if that is given."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", NOTHING, "")
        return out if onto is None else onto.add_(out)


class Convolution:
    """A convolution of a signal [1, T, i] without padding; ``weight`` [o, i, kernel], as torch has it.

    A signal in time-major layout is an image [1, i, 1, T] in channels-last layout.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dilation: int, steps: int) -> None:
        """``steps``: of the output, about how many there will be at a time."""
        out, channels, kernel = weight.shape
        self._reach, self._dilation, self._bias = (kernel - 1) * dilation, [1, dilation], bias
        # Channels in blocks of 48 or 64, whichever oneDNN prefers: packed as not preferred, they are packed anew.
        self._fewest = FEWEST if out % 48 == 0 else 1
        image = [1, channels, 1, max(steps, FEWEST) + self._reach]
        self._packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            weight.unsqueeze(2).to_mkldnn(), [0, 0], [1, 1], self._dilation, 1, image
        )

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """[1, T - reach, o]; added in place to ``onto`` if that is given."""
        length = x.shape[1] - self._reach
        missing = max(self._fewest - length, 0)
        if missing:
            x = functional.pad(x, (0, 0, 0, missing))
        if onto is None or missing:
            out = torch.ops.mkldnn._convolution_pointwise(
                _image(x), self._packed, self._bias, [0, 0], [1, 1], self._dilation, 1, "none", NOTHING, ""
            )
            found = cast(Tensor, out).squeeze(2).transpose(1, 2)[:, :length]
            return found if onto is None else onto.add_(found)
        torch.ops.mkldnn._convolution_pointwise_.binary(
            *(_image(onto), _image(x), self._packed, self._bias, [0, 0], [1, 1], self._dilation, 1),
            *("add", 1.0, None, NOTHING, None),
        )
        return onto


def _image(x: Tensor) -> Tensor:
    return x.transpose(1, 2).unsqueeze(2)


@cache
def works() -> bool:
    """Whether the calls are there and do what they are used for. On the processor; a GPU has its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch._C._has_mkldnn and _tried()
    except (AttributeError, RuntimeError, TypeError):
        return False
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _tried() -> bool:
    def numbers(*shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        return (torch.arange(count) * 0.7).sin().view(shape)

    matrix, weight, bias = numbers(48, 32), numbers(48, 32, 3), numbers(48)
    rows, convolution = Rows(matrix, bias, 64), Convolution(weight, bias, 2, 200)
    signal = numbers(1, 300, 32)
    products = rows(signal)
    if not torch.allclose(products, functional.linear(signal, matrix, bias), atol=1e-4):
        return False
    if not all(torch.equal(rows(signal[:, :some]), products[:, :some]) for some in (1, 2, 7, 16, 100)):
        return False
    for some in (60, 250):
        part = signal[:, 20 : 20 + some]
        right = functional.conv1d(part.transpose(1, 2), weight, bias, dilation=2).transpose(1, 2)
        onto = numbers(1, some, 48)
        both = onto[:, 3:-1] + right
        if not torch.allclose(convolution(part), right, atol=1e-4):
            return False
        if not torch.allclose(convolution(part, onto[:, 3:-1]), both, atol=1e-4):
            return False
        if not torch.equal(onto[:, 3:-1], convolution(part, numbers(1, some, 48)[:, 3:-1])):
            return False
    return True
