"""Means over recordings, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Two-sided 95 % points of Student's t with 1, 2, ... degrees of freedom.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_Z95 = 1.959964


@dataclass(frozen=True)
class Mean:
    """A mean of ``count`` values, with a 95 % confidence interval of plus or minus ``margin``.

    The interval uses Student's t-distribution, which assumes that the recordings are a random sample. It is None
    for fewer than three values, for which it would be too wide to be useful.
    """

    mean: float
    margin: float | None
    count: int


def mean(values: Iterable[float]) -> Mean | None:
    """Return the mean of the finite values, or None if there are none."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    centre = math.fsum(known) / len(known)
    if len(known) < 3:
        return Mean(centre, None, len(known))
    variance = math.fsum((value - centre) ** 2 for value in known) / (len(known) - 1)
    return Mean(centre, _t95(len(known) - 1) * math.sqrt(variance / len(known)), len(known))


def _t95(freedom: int) -> float:
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    # The first terms of Student's t in powers of 1/freedom (Abramowitz and Stegun, 26.7.5).
    z = _Z95
    second, third = 5 * z**5 + 16 * z**3 + 3 * z, 3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z
    return z + (z**3 + z) / (4 * freedom) + second / (96 * freedom**2) + third / (384 * freedom**3)
