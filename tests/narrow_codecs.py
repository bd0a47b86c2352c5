"""The nine EnCodec, DAC and SNAC networks with all layers but few channels, so that many cases can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nac.codecs import dac, encodec, snac
from nac.codecs.base import Codec
from nac.codecs.layers import Weights
from nac.codecs.specs import SPECS

NAMES = [name for name, spec in SPECS.items() if spec.family in ("encodec", "dac", "snac")]


class RandomWeights(Weights):
    """Gives every tensor that is asked for."""

    def __init__(self, tensors: object, device: torch.device | str = "cpu") -> None:
        self.generator, self.device = torch.Generator().manual_seed(5), device

    def take(self, name: str, *shape: int) -> Tensor:
        return self._random(name, shape).to(self.device)

    def _random(self, name: str, shape: tuple[int, ...]) -> Tensor:
        normal = torch.randn(shape, generator=self.generator)
        if name.endswith("alpha"):
            return normal.abs() + 0.3
        if "bias" in name or len(shape) < 2:
            return normal * 0.1 + name.endswith("norm.weight")
        return normal if "codebook" in name else normal / (shape[1] * max(shape[2:], default=1)) ** 0.5

    def finish(self) -> None:
        pass


@contextmanager
def narrow_codecs(device: str = "cpu") -> Iterator[dict[str, Codec]]:
    """All nine, with short windows too."""
    made: dict[str, Codec] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodec, "FILTERS", 2)
        patch.setattr(encodec, "GROUP", 2)
        for module in (dac, snac, encodec):
            patch.setattr(module, "Weights", RandomWeights)
        for name, shape in dac.SHAPES.items():
            patch.setitem(dac.SHAPES, name, replace(shape, encoder=2, decoder=32, latent=8))
        for name, shape in snac.SHAPES.items():
            patch.setitem(snac.SHAPES, name, replace(shape, encoder=4, decoder=64, window=8))
        for name in NAMES:
            spec = SPECS[name].with_fingerprint("5" * 16)
            family = {"dac": dac.Dac, "snac": snac.Snac}.get(
                spec.family, encodec.Encodec48 if spec.segment else encodec.Encodec24
            )
            made[name] = family(spec, {}, device)
            if isinstance(made[name], dac.Dac):
                for plan in ("encode_plan", "decode_plan"):
                    setattr(made[name], plan, replace(getattr(made[name], plan), window=16))
        yield made
