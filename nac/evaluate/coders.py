"""The coders that are compared: the models of nac, and Opus and MP3 as encoded by libsndfile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from nac.audio.resample import Resampler, Samples
from nac.audio.writing import OUTPUT_FORMATS
from nac.bitrate import allocate, total_kbps
from nac.codecs.base import Codec
from nac.codecs.registry import find
from nac.errors import ModelError
from nac.evaluate.excerpt import Excerpt
from nac.files import conversion as files
from nac.files.info import info


@dataclass(frozen=True)
class Trial:
    """An excerpt that was encoded and decoded: samples like the excerpt's, size in bytes, and times.

    ``kbps`` is the requested bitrate; ``detail`` describes the coder's setting, for example the number of
    codebooks.
    """

    system: str
    kbps: float
    detail: str
    samples: Samples
    bytes: int
    encode_seconds: float
    decode_seconds: float


class Coder(Protocol):
    """Encodes and decodes an excerpt at a bitrate."""

    @property
    def name(self) -> str: ...

    def nominal(self, excerpt: Excerpt, kbps: float) -> float | None:
        """Return the bitrate that the coder sets if ``kbps`` is requested; None if it has no such setting."""
        ...

    def run(self, excerpt: Excerpt, kbps: float, folder: Path) -> Trial:
        """Encode and decode an excerpt. Writes files to ``folder``."""
        ...


def distinct(coder: Coder, excerpt: Excerpt, wanted: Sequence[float]) -> list[float]:
    """Select bitrates with different results: of those with the same nominal bitrate, only the nearest to it."""
    chosen: dict[float, float] = {}
    for kbps in wanted:
        nominal = coder.nominal(excerpt, kbps)
        if nominal is not None:
            chosen[nominal] = min(kbps, chosen.get(nominal, kbps), key=lambda rate: abs(rate - nominal))
    return sorted(chosen.values())


@dataclass
class Model:
    """A model of nac."""

    name: str
    load: Callable[[str], Codec]
    _warm: bool = False

    def nominal(self, excerpt: Excerpt, kbps: float) -> float | None:
        spec = find(self.name).spec
        try:
            return total_kbps(spec, allocate(spec, excerpt.channels, kbps=kbps))
        except ModelError:
            return None

    def run(self, excerpt: Excerpt, kbps: float, folder: Path) -> Trial:
        source, packed = folder / "excerpt.wav", folder / "excerpt.nac"
        if not self._warm:
            # Exclude what happens once per process from the measured times.
            self._write(source, excerpt.samples[: excerpt.rate // 2], excerpt.rate)
            self._encode_and_decode(source, packed, kbps)
            self._warm = True
        self._write(source, excerpt.samples, excerpt.rate)
        samples, encoding, decoding = self._encode_and_decode(source, packed, kbps)
        found = info(packed)
        counts = " + ".join(map(str, found.codebooks))
        detail = f"{counts} codebook{'s' * (found.codebooks != [1])}"
        return Trial(self.name, kbps, detail, samples, found.bytes, encoding, decoding)

    @staticmethod
    def _write(path: Path, samples: Samples, rate: int) -> None:
        soundfile.write(path, samples, rate, subtype="FLOAT")

    def _encode_and_decode(self, source: Path, packed: Path, kbps: float) -> tuple[Samples, float, float]:
        began = time.perf_counter()
        files.compress(source, packed, model=self.name, kbps=kbps, force=True, load=self.load)
        between = time.perf_counter()
        samples, _ = files.read(packed, load=self.load)
        return samples, between - began, time.perf_counter() - between


@dataclass(frozen=True)
class Opus:
    """Opus in Ogg. libsndfile has a compression level, not a bitrate, so the level is found by trying."""

    name: str = "Opus"

    def nominal(self, excerpt: Excerpt, kbps: float) -> float:
        return min(max(kbps, 6.0 * excerpt.channels), 256.0 * excerpt.channels)

    def run(self, excerpt: Excerpt, kbps: float, folder: Path) -> Trial:
        trials: list[Trial] = []
        setting = self.nominal(excerpt, kbps)
        for _ in range(4):
            # libsndfile maps levels from 1 down to 0 to 6 to 256 kbit/s per channel.
            level = 1 - (setting / excerpt.channels - 6) / 250
            trials.append(_run_libsndfile(self.name, excerpt, kbps, folder, level, excerpt.rate, {}))
            actual = trials[-1].bytes * 8 / 1000 / excerpt.seconds
            better = self.nominal(excerpt, setting * kbps / actual)
            if abs(better / setting - 1) < 0.01:
                break
            setting = better
        return min(trials, key=lambda trial: abs(trial.bytes * 8 / 1000 / excerpt.seconds - kbps))


MP3_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MP3_RATES = ((12, 8000), (20, 16000), (30, 22050), (44, 24000), (60, 32000), (320, 48000))
"""The sample rate in Hz to use up to each bitrate in kbit/s (1.5 times the bitrate for stereo)."""
MP3_DELAY = 1105
"""Samples that LAME and a decoder add at the start if the file is too small for a header with the delay."""


@dataclass(frozen=True)
class Mp3:
    """MP3 at a constant bitrate, at the sample rate that LAME would choose for it."""

    name: str = "MP3"

    def nominal(self, excerpt: Excerpt, kbps: float) -> float | None:
        if excerpt.channels > 2:
            return None
        nearest = min(MP3_KBPS, key=lambda rate: (abs(rate - kbps), -rate))
        return min(nearest, self._range(self._rate(excerpt, nearest))[1])

    def run(self, excerpt: Excerpt, kbps: float, folder: Path) -> Trial:
        wanted = self.nominal(excerpt, kbps) or 0
        rate = self._rate(excerpt, wanted)
        lowest, highest = self._range(rate)
        # libsndfile refuses a level of exactly 1.
        level = min(1 - (wanted - lowest) / (highest - lowest), 0.999)
        return _run_libsndfile(self.name, excerpt, kbps, folder, level, rate, {"bitrate_mode": "CONSTANT"})

    @staticmethod
    def _rate(excerpt: Excerpt, kbps: float) -> int:
        share = kbps / (1.5 if excerpt.channels == 2 else 1)
        wanted = next(rate for limit, rate in MP3_RATES if share <= limit)
        return min(wanted, OUTPUT_FORMATS["mp3"].sample_rate(excerpt.rate))

    @staticmethod
    def _range(rate: int) -> tuple[int, int]:
        """Return the lowest and highest bitrate of MPEG-1, MPEG-2 or MPEG-2.5, depending on the sample rate."""
        return (32, 320) if rate >= 32000 else (8, 160) if rate >= 16000 else (8, 64)


def _run_libsndfile(
    name: str, excerpt: Excerpt, kbps: float, folder: Path, level: float, rate: int, options: dict[str, Any]
) -> Trial:
    form = OUTPUT_FORMATS[name.lower()]
    path, rate = folder / f"excerpt.{form.name}", form.sample_rate(rate)
    began = time.perf_counter()
    with soundfile.SoundFile(
        path,
        "w",
        rate,
        excerpt.channels,
        format=form.format,
        subtype=form.subtype,
        compression_level=level,
        **options,
    ) as file:
        file.write(np.clip(_converted(excerpt.samples, excerpt.rate, rate), -1, 1))
    between = time.perf_counter()
    decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
    if name == "MP3" and len(decoded) > -(-len(excerpt.samples) * rate // excerpt.rate):
        decoded = decoded[MP3_DELAY:]
    samples = _fitted(_converted(decoded, rate, excerpt.rate), len(excerpt.samples))
    ended = time.perf_counter()
    detail = f"at {rate / 1000:g} kHz"
    return Trial(name, kbps, detail, samples, path.stat().st_size, between - began, ended - between)


def _converted(samples: Samples, rate: int, wanted: int) -> Samples:
    if rate == wanted:
        return samples
    resampler = Resampler(rate, wanted)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def _fitted(samples: Samples, length: int) -> Samples:
    return np.pad(samples, ((0, max(0, length - len(samples))), (0, 0)))[:length]
