"""Matrix products and convolutions with oneDNN, with weights that are packed once for the CPU.

PyTorch's own convolution packs its weights in every call, and its products use MKL, which reaches only half of the
possible speed on AMD CPUs. The calls here are those of PyTorch's compiler. They are private, so they are used only
in this module, and :func:`works` tests them first.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs.layers.kernels import IMAGE, ROWS, Kernel, convolve

MIN_STEPS = 128  # minimum number of steps for convolutions whose packing may depend on it


def kernel(weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1, steps: int = 1024) -> Kernel:
    """Pack weights [o, i, kernel] for about ``steps`` steps at a time.

    With a matrix, the result for a row does not depend on the number of rows. A signal in time-major layout is an
    image [1, i, 1, T] in channels-last layout.
    """
    out, channels, taps = weight.shape
    if taps == 1:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight[..., 0].contiguous(), steps)
        return Kernel(ROWS, packed, bias)
    reach = (taps - 1) * dilation
    image = [1, channels, 1, max(steps, MIN_STEPS) + reach]
    packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
        weight.unsqueeze(2).to_mkldnn(), [0, 0], [1, 1], [1, dilation], 1, image
    )
    # oneDNN may prefer blocks of 48 or of 64 channels, depending on the steps, and would repack in every call.
    return Kernel(IMAGE, packed, bias, dilation, reach, min_steps=MIN_STEPS if out % 48 == 0 else 1)


def samples(*shape: int) -> Tensor:
    """Return varied values for tests of the calls."""
    return (torch.arange(torch.Size(shape).numel()) * 0.7).sin().view(shape)


@cache
def works() -> bool:
    """Return whether the calls exist and return correct results on the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch._C._has_mkldnn and _are_correct()
    except (AttributeError, RuntimeError, TypeError):
        return False
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _are_correct() -> bool:
    matrix, weight, bias = samples(48, 32, 1), samples(48, 32, 3), samples(48)
    rows, image = kernel(matrix, bias, steps=64), kernel(weight, bias, dilation=2, steps=200)
    signal = samples(1, 300, 32)
    products = convolve(signal, rows)
    if not torch.allclose(products, functional.linear(signal, matrix[..., 0], bias), atol=1e-4):
        return False
    if not all(torch.equal(convolve(signal[:, :n], rows), products[:, :n]) for n in (1, 2, 7, 16, 100)):
        return False
    for steps in (60, 250):
        part = signal[:, 20 : 20 + steps]
        right = functional.conv1d(part.transpose(1, 2), weight, bias, dilation=2).transpose(1, 2)
        if not torch.allclose(convolve(part, image), right, atol=1e-4):
            return False
    return True
