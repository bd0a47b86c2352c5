"""Random training crops from the cache of :mod:`data`."""

from __future__ import annotations

from pathlib import Path

import data
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nac.codecs.mdct_torch import HOP

#: share of crops of each kind of sound
SHARES = {"speech": 0.42, "music": 0.33, "other": 0.25}
#: frames a second
FRAMES = data.RATE / HOP
#: share of crops that are made up (what recordings hardly contain must survive, too) or side signals of stereo
MADE_UP, SIDE = 0.12, 0.06


def pitch(random: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """Frequencies from 40 Hz to 11 kHz, evenly spread as the ear hears them (HTK mel scale)."""
    return 700 * (10 ** (random.uniform(56, 3169, size) / 2595) - 1)


def made_up(random: np.random.Generator, samples: int) -> data.Samples:
    """Steady or gliding sines, a harmonic tone, clicks, or noise of a random colour; peak 1."""
    time = np.arange(samples) / data.RATE
    match random.choice(4, p=[0.6, 0.16, 0.12, 0.12]):
        case 0:
            sound = np.zeros(samples)
            for _ in range(random.choice([1, 1, 1, 2, 3, 4])):
                low, high = pitch(random, 2)
                if random.random() < 0.3:  # the same in every frame, which a tone at random hardly is
                    low = max(round(low / FRAMES), 1) * FRAMES
                glide = np.linspace(low, high if random.random() < 0.4 else low, samples)
                sound += random.random() * np.sin(2 * np.pi * np.cumsum(glide) / data.RATE)
        case 1:
            lowest, fall = np.exp(random.uniform(np.log(50), np.log(1500))), random.uniform(0, 1.5)
            orders = np.arange(1, int(11500 / lowest) + 1)
            phases = random.uniform(0, 2 * np.pi, len(orders)) * random.integers(2)
            sound = (orders**-fall @ np.sin(2 * np.pi * lowest * orders[:, None] * time + phases[:, None])).ravel()
        case 2:
            sound = np.zeros(samples)
            sound[int(random.integers(2000)) :: int(random.integers(500, 9000))] = 1
            decay = np.exp(-np.arange(256) / random.uniform(0.1, 20)) * random.choice([-1, 1], 256)
            sound = np.convolve(sound, decay)[:samples]
        case _:
            spectrum = np.fft.rfft(random.standard_normal(samples))
            tilt = (1 + np.arange(len(spectrum))) ** random.uniform(-1, 0.2)
            sound = np.fft.irfft(spectrum * tilt, samples)
    sound /= np.abs(sound).max() + 1e-9
    if random.random() < 0.5:  # in recordings, the rest is never quite silent
        sound += 10 ** random.uniform(-5, -2.5) * random.standard_normal(samples)
    return sound.astype(np.float32)


class Batches:
    """Draws crops; the same seed gives the same crops. ``made_up`` and ``side`` are the shares of such crops."""

    def __init__(self, work: Path, split: str, seed: int, made_up: float = MADE_UP, side: float = SIDE) -> None:
        self.pool, clips = data.load(work, split)
        self.random = np.random.default_rng(seed)
        self.clips = {kind: [c for c in clips if c.kind == kind] for kind in (*SHARES, "side")}
        self.made_up, self.side = made_up, side if self.clips["side"] else 0.0
        self.clips = {kind: found for kind, found in self.clips.items() if found}
        # Square roots keep a few long recordings from crowding out many short ones.
        lengths = {kind: np.sqrt([c.length for c in found]) for kind, found in self.clips.items()}
        self.weights = {kind: length / length.sum() for kind, length in lengths.items()}
        shares = np.array([SHARES.get(kind, 0.0) for kind in self.clips])
        self.shares = shares / shares.sum()

    def crop(self, samples: int, kind: str = "") -> data.Samples:
        """Samples of one kind of sound: a part of a long recording, or short ones one after another."""
        kind = kind or str(self.random.choice(list(self.clips), p=self.shares))
        parts, missing = [], samples
        while missing > 0:
            clip = self.clips[kind][self.random.choice(len(self.clips[kind]), p=self.weights[kind])]
            offset = int(self.random.integers(0, max(clip.length - missing, 0) + 1))
            part = self.pool[clip.start + offset : clip.start + min(offset + missing, clip.length)]
            parts.append(part.astype(np.float32) / 32768)
            missing -= len(part)
        return np.concatenate(parts)

    def batch(self, size: int, samples: int) -> Tensor:
        """Augmented crops [size, 1, samples]: random level, polarity, and now and then a second sound on top."""
        crops = []
        for _ in range(size):
            lot = self.random.random()
            if lot < self.made_up:
                crop = made_up(self.random, samples)
            else:
                crop = self.crop(samples, "side" if lot < self.made_up + self.side else "")
            if self.random.random() < 0.15:
                crop = crop + self.crop(samples) * 10 ** (self.random.uniform(-20, 0) / 20)
            gain = 10 ** (self.random.uniform(-26, 4) / 20) * self.random.choice([-1, 1])
            crops.append(np.clip(crop * gain, -1, 1))
        return torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]
