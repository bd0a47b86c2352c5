"""The fullband network with seeded weights, for tests whose numbers do not depend on what it has learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nac.codecs import fullband, fullband_torch, mdct
from nac.codecs.registry import MODELS

SPEC = MODELS["nac_48khz"].spec
Tensors = dict[str, np.ndarray]


def tensors() -> Tensors:
    """The tensors of a checkpoint: sound passes through them in every codebook, and comes out about as loud."""
    rng = np.random.default_rng(0)
    shapes = {name: tuple(tensor.shape) for name, tensor in fullband_torch.FullbandNet().state_dict().items()}
    return {name: tensor(name, shape, rng) for name, shape in sorted(shapes.items())}


def tensor(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    values = rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        values = 1 + 0.1 * values
    elif name == "quantizer.codebooks":
        values *= (0.25 * 0.95 ** np.arange(len(values)))[:, None, None]
    elif name.endswith("bias") or len(shape) == 1:
        values *= 0.05
    else:  # sums of so many products
        values *= 0.5 / np.sqrt(np.prod(shape[1:]))
    if name == "decoder.linear.bias":
        values[fullband.BINS :] -= 4  # the level of the bands
    return values.astype(np.float32)


def codec(window: int = mdct.WINDOW) -> mdct.MdctCodec:
    """``window``: frames at a time."""
    weights = tensors()
    made = mdct.MdctCodec(SPEC, fullband.Network(weights), weights)
    made.encode_plan, made.decode_plan = (
        replace(plan, window=window) for plan in (made.encode_plan, made.decode_plan)
    )
    return made
