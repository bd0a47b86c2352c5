"""The reference implementation of a family, where its package is installed: to measure and to test against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nac.codecs.base import Codes
from nac.spec import CodecSpec


class Reference(ABC):
    """A reference with the weights of a network of ours. Audio [1, C, N]; codes are as the package gives them."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self._fill(model, tensors)
        self.model: Any = model.to(next(iter(tensors.values())).device)

    @staticmethod
    @abstractmethod
    def network(spec: CodecSpec) -> nn.Module:
        """The network at its official size."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Any:
        """Codes of all codebooks."""

    @abstractmethod
    def decode(self, codes: Any) -> Any:
        """Audio from what :meth:`encode` gave."""

    @abstractmethod
    def layers(self, codes: Any) -> Sequence[Tensor]:
        """One tensor per codebook, [1, T], from what :meth:`encode` gave."""

    def same(self, ours: Codes, theirs: Any) -> float:
        """The part of our codes that the reference gives too."""
        layers = self.layers(theirs)
        pairs = [(a == b[..., : a.shape[-1]]).flatten() for a, b in zip(ours.arrays, layers, strict=True)]
        return float(torch.cat(pairs).float().mean())

    @staticmethod
    def layer(path: str) -> str:
        """What our tensors call the layer at that path of the network."""
        return path

    @torch.no_grad()
    def _fill(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Give it the weights of a network of ours, which has weight norm folded: every one of them."""
        used = set()
        for path, module in model.named_modules():
            normed = getattr(module, "parametrizations", {})
            for leaf in {*module._parameters, *module._buffers, *normed}:
                name = f"{self.layer(path)}.{leaf}"
                if name not in tensors:
                    continue
                if leaf in normed:
                    normed[leaf].original1.copy_(tensors[name])
                    normed[leaf].original0.copy_(tensors[name].flatten(1).norm(dim=1).view(-1, 1, 1))
                else:
                    getattr(module, leaf).copy_(tensors[name])
                used.add(name)
        assert used == set(tensors), f"not in the reference: {sorted(set(tensors) - used)}"
