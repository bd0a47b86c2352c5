"""Where decoding in half precision is worthwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nac.codecs import registry
from nac.codecs.devices import is_gpu
from nac.spec import CodecSpec

if TYPE_CHECKING:
    import torch


def why_exact(spec: CodecSpec, device: torch.device | None) -> str:
    """Return why a model is not decoded in half precision on a device (None: in numpy); empty if it is."""
    where = registry.family(spec.family).fast
    if not where:
        return "because half precision makes no difference to this model"
    if device is None or not is_gpu(device):
        if "cpu" not in where:
            return "which is about as fast on a CPU for this model"
        if not multiplies_bfloat16():
            return "which is as fast on this CPU, because it has no AMX"
    return ""


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has tiles for products in bfloat16 (AMX), and oneDNN uses them."""
    import torch

    from nac.codecs.layers import onednn

    try:
        return bool(torch.cpu._is_amx_tile_supported()) and onednn.works()
    except (AttributeError, RuntimeError):  # private to PyTorch
        return False
