"""What an excerpt can go through: the models of nac, and Opus and MP3 as libsndfile writes them."""

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
from nac.files.nacfile import info


@dataclass(frozen=True)
class Take:
    """An excerpt after a coder: samples as the excerpt's, what they cost, and how long each way took.

    ``kbps`` is the bitrate asked for, ``detail`` what the coder made of it.
    """

    system: str
    kbps: float
    detail: str
    samples: Samples
    bytes: int
    encode_seconds: float
    decode_seconds: float


class Coder(Protocol):
    """A way to make an excerpt smaller."""

    @property
    def name(self) -> str: ...

    def nominal(self, excerpt: Excerpt, kbps: float) -> float | None:
        """The bitrate that it would set where ``kbps`` is asked for; None where it cannot go that low."""
        ...

    def take(self, excerpt: Excerpt, kbps: float, folder: Path) -> Take:
        """There and back; files go into ``folder``."""
        ...


def distinct(coder: Coder, excerpt: Excerpt, wanted: Sequence[float]) -> list[float]:
    """Those of the bitrates that differ in what comes of them: of several that do not, the one that is nearest."""
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

    def take(self, excerpt: Excerpt, kbps: float, folder: Path) -> Take:
        source, packed = folder / "excerpt.wav", folder / "excerpt.nac"
        if not self._warm:
            # What happens once in the life of a process should not count as the first file's time.
            self._write(source, excerpt.samples[: excerpt.rate // 2], excerpt.rate)
            self._there_and_back(source, packed, kbps)
            self._warm = True
        self._write(source, excerpt.samples, excerpt.rate)
        samples, encoding, decoding = self._there_and_back(source, packed, kbps)
        found = info(packed)
        counts = " + ".join(map(str, found.codebooks))
        detail = f"{counts} codebook{'s' * (found.codebooks != [1])}"
        return Take(self.name, kbps, detail, samples, found.bytes, encoding, decoding)

    @staticmethod
    def _write(path: Path, samples: Samples, rate: int) -> None:
        soundfile.write(path, samples, rate, subtype="FLOAT")

    def _there_and_back(self, source: Path, packed: Path, kbps: float) -> tuple[Samples, float, float]:
        began = time.perf_counter()
        files.compress(source, packed, model=self.name, kbps=kbps, force=True, load=self.load)
        between = time.perf_counter()
        samples, _ = files.read(packed, load=self.load)
        return samples, between - began, time.perf_counter() - between


@dataclass(frozen=True)
class Opus:
    """Opus in Ogg. libsndfile takes a level, not a bitrate, and more comes out than it means: it is sought."""

    name: str = "Opus"

    def nominal(self, excerpt: Excerpt, kbps: float) -> float:
        return min(max(kbps, 6.0 * excerpt.channels), 256.0 * excerpt.channels)

    def take(self, excerpt: Excerpt, kbps: float, folder: Path) -> Take:
        tries: list[Take] = []
        asked = self.nominal(excerpt, kbps)
        for _ in range(4):
            # libsndfile maps levels from 1 down to 0 onto 6 to 256 kbit/s a channel.
            level = 1 - (asked / excerpt.channels - 6) / 250
            tries.append(_through_libsndfile(self.name, excerpt, kbps, folder, level, excerpt.rate, {}))
            actual = tries[-1].bytes * 8 / 1000 / excerpt.seconds
            better = self.nominal(excerpt, asked * kbps / actual)
            if abs(better / asked - 1) < 0.01:
                break
            asked = better
        return min(tries, key=lambda take: abs(take.bytes * 8 / 1000 / excerpt.seconds - kbps))


MP3_KBPS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MP3_RATES = ((12, 8000), (20, 16000), (30, 22050), (44, 24000), (60, 32000), (320, 48000))
"""Up to so many kbit/s (stereo: one and a half times as many), what sample rate (Hz) to write at."""
MP3_DELAY = 1105
"""Samples that LAME and a decoder add at the start, where the file is too small to say so."""


@dataclass(frozen=True)
class Mp3:
    """MP3 at a constant bitrate, at the sample rate that LAME would take for it."""

    name: str = "MP3"

    def nominal(self, excerpt: Excerpt, kbps: float) -> float | None:
        if excerpt.channels > 2:
            return None
        nearest = min(MP3_KBPS, key=lambda rate: (abs(rate - kbps), -rate))
        return min(nearest, self._range(self._rate(excerpt, nearest))[1])

    def take(self, excerpt: Excerpt, kbps: float, folder: Path) -> Take:
        wanted = self.nominal(excerpt, kbps) or 0
        rate = self._rate(excerpt, wanted)
        lowest, highest = self._range(rate)
        # Level 1 itself is refused by libsndfile.
        level = min(1 - (wanted - lowest) / (highest - lowest), 0.999)
        return _through_libsndfile(self.name, excerpt, kbps, folder, level, rate, {"bitrate_mode": "CONSTANT"})

    @staticmethod
    def _rate(excerpt: Excerpt, kbps: float) -> int:
        share = kbps / (1.5 if excerpt.channels == 2 else 1)
        wanted = next(rate for limit, rate in MP3_RATES if share <= limit)
        return min(wanted, OUTPUT_FORMATS["mp3"].sample_rate(excerpt.rate))

    @staticmethod
    def _range(rate: int) -> tuple[int, int]:
        """Bitrates of MPEG-1, MPEG-2 and MPEG-2.5."""
        return (32, 320) if rate >= 32000 else (8, 160) if rate >= 16000 else (8, 64)


def _through_libsndfile(
    name: str, excerpt: Excerpt, kbps: float, folder: Path, level: float, rate: int, options: dict[str, Any]
) -> Take:
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
    return Take(name, kbps, detail, samples, path.stat().st_size, between - began, ended - between)


def _converted(samples: Samples, rate: int, wanted: int) -> Samples:
    if rate == wanted:
        return samples
    resampler = Resampler(rate, wanted)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def _fitted(samples: Samples, length: int) -> Samples:
    return np.pad(samples, ((0, max(0, length - len(samples))), (0, 0)))[:length]
