"""Write a network's weights as half-precision safetensors: ``python export.py checkpoint.pt out.safetensors``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from nac.codecs.fullband_torch import FullbandNet


def export(net: FullbandNet, target: Path) -> int:
    """Write the file. Returns its size in bytes."""
    tensors = {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError("some weights are out of range for half precision")
    save_file(tensors, target, metadata={"model": "nac_48khz", "license": "MIT"})
    return target.stat().st_size


if __name__ == "__main__":
    net = FullbandNet()
    net.load_state_dict(torch.load(sys.argv[1], weights_only=True, mmap=True)["average"])
    print(f"{export(net, Path(sys.argv[2])):,} bytes")
