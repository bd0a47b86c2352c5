"""Levels: samples beyond full scale, and NaN or infinite samples.

A codec takes samples within -1 to 1. A louder recording is scaled down as a whole, by its loudest sample. A few
outliers (an uninitialised float, a flipped bit) must not decide that scale: they are clipped to the loudest of
the other samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log10

import numpy as np

from nac.audio.resample import Samples

WILD = 24
"""A sample is an outlier if it is this many dB above all but a few others, and above full scale."""
_FEW, _SHARE = 16, 1e-5  # most outliers, as a number and as a share of all samples


@dataclass(frozen=True)
class Levels:
    """Result of a scan of all samples: ``samples`` per channel, the ``peak`` to be coded, notes for the user."""

    samples: int
    peak: float
    notes: tuple[str, ...] = ()


def measure(blocks: Iterable[Samples]) -> Levels:
    """Scan all blocks [n, channels] of a recording."""
    samples = numbers = strange = 0
    peak = 0.0
    counts, peaks = np.zeros(130, np.int64), np.zeros(130, np.float32)  # by powers of two above full scale
    for block in blocks:
        samples += len(block)
        numbers += block.size
        loud = np.abs(block)
        most = float(loud.max(initial=0))
        if not np.isfinite(most):
            strange += int(np.count_nonzero(~np.isfinite(block)))
            loud = np.where(np.isfinite(loud), loud, 0)
            most = float(loud.max(initial=0))
        peak = max(peak, most)
        if most > 1:
            loud = loud[loud > 1]
            power = np.frexp(loud)[1]
            counts += np.bincount(power, minlength=130)
            np.maximum.at(peaks, power, loud)
    notes = [f"{strange} NaN or infinite samples were replaced by zeros"] if strange else []
    outlier = _outliers_from(counts, min(numbers // 4, _FEW + int(numbers * _SHARE)))
    if count := int(counts[outlier:].sum()):
        clipped = max(1.0, float(peaks[:outlier].max(initial=0)))
        notes.append(
            f"{count} outlier{'s' * (count > 1)} of up to {peak:.3g}, where 1 is full scale, "
            f"clipped to {clipped:.3g}"
        )
        peak = clipped
    return Levels(samples, peak, tuple(notes))


def _outliers_from(counts: np.ndarray, few: int) -> int:
    """The exponent from which on samples are outliers: far above a level that only a few exceed."""
    usual = len(counts) - 1
    while usual > 0 and counts[usual:].sum() <= few:
        usual -= 1
    return min(len(counts), usual + 1 + round(WILD / 6))


def tamed(block: Samples, peak: float) -> Samples:
    """A block with outliers clipped to the ``peak``, and NaN or infinite samples set to zero."""
    if np.abs(block).max(initial=0) <= peak:  # false if there is a NaN
        return block
    limited: Samples = np.clip(np.nan_to_num(block, nan=0, posinf=0, neginf=0), -peak, peak)
    return limited


def decibels(peak: float) -> float:
    """How many dB a peak is above full scale."""
    return 20 * log10(peak)
