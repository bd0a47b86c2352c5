"""Random weights for measurements and tests without Lyra's files."""

from __future__ import annotations

import numpy as np

from nac.codecs.soundstream.files import AXES, FILES, Expected, Parameters
from nac.codecs.soundstream.layers import Affine
from nac.codecs.soundstream.tflite import Array


def random_parameters(seed: int) -> dict[str, Parameters]:
    """Draw random parameters for a network of the official size."""
    rng = np.random.default_rng(seed)
    everything = (expected for *_, file in FILES for expected in file)
    return {expected.name: _parameters(expected, rng) for expected in everything}


def _parameters(expected: Expected, rng: np.random.Generator) -> Parameters:
    _, kind, shape, quantised = expected
    affine = Affine(np.float32(0.04), -7) if quantised else None
    if kind == "SQUARED_DIFFERENCE":
        return Parameters(rng.standard_normal(shape[-2:]).astype(np.float32))
    if kind == "LEAKY_RELU":
        return Parameters(source=affine, target=affine)
    if kind == "SUB":
        return Parameters(np.zeros(shape, np.float32))
    depthwise = kind == "DEPTHWISE_CONV_2D"
    out, taps = (shape[3], 3) if depthwise else (shape[0], int(np.prod(shape[1:])))
    weight: Array = rng.standard_normal(shape)[:, :, 0].transpose(AXES[kind])
    bias: Array = rng.standard_normal(out)
    if not quantised:
        return Parameters((weight / taps**0.5).astype(np.float32), (0.1 * bias).astype(np.float32))
    scale = np.full(1 if kind == "TRANSPOSE_CONV" else out, 1 / (40 * taps**0.5), np.float32)
    weight = np.clip(np.rint(40 * weight), -127, 127).astype(np.int8)
    return Parameters(weight, np.rint(bias / 0.4 / scale).astype(np.int32), scale, affine, affine)
