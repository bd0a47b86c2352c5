"""Fit the entries of the codebooks that code pure tones, after training: a minute of one core.

    python examples/train/tones.py --work DIR nac_48khz.safetensors

DIR is the cache of `data.py` or `run.py`. Pure tones (`nac/codecs/pure_tones.py`) are rare in recordings, and
their numbers do not depend on the network. So the file gets entries that are fitted to tones of all frequencies,
phases and levels, by k-means to what the codebooks before leave. They replace those that training has made for
tones, and the entries that recordings use least. All others get the numbers of no tone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from batches import FRAMES, Batches, pitch
from export import export
from safetensors.torch import load_file
from start import k_means, nearest
from torch import Tensor

from nac.codecs.fullband import HOP, TONES
from nac.codecs.fullband_torch import FullbandNet
from nac.codecs.mdct import GROUP
from nac.codecs.pure_tones import NUMBERS

#: entries for tones in each codebook of the first group of codebooks, the second, ...; eight are enough for a tone
ENTRIES = (128, 40, 3, 3)
TONES_DRAWN, ROUNDS = 60000, 15
#: share of tones that are multiples of the frame rate; all their frames have one error, which has to be small
IN_STEP = 0.2


def tones(random: np.random.Generator) -> Tensor:
    """Draw the numbers [TONES_DRAWN, NUMBERS] of tones: frequencies on the mel scale, any phase, levels in dB."""
    hertz = pitch(random, TONES_DRAWN, lowest=70, highest=3850)  # 45 Hz to 20.6 kHz
    stepped = random.random(TONES_DRAWN) < IN_STEP
    hertz = np.where(stepped, FRAMES * random.integers(1, int(20400 / FRAMES), TONES_DRAWN), hertz)
    phase = random.uniform(-np.pi, np.pi, TONES_DRAWN)
    level = random.uniform(np.log(0.01), 0, TONES_DRAWN)
    return torch.from_numpy(TONES.coded(hertz, phase, level))


@torch.no_grad()
def usage(net: FullbandNet, batches: Batches, count: int = 30) -> Tensor:
    """Return how often recordings use each entry: [codebooks, entries]."""
    books = net.quantizer.codebooks
    counts = torch.zeros(books.shape[:2])
    for _ in range(count):
        codes = net.quantizer.encode(net.encode(batches.batch(16, 96 * HOP).audio), len(books)).flatten(1)
        for found, code in zip(counts, codes, strict=True):
            found += torch.bincount(code, minlength=len(found))
    return counts


@torch.no_grad()
def fit(books: Tensor, counts: Tensor, rest: Tensor) -> None:
    """Replace entries of ``books`` [codebooks, entries, D], which recordings use ``counts`` times, by tones."""
    generator = torch.Generator().manual_seed(0)
    learnt = books[..., -NUMBERS:].norm(dim=-1) > books[..., :-NUMBERS].norm(dim=-1)
    books[..., -NUMBERS:] *= learnt[..., None]
    for number, (book, used) in enumerate(zip(books, counts - 1e9 * learnt, strict=True)):
        found = k_means(rest, ENTRIES[number // GROUP], ROUNDS, generator)
        rest = rest - found[nearest(rest, found)]
        entries = used.argsort()[: len(found)]
        book[entries] = 0
        book[entries, -NUMBERS:] = found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("weights", type=Path, help="exported weights, which are changed")
    args = parser.parse_args()
    net = FullbandNet()
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(args.weights).items()})
    counts = usage(net, Batches(args.work, "train", 0, synthetic=0))
    fit(net.quantizer.codebooks, counts, tones(np.random.default_rng(0)))
    print(f"{export(net, args.weights):,} bytes")


if __name__ == "__main__":
    main()
