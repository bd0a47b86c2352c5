"""The tensors that a network is made of: those of a checkpoint, or random ones to measure and to test without."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nac.errors import ModelError


class Weights:
    """The tensors of a checkpoint by name, ticked off as a network takes them.

    What is missing or has another shape is noted and stood in for by zeros, so that :meth:`finish` can tell all.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._tensors, self.device = tensors, torch.device(device)
        self._taken: set[str] = set()
        self._missing: list[str] = []
        self._misshapen: list[str] = []

    def take(self, name: str, *shape: int, copy: bool = True) -> Tensor:
        """The tensor of that name, float32 on the device.

        A ``copy``, so that the file it came from can be closed, unless it is to be packed and not kept.
        """
        self._taken.add(name)
        if name not in self._tensors:
            self._missing.append(name)
        elif (found := tuple(self._tensors[name].shape)) != shape:
            self._misshapen.append(f"{name} {list(found)} instead of {list(shape)}")
        else:
            return self._tensors[name].to(self.device, torch.float32, copy=copy)
        return torch.zeros(shape, device=self.device)

    def finish(self) -> None:
        """Raise ModelError, naming the tensors, unless exactly those of the checkpoint were taken."""
        extra = sorted(self._tensors.keys() - self._taken)
        found = {"missing": self._missing, "unknown": extra, "of a wrong shape": self._misshapen}
        troubles = [f"tensors {what}: {_some(names)}" for what, names in found.items() if names]
        if troubles:
            raise ModelError(f"not the weights of this model: {'; '.join(troubles)}")


def _some(names: Sequence[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class RandomWeights(Weights):
    """Gives every tensor that a network asks for, and keeps them: ``tensors`` by their canonical names.

    Signals stay about as loud from layer to layer, and codes are lively.
    """

    def __init__(self, device: torch.device | str = "cpu", seed: int = 0) -> None:
        self.tensors: dict[str, Tensor] = {}
        super().__init__(self.tensors, device)
        self._generator = torch.Generator().manual_seed(seed)

    def take(self, name: str, *shape: int, copy: bool = True) -> Tensor:
        self.tensors[name] = self._random(name, shape)
        return super().take(name, *shape, copy=copy)

    def _random(self, name: str, shape: tuple[int, ...]) -> Tensor:
        normal = torch.randn(shape, generator=self._generator)
        if name.endswith("alpha"):
            return normal.abs() + 0.3
        if "bias" in name or len(shape) < 2:
            return normal * 0.02 + name.endswith("norm.weight")
        if "codebook" in name:
            return normal
        added = name.endswith(("block.3.weight", "linear.weight"))  # to what came in, which must not grow
        inputs = shape[1] * max(shape[2:], default=1)
        return normal * ((0.3 if added else 1.0) / math.sqrt(inputs))
