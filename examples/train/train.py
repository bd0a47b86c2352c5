"""The first phase: from principal components and k-means by gradients to something better, saving often."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import Batches
from losses import RESOLUTIONS, SpectralLoss, waveform_loss
from safetensors.torch import load_file
from start import start
from torch import Tensor

from nac.codecs.mdct_torch import HOP, MdctNet, nearest, position_noise

#: what each term counts
WEIGHTS = {"mel": 1.0, "loud": 0.3, "compressed": 1.0, "waveform": 0.7, "commitment": 0.1}


@dataclass(frozen=True)
class Options:
    """``frames``: length of a crop. ``start_crops``: how many the starting point is fitted to, in k-means
    ``rounds``. ``warmup`` and ``decay``: steps of rising and falling learning rate. ``every``: steps between
    checkpoints. ``adversarial``: steps of the second phase. ``init``: exported weights to start from."""

    steps: int = 4200
    batch: int = 8
    frames: int = 96
    rate: float = 5e-4
    warmup: int = 200
    decay: int = 1600
    start_crops: int = 500
    rounds: int = 6
    every: int = 200
    adversarial: int = 1200
    adversarial_rate: float = 1e-4
    discriminator_rate: float = 2e-3
    held_crops: int = 24
    threads: int = 1
    seed: int = 0
    init: Path | None = None


class MovingCodebooks:
    """Codebooks as moving averages of what falls to each entry; entries that nothing falls to are moved."""

    def __init__(self, net: MdctNet) -> None:
        self.books, self.decay = net.quantizer.codebooks, 0.99
        self.counts = torch.ones(self.books.shape[:2])
        self.sums = self.books.clone()

    @torch.no_grad()
    def quantize(self, latent: Tensor, learn: bool = True, revive: bool = False) -> Tensor:
        """Sums of the first 1, 2, ... codewords: [B, T, D] to [codebooks, B, T, D]. Learns on the way."""
        rest, given, sums = latent.reshape(-1, latent.shape[-1]), torch.zeros(()), []
        for number, book in enumerate(self.books):
            index = nearest(rest, book)
            chosen = book[index]
            if learn:
                self._learn(number, rest, index, revive)
            rest = rest - chosen
            given = given + chosen
            sums.append(given.view(latent.shape))
        return torch.stack(sums)

    def _learn(self, number: int, vectors: Tensor, index: Tensor, revive: bool) -> None:
        counts, sums = self.counts[number], self.sums[number]
        counts.mul_(self.decay).add_(torch.bincount(index, minlength=len(counts)), alpha=1 - self.decay)
        sums.mul_(self.decay).add_(torch.zeros_like(sums).index_add_(0, index, vectors), alpha=1 - self.decay)
        if revive:
            dead = torch.nonzero(counts < 0.05 * counts.mean())[:, 0][: len(vectors) // 4]
            sums[dead] = vectors[torch.randperm(len(vectors))[: len(dead)]] * counts.mean()
            counts[dead] = counts.mean()
        self.books[number] = sums / counts.clamp(min=1e-4)[:, None]


def draw_levels(random: np.random.Generator, size: int) -> Tensor:
    """Quantiser dropout: a number of codebooks for each crop, often one of the usual bitrates."""
    usual = random.choice([2, 4, 8, 16], size=size, p=[0.15, 0.25, 0.35, 0.25])
    return torch.from_numpy(np.where(random.random(size) < 0.6, usual, random.integers(1, 17, size)))


def losses(
    net: MdctNet,
    books: MovingCodebooks,
    spectral: SpectralLoss,
    audio: Tensor,
    levels: Tensor,
    first: int,
    windows: Sequence[int],
    **how: bool,
) -> dict[str, Tensor]:
    """All terms for audio [B, 1, HOP * T] at a number of codebooks for each crop."""
    latent = net.encode(audio)
    sums = books.quantize(latent.detach(), **how)
    quantized = sums[levels - 1, torch.arange(len(levels))]
    through = latent + (quantized - latent).detach()
    coded, whole = net.synthesize(through, levels, position_noise(first, latent.shape[1]))
    return spectral(net.inverse(whole)[:, 0], audio[:, 0], windows) | {
        "waveform": waveform_loss(net, coded, net.transform(audio)),
        "commitment": (latent - quantized).square().mean(),
    }


@torch.no_grad()
def validate(net: MdctNet, books: MovingCodebooks, spectral: SpectralLoss, audio: Tensor) -> dict[str, float]:
    """Losses on held-out crops at 1.5, 3, 6 and 12 kbit/s."""
    found = {}
    for count in (2, 4, 8, 16):
        levels = torch.full((len(audio),), count)
        terms = losses(net, books, spectral, audio, levels, 0, tuple(RESOLUTIONS), learn=False)
        found |= {f"{name}{count}": float(terms[name]) for name in ("mel", "loud", "compressed", "waveform")}
    return found


def append(path: Path, row: dict[str, float]) -> None:
    """Add a line to a CSV file, with its header if it is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.5g}" for name, value in row.items()})


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; what was there stays until it is whole."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def train(work: Path, options: Options) -> None:
    """Train in ``work``, where the cache is and where checkpoint and logs go; goes on where a run stopped."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    samples = options.frames * HOP
    net, spectral, begun, before = MdctNet(), SpectralLoss(), 0, 0.0
    checkpoint = work / "checkpoint.pt"
    batches = Batches(work, "train", options.seed)
    held = Batches(work, "held", 1, made_up=0, side=0).batch(options.held_crops, samples)
    if not checkpoint.exists() and options.init:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(options.init).items()})
    elif not checkpoint.exists():
        print("starting point: principal components and k-means", flush=True)
        crops = batches.batch(options.start_crops, samples)
        start(net, crops, torch.Generator().manual_seed(options.seed), options.rounds)
    books = MovingCodebooks(net)
    # The linear maps are good from the start: they may move, but slowly.
    slow = [*net.encoder.linear.parameters(), *net.decoder.linear.parameters()]
    # The encoder's blocks, too: the codebooks have to follow what they do.
    medium = [p for name, p in net.encoder.named_parameters() if not name.startswith("linear")]
    fast = [p for name, p in net.decoder.named_parameters() if not name.startswith("linear")]
    groups = [{"params": fast, "scale": 1.0}, {"params": medium, "scale": 0.5}, {"params": slow, "scale": 0.1}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        books.counts, books.sums = state["counts"], state["sums"]
        begun, before = state["step"], state.get("hours", 0.0)
        batches.random = np.random.default_rng([options.seed, begun])
    else:
        append(work / "held.csv", {"step": 0, "hours": 0.0} | validate(net, books, spectral, held))

    began, running = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0)
    for step in range(begun, options.steps):
        height = min((step + 1) / options.warmup, (options.steps - step) / options.decay, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * group["scale"] * height
        # The less the encoder moves, the longer the codebooks may average.
        books.decay = 1 - 0.01 * max(height, 0.1)
        audio = batches.batch(options.batch, samples)
        levels = draw_levels(batches.random, options.batch)
        first = int(batches.random.integers(0, 10**6))
        windows = batches.random.choice(list(RESOLUTIONS), 2, replace=False).tolist()  # half the work, no bias
        terms = losses(net, books, spectral, audio, levels, first, windows, revive=step % 20 == 19)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        for name, term in terms.items():
            running[name] += term.item() / options.every
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            hours = before + (time.monotonic() - began) / 3600
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            state |= {"counts": books.counts, "sums": books.sums, "hours": hours}
            save(state, checkpoint)
            row = {"step": step + 1, "hours": hours}
            append(work / "train.csv", row | running)
            append(work / "held.csv", row | validate(net, books, spectral, held))
            print(" ".join(f"{name} {value:.4g}" for name, value in (row | running).items()), flush=True)
            running = dict.fromkeys(WEIGHTS, 0.0)
