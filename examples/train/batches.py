"""Random training crops from the cache of :mod:`data`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import data
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nac.codecs.fullband import HOP

#: share of crops of each kind of recording
SHARES = {"speech": 0.5, "music": 0.29, "other": 0.21}
#: frames per second
FRAMES = data.RATE / HOP
#: share of crops that are synthetic (signals that are rare in recordings), or side signals of stereo
SYNTHETIC, SIDE = 0.18, 0.05
#: how many times as often a recording with content above 15 kHz is drawn
FULL_BAND = 3.0


class Batch(NamedTuple):
    """``audio`` [B, 1, N], with a bandwidth of ``band`` [B] (Hz)."""

    audio: Tensor
    band: Tensor


def pitch(
    random: np.random.Generator, size: int, lowest: float = 56, highest: float = 3640
) -> npt.NDArray[np.float64]:
    """Draw frequencies in Hz, from 40 Hz to 17 kHz, uniformly on the HTK mel scale between two places on it."""
    return 700 * (10 ** (random.uniform(lowest, highest, size) / 2595) - 1)


def sines(random: np.random.Generator, samples: int) -> npt.NDArray[np.float64]:
    """Make one to four steady or gliding sines, faded in and out."""
    sound = np.zeros(samples)
    for _ in range(random.choice([1, 1, 1, 2, 3, 4])):
        low, high = pitch(random, 2)
        if random.random() < 0.5:  # equal in every frame, which is unlikely for a random frequency
            low = max(round(low / FRAMES), 1) * FRAMES
        glide = np.linspace(low, high if random.random() < 0.4 else low, samples)
        phase = 2 * np.pi * (np.cumsum(glide) / data.RATE + random.random())
        sound += random.random() * np.sin(phase)
    ends = np.minimum(np.arange(samples), np.arange(samples)[::-1])
    return sound * np.minimum(ends / (0.005 * data.RATE), 1)


def synthetic(random: np.random.Generator, samples: int) -> data.Samples:
    """Make sines, a harmonic tone, clicks, or noise with a random spectral tilt; peak 1."""
    match random.choice(4, p=[0.6, 0.16, 0.12, 0.12]):
        case 0:  # often many in a row, because codebooks have to learn all frequencies
            ends = np.linspace(0, samples, 1 + int(random.choice([1, 4, 8, 12]))).astype(int)
            sound = np.concatenate([sines(random, length) for length in np.diff(ends)])
        case 1:
            lowest, fall = np.exp(random.uniform(np.log(50), np.log(1500))), random.uniform(0, 1.5)
            orders = np.arange(1, int(20000 / lowest) + 1)
            phases = random.uniform(0, 2 * np.pi, len(orders)) * random.integers(2)
            period = np.zeros(round(data.RATE / lowest * 8))
            spectrum = np.zeros(len(period) // 2 + 1, complex)
            inside = orders[8 * orders < len(spectrum)]
            spectrum[8 * inside] = (inside**-fall) * np.exp(1j * phases[: len(inside)])
            sound = np.resize(np.fft.irfft(spectrum, len(period)), samples)
        case 2:
            sound = np.zeros(samples)
            sound[int(random.integers(4000)) :: int(random.integers(1000, 18000))] = 1
            decay = np.exp(-np.arange(512) / random.uniform(0.1, 40)) * random.choice([-1, 1], 512)
            sound = np.convolve(sound, decay)[:samples]
        case _:
            spectrum = np.fft.rfft(random.standard_normal(samples))
            tilt = (1 + np.arange(len(spectrum))) ** random.uniform(-1, 0.2)
            sound = np.fft.irfft(spectrum * tilt, samples)
    sound /= np.abs(sound).max() + 1e-9
    if random.random() < 0.5:  # recordings always have some background noise
        sound += 10 ** random.uniform(-5, -2.5) * random.standard_normal(samples)
    return sound.astype(np.float32)


class Batches:
    """Draws crops, reproducibly for a seed. ``synthetic`` and ``side``: the shares of such crops."""

    def __init__(
        self, work: Path, split: str, seed: int, synthetic: float = SYNTHETIC, side: float = SIDE
    ) -> None:
        self.cache = data.Cache(work, split)
        self.random = np.random.default_rng(seed)
        self.clips = {kind: [c for c in self.cache.clips if c.kind == kind] for kind in (*SHARES, "side")}
        self.synthetic, self.side = synthetic, side if self.clips["side"] else 0.0
        self.clips = {kind: found for kind, found in self.clips.items() if found}
        self.cumulative = {kind: np.cumsum([self.weight(c) for c in found]) for kind, found in self.clips.items()}
        shares = np.array([SHARES.get(kind, 0.0) for kind in self.clips])
        self.shares = shares / shares.sum()

    @staticmethod
    def weight(clip: data.Clip) -> float:
        """Return the relative probability of drawing a recording."""
        # The square root prevents a few long recordings from displacing many short ones.
        return float(clip.length**0.5 * (FULL_BAND if clip.band > 15000 else 1))

    def crop(self, samples: int, kind: str = "") -> tuple[data.Samples, int]:
        """Return samples of one kind and their bandwidth: a part of a long recording, or several short ones."""
        kind = kind or str(self.random.choice(list(self.clips), p=self.shares))
        parts, missing, band, cumulative = [], samples, data.RATE, self.cumulative[kind]
        while missing > 0:
            clip = self.clips[kind][
                int(np.searchsorted(cumulative, self.random.random() * cumulative[-1], "right"))
            ]
            offset = int(self.random.integers(0, max(clip.length - missing, 0) + 1))
            parts.append(self.cache.samples(clip, offset, missing))
            missing -= len(parts[-1])
            band = min(band, clip.band)
        return np.concatenate(parts), band

    def batch(self, size: int, samples: int) -> Batch:
        """Return augmented crops: random level and polarity, sometimes mixed with a second recording."""
        crops, bands = [], []
        for _ in range(size):
            draw = self.random.random()
            if draw < self.synthetic:
                crop, band = synthetic(self.random, samples), data.RATE
            else:
                crop, band = self.crop(samples, "side" if draw < self.synthetic + self.side else "")
            if self.random.random() < 0.15:
                other, other_band = self.crop(samples)
                crop, band = crop + other * 10 ** (self.random.uniform(-20, 0) / 20), max(band, other_band)
            gain = 10 ** (self.random.uniform(-26, 4) / 20) * self.random.choice([-1, 1])
            crops.append(np.clip(crop * gain, -1, 1))
            bands.append(band)
        audio = torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]
        return Batch(audio, torch.tensor(bands, dtype=torch.float32))
