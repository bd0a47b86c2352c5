"""The fingerprint that identifies a model's weights in a .nac file."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

RANDOM = "0" * 16
"""The fingerprint of all random weights."""


def fingerprint(tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """Compute the fingerprint: 16 hexadecimal digits, the first 8 bytes of a SHA-256 over all tensors.

    Tensors are sorted by the bytes of their names. For each tensor: the name in UTF-8, a zero byte, the number of
    dimensions and each dimension as uint32, the values as float32 in C order; all little-endian.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items(), key=lambda item: item[0].encode()):
        digest.update(name.encode() + b"\0" + struct.pack(f"<I{tensor.ndim}I", tensor.ndim, *tensor.shape))
        digest.update(np.ascontiguousarray(tensor, dtype="<f4").data)
    return digest.hexdigest()[:16]
