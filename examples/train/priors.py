"""Fits the tables that codes of a model are range coded with (section 14 of formats/nac-v1.md).

    python examples/train/priors.py --work DIR --model nac_24khz [--weights PATH]

DIR is what `data.py` or `run.py` made. Encodes recordings of the training split, fits, measures on the held-out
split, and puts the tables into the package, where files made with these weights will be coded with them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from pathlib import Path
from typing import Any, cast

import data
import numpy as np
import numpy.typing as npt
import soxr
import torch
from safetensors.numpy import save
from torch import Tensor, nn
from torch.nn import functional as F

import nac
from nac import models
from nac.container import priors

Contexts = list[tuple[int, int]]
Codes = npt.NDArray[np.int64]
#: units of a level: 32 to the factor of two
LEVELS = 32 / np.log(2)
#: frames on either side that contexts reach into
EDGE = 4
CONTEXTS = {
    "nac_24khz": [(0, -1), (0, -2), (0, -3), (1, -1), (1, 0), (1, 1), (2, 0)],
    "soundstream_16khz": [(0, -1), (0, -2), (0, -3), (1, -1), (1, 0), (2, 0), (3, 0)],
}
#: codebooks with contexts, and all with tables; sizes of the embedding and of what is made of it
SIZES = {"nac_24khz": (5, 16, 24, 32), "soundstream_16khz": (46, 46, 16, 16)}


TRUSTS = (64, 100, 150, 225, 340, 500, 750, 1100, 1700, 2500, 5000, 10000, 32000)
BUILTIN = Path(nac.__file__).parent / "codecs" / "builtin" / "nac_24khz.safetensors"


def encode(codec: Any, work: Path, split: str, minutes: dict[str, float], seed: int = 0) -> Codes:
    """Codes [codebooks, n] of so many minutes of each kind."""
    pool, clips = data.load(work, split)
    random, arrays = np.random.default_rng(seed), []
    rate = codec.spec.sample_rate
    for kind, length in minutes.items():
        some = [clip for clip in clips if clip.kind == kind]
        parts, samples = [], 0
        for number in random.permutation(len(some)):
            clip = some[number]
            parts.append(pool[clip.start : clip.start + min(clip.length, 40 * data.RATE)])
            samples += len(parts[-1])
            if samples > length * 60 * data.RATE:
                break
        audio = soxr.resample(np.concatenate(parts).astype(np.float32) / 32768, data.RATE, rate).astype(np.float32)
        encoder = codec.encoder()
        blocks = [
            encoder.push(block[None, None]) for block in np.split(audio, range(60 * rate, len(audio), 60 * rate))
        ]
        arrays += [np.concatenate(codes.arrays) for codes in [*blocks, encoder.flush()]]
    return np.concatenate(arrays, axis=1)


class Tables(nn.Module):
    """The tables of a prior in floating point: levels of all codes, in nats."""

    def __init__(self, codes: Tensor, entries: int, contexts: Contexts, sizes: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.deep, _, embedding, rank = sizes
        self.contexts = contexts
        self.embedding = nn.Parameter(torch.eye(entries, embedding).repeat(self.deep, 1, 1))
        self.mix = nn.Parameter(torch.zeros(self.deep, len(contexts), embedding, rank))
        self.out = nn.Parameter(torch.eye(entries, rank).repeat(self.deep, 1, 1))
        counts = torch.stack([torch.bincount(row, minlength=entries) for row in codes]) + 1.0
        self.bias = nn.Parameter((counts / counts.sum(dim=1, keepdim=True)).log())

    def near(self, book: int) -> list[tuple[int, int, int]]:
        """The contexts that a codebook has, with their numbers."""
        return [(n, up, later) for n, (up, later) in enumerate(self.contexts) if up <= book]

    def forward(self, codes: Tensor, at: Tensor, book: int) -> Tensor:
        """Levels [n, entries] of a codebook at these frames."""
        tables = [(self.embedding[book - up] @ self.mix[book, n], up, later) for n, up, later in self.near(book)]
        hidden = sum(F.embedding(codes[book - up][at + later], table) for table, up, later in tables)
        return cast(Tensor, hidden) @ self.out[book].T + self.bias[book]


@torch.no_grad()
def discriminate(tables: Tables, codes: Tensor, vectors: Tensor, frames: int = 120000) -> None:
    """Start from the codebooks' vectors and linear discriminant analysis: levels if surroundings were Gaussian.

    ``vectors`` [codebooks, entries, D]: embedded by their principal components. Fisher 1936, "The use of multiple
    measurements in taxonomic problems"; many codes with one covariance.
    """
    deep, entries, size = tables.embedding.shape
    for book in range(deep):
        share = torch.bincount(codes[book], minlength=entries) / codes.shape[1]
        centred = vectors[book] - share @ vectors[book]
        axes = torch.linalg.eigh((centred * share[:, None]).T @ centred).eigenvectors
        tables.embedding[book] = centred @ axes.flip(1)[:, :size]
    for book in range(deep):
        near = tables.near(book)
        at = torch.randint(EDGE, codes.shape[1] - EDGE, (frames,))
        x = torch.cat([tables.embedding[book - up][codes[book - up][at + later]] for _, up, later in near], dim=1)
        middle = x.mean(dim=0)
        x, y = x - middle, codes[book][at]
        count = torch.bincount(y, minlength=entries).float()
        means = torch.zeros(entries, x.shape[1]).index_add_(0, y, x) / (count[:, None] + 20)
        total = x.T @ x / frames
        within = total - (means * count[:, None]).T @ means / frames
        within += 3e-3 * total.trace() / len(total) * torch.eye(len(total))
        scale, axes = torch.linalg.eigh(within)
        white = axes / scale.sqrt()
        rank = tables.out.shape[-1]
        shape = means @ white
        best = torch.linalg.svd(shape * (count / frames).sqrt()[:, None], full_matrices=False).Vh[:rank].T
        project, out = white @ best, shape @ best
        prior = ((count + 1) / (frames + entries)).log()
        # Surroundings are not Gaussian, and the levels too bold.
        bold = x[:5000] @ project @ out.T - 0.5 * out.square().sum(dim=1)
        meek = min(
            (0.25, 0.35, 0.45, 0.55, 0.7, 0.85), key=lambda a: float(F.cross_entropy(a * bold + prior, y[:5000]))
        )
        tables.out[book] = out * meek
        tables.bias[book] = prior - meek * (middle @ project @ out.T + 0.5 * out.square().sum(dim=1))
        for (number, _, _), part in zip(near, project.split(size), strict=True):
            tables.mix[book, number] = part


def polish(tables: Tables, codes: Tensor, seconds: float, rate: float, batch: int = 1024) -> None:
    """Adam on the cross entropy, for so long."""
    steps, began = 0, time.time()
    fixed = tables.embedding.shape[1] == tables.embedding.shape[2]
    parameters = [tables.mix, tables.bias] + ([] if fixed else [tables.embedding, tables.out])
    optimizer = torch.optim.Adam(parameters)
    while (done := (time.time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, 20 * (done + 0.005)) * (1 - done)
        at = torch.randint(EDGE, codes.shape[1] - EDGE, (batch,))
        optimizer.zero_grad()
        losses = [F.cross_entropy(tables(codes, at, book), codes[book][at]) for book in range(tables.deep)]
        torch.stack(losses).sum().backward()
        optimizer.step()
        steps += 1
        if steps % 50 == 1:
            print(f"step {steps}: {sum(losses).item() / len(losses) / np.log(2):.3f} bits a code", flush=True)


@torch.no_grad()
def rounded(tables: Tables) -> dict[str, npt.NDArray[Any]]:
    """The tables as integers."""
    embedding, mix, out = (t.double().numpy() for t in (tables.embedding, tables.mix, tables.out))
    embed = np.abs(embedding).max(axis=(1, 2)) / 127
    width = np.maximum(np.abs(out).max(axis=1), 1e-9) / 127  # [deep, rank]
    mixed = np.zeros(mix.shape)
    for book in range(tables.deep):
        for number, up, _ in tables.near(book):
            mixed[book, number] = mix[book, number] * embed[book - up] * width[book] * 64 * LEVELS * 1024
    # Single precision holds every sum of a code's products: below 2**24.
    most = (2**24 - 2**10) // (127 * mix.shape[2])
    bias = tables.bias.double().numpy() * LEVELS
    return {
        "contexts": np.array(tables.contexts, np.int8),
        "embedding": np.rint(embedding / embed[:, None, None]).astype(np.int8),
        "mix": np.clip(np.rint(mixed), -min(most, 32767), min(most, 32767)).astype(np.int16),
        "out": np.rint(out / width[:, None]).astype(np.int8),
        "bias": np.clip(np.rint(bias - bias.max(axis=1, keepdims=True)), -2000, 0).astype(np.int16),
    }


@torch.no_grad()
def trust(tables: Tables, codes: Codes, chunk: int, chunks: int = 24) -> tuple[list[int], list[float]]:
    """For each codebook: how many counted codes should weigh as much as the tables, and the bits a code takes."""
    found, bits = [], []
    starts = np.linspace(EDGE, codes.shape[1] - chunk - EDGE, chunks).astype(int)
    whole = torch.from_numpy(codes)
    for book in range(len(codes)):
        likely, before = [], []
        for start in starts:
            at = torch.arange(start, start + chunk)
            row = whole[book][at]
            levels = tables(whole, at, book) if book < tables.deep else tables.bias[book].expand(chunk, -1)
            likely.append(levels.log_softmax(dim=1)[torch.arange(chunk), row].exp())
            same = row[:, None] == row[None, :]
            before.append(same.tril(-1).sum(dim=1))
        share, count, place = torch.stack(likely), torch.stack(before), torch.arange(chunk)
        cost = {t: float(-((count + t * share) / (place + t)).log2().mean()) for t in TRUSTS}
        found.append(min(cost, key=lambda t: cost[t]))
        bits.append(cost[found[-1]])
    return found, bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", choices=sorted(SIZES), required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--minutes", type=float, default=40, help="of speech and of music; a fifth of that of the rest"
    )
    parser.add_argument("--seconds", type=float, default=240, help="to polish the tables for")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codec = models.load(options.model, weights=options.weights)
    minutes = {"speech": options.minutes, "music": options.minutes, "other": options.minutes / 5}
    kept = options.work / f"codes-{codec.spec.fingerprint}.npz"
    if not kept.exists():
        held = {kind: length / 6 for kind, length in minutes.items()}
        np.savez(
            kept,
            train=encode(codec, options.work, "train", minutes),
            held=encode(codec, options.work, "held", held),
        )
    stored = np.load(kept)
    codes, held = stored["train"].astype(np.int64), stored["held"].astype(np.int64)
    entries = 1 << codec.spec.codebooks[0].bits
    tables = Tables(torch.from_numpy(codes), entries, CONTEXTS[options.model], SIZES[options.model])
    if entries > SIZES[options.model][2]:
        discriminate(tables, torch.from_numpy(codes), vectors(options.weights))
    polish(tables, torch.from_numpy(codes), options.seconds, 0.002 if entries > SIZES[options.model][2] else 0.03)
    seconds = codec.spec.sample_rate / codec.spec.frame_samples
    trusts, bits = trust(tables, held, round(10 * seconds))
    print("bits a code:", " ".join(f"{cost:.2f}" for cost in bits))
    made = rounded(tables)
    made["trust"] = np.array(trusts, np.int16)
    made["promising"] = np.array([cost < 0.985 * np.log2(entries) for cost in bits])
    put(codec.spec.fingerprint, save(made))


def vectors(path: Path | None) -> Tensor:
    """The codebooks [codebooks, entries, D] of the built-in network."""
    from safetensors.torch import load_file

    return load_file(path or BUILTIN)["quantizer.codebooks"].float()


def put(fingerprint: str, packed: bytes) -> None:
    """Make a prior the one that new files get."""
    name = hashlib.sha256(packed).hexdigest()[:8]
    priors.FOLDER.mkdir(exist_ok=True)
    (priors.FOLDER / f"{name}.safetensors").write_bytes(packed)
    code = Path(priors.__file__)
    current = priors.CURRENT | {fingerprint: name}
    lines = "".join(f'    "{weights}": "{prior}",\n' for weights, prior in current.items())
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
