"""Fit the probability tables for range coding of a model's codes (section 14 of formats/nac-v1.md).

    python examples/train/priors.py --work DIR --model nac_48khz [--weights PATH]

DIR is the cache of `data.py` or `run.py`. Encodes recordings of the training split, fits the tables, measures them
on the held-out split, and adds them to the package, which then uses them for files made with these weights. One
core needs some minutes to encode and three to fit.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import data
import numpy as np
import numpy.typing as npt
import soxr
import torch
from safetensors.numpy import save
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import nac
from nac.container import tables as probability_tables
from nac.weights import models

Integers = npt.NDArray[np.int64]
#: level units per nat: 32 units are a factor of two
LEVELS = 32 / np.log(2)
#: the frames around a code that are inputs; earlier ones include the code's own codebook, others only coarser ones
FRAMES = (-2, -1, 0, 1)
EDGE = 2


@dataclass(frozen=True)
class Size:
    """``deep`` codebooks have a network, with ``axes`` inputs per frame and ``hidden`` units."""

    deep: int
    axes: int
    hidden: int


SIZES = {
    "nac_24khz": Size(8, 32, 48),
    "nac_48khz": Size(8, 32, 48),
    "soundstream_16khz": Size(46, 64, 48),
}
TABLE_WEIGHTS = (8, 12, 18, 27, 40, 64, 100, 150, 225, 340, 500, 750, 1100, 1700, 2500, 5000, 10000, 32000)
TABLES = Path(__file__).parents[2] / "formats" / "tables"
BUILTIN = Path(nac.__file__).parent / "codecs" / "builtin"


def encode(codec: Any, work: Path, split: str, minutes: dict[str, float], seed: int = 0) -> Integers:
    """Encode some minutes of recordings of each kind. Returns codes [codebooks, n]."""
    cache = data.Cache(work, split)
    random, arrays = np.random.default_rng(seed), []
    rate = codec.spec.sample_rate
    for kind, length in minutes.items():
        clips = [clip for clip in cache.clips if clip.kind == kind]
        parts, samples = [], 0
        for number in random.permutation(len(clips)):
            parts.append(cache.samples(clips[number], 0, 40 * data.RATE))
            samples += len(parts[-1])
            if samples > length * 60 * data.RATE:
                break
        audio = soxr.resample(np.concatenate(parts), data.RATE, rate).astype(np.float32)
        encoder = codec.encoder()
        blocks = [
            encoder.push(block[None, None]) for block in np.split(audio, range(60 * rate, len(audio), 60 * rate))
        ]
        arrays += [np.concatenate(codes.arrays) for codes in [*blocks, encoder.flush()]]
    return np.concatenate(arrays, axis=1)


def bisected(vectors: Tensor) -> Tensor:
    """Order a codebook's vectors [A, D] so that each half, quarter and so on contains similar ones."""

    def bisect(entries: Tensor) -> Tensor:
        if len(entries) == 1:
            return entries
        x = vectors[entries] - vectors[entries].mean(dim=0)
        axis = torch.linalg.eigh(x.T @ x).eigenvectors[:, -1]
        entries = entries[(x @ axis).argsort(stable=True)]
        half = len(entries) // 2
        return torch.cat([bisect(entries[:half]), bisect(entries[half:])])

    return bisect(torch.arange(len(vectors)))


def embed(vectors: Tensor, codes: Tensor, size: Size) -> Tensor:
    """Project the codebooks' vectors [codebooks, A, D], centred, to the principal axes of their sums, as int8."""
    share = torch.stack([torch.bincount(row, minlength=vectors.shape[1]) for row in codes]) / codes.shape[1]
    centred = vectors - torch.einsum("ka,kad->kd", share, vectors)[:, None]
    latent = sum(F.embedding(row[::4], book) for row, book in zip(codes, centred, strict=True))
    assert isinstance(latent, Tensor)
    axes = torch.linalg.eigh(latent.T @ latent).eigenvectors.flip(1)[:, : size.axes]
    embedding = (centred @ axes)[: size.deep]
    return (embedding * (127 / embedding.abs().max())).round()


@dataclass
class CodebookModel:
    """The fitted parameters of a codebook, with levels in nats. ``low`` and its bias: for each high symbol."""

    mix: Tensor
    mix_bias: Tensor
    high: Tensor
    high_bias: Tensor
    low: Tensor
    low_bias: Tensor

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(x @ self.mix + self.mix_bias)

    def costs(self, x: Tensor, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Return the nats of each high and low symbol."""
        hidden = self.hidden(x)
        first = F.cross_entropy(hidden @ self.high.T + self.high_bias, high, reduction="none")
        if self.low.shape[1] == 1:
            return first, torch.zeros_like(first)
        levels = torch.bmm(self.low[high], hidden[:, :, None])[:, :, 0] + self.low_bias[high]
        return first, F.cross_entropy(levels, low, reduction="none")


def fit(x: Tensor, high: Tensor, low: Tensor, counts: Tensor, size: Size, epochs: float) -> CodebookModel:
    """Fit a small network, with Adam, that predicts a code's symbols from its context ``x`` [n, inputs].

    ``counts`` [high, low]: those of all codes.
    """
    highs, lows = counts.shape
    spread = x[::7].std(dim=0) + 1
    share = counts / counts.sum()
    layer = CodebookModel(
        torch.randn(x.shape[1], size.hidden) * x.shape[1] ** -0.5 / spread[:, None],
        torch.zeros(size.hidden),
        torch.zeros(highs, size.hidden),
        share.sum(dim=1).log(),
        torch.zeros(highs, lows, size.hidden),
        (share / share.sum(dim=1, keepdim=True)).log(),
    )
    # Adam works on the mix for normalised inputs.
    scaled = layer.mix * spread[:, None]
    parameters = [scaled, layer.mix_bias, layer.high, layer.high_bias, layer.low, layer.low_bias]
    for parameter in parameters:
        parameter.requires_grad_()
    rate = 0.015 if lows == 1 else 0.006
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    batch = 1024
    steps = int(epochs * len(x)) // batch
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20) * (1 - step / steps)
        at = torch.randint(len(x), (batch,))
        layer.mix = scaled / spread[:, None]
        optimizer.zero_grad()
        costs = layer.costs(x[at], high[at], low[at])
        (costs[0].mean() + costs[1].mean()).backward()
        optimizer.step()
    layer.mix = scaled / spread[:, None]
    return CodebookModel(*(tensor.detach() for tensor in vars(layer).values()))


def contexts(through: Tensor, coarser: Tensor) -> Tensor:
    """Return the inputs [n, inputs] for each code, from sums [n, axes] with and without its own codebook."""
    parts = [(through if later < 0 else coarser).roll(-later, 0) for later in FRAMES]
    return torch.cat(parts, dim=1)


def biases(x: Tensor) -> npt.NDArray[np.int16]:
    """Convert logarithms of shares to levels relative to the largest along the last axis."""
    levels = (x - x.amax(dim=-1, keepdim=True)) * LEVELS
    return levels.round().clamp(-2000, 0).numpy().astype(np.int16)


def rounded(layer: CodebookModel, most: Tensor, seen: float) -> dict[str, npt.NDArray[Any]]:
    """Convert to integers. ``most``: the maximum of each input; ``seen``: the maximum of the hidden values."""
    # Sums of products stay below 2**24, so that they are exact in single precision.
    width = torch.maximum(
        layer.mix.abs().amax(dim=0) / 127, (layer.mix.abs() * most[:, None]).sum(dim=0) / 2**23.5
    ).clamp_min(1e-9)
    largest = torch.cat([layer.high, layer.low.flatten(0, 1)]).abs().amax(dim=0) * 64 * LEVELS
    unit = torch.minimum(127 / (largest + 1e-9), torch.tensor(1e3)).clamp_min(seen / 1023)
    out = 64 * LEVELS * unit

    def int8(x: Tensor) -> npt.NDArray[np.int8]:
        return x.round().clamp(-127, 127).numpy().astype(np.int8)

    return {
        "mix": int8(layer.mix / width),
        "mix_bias": (layer.mix_bias / width).round().clamp(-(2**22), 2**22).numpy().astype(np.int32),
        "scale": (width / unit * 2**20).round().clamp(0, 2**28).numpy().astype(np.int32),
        "high": int8(layer.high * out),
        "low": int8(layer.low * out).reshape(-1, layer.low.shape[2]),
        "high_bias": biases(layer.high_bias),
        "low_bias": biases(layer.low_bias).reshape(-1),
    }


def table_weight(likely: npt.NDArray[Any], context: Integers, symbol: Integers, chunk: int) -> tuple[int, float]:
    """Find how many counted symbols should weigh as much as the tables. Returns it and the bits per symbol.

    ``likely``: the tables' probability of each ``symbol``. Counts are of earlier symbols in its chunk and
    ``context``.
    """
    before, counted = np.zeros(len(symbol)), np.zeros(len(symbol))
    for found, key in ((before, context * 4096 + symbol), (counted, context)):
        key = key + (np.arange(len(key)) // chunk << 24)
        order = np.argsort(key, kind="stable")
        _, first, lengths = np.unique(key[order], return_index=True, return_counts=True)
        found[order] = np.arange(len(key)) - np.repeat(first, lengths)
    cost = {t: float(-np.log2((before + t * likely) / (counted + t)).mean()) for t in TABLE_WEIGHTS}
    best = min(cost, key=lambda t: cost[t])
    return best, cost[best]


def tables(
    codes: Integers, held_out: Integers, vectors: Tensor, size: Size, chunk: int, epochs: float
) -> dict[str, Any]:
    """Fit the tables of all codebooks to ``codes``, and measure them on ``held_out`` ones."""
    entries = vectors.shape[1]
    bits = entries.bit_length() - 1
    lows = 1 << (bits // 2 if bits > 5 else 0)
    embedding = embed(vectors, torch.from_numpy(codes), size)
    sums = [torch.zeros(codes.shape[1], size.axes), torch.zeros(held_out.shape[1], size.axes)]
    most = torch.zeros(size.axes)
    made: dict[str, list[Any]] = {}
    for book, row in enumerate(codes):
        order = bisected(vectors[book]) if lows > 1 else torch.arange(entries)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(entries)
        trained, tested = (ranks[torch.from_numpy(r)] for r in (row, held_out[book]))
        counts = torch.bincount(trained, minlength=entries).reshape(-1, lows) + 0.5
        share = counts / counts.sum()
        if book < size.deep:
            coarser = sums
            sums = [
                s + F.embedding(torch.from_numpy(r), embedding[book])
                for s, r in zip(sums, (row, held_out[book]), strict=True)
            ]
            most = most + embedding[book].abs().amax(dim=0)
            x, y = (contexts(*pair) for pair in zip(sums, coarser, strict=True))
            layer = fit(x, trained // lows, trained % lows, counts, size, epochs)
            with torch.no_grad():
                costs = layer.costs(y, tested // lows, tested % lows)
                seen = float(layer.hidden(x[::5]).max())
            numbers = rounded(layer, most.repeat(len(FRAMES)), seen)
        else:
            first = share.sum(dim=1)
            costs = -first.log()[tested // lows], -(share / first[:, None]).log()[tested // lows, tested % lows]
            numbers = {
                "high_bias": biases(first.log()),
                "low_bias": biases((share / first[:, None]).log()).reshape(-1),
            }
        symbols = (tested // lows).numpy(), (tested % lows).numpy()
        found = [
            table_weight(np.exp(-cost.numpy()), context, symbol, chunk)
            for cost, context, symbol in zip(costs, (0 * symbols[0], symbols[0]), symbols, strict=True)
        ]
        bare = float(sum(cost.mean() for cost in costs)) / np.log(2)
        used = found[0][1] + (found[1][1] if lows > 1 else 0)
        print(f"codebook {book}: {used:.3f} bits per code, {bare:.3f} without counts", flush=True)
        numbers |= {"order": order.numpy().astype(np.int16), "trust": np.array([t for t, _ in found], np.int16)}
        numbers["promising"] = np.array(used < 0.985 * bits)
        for key, value in numbers.items():
            made.setdefault(key, []).append(value)
    return {
        "frames": np.array(FRAMES, np.int8),
        "embedding": embedding.numpy().astype(np.int8),
        **{key: np.stack(rows) for key, rows in made.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", choices=sorted(SIZES), required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--minutes",
        type=float,
        default=40,
        help="of speech and of music each; a fifth of that of other recordings",
    )
    parser.add_argument("--epochs", type=float, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codec = models.load(options.model, weights=options.weights)
    minutes = {"speech": options.minutes, "music": options.minutes, "other": options.minutes / 5}
    kept = options.work / f"codes-{codec.spec.fingerprint}.npz"
    if not kept.exists():
        held_out = {kind: length / 6 for kind, length in minutes.items()}
        np.savez(
            kept,
            train=encode(codec, options.work, "train", minutes),
            held=encode(codec, options.work, "held", held_out),
        )
    stored = np.load(kept)
    seconds = codec.spec.sample_rate / codec.spec.frame_samples
    made = tables(
        stored["train"].astype(np.int64),
        stored["held"].astype(np.int64),
        vectors(codec, options.weights),
        SIZES[options.model],
        round(10 * seconds),
        options.epochs,
    )
    put(codec.spec.fingerprint, save(made))


def vectors(codec: Any, weights: Path | None) -> Tensor:
    """Return the codebooks [codebooks, entries, D]."""
    packaged = BUILTIN / f"{codec.spec.name}.safetensors"
    if packaged.exists():
        return load_file(weights or packaged)["quantizer.codebooks"].float()
    entries = torch.arange(1 << codec.spec.codebooks[0].bits)
    zero = torch.zeros_like(entries)
    sums = [
        codec.dequantise([zero[None]] * book + [entries[None]])[0].T for book in range(len(codec.spec.codebooks))
    ]
    return torch.stack([sums[0], *(later - first[0] for first, later in pairwise(sums))])


def put(fingerprint: str, packed: bytes) -> None:
    """Write tables to the format's folder and to the package, and make new files use them."""
    name = hashlib.sha256(packed).hexdigest()[:8]
    for folder in (TABLES, probability_tables.FOLDER):
        (folder / f"{name}.safetensors").write_bytes(packed)
    code = Path(probability_tables.__file__)
    current = probability_tables.CURRENT | {fingerprint: name}
    lines = "".join(f'    "{weights}": "{known}",\n' for weights, known in current.items())
    text = re.sub(
        r"CURRENT: dict\[str, str\] = \{.*?\}",
        f"CURRENT: dict[str, str] = {{\n{lines}}}",
        code.read_text(),
        flags=re.S,
    )
    code.write_text(text)
    print(f"{fingerprint}: {name}, {len(packed)} bytes")


if __name__ == "__main__":
    main()
