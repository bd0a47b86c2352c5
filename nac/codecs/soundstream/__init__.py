"""SoundStream as in Lyra V2: 16 kHz, a frame of up to 46 codes every 20 ms.

Zeghidour et al. 2021, "SoundStream: An End-to-End Neural Audio Codec" (arXiv:2107.03312), sections III-A to III-C;
the trained networks are those of https://github.com/google/lyra (v1.3.2). Lyra's networks differ from the paper:
residual units have a depthwise and a pointwise convolution, the activation is a leaky ReLU, and about half of the
layers compute with 8-bit integers. These are reproduced bit by bit, with the rounding of TFLite's XNNPACK kernels,
because the codes depend on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nac.codecs.soundstream.files import read
from nac.codecs.soundstream.network import SoundStream
from nac.codecs.soundstream.random_weights import random_parameters
from nac.spec import CodecSpec

__all__ = ["SoundStream", "load", "random"]


def load(spec: CodecSpec, folder: Path, device: torch.device) -> SoundStream:
    """Load the codec from the three TFLite files in ``folder``. Raises ModelError, which names what is wrong."""
    return SoundStream(spec, read(folder), device)


def random(spec: CodecSpec, device: torch.device, seed: int = 0) -> tuple[SoundStream, dict[str, Tensor]]:
    """Make SoundStream with random parameters. Returns no tensors, because there is no reference."""
    return SoundStream(spec, random_parameters(seed), device), {}
