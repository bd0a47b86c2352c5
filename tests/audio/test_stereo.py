"""Pairs of channels turned towards the sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nac.audio import stereo

ANGLES = st.integers(0, 255)


@given(start=st.none() | ANGLES, end=ANGLES, seed=st.integers(0, 100))
def test_turning_back_gives_the_channels(start, end, seed) -> None:
    pair = np.random.default_rng(seed).uniform(-1, 1, (500, 2)).astype(np.float32)
    steps = stereo.angles(start, end, 500, 320)
    assert np.abs(stereo.unrotate(stereo.rotate(pair, steps), steps) - pair).max() < 1e-5


@given(ANGLES, ANGLES)
def test_the_way_is_the_shorter_one(start, end) -> None:
    assert -128 <= stereo.turn(start, end) <= 127
    assert (start + stereo.turn(start, end) - end) % 256 == 0
    steps = stereo.angles(start, end, 1000, 320)
    changes = np.mod(np.diff(steps) + 128, 256) - 128  # an angle and the same a turn later are one
    assert np.abs(changes).max() <= 128 / 320 + 1e-4
    assert (steps[320:] == end).all()


@given(true=st.floats(-np.pi, np.pi), previous=ANGLES)
def test_the_angle_is_that_of_the_sound(true, previous) -> None:
    sound = np.random.default_rng(0).standard_normal((2000, 1))
    pair = (sound * [np.cos(true), np.sin(true)]).astype(np.float32)
    angle = stereo.principal_angle(pair, previous)
    assert abs(np.sin(angle * np.pi / 128 - true)) < np.pi / 128
    assert abs(stereo.turn(previous, angle)) <= 65
    second = stereo.rotate(pair, stereo.angles(None, angle, 2000, 0))[:, 1]
    assert np.abs(second).max() < 0.02 * np.abs(pair).max()


def test_one_sided_and_identical_channels_leave_nothing_for_the_second_stream() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    none = np.zeros(100, np.float32)
    for pair, angle in (((sound, none), 0), ((none, sound), 64), ((sound, sound), 32), ((sound, -sound), 96)):
        turned = np.stack(pair, axis=1)
        assert stereo.principal_angle(turned, stereo.MID_SIDE) % 128 == angle
        assert not stereo.rotate(turned, stereo.angles(None, angle, 100, 0))[:, 1].any()


def test_the_angle_of_a_whole_recording_leaves_nothing_for_the_second_stream() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    none, mixed = np.zeros(100, np.float32), sound * np.where(np.arange(100) % 2, 1, -1).astype(np.float32)
    for pair in ((sound, none), (none, sound), (sound, sound), (sound, -sound)):
        turned = np.stack(pair, axis=1)
        angle = stereo.CommonAngle(2).scan(iter([turned[:40], turned[40:]]))
        assert angle is not None
        assert not stereo.rotate(turned, stereo.angles(None, angle, 100, 0))[:, 1].any()
    # Where there is none for all blocks: other signs, or the other channel later.
    assert stereo.CommonAngle(2).scan(iter([np.stack([sound, mixed], axis=1)])) is None
    for one, other in (((sound, none), (none, sound)), ((sound, sound), (sound, -sound))):
        assert stereo.CommonAngle(2).scan(iter([np.stack(one, axis=1), np.stack(other, axis=1)])) is None


def test_silence_keeps_the_angle() -> None:
    assert stereo.principal_angle(np.zeros((100, 2), np.float32), 77) == 77


@pytest.mark.parametrize(
    ("left", "right", "angle"), [(1, 0, 0), (0, 1, 64), (1, 1, 32), (1, -1, 96), (0, 0, None), (1, 0.5, None)]
)
def test_channels_have_a_common_angle_if_one_is_silent_or_they_are_equal_or_opposite(
    left: float, right: float, angle: int | None
) -> None:
    sound = np.float32([0.1, -0.2, 0.3, 0])
    blocks = [np.stack([left * sound, right * sound], axis=1)] * 3
    assert stereo.CommonAngle(2).scan(blocks) == angle
    other = np.float32([[0.3, 0.2]])
    assert stereo.CommonAngle(2).scan([*blocks, other]) is None


@pytest.mark.parametrize("weights", [(1, 0), (0, 1), (1, 1), (1, -1)])
def test_silence_anywhere_in_a_recording_leaves_the_common_angle(weights: tuple[float, float]) -> None:
    sound, none = np.outer(np.float32([0.1, -0.2, 0.3]), np.float32(weights)), np.zeros((3, 2), np.float32)
    angle = stereo.CommonAngle(2).scan([sound])
    assert angle is not None
    for blocks in ([none, sound], [sound, none], [none, sound, none, none], [sound, none, sound]):
        assert stereo.CommonAngle(2).scan(blocks) == angle
    assert stereo.CommonAngle(2).scan([none, none]) is None
