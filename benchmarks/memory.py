"""Measure the peak memory of nac compress and nac decompress for recordings of two lengths, by model.

    python benchmarks/memory.py                                  # nac_24khz, 2 and 20 minutes python
    benchmarks/memory.py -m dac_44khz --minutes 1 4       # others, with random weights of official size

Prints the peak resident memory of the whole process in MB and its duration in seconds. Needs Unix.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile

from nac.codecs.registry import MODELS, random


def recording(path: Path, minutes: float, channels: int, rate: int = 44100) -> None:
    """Write a recording of chords and noise, in blocks."""
    random = np.random.default_rng(0)
    clock = np.arange(rate) / rate
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for _ in range(round(minutes * 60)):
            tones = sum(np.sin(2 * np.pi * random.uniform(80, 4000) * clock) for _ in range(4))
            file.write(0.1 * tones[:, None] + 0.02 * random.standard_normal((rate, channels)))


def random_weights(name: str, folder: Path) -> Path:
    """Write a checkpoint of random weights, and return its path."""
    from safetensors.torch import save_file

    path = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in random(MODELS[name].spec)[1].items()}, path)
    return path


def peak(*words: str | Path) -> tuple[float, float]:
    """Return the peak resident memory in MB and the seconds of a `nac` command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "nac", *map(os.fspath, words)]
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return usage.ru_maxrss / scale, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [
        name for name, model in MODELS.items() if model.spec.family != "soundstream"
    ]  # whose weights are .tflite
    parser.add_argument("-m", "--model", nargs="+", default=["nac_24khz"], choices=names)
    parser.add_argument("--minutes", nargs="+", type=float, default=[2, 20])
    parser.add_argument("--channels", type=int, default=1)
    args = parser.parse_args()
    print(f"{'model':<18} {'weights':>8} {'minutes':>8} {'compress':>17} {'decompress':>17}")
    with tempfile.TemporaryDirectory() as folder:
        wav, small, back = (Path(folder) / name for name in ("x.wav", "x.nac", "y.wav"))
        for name in args.model:
            weights: list[str | Path] = []
            if name != "nac_24khz":
                # In a separate process: the peak of a child process includes the memory of the parent at its
                # start.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    weights = ["--weights", process.submit(random_weights, name, Path(folder)).result()]
            size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 1e6
            for minutes in args.minutes:
                recording(wav, minutes, args.channels)
                there = peak("compress", wav, "-o", small, "-m", name, *weights, "-f", "-q")
                again = peak("decompress", small, "-o", back, *weights, "-f", "-q")
                cells = [f"{memory:6.0f} MB {seconds:5.0f} s" for memory, seconds in (there, again)]
                print(f"{name:<18} {size:5.0f} MB {minutes:8g} {cells[0]:>17} {cells[1]:>17}", flush=True)
            for path in Path(folder).glob("*.safetensors"):
                path.unlink()


if __name__ == "__main__":
    main()
