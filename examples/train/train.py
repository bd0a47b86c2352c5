"""From principal components and k-means by gradients to something better, saving often.

First by reconstruction alone; from step ``adversarial`` on also against discriminators, which encoder, decoder and
codebooks all follow.
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
from discriminators import WINDOWS, Discriminator, to_deceive, to_tell
from losses import RESOLUTIONS, SpectralLoss, waveform_loss
from safetensors.torch import load_file
from start import start
from team import Team
from torch import Tensor, nn

from nac.codecs.fullband import HOP, RATE
from nac.codecs.fullband_torch import FullbandNet, position_noise
from nac.codecs.mdct_torch import nearest

#: what each term counts
WEIGHTS = {"mel": 1.0, "loud": 0.5, "compressed": 1.5, "structure": 0.7, "waveform": 1.0, "commitment": 0.1}
SPECTRAL = ("mel", "loud", "compressed", "structure")
#: size of the gradient of deceiving against that of the spectral losses, for each crop at the decoded samples
SHARE = 0.7
#: of that gradient, what matching the layers counts against the hinge loss
MATCHING = 2.0
LOGGED = (*WEIGHTS, "hinge", "matching", "discriminator")


@dataclass(frozen=True)
class Options:
    """``processes`` of one thread; ``batch``: crops of each a step, of so many ``frames``. ``apart``: steps after
    which processes average what they have learnt. ``start_crops``: how many the starting point is fitted to, in
    k-means ``rounds``. ``warmup`` and ``decay``: steps of rising and falling learning rate. ``adversarial``: the
    step from which discriminators take part. ``every``: steps between checkpoints. ``init``: exported weights to
    start from."""

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
    adversarial: int = 20000
    discriminator_rate: float = 5e-4
    every: int = 500
    held_crops: int = 24
    seed: int = 0
    init: Path | None = None


def reduced_precision() -> torch.autocast:
    """Products in bfloat16 where the processor has them; emulated, they would take ten times as long."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.autocast("cpu", torch.bfloat16, enabled=supported())


class MovingCodebooks:
    """Codebooks as moving averages of what falls to each entry; entries that nothing falls to are moved."""

    def __init__(self, net: FullbandNet) -> None:
        self.books, self.decay = net.quantizer.codebooks, 0.99
        self.counts = torch.ones(self.books.shape[:2])
        self.sums = self.books.clone()

    @torch.no_grad()
    def quantize(self, latent: Tensor, learn: bool = True) -> Tensor:
        """Sums of the first 1, 2, ... codewords: [B, T, D] to [codebooks, B, T, D]. Learns on the way."""
        rest, given, sums = latent.reshape(-1, latent.shape[-1]), torch.zeros(()), []
        counted, summed = torch.zeros_like(self.counts), torch.zeros_like(self.sums) if learn else self.sums
        for number, book in enumerate(self.books):
            index = nearest(rest, book)
            if learn:
                counted[number] = torch.bincount(index, minlength=len(book))
                summed[number].index_add_(0, index, rest)
            rest = rest - book[index]
            given = latent.reshape(rest.shape) - rest
            sums.append(given.view(latent.shape))
        if learn:
            self.counts.lerp_(counted, 1 - self.decay)
            self.sums.lerp_(summed, 1 - self.decay)
        return torch.stack(sums)

    @torch.no_grad()
    def update(self, revive: int | None) -> None:
        """Move the entries to the averages; with a seed to ``revive``, idle ones beside the busiest."""
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
    """Quantiser dropout: a number of codebooks for each crop, often one of the usual bitrates."""
    usual = random.choice([2, 4, 8, 16], size=size, p=[0.15, 0.3, 0.3, 0.25])
    return torch.from_numpy(np.where(random.random(size) < 0.6, usual, random.integers(1, 17, size)))


def run(
    net: FullbandNet, books: MovingCodebooks, audio: Tensor, levels: Tensor, first: int, learn: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Audio [B, 1, HOP * T] coded and decoded, [B, N], and the losses that are not about spectra."""
    analysed = net.analyse(audio)
    with reduced_precision():  # the networks only: transforms need theirs
        latent = net.latent(*analysed).float()
    sums = books.quantize(latent.detach(), learn)
    quantized = sums[levels - 1, torch.arange(len(levels))]
    through = latent + (quantized - latent).detach()
    with reduced_precision():
        plain, deep = net.describe(through, levels)
    decoded = net.render(plain.float(), deep.float(), levels, position_noise(first, latent.shape[1]))
    terms = {
        "waveform": waveform_loss(net, net.long_transform(decoded), net.long_transform(audio)),
        "commitment": (latent - quantized).square().mean(),
    }
    return decoded[:, 0], terms


@torch.no_grad()
def validate(net: FullbandNet, books: MovingCodebooks, spectral: SpectralLoss, held: Batch) -> dict[str, float]:
    """Losses on held-out crops at 1.5, 3, 6 and 12 kbit/s."""
    found = {}
    for count in (2, 4, 8, 16):
        levels = torch.full((len(held.audio),), count)
        decoded, terms = run(net, books, held.audio, levels, 0, learn=False)
        terms |= spectral(decoded, held.audio[:, 0], held.band)
        found |= {f"{name}{count}": float(terms[name]) for name in (*SPECTRAL, "waveform")}
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


def balanced(reconstruction: Tensor, deception: Tensor, audio: Tensor, share: float) -> Tensor:
    """The gradient of both at the audio [B, N], the second's scaled to ``share`` of the first's in each crop."""
    wanted = torch.autograd.grad(reconstruction, audio)[0]
    added = torch.autograd.grad(deception, audio)[0]
    sizes = [gradient.norm(dim=1, keepdim=True) for gradient in (wanted, added)]
    return wanted + added * (share * sizes[0] / (sizes[1] + 1e-12))


class Average:
    """A moving average of a network's weights, steadier than the weights of any one step."""

    def __init__(self, net: FullbandNet, every: int = 4, decay: float = 0.999) -> None:
        self.every, self.least = every, 1 - decay**every
        self.tensors = list(net.state_dict().values())
        self.means = [tensor.clone() for tensor in self.tensors]
        self.names = list(net.state_dict())

    def follow(self, step: int) -> None:
        if step % self.every == self.every - 1:
            # At first it forgets faster, or it would keep what the first steps were like.
            part = max(self.least, 10 / (10 + step // self.every))
            torch._foreach_lerp_(self.means, self.tensors, part)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.means, strict=True))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, mean in zip(self.names, self.means, strict=True):
            mean.copy_(state[name])


class Learner:
    """Everything that learns, and one step of it."""

    def __init__(self, net: FullbandNet, team: Team, options: Options) -> None:
        self.net, self.team, self.options = net, team, options
        self.books, self.spectral = MovingCodebooks(net), SpectralLoss()
        self.judges = nn.ModuleDict({str(window): Discriminator(window) for window in WINDOWS})
        # The linear maps are good from the start: they may move, but slowly.
        slow = list(net.encoder.linear.parameters())
        # The encoder's blocks, too: the codebooks have to follow what they do.
        medium = [p for name, p in net.encoder.named_parameters() if not name.startswith("linear")]
        medium += net.decoder.linear.parameters()
        named = [(name, p) for name, p in net.named_parameters() if not name.startswith("encoder")]
        fast = [p for name, p in named if not name.startswith("decoder.linear")]
        groups = [{"params": fast, "scale": 1.0}, {"params": medium, "scale": 0.5}, {"params": slow, "scale": 0.2}]
        self.ours = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self.theirs = torch.optim.AdamW(self.judges.parameters(), betas=(0.8, 0.98), weight_decay=0.01)
        self.average = Average(net)

    def step(self, number: int, batch: Batch, random: np.random.Generator) -> dict[str, Tensor]:
        """One step."""
        options = self.options
        height = min((number + 1) / options.warmup, (options.steps - number) / options.decay, 1.0)
        for group in self.ours.param_groups:
            group["lr"] = options.rate * group["scale"] * height
        # The less the encoder moves, and the fewer vectors a step has, the longer the codebooks may average.
        self.books.decay = 1 - 0.01 * max(height, 0.1) * min(options.batch / 16, 1)
        levels = draw_levels(random, len(batch.audio))
        original = batch.audio[:, 0]
        decoded, terms = run(self.net, self.books, batch.audio, levels, int(random.integers(0, 10**6)), learn=True)
        heard = decoded.detach().requires_grad_()
        # Windows that start elsewhere each time see everything in the end.
        shift = int(random.integers(0, 2048))
        signals = (heard[:, shift:], original[:, shift:], batch.band)
        terms |= self.some_windows(signals, random)
        spectral = torch.stack([WEIGHTS[name] * terms[name] for name in SPECTRAL]).sum()
        judge = None
        if number >= options.adversarial:
            judge = self.judges[str(random.choice(WINDOWS))]
            # Discriminators cost as much as all else: half of a crop has to do.
            half = slice(at := int(random.integers(0, original.shape[1] // 2)), at + original.shape[1] // 2)
            with reduced_precision():
                terms["hinge"], terms["matching"] = to_deceive(judge, heard[:, half], original[:, half])
            # Discriminators that know nothing yet have little say.
            share = SHARE * min((number + 1 - options.adversarial) / 2000, 1)
            gradient = balanced(spectral, terms["hinge"] + MATCHING * terms["matching"], heard, share)
        else:
            gradient = torch.autograd.grad(spectral, heard)[0]
        self.ours.zero_grad(set_to_none=True)
        rest = torch.stack([WEIGHTS[name] * terms[name] for name in ("waveform", "commitment")]).sum()
        torch.autograd.backward([decoded, rest], [gradient, None])
        if judge is not None:
            self.theirs.zero_grad(set_to_none=True)
            for group in self.theirs.param_groups:
                group["lr"] = options.discriminator_rate * height
            with reduced_precision():
                terms["discriminator"] = to_tell(judge, decoded.detach()[:, half], original[:, half])
            terms["discriminator"].backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.ours.step()
        if judge is not None:
            self.theirs.step()
        meets = number % options.apart == options.apart - 1
        if meets:
            self.meet()
        self.books.update(number if meets else None)
        self.average.follow(number)
        return terms

    def some_windows(self, signals: Sequence[Tensor], random: np.random.Generator) -> dict[str, Tensor]:
        """Spectral losses at one window for half of the crops, at another for the rest: a quarter of the work."""
        windows = random.choice(list(RESOLUTIONS), 2, replace=False)
        halves = zip(*(signal.chunk(2) for signal in signals), windows, strict=False)
        found = [self.spectral(*half, [window]) for *half, window in halves]
        return {name: torch.stack([terms[name] for terms in found]).mean() for name in SPECTRAL}

    def meet(self) -> None:
        """All processes go on from the mean of what each has learnt (local SGD: Stich 2019, arXiv:1805.09767)."""
        learnt = [*self.net.parameters(), *self.judges.parameters(), self.books.counts, self.books.sums]
        self.team.average(learnt)

    def state(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("net", "judges", "ours", "theirs", "average")}
        return parts | {"counts": self.books.counts, "sums": self.books.sums}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("net", "judges", "ours", "theirs", "average"):
            getattr(self, name).load_state_dict(state[name])
        self.books.counts.copy_(state["counts"])
        self.books.sums.copy_(state["sums"])


def train(team: Team, work: Path, options: Options) -> None:
    """Train in ``work``, where the cache is and where checkpoint and logs go; goes on where a run stopped.

    ``hours`` in the logs are those of audio seen.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    samples = options.frames * HOP
    net, checkpoint, begun, heard = FullbandNet(), work / "checkpoint.pt", 0, 0.0
    fresh = not checkpoint.exists()
    batches = Batches(work, "train", options.seed)
    held = Batches(work, "held", 1, made_up=0, side=0).batch(options.held_crops, samples)
    if fresh and options.init:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(options.init).items()})
    elif fresh and team.leads:
        print("starting point: principal components and k-means", flush=True)
        crops = batches.batch(options.start_crops, samples).audio
        start(net, crops, torch.Generator().manual_seed(options.seed), options.rounds)
    if fresh:
        team.follow(list(net.state_dict().values()))
    learner = Learner(net, team, options)
    if not fresh:
        state = torch.load(checkpoint, weights_only=True)
        learner.restore(state)
        begun, heard = state["step"], state["hours"]
    elif team.leads:
        save(learner.state() | {"step": 0, "hours": 0.0}, checkpoint)
        append(work / "held.csv", {"step": 0, "hours": 0.0} | validate(net, learner.books, learner.spectral, held))
    batches.random = np.random.default_rng([options.seed, begun, team.rank])

    running, seen = dict.fromkeys(LOGGED, 0.0), 0
    for step in range(begun, options.steps):
        batch = batches.batch(options.batch, samples)
        terms = learner.step(step, batch, batches.random)
        seen += 1
        heard += options.batch * team.size * samples / RATE / 3600
        for name, term in terms.items():
            running[name] += term.item()
        meets = step % options.apart == options.apart - 1
        last = step + 1 == options.steps or (meets and team.stops())
        if team.leads and (last or (step + 1) % options.every == 0):
            row = {"step": step + 1, "hours": heard}
            save(learner.state() | row, checkpoint)
            means = {name: total / seen for name, total in running.items()}
            append(work / "train.csv", row | means)
            append(work / "held.csv", row | validate(net, learner.books, learner.spectral, held))
            print(" ".join(f"{name} {value:.4g}" for name, value in (row | means).items()), flush=True)
            running, seen = dict.fromkeys(LOGGED, 0.0), 0
        if last:
            break
