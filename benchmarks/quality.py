"""Measure the quality of nac's models and Opus by distances and perceptual metrics, with bitrates from file sizes.

    python benchmarks/quality.py --cache WORK                  held-out and unseen clips of examples/train
    python benchmarks/quality.py --model nac_24khz a.wav b.flac
    python benchmarks/quality.py --synthetic                   tones, glides, clicks, silence, noise, square waves

Clips are mono at 48 kHz, and compared over the whole bandwidth. The bitrate of each system is that of the file
that it writes; Opus is encoded by opusenc. For each kind of audio, the output has the mean and the worst value of
every installed metric of `nac.evaluate.metrics`; PESQ and STOI for speech only.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

import nac
from nac.evaluate.metrics import Metric, chosen

sys.path.append(str(Path(__file__).parents[1] / "examples" / "train"))
from data import Cache

RATE = 48000
Samples = Any  # float32 [n]


System = Callable[[Any, Path], tuple[Any, int]]


class Clip(NamedTuple):
    name: str
    kind: str
    samples: Samples


# Clips


def cached(work: Path, split: str, count: int, seconds: float) -> Iterator[Clip]:
    """Yield up to ``count`` excerpts of each kind from a cache of examples/train, the same in every run."""
    cache = Cache(work, split)
    for kind in ("speech", "music", "other"):
        found = [c for c in cache.clips if c.kind == kind and c.length > 2 * RATE]
        found.sort(key=lambda c: zlib.crc32(c.name.encode()))
        taken = 0
        for clip in found:
            length = min(int(seconds * RATE), clip.length)
            samples = cache.samples(clip, (clip.length - length) // 2, length)
            if taken < count and np.abs(samples).max() > 0.03:
                taken += 1
                yield Clip(clip.name, f"{split} {kind}", samples)


def opened(path: Path, seconds: float) -> Clip:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(audio.mean(axis=1), rate, RATE)[: int(seconds * RATE)]
    return Clip(path.name, "files", mono.astype(np.float32))


# Systems: samples to samples and bytes


class Opus(NamedTuple):
    """Opus by opusenc; ``kbps`` is the nominal bitrate."""

    kbps: float

    def __str__(self) -> str:
        return f"opus {self.kbps:g}"

    def __call__(self, samples: Samples, folder: Path) -> tuple[Samples, int]:
        source, path = folder / "clip.wav", folder / "clip.opus"
        soundfile.write(source, samples, RATE, subtype="FLOAT")
        command = ["opusenc", "--quiet", "--bitrate", f"{self.kbps:g}", str(source), str(path)]
        subprocess.run(command, check=True, capture_output=True)
        decoded, _ = soundfile.read(path, dtype="float32")
        return cut_or_padded(decoded, len(samples)), path.stat().st_size


class Model(NamedTuple):
    """A model of nac with a number of codebooks."""

    name: str
    codebooks: int
    weights: Path | None

    def __str__(self) -> str:
        return f"{self.name} {self.codebooks}"

    def __call__(self, samples: Samples, folder: Path) -> tuple[Samples, int]:
        source, packed, result = folder / "in.wav", folder / "clip.nac", folder / "out.wav"
        soundfile.write(source, samples, RATE, subtype="FLOAT")
        codec = loaded(self.name, self.weights)
        nac.compress(
            source, packed, model=self.name, codebooks=self.codebooks, force=True, load=lambda name: codec
        )
        nac.decompress(packed, result, force=True, load=lambda name: codec)
        decoded, _ = soundfile.read(result, dtype="float32")
        return cut_or_padded(decoded, len(samples)), packed.stat().st_size


@cache
def loaded(name: str, weights: Path | None) -> Any:
    return nac.load(name, weights=weights)


def silence(samples: Samples, folder: Path) -> tuple[Samples, int]:
    return np.zeros_like(samples), 0


def cut_or_padded(samples: Samples, length: int) -> Samples:
    return np.pad(samples, (0, max(length - len(samples), 0)))[:length].astype(np.float32)


# measured on speech only
SPEECH = ("pesq", "stoi")
# undefined for silence
NOT_FOR_SILENCE = ("visqol", "pesq", "stoi")


def measure(system: System, clip: Clip, metrics: list[Metric]) -> dict[str, float]:
    """Return the bitrate and the metrics of a clip coded by a system."""
    with tempfile.TemporaryDirectory() as folder:
        result, size = system(clip.samples, Path(folder))
    row = {"kbit/s": size * 8 / len(clip.samples) * RATE / 1000}
    for metric in metrics:
        name = metric.name
        skip = (name in SPEECH and "speech" not in clip.kind) or (system is silence and name in NOT_FOR_SILENCE)
        row[name] = math.nan if skip else metric.measure(clip.samples, result, RATE)
    return row


def line(rows: list[dict[str, float]], metrics: list[Metric]) -> str:
    """Format the mean bitrate, and the mean and the worst value of every metric."""
    cells = f"{np.mean([row['kbit/s'] for row in rows]):7.2f}"
    for metric in metrics:
        values = [row[metric.name] for row in rows if not math.isnan(row[metric.name])]
        worst = min if metric.higher_is_better else max
        cells += f"{np.mean(values):8.2f} ({worst(values):5.2f})" if values else f"{'-':>16}"
    return cells


def report(systems: list[System], clips: list[Clip], metrics: list[Metric]) -> None:
    kinds = sorted({clip.kind for clip in clips})
    print(f"{len(clips)} clips: " + ", ".join(f"{sum(c.kind == k for c in clips)} {k}" for k in kinds))
    print(f"{'system':22} {'kind':14} {'kbit/s':>7}" + "".join(f"{metric.name:>16}" for metric in metrics))
    floor: list[dict[str, float]] = []
    for system in systems:
        label = "silence" if system is silence else str(system)
        wanted = [c for c in clips if "soundstream" not in label or "speech" in c.kind or c.kind == "files"]
        rows = [measure(system, clip, metrics) for clip in wanted]
        for kind in kinds:
            if chosen := [row for row, clip in zip(rows, wanted, strict=True) if clip.kind == kind]:
                print(f"{label:22} {kind:14} {line(chosen, metrics)}", flush=True)
        print(f"{label:22} {'all':14} {line(rows, metrics)}", flush=True)
        if system is silence:
            floor = rows
        elif floor and "mel" in floor[0]:
            quiet = {clip.name: row["mel"] for clip, row in zip(clips, floor, strict=True)}
            worse = sum(row["mel"] > quiet[clip.name] for row, clip in zip(rows, wanted, strict=True))
            print(f"{label:22} clips with a larger mel distance than silence: {worse}", flush=True)


# Synthetic signals, and their measurements

TONES = (50, 75, 100, 220, 440, 750, 1000, 1500, 2000, 3000, 3010, 5000, 6000, 7777, 9000, 10000, 12000, 15000)
OTHERS = ("glide", "clicks", "silence", "noise", "square")


def synthetic(name: float | str) -> Samples:
    """Return two seconds of a tone of a frequency in Hz, or of another signal by its name."""
    time = np.arange(2 * RATE) / RATE
    if not isinstance(name, str):
        sound = 0.3 * np.sin(2 * np.pi * name * time)
    elif name == "glide":
        sound = 0.3 * np.sin(2 * np.pi * 100 * (np.exp(time * math.log(100) / 2) - 1) / (math.log(100) / 2))
    elif name == "clicks":
        sound = np.where(np.arange(len(time)) % 12345 == 5000, 0.8, 0)
    elif name == "noise":
        sound = 0.1 * np.random.default_rng(0).standard_normal(len(time))
    else:
        sound = 0.3 * np.sign(np.sin(2 * np.pi * 220 * time)) * (name == "square")
    return sound.astype(np.float32)


def level(samples: Samples, frequency: float) -> float:
    """Return the level within 40 Hz of a frequency in dB, without the first and last fifth of a second."""
    middle = samples[RATE // 5 : -RATE // 5]
    power = np.square(np.abs(np.fft.rfft(middle * np.hanning(len(middle)))))
    at = np.arange(len(power)) * RATE / len(middle)
    return float(10 * np.log10(power[np.abs(at - frequency) < 40].sum() + 1e-20))


def report_synthetic(systems: list[System]) -> None:
    """Print the changes in level of tones, and the mel distance and the peak of the other signals."""
    metric = next(metric for metric in chosen(["mel"]) if metric.name == "mel")
    for system in systems:
        differences, rest = [], []
        with tempfile.TemporaryDirectory() as folder:
            for tone in TONES:
                sound = synthetic(tone)
                differences.append(level(system(sound, Path(folder))[0], tone) - level(sound, tone))
            for name in OTHERS:
                sound = synthetic(name)
                result, _ = system(sound, Path(folder))
                rest.append(f"{name} {metric.measure(sound, result, RATE):.2f} ({np.abs(result).max():.2f})")
        print(f"{system}: worst tone {max(differences, key=abs):+.1f} dB")
        print("  dB " + ", ".join(f"{tone} {x:+.1f}" for tone, x in zip(TONES, differences, strict=True)))
        print("  mel distance and peak: " + ", ".join(rest), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="recordings to measure on")
    parser.add_argument("--cache", type=Path, help="cache of examples/train: its held-out and unseen splits")
    parser.add_argument("--count", type=int, default=6, help="clips of each kind and split of the cache")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a clip")
    parser.add_argument("--synthetic", action="store_true", help="also measure on synthetic signals")
    parser.add_argument("--model", nargs="*", default=["nac_24khz"])
    parser.add_argument("--codebooks", type=int, nargs="*", default=[3, 6, 12])
    parser.add_argument("--weights", type=Path, help="weights of the model instead of the installed ones")
    parser.add_argument("--opus", type=float, nargs="*", default=[12, 24], help="nominal kbit/s")
    parser.add_argument(
        "--soundstream", type=Path, help="its weights; adds it for speech at 3.2, 6 and 9.2 kbit/s"
    )
    parser.add_argument("--metrics", nargs="*", help="default: all that are installed")
    args = parser.parse_args()

    clips = [opened(path, args.seconds) for path in args.files]
    if args.cache:
        for split in ("held", "unseen"):
            clips += cached(args.cache, split, args.count, args.seconds)
    systems: list[System] = [silence]
    systems += [Opus(kbps) for kbps in args.opus]
    if args.soundstream:
        systems += [Model("soundstream_16khz", count, args.soundstream) for count in (16, 30, 46)]
    models = [Model(name, count, args.weights) for name in args.model for count in args.codebooks]
    if clips:
        report([*systems, *models], clips, chosen(args.metrics))
    if args.synthetic:
        report_synthetic(models)


if __name__ == "__main__":
    main()
