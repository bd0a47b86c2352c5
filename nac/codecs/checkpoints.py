"""Read checkpoints of PyTorch networks in all published layouts.

Each family has one canonical set of tensors: EnCodec's are named as in transformers, DAC's and SNAC's as in the
original packages, weight norm is folded, and tensors needed only for training are removed. All layouts are
converted to this form for the network and for the fingerprint. A file in canonical form is accepted too.

Weight norm (Salimans and Kingma 2016, arXiv:1602.07868) is folded with the same rounding on every machine.
Published folded checkpoints were rounded differently, so for models that are published in both forms, the
fingerprint is computed from values that do not depend on rounding.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from nac.codecs.base import Codec
from nac.codecs.fingerprint import fingerprint
from nac.codecs.layers.weights import Weights
from nac.errors import ModelError
from nac.spec import CodecSpec

Tensors = dict[str, Tensor]
PATTERNS = ("*.safetensors", "*.bin", "*.th", "*.pth")  # in a folder, the first pattern that matches is used


def load(
    spec: CodecSpec,
    path: str | os.PathLike[str],
    device: torch.device | str,
    build: Callable[[CodecSpec, Weights], Codec],
    canonical: Callable[[Tensors], Tensors] = dict,
    stable: Callable[[Tensors], Tensors] | None = None,
    *,
    fast: bool = False,
) -> Codec:
    """Load a codec with the weights of a checkpoint: a file, or a folder that contains one.

    ``canonical``: converts tensors, float32 and with weight norm folded, to the family's canonical form.
    ``stable``: converts these to values that do not depend on rounding, for the fingerprint. ``build``: makes the
    codec, and raises ModelError if the tensors are not its own. ``fast``: decode in half precision. Raises
    ModelError if there is no checkpoint, or it cannot be read.
    """
    file = _find(Path(path))
    tensors, parameters = read(file)
    try:
        _check(spec, parameters)
        tensors = canonical(folded(tensors))
        with ThreadPoolExecutor(1) as pool:  # hashing takes about as long as packing
            digest = pool.submit(_fingerprint, tensors)
            codec = build(spec, Weights(tensors, device, fast=fast))
            digests = (_fingerprint(stable(tensors)), digest.result()) if stable else (digest.result(),)
        codec.spec = codec.spec.with_fingerprint(*digests)
        return codec
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None


def _fingerprint(tensors: Tensors) -> str:
    return fingerprint({name: tensor.numpy() for name, tensor in tensors.items()})


def _find(path: Path) -> Path:
    if path.is_dir():
        for pattern in PATTERNS:
            if found := sorted(path.glob(pattern)):
                return found[0]
        raise ModelError(f"{path} contains no checkpoint ({', '.join(PATTERNS)})")
    if not path.exists():
        raise ModelError(f"{path} does not exist")
    return path


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a checkpoint with their original names, and its hyper-parameters, if any.

    Hyper-parameters are in the file (``metadata.kwargs`` of a DAC checkpoint) or in a ``config.json`` beside it.
    From a pickle, only tensors and plain containers are read. Raises ModelError.
    """
    try:
        with file.open("rb") as stream:
            is_safetensors = stream.read(9)[8:] == b"{"  # after the length of its JSON header
        if is_safetensors:
            content: Any = safetensors.torch.load_file(file)
        else:
            _check_unpacked(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        config = file.parent / "config.json"
        parameters = json.loads(config.read_bytes()) if config.exists() else {}
        if isinstance(content, dict) and "state_dict" in content:
            parameters = content.get("metadata", {}).get("kwargs", parameters)
            content = content["state_dict"]
    except Exception as error:  # for other bytes, a pickle reader may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{file} is not a readable checkpoint: {reason[0]}") from None
    tensors_only = (
        isinstance(content, dict) and all(map(_is_plain, content)) and all(map(_is_tensor, content.values()))
    )
    if not tensors_only or not isinstance(parameters, dict):
        raise ModelError(f"{file} is not a checkpoint: it contains objects other than tensors")
    size = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if size > _MAX_GROWTH * file.stat().st_size:  # one number can be expanded to a tensor of any shape
        raise ModelError(
            f"{file} is not a checkpoint: {file.stat().st_size} bytes would become {size / 1e9:.3g} GB"
        )
    return content, parameters


_MAX_GROWTH = 4
"""The most bytes of tensors per byte of a file."""


def _check_unpacked(file: Path) -> None:
    """Raise ValueError for a .pt file whose unpacked size is only plausible for a decompression bomb."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > _MAX_GROWTH * file.stat().st_size:
        raise ValueError(f"{file.stat().st_size} bytes would become {size / 1e9:.3g} GB")


def _is_plain(name: object) -> bool:
    return isinstance(name, str)


def _is_tensor(value: object) -> bool:
    """Return whether this is a tensor with a plain memory layout."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not value.is_quantized
    )


def _check(spec: CodecSpec, parameters: Mapping[str, Any]) -> None:
    """Raise ModelError if the hyper-parameters are another model's; the shapes alone may be the same."""
    coarsest = spec.codebooks[-1].codes_per_frame
    expected = {
        "sample_rate": spec.sample_rate,
        "sampling_rate": spec.sample_rate,
        "n_codebooks": len(spec.codebooks),
        "audio_channels": spec.channels,
        "vq_strides": [coarsest // book.codes_per_frame for book in spec.codebooks],
    }
    for name, value in expected.items():
        if parameters.get(name, value) != value:
            raise ModelError(f"not the weights of {spec.name}: {name} is {parameters[name]} instead of {value}")


def folded(tensors: Mapping[str, Tensor]) -> Tensors:
    """Convert tensors to float32, and pairs of norm and direction to weights."""
    tensors = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
    converted = dict(tensors)
    for norm, direction in (
        (".weight_g", ".weight_v"),
        (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    ):
        for name in [name for name in tensors if name.endswith(norm)]:
            layer = name.removesuffix(norm)
            if layer + direction in tensors:
                converted[f"{layer}.weight"] = _weight(converted.pop(name), converted.pop(layer + direction))
    return converted


def _weight(norm: Tensor, direction: Tensor) -> Tensor:
    """Compute ``norm * direction / |direction|`` with the same rounding on every machine.

    |direction| is summed in float64 and rounded to float32, so that the order of the sum does not matter; the rest
    is exact except for one rounding to float64 and one to float32.
    """
    v = direction.numpy().astype(np.float64)
    length = np.sqrt(np.square(v).reshape(len(v), -1).sum(axis=1)).astype(np.float32).astype(np.float64)
    v *= norm.numpy().astype(np.float64)
    v /= length.reshape(-1, *[1] * (v.ndim - 1))
    return torch.from_numpy(v.astype(np.float32))
