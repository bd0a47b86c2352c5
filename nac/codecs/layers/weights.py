"""The tensors for making a network: those of a checkpoint, or random ones for measurements and tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nac.errors import ModelError


class Weights:
    """The tensors of a checkpoint by name, which records the names that a network takes.

    Tensors that are missing or have another shape are recorded and replaced by zeros, so that :meth:`finish` can
    report all of them.
    """

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._tensors, self.device = tensors, torch.device(device)
        self._taken: set[str] = set()
        self._missing: list[str] = []
        self._misshapen: list[str] = []

    def take(self, name: str, *shape: int, copy: bool = True) -> Tensor:
        """Return the tensor with this name, float32 on the device.

        ``copy``: needed for tensors that are kept, so that the checkpoint's file can be closed.
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
        added = name.endswith(
            ("block.3.weight", "linear.weight")
        )  # added to a skip connection, which must not grow
        inputs = shape[1] * max(shape[2:], default=1)
        return normal * ((0.3 if added else 1.0) / math.sqrt(inputs))
