"""Stereo by rotation (KLT): the first stream has most of the sound, the second the remainder.

Mid/side coding is a rotation by 45 degrees. Here each chunk has its own angle, which suits any panning: sound only
in the left channel has angle 0, identical channels have 45 degrees, and in both cases the second stream is silent.
Angles are in units of 1/256 of a full circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import atan2, pi

import numpy as np

from nac.audio.resample import Samples

LEFT, MID_SIDE, RIGHT, OPPOSITE = 0, 32, 64, 96
_EIGHTHS = np.array([1, 0.5**0.5, 0, -(0.5**0.5), -1, -(0.5**0.5), 0, 0.5**0.5])  # cosines
SILENCE = 1e-5
"""Peak below which a signal counts as silent (-100 dB of full scale)."""


def principal_angle(pair: Samples, previous: int) -> int:
    """The angle, 0 to 255, at which the first stream of ``pair`` [n, 2] is strongest.

    Of the two opposite angles, the one nearer to ``previous`` is returned; for silence ``previous`` itself.
    """
    left, right = pair[:, 0].astype(np.float64), pair[:, 1].astype(np.float64)
    power = float(left @ left), float(right @ right)
    if np.abs(pair).max(initial=0) < SILENCE:
        return previous
    axis = 0.5 * atan2(2 * float(left @ right), power[0] - power[1])  # -pi/2 to pi/2
    angle = round(axis * 128 / pi) % 128
    opposite = angle + 128
    return angle if abs(turn(previous, angle)) <= abs(turn(previous, opposite)) else opposite


class CommonAngle:
    """The angle at which the first stream has all the sound of blocks [n, 2], and the second is silent.

    Only for channels that are equal, opposite, or of which one is silent. ``possible``: whether there may still be
    such an angle, so that further blocks matter.
    """

    def __init__(self, channels: int) -> None:
        self.possible = channels == 2
        self._left = self._right = self._equal = self._opposite = True
        self._sounds = False

    def add(self, block: Samples) -> None:
        """Take the next block."""
        a, b = block[:, 0], block[:, 1]
        self._left, self._right = self._left and not b.any(), self._right and not a.any()
        self._equal = self._equal and np.array_equal(a, b)
        self._opposite = self._opposite and np.array_equal(a, -b)
        self._sounds = self._sounds or bool(np.abs(block).max(initial=0) >= SILENCE)
        self.possible = self._left or self._right or self._equal or self._opposite

    def through(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield the blocks, taking those that matter."""
        for block in blocks:
            if self.possible:
                self.add(block)
            yield block

    def scan(self, blocks: Iterable[Samples]) -> int | None:
        """Take blocks as long as they matter, and return the angle."""
        through = self.through(blocks)
        while self.possible and next(through, None) is not None:
            pass
        return self.angle

    @property
    def angle(self) -> int | None:
        """The angle, or None, also for silence."""
        if not (self.possible and self._sounds):
            return None
        return LEFT if self._left else RIGHT if self._right else MID_SIDE if self._equal else OPPOSITE


def turn(start: int, end: int) -> int:
    """The signed difference of two angles along the shorter way: -128 to 127."""
    return (end - start + 128) % 256 - 128


def angles(start: int | None, end: int, samples: int, ramp: int) -> Samples:
    """The angle at each sample of a chunk whose angle is ``end``: [n], in radians.

    It moves linearly from the previous chunk's angle ``start`` over ``ramp`` samples; None: no ramp.
    """
    steps = np.full(samples, end, np.float64)
    if start is not None:
        count = np.arange(1, min(ramp, samples) + 1)
        steps[:ramp] = start + turn(start, end) * count / ramp
    return steps.astype(np.float32)


def rotate(pair: Samples, steps: Samples) -> Samples:
    """Left and right [n, 2] to first and second stream, at the angle of each sample."""
    cos, sin = _cos_sin(steps)
    left, right = pair[:, 0], pair[:, 1]
    streams: Samples = np.stack([cos * left + sin * right, cos * right - sin * left], axis=1)
    streams *= np.float32(0.5**0.5)
    return streams


def unrotate(streams: Samples, steps: Samples) -> Samples:
    """The inverse of :func:`rotate`."""
    cos, sin = _cos_sin(steps)
    first, second = streams[:, 0], streams[:, 1]
    pair: Samples = np.stack([cos * first - sin * second, sin * first + cos * second], axis=1)
    pair *= np.float32(2**0.5)
    return pair


def _cos_sin(steps: Samples) -> tuple[Samples, Samples]:
    """Cosine and sine, exact at multiples of 45 degrees, so that silence stays silent."""
    radians = steps.astype(np.float64) * (np.pi / 128)
    cos, sin = np.cos(radians), np.sin(radians)
    eighth = np.mod(steps, 32) == 0
    eighths = (steps[eighth] // 32).astype(np.int64)
    cos[eighth], sin[eighth] = _EIGHTHS[eighths % 8], _EIGHTHS[(eighths - 2) % 8]
    return cos.astype(np.float32), sin.astype(np.float32)
