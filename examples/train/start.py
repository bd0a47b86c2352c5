"""A codec that works before any training: principal components of shape and gains, and k-means codebooks.

Training then starts from this instead of from noise, which saves it most of its steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nac.codecs.mdct_torch import BANDS, HOP, MdctNet, nearest

GAIN_PARTS = 28
#: weight of gains against shape; with it the first two codebooks are spent on gains
GAIN_WEIGHT = 4.0


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
def start(net: MdctNet, audio: Tensor, generator: torch.Generator, rounds: int = 10) -> None:
    """Set a network from sample audio [B, 1, HOP * T] so that it codes at every number of codebooks."""
    coefficients = net.transform(audio)
    gains = net.gains(coefficients)
    shape = coefficients[..., :HOP] / net.expansion(gains)
    latent = net.encoder.linear.out_features
    shapes, levels = shape.flatten(0, 1), gains.flatten(0, 1)
    loud = levels.mean(1) > math.log(1e-4)
    mean_level, gain_parts = principal(levels, GAIN_PARTS)
    _, shape_parts = principal(shapes[loud], latent - GAIN_PARTS)

    scale = GAIN_WEIGHT
    into = torch.zeros(latent, HOP + len(BANDS))
    into[:GAIN_PARTS, HOP:] = scale * gain_parts
    into[GAIN_PARTS:, :HOP] = shape_parts
    outof = into.T.clone()
    outof[HOP:, :GAIN_PARTS] /= scale**2
    net.encoder.linear.weight.copy_(into)
    net.encoder.linear.bias.zero_()
    net.encoder.linear.bias[:GAIN_PARTS] = -scale * gain_parts @ mean_level
    net.decoder.linear.weight.copy_(outof)
    net.decoder.linear.bias.zero_()
    net.decoder.linear.bias[HOP:] = mean_level
    for linear in (net.encoder.leave, net.decoder.leave):
        linear.weight.zero_()
        linear.bias.zero_()
    net.decoder.level.weight.zero_()

    rest = net.encode(audio).flatten(0, 1)
    whole = rest.clone()
    for number in range(len(net.quantizer.codebooks)):
        book = k_means(rest, net.quantizer.codebooks.shape[1], rounds, generator)
        net.quantizer.codebooks[number] = book
        rest = rest - book[nearest(rest, book)]
        # Noise makes up for the power that was not coded.
        decoded = net.decoder.linear(whole - rest)
        coded = decoded[:, :HOP] * net.expansion(decoded[:, HOP:])
        missing = coefficients[..., :HOP].flatten(0, 1) - coded
        relative = (missing / (levels @ net.spread).exp()).square()[loud] @ net.average
        amount = relative.mean(0).sqrt().clamp(0.02, 0.95)
        net.decoder.noise.weight[number] = torch.log(torch.expm1(amount))
