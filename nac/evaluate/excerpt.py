"""The part of a recording that is compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nac.audio.reading import open_source
from nac.audio.resample import Resampler, Samples
from nac.errors import AudioError

MAX_RATE = 48000  # Hz; higher frequencies are inaudible, but would count in the distances
MAX_CHANNELS = 8  # the limit of FLAC, in which the page stores its audio


@dataclass(frozen=True)
class Excerpt:
    """Samples [n, channels] at ``rate`` (Hz), from ``start`` seconds on in a recording of ``whole`` seconds."""

    name: str
    samples: Samples
    rate: int
    start: float
    whole: float

    @property
    def channels(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def read_excerpt(path: Path, name: str, start: float | None, duration: float) -> Excerpt:
    """Read up to ``duration`` seconds of a file, from ``start`` on, by default from its middle.

    Recordings above 48 kHz are resampled to it. Raises AudioError.
    """
    with open_source(path) as source:
        if source.channels > MAX_CHANNELS:
            raise AudioError(f"has {source.channels} channels; files with up to {MAX_CHANNELS} can be compared")
        parts = [np.zeros((0, source.channels), np.float32)]
        rate, length = source.sample_rate, source.samples or 0
        count = min(length, round(duration * rate))
        first = (length - count) // 2 if start is None else round(start * rate)
        at = 0
        for block in source.blocks:
            parts.append(block[max(0, first - at) : max(0, first + count - at)])
            at += len(block)
            if at >= first + count:
                break
    samples = np.concatenate(parts)
    if not len(samples):
        raise AudioError(f"has nothing at {start:g} s: it is shorter" if start else "contains no samples")
    if rate > MAX_RATE:
        resampler = Resampler(rate, MAX_RATE)
        samples = np.concatenate([resampler.push(samples), resampler.flush()])
    return Excerpt(name, samples, min(rate, MAX_RATE), first / rate, length / rate)
