"""Draw the curves of a run: ``python plot.py DIR curves.png`` (needs matplotlib)."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def columns(path: Path) -> dict[str, list[float]]:
    """Read a CSV file of numbers. Returns its columns."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def main(work: Path, target: Path) -> None:
    validation = columns(work / "held.csv")
    losses = columns(work / "train.csv")
    adversarial = [index for index, value in enumerate(losses["hinge"]) if value]
    shown = ("mel", "loud", "compressed", "structure", "loudness", "waveform")
    names = [name for name in shown if f"{name}2" in validation]
    panels = len(names) + bool(adversarial)
    figure, axes = pyplot.subplots(1, panels, figsize=(3.7 * panels, 3.2), layout="constrained")
    for axis, name in zip(axes, names, strict=False):
        for count in (2, 4, 8, 16):
            axis.plot(validation["step"], validation[f"{name}{count}"], label=f"{0.75 * count:g} kbit/s")
        axis.set_title(f"{name}, held-out")
    if adversarial:
        steps = [losses["step"][i] for i in adversarial]
        for name in ("hinge", "matching", "discriminator"):
            axes[-1].plot(steps, [losses[name][i] for i in adversarial], label=name)
        axes[-1].set_title("discriminators, training")
        axes[-1].legend()
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(target, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
