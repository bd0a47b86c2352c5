"""The tensors for making a network: those of a checkpoint, or random ones for measurements and tests."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nac.codecs.devices import is_gpu
from nac.errors import ModelError


def half(device: torch.device) -> torch.dtype:
    """Return the type for half precision: float16 on a GPU, bfloat16 on a CPU.

    float16 has 11 significant bits, bfloat16 has 8, which is 18 dB less, but CPUs multiply only bfloat16 faster.
    """
    return torch.float16 if is_gpu(device) else torch.bfloat16


class Weights:
    """The tensors of a checkpoint by name, which records the names that a network takes.

    Tensors that are missing or have another shape are recorded and replaced by zeros, so that :meth:`finish` can
    report all of them. ``dtype``: the type that layers get, float32 unless these are the weights
    :meth:`of_decoder`. ``fast``: whether the decoder computes in half precision.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu", *, fast: bool = False
    ) -> None:
        """``fast``: the decoder computes in half precision."""
        self._tensors, self.device = tensors, torch.device(device)
        self.dtype, self._decoder_dtype = torch.float32, half(self.device) if fast else torch.float32
        self.fast = fast
        self._taken: set[str] = set()
        self._missing: list[str] = []
        self._misshapen: list[str] = []

    def of_decoder(self) -> Weights:
        """The same weights for the decoder's layers after the codebooks, in the type that it computes with."""
        same = copy.copy(self)  # shares the records
        same.dtype = self._decoder_dtype
        return same

    def take(self, name: str, *shape: int, copy: bool = True, exact: bool = False) -> Tensor:
        """Return the tensor with this name on the device, as ``dtype``.

        ``copy``: needed for tensors that are kept, so that the checkpoint's file can be closed. ``exact``: in
        float32 in any case, for values from which others are computed.
        """
        dtype = torch.float32 if exact else self.dtype
        self._taken.add(name)
        if name not in self._tensors:
            self._missing.append(name)
        elif (found := tuple(self._tensors[name].shape)) != shape:
            self._misshapen.append(f"{name} {list(found)} instead of {list(shape)}")
        else:
            return self._tensors[name].to(self.device, dtype, copy=copy)
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def finish(self) -> None:
        """Raise ModelError, which names the tensors, unless exactly those of the checkpoint were taken."""
        extra = sorted(self._tensors.keys() - self._taken)
        found = {"missing": self._missing, "unknown": extra, "with a wrong shape": self._misshapen}
        problems = [f"tensors {what}: {_some(names)}" for what, names in found.items() if names]
        if problems:
            raise ModelError(f"not the weights of this model: {'; '.join(problems)}")


def _some(names: Sequence[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class RandomWeights(Weights):
    """Draws every tensor that a network takes, and stores it in ``tensors`` by its canonical name.

    Signals keep about the same level from layer to layer, and codes vary.
    """

    def __init__(self, device: torch.device | str = "cpu", seed: int = 0, *, fast: bool = False) -> None:
        self.tensors: dict[str, Tensor] = {}
        super().__init__(self.tensors, device, fast=fast)
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, name: str, *shape: int, copy: bool = True, exact: bool = False) -> Tensor:
        self.tensors[name] = self._random(name, shape)
        return super().take(name, *shape, copy=copy, exact=exact)

    def _random(self, name: str, shape: tuple[int, ...]) -> Tensor:
        normal = torch.randn(shape, generator=self._generator)
        if name.endswith("alpha"):
            return normal.abs() + 0.3
        if "bias" in name or len(shape) < 2:
            return normal * 0.02 + name.endswith("norm.weight")
        if "codebook" in name:
            return normal
        added = name.endswith(
            ("block.3.weight", "linear.weight")
        )  # added to a skip connection, which must not grow
        inputs = shape[1] * max(shape[2:], default=1)
        return normal * ((0.3 if added else 1.0) / math.sqrt(inputs))
