"""The initial weights: principal components and k-means codebooks, a codec that works before training.

Starting from them instead of from noise saves most of the training steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nac.codecs.fullband import BANDS, BINS
from nac.codecs.fullband_torch import FullbandNet

#: all components: the leading ones for recordings do not represent, for example, a single high tone
GAIN_PARTS = len(BANDS)
#: weight of gains relative to shape; because of it the first codebooks code gains, whose errors are most audible
GAIN_WEIGHT = 8.0


def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """Return the indices, int64 [...], of the entries [entries, D] nearest (Euclidean) to ``vectors`` [..., D]."""
    half_norms = -0.5 * book.square().sum(dim=1)
    flat = vectors.reshape(-1, vectors.shape[-1])
    # max is faster than argmax.
    return torch.addmm(half_norms, flat, book.T).max(1).indices.view(vectors.shape[:-1])


def principal(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean [D] and the leading principal directions [count, D]."""
    mean = vectors.mean(0)
    _, directions = torch.linalg.eigh((vectors - mean).T @ (vectors - mean) / len(vectors))
    return mean, directions.flip(1)[:, :count].T


def k_means(vectors: Tensor, entries: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Return centroids [entries, D]; empty cells restart from random vectors."""
    book = vectors[torch.randperm(len(vectors), generator=generator)[:entries]].clone()
    for _ in range(rounds):
        cells = nearest(vectors, book)
        counts = torch.bincount(cells, minlength=entries)
        book = torch.zeros_like(book).index_add_(0, cells, vectors) / counts.clamp(min=1)[:, None]
        empty = counts == 0
        book[empty] = vectors[torch.randperm(len(vectors), generator=generator)[: int(empty.sum())]]
    return book


@torch.no_grad()
def start(net: FullbandNet, audio: Tensor, generator: torch.Generator, rounds: int = 10) -> None:
    """Initialise a network from audio [B, 1, HOP * T], so that it works with any number of codebooks."""
    shape, gains, _, _ = net.analyse(audio)
    latent = net.encoder.linear.out_features
    shapes, levels = shape[..., :BINS].flatten(0, 1), gains.flatten(0, 1)
    loud = levels.mean(1) > math.log(1e-4)
    mean_level, gain_parts = principal(levels, GAIN_PARTS)
    _, shape_parts = principal(shapes[loud], latent - GAIN_PARTS)

    into = torch.zeros_like(net.encoder.linear.weight)
    into[:GAIN_PARTS, BINS:] = GAIN_WEIGHT * gain_parts
    into[GAIN_PARTS:, :BINS] = shape_parts
    net.encoder.linear.weight.copy_(into)
    net.encoder.linear.bias.zero_()
    net.encoder.linear.bias[:GAIN_PARTS] = -GAIN_WEIGHT * gain_parts @ mean_level
    for linear in (net.encoder.leave, net.decoder.leave):
        linear.weight.zero_()
        linear.bias.zero_()
    net.level.weight.zero_()

    rest = net.encode(audio).flatten(0, 1)
    outof = net.decoder.linear
    outof.weight.zero_()
    outof.weight[:BINS, GAIN_PARTS:] = shape_parts.T
    outof.weight[BINS:, :GAIN_PARTS] = gain_parts.T / GAIN_WEIGHT
    outof.bias.zero_()
    outof.bias[BINS:] = mean_level

    count = len(net.quantizer.codebooks)
    for number in range(count):
        book = k_means(rest, net.quantizer.codebooks.shape[1], rounds, generator)
        net.quantizer.codebooks[number] = book
        rest = rest - book[nearest(rest, book)]
    # With fewer codebooks, more of the signal is replaced by noise.
    net.noise.weight.copy_(torch.linspace(-0.5, -1.5, count)[:, None].expand_as(net.noise.weight))
