"""Download and clean the recordings, train, and export the weights.

    python examples/train/run.py --work DIR            takes hours on two cores, can be resumed
    python examples/train/run.py --work DIR --smoke    tests all steps in under a minute, on synthetic signals

A run writes to DIR: the cache of recordings, a checkpoint, ``train.csv`` and ``held.csv`` (losses), and, at its
end, ``nac_48khz.safetensors`` for `nac.load("nac_48khz", weights=...)`; `export.py` makes it from the checkpoint
of an unfinished run.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import data
import numpy as np
import torch
from export import export
from team import run_processes
from train import Options, train

from nac.codecs.fullband_torch import FullbandNet

SMOKE = Options(
    steps=4,
    batch=2,
    frames=24,
    warmup=2,
    decay=2,
    start_crops=60,
    rounds=1,
    every=2,
    adversarial=2,
    held_crops=2,
    apart=2,
)


def synthetic_cache(work: Path) -> None:
    """Make a cache of chords and noise, for a test without recordings."""
    random = np.random.default_rng(0)
    time = np.arange(4 * data.RATE) / data.RATE
    clips, parts = [], []
    for number in range(12):
        tones = sum(np.sin(2 * np.pi * random.uniform(80, 4000) * time) for _ in range(3))
        noise = random.standard_normal(len(time)) * np.exp(-5 * (time % 0.5))
        parts.append(data.stored(0.1 * (tones + noise)))
        split, start = ("train", "held")[number % 2], number * len(time)
        clips.append(data.Clip(f"synthetic/{number}", "other", split, start, len(time), 20000))
    folder = work / "cache"
    folder.mkdir(exist_ok=True)
    np.concatenate(parts).tofile(folder / "synthetic.i16")
    data.describe(folder, "synthetic", clips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--packages", nargs="+", metavar="NAME", help="only these packages, for a small trial")
    parser.add_argument("--init", type=Path, help="exported weights to start from")
    for field in fields(Options):
        if field.name != "init":
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=type(field.default), help=f"default {field.default}")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    base = SMOKE if args.smoke else Options()
    given = {field.name: getattr(args, field.name) for field in fields(Options)}
    options = Options(**{name: getattr(base, name) if value is None else value for name, value in given.items()})

    if args.smoke:
        synthetic_cache(args.work)
    else:
        data.build(args.work, args.packages or list(data.TRAIN | data.UNSEEN))
    numbers = 2 * sum(tensor.numel() for tensor in FullbandNet().state_dict().values())
    run_processes(train, options.processes, numbers, args.work, options)
    net, target = FullbandNet(), args.work / "nac_48khz.safetensors"
    net.load_state_dict(torch.load(args.work / "checkpoint.pt", weights_only=True)["average"])
    print(f"{target}: {export(net, target):,} bytes")


if __name__ == "__main__":
    main()
