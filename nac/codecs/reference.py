"""The interface to reference implementations in other packages, for measurements and tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nac.codecs.base import Codes
from nac.spec import CodecSpec


class Reference(ABC):
    """A reference network with the weights of nac's network. Audio [1, C, N]; codes in the package's own form."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        self._fill(model, tensors)
        self.model: Any = model.to(next(iter(tensors.values())).device)

    @staticmethod
    @abstractmethod
    def network(spec: CodecSpec) -> nn.Module:
        """Make the network at its official size."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Any:
        """Return the codes of all codebooks."""

    @abstractmethod
    def decode(self, codes: Any) -> Any:
        """Decode the result of :meth:`encode`."""

    @abstractmethod
    def layers(self, codes: Any) -> Sequence[Tensor]:
        """Convert the result of :meth:`encode` to one tensor [1, T] per codebook."""

    def same(self, ours: Codes, theirs: Any) -> float:
        """Return the share of our codes that are equal to the reference's."""
        layers = self.layers(theirs)
        pairs = [(a == b[..., : a.shape[-1]]).flatten() for a, b in zip(ours.arrays, layers, strict=True)]
        return float(torch.cat(pairs).float().mean())

    @staticmethod
    def layer(path: str) -> str:
        """Return the name in our tensors of the layer at this path of the network."""
        return path

    @torch.no_grad()
    def _fill(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Copy all weights of nac's network, which have weight norm folded, to the model."""
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
