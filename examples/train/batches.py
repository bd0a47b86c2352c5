"""Random training crops from the cache of :mod:`data`."""

from __future__ import annotations

from pathlib import Path

import data
import numpy as np
import torch
from torch import Tensor

#: share of crops of each kind of sound
SHARES = {"speech": 0.42, "music": 0.33, "other": 0.25}


class Batches:
    """Draws crops; the same seed gives the same crops."""

    def __init__(self, work: Path, split: str, seed: int) -> None:
        self.pool, clips = data.load(work, split)
        self.random = np.random.default_rng(seed)
        self.clips = {kind: [c for c in clips if c.kind == kind] for kind in SHARES}
        self.clips = {kind: found for kind, found in self.clips.items() if found}
        # Square roots keep a few long recordings from crowding out many short ones.
        lengths = {kind: np.sqrt([c.length for c in found]) for kind, found in self.clips.items()}
        self.weights = {kind: length / length.sum() for kind, length in lengths.items()}
        shares = np.array([SHARES[kind] for kind in self.clips])
        self.shares = shares / shares.sum()

    def crop(self, samples: int) -> data.Samples:
        """Samples of one kind of sound: a part of a long recording, or short ones one after another."""
        kind = str(self.random.choice(list(self.clips), p=self.shares))
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
            crop = self.crop(samples)
            if self.random.random() < 0.15:
                crop = crop + self.crop(samples) * 10 ** (self.random.uniform(-20, 0) / 20)
            gain = 10 ** (self.random.uniform(-26, 4) / 20) * self.random.choice([-1, 1])
            crops.append(np.clip(crop * gain, -1, 1))
        return torch.from_numpy(np.stack(crops).astype(np.float32))[:, None]
