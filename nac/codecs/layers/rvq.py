"""Residual vector quantisation (Zeghidour et al. 2021, arXiv:2107.03312, section III-C).

Each codebook quantises the residual of the coarser ones. Vectors are float32 [B, T, D], codes int64 [B, T].
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs import parallel as workers
from nac.codecs.devices import on_gpu
from nac.codecs.layers.convolutions import kernel
from nac.codecs.layers.kernels import convolve
from nac.codecs.layers.weights import Weights

TILE = 128  # vectors that one thread quantises at a time


class Quantiser(Protocol):
    """A codebook, maybe with projections. ``stride``: the number of steps that share a code."""

    stride: int

    def encode(self, vectors: Tensor) -> Tensor:
        """Return the numbers of the entries nearest to [B, T, D]."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """Return the vectors [B, T, D] of the entries."""
        ...


def encode(quantisers: Sequence[Quantiser], vectors: Tensor) -> tuple[Tensor, ...]:
    """Quantise vectors with all ``quantisers``, coarse to fine."""

    def encode_tile(rest: Tensor) -> tuple[Tensor, ...]:
        codes = []
        for quantiser in quantisers:
            codes.append(quantiser.encode(rest))
            if len(codes) < len(quantisers):
                rest = rest - quantiser.decode(codes[-1])
        return tuple(codes)

    stride = max(quantiser.stride for quantiser in quantisers)
    tile = max(vectors.shape[1], 1) if on_gpu(vectors) else TILE * stride
    results = workers.parts([partial(encode_tile, part) for part in torch.split(vectors, tile, 1)])
    return tuple(torch.cat(layers, 1) for layers in zip(*results, strict=True))


def decode(quantisers: Sequence[Quantiser], codes: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the vectors for the codes of the first codebooks, summed in float32, as ``dtype``."""
    parts = [quantiser.decode(layer) for quantiser, layer in zip(quantisers, codes, strict=False)]
    return (torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]).to(dtype)


def highest(scores: Tensor) -> Tensor:
    """Return the index of the maximum along the last axis. On a CPU, numpy takes a fifth of the time."""
    return scores.argmax(-1) if on_gpu(scores) else torch.from_numpy(scores.numpy().argmax(-1))


class Euclidean:
    """Quantises to the nearest of ``entries`` [size, D] by Euclidean distance (EnCodec)."""

    stride = 1

    def __init__(self, entries: Tensor) -> None:
        self._entries = entries
        # |x - e|^2 = |x|^2 - 2 (x e - |e|^2 / 2), where the first term is the same for all entries.
        self._kernel = kernel(entries[..., None], entries.square().sum(1) * -0.5)

    def encode(self, vectors: Tensor) -> Tensor:
        return highest(convolve(vectors, self._kernel))

    def decode(self, codes: Tensor) -> Tensor:
        return functional.embedding(codes, self._entries)


class Projected:
    """Quantises to the entry nearest in direction, after a projection to few dimensions (DAC, section 3.2; SNAC).

    Vectors are averaged over ``stride`` steps, which share a code. ``inner``: the dimensions of entries,
    ``outer``: those of the vectors.
    """

    def __init__(self, weights: Weights, name: str, size: int, inner: int, outer: int, stride: int = 1) -> None:
        self.stride = stride
        self._into = weights.take(f"{name}.in_proj.weight", inner, outer, 1)[..., 0].t().contiguous()
        self._into_bias = weights.take(f"{name}.in_proj.bias", inner)
        self._out = weights.take(f"{name}.out_proj.weight", outer, inner, 1)[..., 0].t().contiguous()
        self._out_bias = weights.take(f"{name}.out_proj.bias", outer)
        self._entries = weights.take(f"{name}.codebook.weight", size, inner)
        # The nearest unit vector has the largest product, whatever the length of the vector to quantise.
        self._directions = functional.normalize(self._entries).t().contiguous()

    def encode(self, vectors: Tensor) -> Tensor:
        if self.stride > 1:
            vectors = vectors.reshape(vectors.shape[0], -1, self.stride, vectors.shape[2]).mean(2)
        return highest((vectors @ self._into + self._into_bias) @ self._directions)

    def decode(self, codes: Tensor) -> Tensor:
        vectors = self._entries[codes] @ self._out + self._out_bias
        return vectors.repeat_interleave(self.stride, 1) if self.stride > 1 else vectors
