"""Train the network by gradient descent, starting from principal components and k-means.

At first with reconstruction losses only; from step ``adversarial`` on also with discriminators, whose gradients
reach encoder and decoder.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batches import Batch, Batches
from discriminators import WINDOWS, Discriminator, discriminator_loss, generator_losses
from losses import RESOLUTIONS, SpectralLoss, waveform_loss
from safetensors.torch import load_file
from start import start
from team import Team
from torch import Tensor, nn

from nac.codecs.fullband import HOP, RATE
from nac.codecs.fullband_torch import FullbandNet, position_noise
from nac.codecs.mdct import GROUP

#: weight of each loss term
WEIGHTS = {
    "mel": 1.0,
    "loud": 0.5,
    "compressed": 1.5,
    "structure": 2.0,
    "loudness": 2.0,
    "waveform": 1.0,
    "commitment": 0.1,
}
SPECTRAL = ("mel", "loud", "compressed", "structure", "loudness")
#: norm of the adversarial gradient relative to that of the spectral losses, for each crop at the decoded samples
SHARE = 0.7
#: weight of feature matching relative to the hinge loss
MATCHING = 2.0
LOGGED = (*WEIGHTS, "hinge", "matching", "discriminator")


@dataclass(frozen=True)
class Options:
    """The options of a run.

    ``processes``: each with one thread; ``batch``: crops of ``frames`` frames per process and step. ``apart``:
    steps after which processes average their parameters. ``start_crops``: crops from which the network is
    initialised, with ``rounds`` of k-means. ``warmup`` and ``decay``: steps of rising and falling learning rate.
    ``unquantized``: share of crops whose latent is not quantised, so that the encoder learns what codes do not yet
    hold (as Mimi: Défossez et al. 2024, arXiv:2410.00037). ``adversarial``: the first step with discriminators.
    ``every``: steps between checkpoints. ``init``: exported weights to start from.
    """

    steps: int = 1000000
    processes: int = 2
    batch: int = 8
    apart: int = 20
    frames: int = 96
    rate: float = 5e-4
    warmup: int = 300
    decay: int = 4000
    start_crops: int = 500
    rounds: int = 6
    unquantized: float = 0.15
    adversarial: int = 20000
    discriminator_rate: float = 5e-4
    every: int = 500
    held_crops: int = 24
    seed: int = 0
    init: Path | None = None


def reduced_precision() -> torch.autocast:
    """Use bfloat16 products if the processor supports them; emulated, they would take ten times as long."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.autocast("cpu", torch.bfloat16, enabled=supported())


class MovingCodebooks:
    """Codebooks as moving averages of the vectors assigned to each entry; unused entries are moved."""

    def __init__(self, net: FullbandNet) -> None:
        self.quantizer, self.books, self.decay = net.quantizer, net.quantizer.codebooks, 0.99
        self.counts = torch.ones(self.books.shape[:2])
        self.sums = self.books.clone()

    @torch.no_grad()
    def quantize(self, latent: Tensor, levels: Tensor, learn: bool = True) -> Tensor:
        """Quantise [B, T, D] with the first ``levels`` [B] codebooks. Updates the averages.

        The codes are chosen as in use, several codebooks together; groups that a crop does not need are left out.
        """
        counted, summed = torch.zeros_like(self.counts), torch.zeros_like(self.sums) if learn else self.sums
        result = torch.empty_like(latent)
        for least in range(0, len(self.books), GROUP):
            crops = torch.nonzero((levels > least) & (levels <= least + GROUP))[:, 0]
            if not len(crops):
                continue
            rest = latent[crops]
            for number, codes in enumerate(self.quantizer.encode(rest, min(least + GROUP, len(self.books)))):
                if learn:
                    counted[number] += torch.bincount(codes.flatten(), minlength=self.books.shape[1])
                    summed[number].index_add_(0, codes.flatten(), rest.flatten(0, 1))
                needed = (levels[crops] > number)[:, None, None]
                rest = rest - self.books[number][codes]
                result[crops] = torch.where(needed, latent[crops] - rest, result[crops])
        if learn:
            self.counts.lerp_(counted, 1 - self.decay)
            self.sums.lerp_(summed, 1 - self.decay)
        return result

    @torch.no_grad()
    def update(self, revive: int | None) -> None:
        """Set the entries to the averages. ``revive``: a seed to move unused entries next to often used ones."""
        if revive is not None:
            generator = torch.Generator().manual_seed(revive)
            for counts, sums in zip(self.counts, self.sums, strict=True):
                idle = torch.nonzero(counts < 0.05 * counts.mean())[:, 0]
                busy = counts.topk(len(idle)).indices
                counts[busy] /= 2
                sums[busy] /= 2
                counts[idle] = counts[busy]
                spread = 0.1 * (sums / counts.clamp(min=1e-4)[:, None]).std(0)
                noise = torch.randn(len(idle), sums.shape[1], generator=generator) * spread
                sums[idle] = sums[busy] + noise * counts[busy, None]
        self.books.copy_(self.sums / self.counts.clamp(min=1e-4)[..., None])


def draw_levels(random: np.random.Generator, size: int) -> Tensor:
    """Draw a number of codebooks for each crop (quantiser dropout), often one of the usual bitrates."""
    usual = random.choice([2, 4, 8, 16], size=size, p=[0.15, 0.3, 0.3, 0.25])
    return torch.from_numpy(np.where(random.random(size) < 0.6, usual, random.integers(1, 17, size)))


def run(
    net: FullbandNet,
    books: MovingCodebooks,
    audio: Tensor,
    levels: Tensor,
    bypass: Tensor,
    first: int,
    learn: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Encode and decode audio [B, 1, HOP * T]. Returns audio [B, N], and the losses that are not spectral.

    ``bypass`` [B]: for which crops the latent is not quantised.
    """
    analysed = net.analyse(audio)
    with reduced_precision():  # only for the networks: transforms need single precision
        latent = net.latent(*analysed).float()
    quantized = books.quantize(latent.detach(), levels, learn)
    through = torch.where(bypass[:, None, None], latent, latent + (quantized - latent).detach())
    with reduced_precision():
        plain, deep = net.describe(through, levels)
    noise = position_noise(first, latent.shape[1])
    decoded = net.render(plain.float(), deep.float(), levels, through, noise)
    terms = {
        "waveform": waveform_loss(net, net.long_transform(decoded), net.long_transform(audio)),
        "commitment": (latent - quantized).square().mean(),
    }
    return decoded[:, 0], terms


@torch.no_grad()
def validate(net: FullbandNet, books: MovingCodebooks, spectral: SpectralLoss, batch: Batch) -> dict[str, float]:
    """Return the losses for held-out crops at 1.5, 3, 6 and 12 kbit/s."""
    found = {}
    for count in (2, 4, 8, 16):
        levels = torch.full((len(batch.audio),), count)
        bypass = torch.zeros(len(levels), dtype=torch.bool)
        decoded, terms = run(net, books, batch.audio, levels, bypass, 0, learn=False)
        terms |= spectral(decoded, batch.audio[:, 0], batch.band)
        found |= {f"{name}{count}": float(terms[name]) for name in (*SPECTRAL, "waveform")}
    return found


def append(path: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV file, after a header if the file is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow({name: f"{value:.5g}" for name, value in row.items()})


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; the previous one is kept until it is complete."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def balanced(reconstruction: Tensor, adversarial: Tensor, audio: Tensor, share: float) -> Tensor:
    """Return the sum of both gradients at the audio [B, N]; the second's norm is ``share`` of the first's."""
    wanted = torch.autograd.grad(reconstruction, audio)[0]
    added = torch.autograd.grad(adversarial, audio)[0]
    sizes = [gradient.norm(dim=1, keepdim=True) for gradient in (wanted, added)]
    return wanted + added * (share * sizes[0] / (sizes[1] + 1e-12))


class Average:
    """A moving average of a network's weights."""

    def __init__(self, net: FullbandNet, every: int = 4, decay: float = 0.999) -> None:
        self.every, self.least = every, 1 - decay**every
        self.tensors = list(net.state_dict().values())
        self.means = [tensor.clone() for tensor in self.tensors]
        self.names = list(net.state_dict())

    def follow(self, step: int) -> None:
        if step % self.every == self.every - 1:
            # At first the average is shorter, so that it does not retain the first steps.
            part = max(self.least, 10 / (10 + step // self.every))
            torch._foreach_lerp_(self.means, self.tensors, part)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.means, strict=True))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, mean in zip(self.names, self.means, strict=True):
            mean.copy_(state[name])


class Learner:
    """All trained parameters and optimisers, and a training step."""

    def __init__(self, net: FullbandNet, team: Team, options: Options) -> None:
        self.net, self.team, self.options = net, team, options
        self.books, self.spectral = MovingCodebooks(net), SpectralLoss()
        self.judges = nn.ModuleDict({str(window): Discriminator(window) for window in WINDOWS})
        # The linear maps are good from the start, so they get a low learning rate.
        slow = list(net.encoder.linear.parameters())
        # The encoder's blocks get a lower one too, because the codebooks have to follow them.
        medium = [p for name, p in net.encoder.named_parameters() if not name.startswith("linear")]
        medium += net.decoder.linear.parameters()
        named = [(name, p) for name, p in net.named_parameters() if not name.startswith("encoder")]
        fast = [p for name, p in named if not name.startswith("decoder.linear")]
        groups = [{"params": fast, "scale": 1.0}, {"params": medium, "scale": 0.5}, {"params": slow, "scale": 0.2}]
        self.ours = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.theirs = torch.optim.AdamW(self.judges.parameters(), betas=(0.8, 0.98), weight_decay=0.01)
        self.average = Average(net)

    def step(self, number: int, batch: Batch, random: np.random.Generator) -> dict[str, Tensor]:
        """Do one training step. Returns the loss terms."""
        options = self.options
        height = min((number + 1) / options.warmup, (options.steps - number) / options.decay, 1.0)
        for group in self.ours.param_groups:
            group["lr"] = options.rate * group["scale"] * height
        # The codebooks' averages are longer if the encoder changes slowly or a step has few vectors.
        self.books.decay = 1 - 0.01 * max(height, 0.1) * min(options.batch / 16, 1)
        levels = draw_levels(random, len(batch.audio))
        original = batch.audio[:, 0]
        bypass = torch.from_numpy(random.random(len(levels)) < options.unquantized)
        levels = torch.where(bypass, len(self.books.books), levels)
        first = int(random.integers(0, 10**6))
        decoded, terms = run(self.net, self.books, batch.audio, levels, bypass, first, learn=True)
        output = decoded.detach().requires_grad_()
        # A random offset, so that no sample is always at the edge of the windows.
        shift = int(random.integers(0, 2048))
        signals = (output[:, shift:], original[:, shift:], batch.band)
        terms |= self.some_windows(signals, random)
        spectral = torch.stack([WEIGHTS[name] * terms[name] for name in SPECTRAL]).sum()
        judge = None
        if number >= options.adversarial:
            judge = self.judges[str(random.choice(WINDOWS))]
            # Discriminators take as long as everything else, so they see only half of a crop.
            half = slice(at := int(random.integers(0, original.shape[1] // 2)), at + original.shape[1] // 2)
            with reduced_precision():
                terms["hinge"], terms["matching"] = generator_losses(judge, output[:, half], original[:, half])
            # Untrained discriminators have little weight.
            share = SHARE * min((number + 1 - options.adversarial) / 2000, 1)
            gradient = balanced(spectral, terms["hinge"] + MATCHING * terms["matching"], output, share)
        else:
            gradient = torch.autograd.grad(spectral, output)[0]
        self.ours.zero_grad(set_to_none=True)
        rest = torch.stack([WEIGHTS[name] * terms[name] for name in ("waveform", "commitment")]).sum()
        torch.autograd.backward([decoded, rest], [gradient, None])
        if judge is not None:
            self.theirs.zero_grad(set_to_none=True)
            for group in self.theirs.param_groups:
                group["lr"] = options.discriminator_rate * height
            with reduced_precision():
                terms["discriminator"] = discriminator_loss(judge, decoded.detach()[:, half], original[:, half])
            terms["discriminator"].backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.ours.step()
        if judge is not None:
            self.theirs.step()
        synchronises = number % options.apart == options.apart - 1
        if synchronises:
            self.synchronise()
        self.books.update(number if synchronises else None)
        self.average.follow(number)
        return terms

    def some_windows(self, signals: Sequence[Tensor], random: np.random.Generator) -> dict[str, Tensor]:
        """Return the spectral losses with one window for half of the crops and another for the rest.

        This is a quarter of the work for all windows.
        """
        windows = random.choice(list(RESOLUTIONS), 2, replace=False)
        halves = zip(*(signal.chunk(2) for signal in signals), windows, strict=False)
        found = [self.spectral(*half, [window]) for *half, window in halves]
        return {name: torch.stack([terms[name] for terms in found]).mean() for name in SPECTRAL}

    def synchronise(self) -> None:
        """Average the parameters over all processes (local SGD: Stich 2019, arXiv:1805.09767)."""
        parameters = [*self.net.parameters(), *self.judges.parameters(), self.books.counts, self.books.sums]
        self.team.average(parameters)

    def state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("net", "judges", "ours", "theirs", "average")}
        return parts | {"counts": self.books.counts, "sums": self.books.sums}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("net", "judges", "ours", "theirs", "average"):
            getattr(self, name).load_state_dict(state[name])
        self.books.counts.copy_(state["counts"])
        self.books.sums.copy_(state["sums"])


def train(team: Team, work: Path, options: Options) -> None:
    """Train in the folder ``work``, which contains the cache, checkpoint and logs. Resumes from the checkpoint.

    ``hours`` in the logs are the hours of audio used for training.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    samples = options.frames * HOP
    net, checkpoint, first_step, hours = FullbandNet(), work / "checkpoint.pt", 0, 0.0
    fresh = not checkpoint.exists()
    batches = Batches(work, "train", options.seed)
    held_out = Batches(work, "held", 1, synthetic=0, side=0).batch(options.held_crops, samples)
    if fresh and options.init:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(options.init).items()})
    elif fresh and team.leads:
        print("initialising with principal components and k-means", flush=True)
        crops = batches.batch(options.start_crops, samples).audio
        start(net, crops, torch.Generator().manual_seed(options.seed), options.rounds)
    if fresh:
        team.follow(list(net.state_dict().values()))
    learner = Learner(net, team, options)
    if not fresh:
        state = torch.load(checkpoint, weights_only=True)
        learner.restore(state)
        first_step, hours = state["step"], state["hours"]
    elif team.leads:
        save(learner.state() | {"step": 0, "hours": 0.0}, checkpoint)
        append(
            work / "held.csv", {"step": 0, "hours": 0.0} | validate(net, learner.books, learner.spectral, held_out)
        )
    batches.random = np.random.default_rng([options.seed, first_step, team.rank])

    running, count = dict.fromkeys(LOGGED, 0.0), 0
    for step in range(first_step, options.steps):
        batch = batches.batch(options.batch, samples)
        terms = learner.step(step, batch, batches.random)
        count += 1
        hours += options.batch * team.size * samples / RATE / 3600
        for name, term in terms.items():
            running[name] += term.item()
        synchronises = step % options.apart == options.apart - 1
        last = step + 1 == options.steps or (synchronises and team.stops())
        if team.leads and (last or (step + 1) % options.every == 0):
            row = {"step": step + 1, "hours": hours}
            save(learner.state() | row, checkpoint)
            means = {name: total / count for name, total in running.items()}
            append(work / "train.csv", row | means)
            append(work / "held.csv", row | validate(net, learner.books, learner.spectral, held_out))
            print(" ".join(f"{name} {value:.4g}" for name, value in (row | means).items()), flush=True)
            running, count = dict.fromkeys(LOGGED, 0.0), 0
        if last:
            break
