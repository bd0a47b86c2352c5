"""The EnCodec, DAC, SNAC and Mimi networks with all layers but few channels, so that many cases can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from nac.codecs import dac, encodec, mimi, registry, snac
from nac.codecs.base import Codec
from nac.codecs.registry import MODELS

NAMES = [name for name, model in MODELS.items() if model.spec.family in ("encodec", "dac", "snac", "mimi")]


@contextmanager
def narrow_codecs(device: str = "cpu", *, fast: bool = False) -> Iterator[dict[str, Codec]]:
    """All of them, with short windows too."""
    made: dict[str, Codec] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encodec, "SHAPE", replace(encodec.SHAPE, width=2))
        patch.setattr(encodec, "GROUP", 2)
        for name, shape in dac.SHAPES.items():
            patch.setitem(dac.SHAPES, name, replace(shape, encoder=2, decoder=32, latent=8))
        for name, shape in snac.SHAPES.items():
            patch.setitem(snac.SHAPES, name, replace(shape, encoder=4, decoder=64, window=8))
        patch.setattr(mimi, "SHAPE", replace(mimi.SHAPE, width=2, latent=16))
        patch.setattr(mimi, "INNER", 24)
        patch.setattr(mimi, "CODEBOOK", 4)
        for name in NAMES:
            made[name], _ = registry.random(MODELS[name].spec, device, fast=fast)
            if isinstance(made[name], dac.Dac):
                for plan in ("encode_plan", "decode_plan"):
                    setattr(made[name], plan, replace(getattr(made[name], plan), window=16))
        yield made
