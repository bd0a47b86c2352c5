"""From nothing to weights: fetch, clean, train, measure, export.

    python examples/train/run.py --work DIR            some hours on one processor core, resumable
    python examples/train/run.py --work DIR --smoke    the same path in under a minute, on made-up sounds

What a run leaves in DIR: the cache of recordings, checkpoints of both phases, ``train.csv``, ``adversarial.csv``
and ``held.csv`` (losses), and ``nac_24khz.safetensors``, which `nac.load("nac_24khz", weights=...)` takes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import data
import numpy as np
from export import export
from finetune import finetune
from train import Options, train

SMOKE = Options(
    steps=4, batch=2, frames=24, warmup=2, decay=2, start_crops=60, rounds=1, every=2, adversarial=2, held_crops=2
)


def made_up(work: Path) -> None:
    """A cache of chords and noise, for a trial without any recordings."""
    random = np.random.default_rng(0)
    time = np.arange(4 * data.RATE) / data.RATE
    for split in ("train", "held"):
        parts = []
        for _ in range(6):
            tones = sum(np.sin(2 * np.pi * random.uniform(80, 4000) * time) for _ in range(3))
            noise = random.standard_normal(len(time)) * np.exp(-5 * (time % 0.5))
            parts.append(np.rint(3000 * (tones + noise)).clip(-32768, 32767).astype("<i2"))
        np.concatenate(parts).tofile(work / f"{split}.i16")
        clips = [data.Clip(f"made up {i}", "other", i * len(time), len(time)) for i in range(len(parts))]
        (work / f"{split}.json").write_text(json.dumps([vars(clip) for clip in clips]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--init", type=Path, help="exported weights to go on from, instead of a new start")
    for field in fields(Options):
        if field.name != "init":
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=type(field.default), help=f"default {field.default}")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    base = SMOKE if args.smoke else Options()
    given = {field.name: getattr(args, field.name) for field in fields(Options)}
    options = Options(**{name: getattr(base, name) if value is None else value for name, value in given.items()})

    if not (args.work / "held.json").exists():
        if args.smoke:
            made_up(args.work)
        else:
            data.build(args.work, data.TRAIN | data.UNSEEN)
    train(args.work, options)
    net = finetune(args.work, options)
    target = args.work / "nac_24khz.safetensors"
    print(f"{target}: {export(net, target):,} bytes")
    print("measure it: python benchmarks/quality.py --cache", args.work, "--weights", target)


if __name__ == "__main__":
    main()
