"""Measure how fast a folder of clips is compressed and decompressed on a GPU, exactly and in half precision.

    python benchmarks/gpu.py [--device cuda] [--clips 64] [--seconds 3] [-j 16] [--each 4] [--limit 150] [-m A,B]

Clips are WAV files of noise; weights are random, of official size. Speeds are seconds of audio per second, files
read and written; the last column is how far fast decoding is from exact decoding (signal-to-noise ratio in dB).
Each figure takes about --each seconds. Models that would begin after --limit seconds are left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import soundfile

from nac.codecs import registry
from nac.codecs.base import Codec
from nac.files import conversion
from nac.weights import models

NAMES = "dac_44khz,encodec_24khz,snac_24khz,mimi,dac_16khz,encodec_48khz,snac_44khz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("-j", "--jobs", type=int, default=16)
    parser.add_argument("--each", type=float, default=4.0)
    parser.add_argument("--limit", type=float, default=150.0)
    parser.add_argument("-m", "--models", default=NAMES)
    options = parser.parse_args()
    began = time.perf_counter()
    print(f"{options.clips} clips of {options.seconds:g} s, {options.jobs} at a time, files included")
    print(f"{'model':<18}{'compress':>12}{'decompress':>12}{'--fast':>12}{'dB':>8}", flush=True)
    for name in options.models.split(","):
        if time.perf_counter() - began > options.limit:
            print(f"{name:<18} left out after {options.limit:g} s")
            continue
        with tempfile.TemporaryDirectory() as folder:
            print(measured(name, Path(folder), options), flush=True)


def measured(name: str, folder: Path, options: argparse.Namespace) -> str:
    """Return a model's row."""
    device = models.resolve_device(options.device)
    exact, fast = (registry.random(registry.find(name).spec, device, fast=fast)[0] for fast in (False, True))
    rng = np.random.default_rng(0)
    shape = round(options.seconds * exact.sample_rate), exact.channels
    for number in range(options.clips):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(shape), exact.sample_rate)

    def encode(number: int) -> None:
        clip = folder / f"{number % options.clips}.wav"
        conversion.compress(clip, clip.with_suffix(".nac"), model=name, load=lambda _: exact, force=True)

    def decode(codec: Codec) -> Callable[[int], None]:
        def run(number: int) -> None:
            file = folder / f"{number % options.clips}.nac"
            conversion.decompress(file, folder / f"decoded-{file.stem}.wav", load=lambda _: codec, force=True)

        return run

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(encode, range(options.clips)))  # which also warms up
        speeds = []
        for work in (encode, decode(exact), decode(fast)):
            list(pool.map(work, range(options.jobs)))
            speeds.append(options.seconds * rate(work, pool, options))
    both = (conversion.read(folder / "0.nac", codec=codec)[0] for codec in (exact, fast))
    return f"{name:<18}" + "".join(f"{speed:>11.4g}x" for speed in speeds) + f"{ratio(*both):>8.1f}"


def rate(work: Callable[[int], None], pool: ThreadPoolExecutor, options: argparse.Namespace) -> float:
    """Return the number of clips per second."""
    began, numbers = time.perf_counter(), count()

    def until_the_end(_: int) -> int:
        return sum(1 for _ in worked())

    def worked() -> Iterator[None]:
        while time.perf_counter() - began < options.each:
            yield work(next(numbers))

    done = sum(pool.map(until_the_end, range(options.jobs)))
    return done / (time.perf_counter() - began)


def ratio(exact: np.ndarray, other: np.ndarray) -> float:
    """Return the signal-to-noise ratio in dB."""
    noise = np.square(exact - other).sum(dtype=np.float64)
    return float(10 * np.log10(np.square(exact).sum(dtype=np.float64) / noise)) if noise else float("inf")


if __name__ == "__main__":
    main()
