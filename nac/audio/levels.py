"""What samples beyond full scale do to a recording, and samples that are no numbers.

A codec takes samples within -1 to 1. A recording that goes beyond is brought into range as a whole, so that its
loudest sample decides on the level of all. A few wild samples (a float that was not written, a bit that fell over)
must not: they are clipped to the loudest of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log10

import numpy as np

from nac.audio.resample import Samples

WILD = 24
"""dB by which a sample is above all but a few others, and above full scale, to count as wild."""
_FEW, _SHARE = 16, 1e-5  # so many, and such a part of all, may be wild


@dataclass(frozen=True)
class Levels:
    """What a look at all samples found: how many per channel, the ``peak`` to be coded, what is to be told."""

    samples: int
    peak: float
    notes: tuple[str, ...] = ()


def measure(blocks: Iterable[Samples]) -> Levels:
    """Look at all blocks [n, channels] of a recording."""
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
    notes = [f"{strange} samples that are no numbers were taken as zeros"] if strange else []
    wild = _wild_from(counts, min(numbers // 4, _FEW + int(numbers * _SHARE)))
    if count := int(counts[wild:].sum()):
        clipped = max(1.0, float(peaks[:wild].max(initial=0)))
        notes.append(
            f"{count} wild {'sample' if count == 1 else 'samples'} of up to {peak:.3g}, where 1 is full scale, "
            f"clipped to {clipped:.3g}"
        )
        peak = clipped
    return Levels(samples, peak, tuple(notes))


def _wild_from(counts: np.ndarray, few: int) -> int:
    """The power of two from which on samples are wild: far above a level that only a few are above."""
    usual = len(counts) - 1
    while usual > 0 and counts[usual:].sum() <= few:
        usual -= 1
    return min(len(counts), usual + 1 + round(WILD / 6))


def tamed(block: Samples, peak: float) -> Samples:
    """A block with wild samples clipped to the ``peak``, and those that are no numbers as zeros."""
    if np.abs(block).max(initial=0) <= peak:  # not so where there is a NaN
        return block
    limited: Samples = np.clip(np.nan_to_num(block, nan=0, posinf=0, neginf=0), -peak, peak)
    return limited


def decibels(peak: float) -> float:
    """How many dB a peak is above full scale."""
    return 20 * log10(peak)
