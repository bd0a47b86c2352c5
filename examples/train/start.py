"""A codec that works before any training: principal components and k-means codebooks.

Training then starts from this instead of from noise, which saves it most of its steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nac.codecs.fullband import BANDS, BINS
from nac.codecs.fullband_torch import FullbandNet
from nac.codecs.mdct_torch import nearest

#: all of them: a lone tone high up is a gain that principal components of recordings hardly know
GAIN_PARTS = len(BANDS)
#: weight of gains against shape; with it the first codebooks are spent on gains, whose errors are heard first
GAIN_WEIGHT = 8.0


def principal(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and the leading principal directions [count, D]."""
    mean = vectors.mean(0)
    _, directions = torch.linalg.eigh((vectors - mean).T @ (vectors - mean) / len(vectors))
    return mean, directions.flip(1)[:, :count].T


def k_means(vectors: Tensor, entries: int, rounds: int, generator: torch.Generator) -> Tensor:
    """Centroids [entries, D]; empty cells restart on random vectors."""
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
    """Set a network from sample audio [B, 1, HOP * T] so that it codes at every number of codebooks."""
    shape, gains = net.analyse(audio)
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
    # The fewer codebooks, the more is left to noise.
    net.noise.weight.copy_(torch.linspace(-0.5, -1.5, count)[:, None].expand_as(net.noise.weight))
