"""Products and convolutions by oneDNN with weights that are packed once, for the processor at hand.

PyTorch's own convolution packs its weights anew in every call, and its products go to MKL, which runs at half of
what an AMD processor can do. The calls here are those that PyTorch's compiler makes. They are private to it: this
is the one place that knows them, and :func:`works` tries them before anything relies on them.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs.layers.kernels import IMAGE, ROWS, Kernel, convolve

FEWEST = 128  # steps of a convolution whose packing may depend on their number


def kernel(weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1, steps: int = 1024) -> Kernel:
    """Weights [o, i, kernel] packed for about so many ``steps`` at a time.

    A matrix gives each row the same numbers however many there are. A signal in time-major layout is an image
    [1, i, 1, T] in channels-last layout.
    """
    out, channels, taps = weight.shape
    if taps == 1:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight[..., 0].contiguous(), steps)
        return Kernel(ROWS, packed, bias)
    reach = (taps - 1) * dilation
    image = [1, channels, 1, max(steps, FEWEST) + reach]
    packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
        weight.unsqueeze(2).to_mkldnn(), [0, 0], [1, 1], [1, dilation], 1, image
    )
    # Channels in blocks of 48 or 64, whichever oneDNN prefers: packed as not preferred, they are packed anew.
    return Kernel(IMAGE, packed, bias, dilation, reach, fewest=FEWEST if out % 48 == 0 else 1)


def steady(matrix: Kernel, width: int, threads: int, rows: int) -> bool:
    """Whether so many threads give the same numbers as one, as a trial with one row and so many tells."""
    signals = [numbers(1, count, width) for count in (1, rows)]
    alone = [convolve(signal, matrix) for signal in signals]
    torch.set_num_threads(threads)
    try:
        together = [convolve(signal, matrix) for signal in signals]
    finally:
        torch.set_num_threads(1)
    return all(torch.equal(*pair) for pair in zip(alone, together, strict=True))


def numbers(*shape: int) -> Tensor:
    """Of all kinds, to try something with."""
    return (torch.arange(torch.Size(shape).numel()) * 0.7).sin().view(shape)


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
    matrix, weight, bias = numbers(48, 32, 1), numbers(48, 32, 3), numbers(48)
    rows, image = kernel(matrix, bias, steps=64), kernel(weight, bias, dilation=2, steps=200)
    signal = numbers(1, 300, 32)
    products = convolve(signal, rows)
    if not torch.allclose(products, functional.linear(signal, matrix[..., 0], bias), atol=1e-4):
        return False
    if not all(torch.equal(convolve(signal[:, :some], rows), products[:, :some]) for some in (1, 2, 7, 16, 100)):
        return False
    for some in (60, 250):
        part = signal[:, 20 : 20 + some]
        right = functional.conv1d(part.transpose(1, 2), weight, bias, dilation=2).transpose(1, 2)
        if not torch.allclose(convolve(part, image), right, atol=1e-4):
            return False
    return True
