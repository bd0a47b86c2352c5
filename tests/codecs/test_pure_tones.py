"""Frames of a single sinusoid: any of them comes back from its numbers, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nac.codecs import fullband
from nac.codecs.fullband import BINS, HOP, RATE, TONES
from nac.codecs.pure_tones import LOUDEST, NUMBERS, RADIUS, STEADY, TURNS

Samples = npt.NDArray[np.float32]
BASIS = fullband.lapped_basis(HOP, BINS, sine=True)
FRAMES = 32
#: the frames of a tone as long as all of them that are coded as one: those at its ends are not steady
STEADILY = slice(STEADY + 1, -STEADY - 1)
INSIDE = slice((STEADY + 2) * HOP, -(STEADY + 2) * HOP)


def coefficients(samples: Samples) -> Samples:
    blocks = np.lib.stride_tricks.sliding_window_view(np.pad(samples, HOP // 2), 2 * HOP)[::HOP]
    return blocks.astype(np.float32) @ BASIS


def sine(frequency: float, amplitude: float = 0.3, phase: float = 0.0, frames: int = FRAMES) -> Samples:
    turns = frequency / RATE * np.arange(frames * HOP)
    return (amplitude * np.sin(2 * np.pi * turns + phase)).astype(np.float32)


def ratio(a: Samples, b: Samples) -> float:
    """The power of ``a`` relative to that of ``b`` in dB, inside."""
    return float(10 * np.log10(np.square(a[INSIDE]).sum() / np.square(b[INSIDE]).sum()))


@settings(max_examples=60, deadline=None)
@given(st.floats(50, 20000), st.floats(-50, 0), st.floats(0, 6.28))
def test_any_sinusoid_comes_back_from_its_numbers(frequency: float, decibels: float, phase: float) -> None:
    sound = sine(frequency, 10 ** (decibels / 20), phase)
    tonal, numbers = TONES.numbers(coefficients(sound))
    assert np.all(tonal[STEADILY] == 1)
    received, back = TONES.samples(numbers)
    assert np.array_equal(received, tonal)
    assert ratio(back - sound, sound) < -50


@pytest.mark.parametrize("frequency", [50, 75, 440, 3000, 9013, 15000])
def test_numbers_that_are_a_little_off_change_a_tone_a_little(frequency: float) -> None:
    sound = sine(frequency)
    numbers = TONES.numbers(coefficients(sound))[1]
    inner = numbers[STEADILY]
    inner += 1.5 * np.random.default_rng(0).standard_normal(inner.shape).astype(np.float32)
    back = TONES.samples(numbers)[1]
    assert abs(ratio(back, sound)) < 1
    assert ratio(back - sound, sound) < -10
    assert np.abs(np.diff(back[INSIDE])).max() < 1.5 * np.abs(np.diff(sound[INSIDE])).max() + 0.02


def test_pairs_have_one_length() -> None:
    numbers, count = TONES.numbers(coefficients(sine(1234)))[1][STEADILY], len(TURNS) + 1
    assert numbers.shape == (FRAMES - 2 * STEADY - 2, NUMBERS)
    np.testing.assert_allclose(np.hypot(numbers[:, :count], numbers[:, count:-1]), RADIUS, rtol=1e-5)


TIME = np.arange(FRAMES * HOP) / RATE
NOISE = np.random.default_rng(0).standard_normal(FRAMES * HOP)
OTHERS = {
    "silence": 0 * TIME,
    "noise": 0.1 * NOISE,
    "a bass with a harmonic": sine(60) + sine(120, 0.002),
    "a faint octave": sine(440) + sine(880, 0.002),
    "beats": sine(1000) + sine(1090, 0.003),
    "a faint whistle": sine(5000) + sine(17000, 0.002),
    "noise at -56 dB": sine(880) + 5e-4 * NOISE,
    "slow beats": sine(440) + sine(441.5, 0.3),
    "a slow fade": sine(3000) * np.exp(-0.2 * TIME),
    "a slow glide": 0.3 * np.sin(2 * np.pi * (1000 * TIME + 40 * TIME**2)),
    "a tone too low": sine(10),
    "a tone too faint": sine(3000, 1e-4),
    "short tones": sine(3000) * (np.arange(FRAMES * HOP) // (2 * STEADY * HOP) % 2),
    "a decay": sine(3000) * np.exp(-TIME),
    "a glide": 0.3 * np.sin(2 * np.pi * (1000 * TIME + 200 * TIME**2)),
    "a square wave": 0.3 * np.sign(sine(220)),
    "clicks": (np.arange(FRAMES * HOP) % 3000 == 0) * 1.0,
}


@pytest.mark.parametrize("name", OTHERS)
def test_nothing_else_is_taken_for_a_tone(name: str) -> None:
    tonal, numbers = TONES.numbers(coefficients(OTHERS[name].astype(np.float32)))
    assert not tonal.any()
    assert not numbers.any()


def test_a_tone_that_begins_or_ends_is_faded_in_half_a_frame_on_either_side() -> None:
    numbers = TONES.numbers(coefficients(sine(1000)))[1]
    numbers[:10] = numbers[15:] = 0
    tonal, back = TONES.samples(numbers)
    assert tonal.tolist() == [0] * 10 + [1] * 5 + [0] * (FRAMES - 15)
    middle = HOP // 2
    assert not back[: 10 * HOP - middle].any()
    assert not back[15 * HOP + middle :].any()
    whole = slice(10 * HOP + middle, 15 * HOP - middle)
    np.testing.assert_allclose(back[whole], sine(1000)[whole], atol=1e-3)


def test_tones_far_apart_are_faded_into_each_other() -> None:
    parts = [TONES.numbers(coefficients(sine(frequency)))[1] for frequency in (500, 4000)]
    back = TONES.samples(np.concatenate([parts[0][:16], parts[1][16:]]))[1]
    before, after = slice(9 * HOP, 15 * HOP), slice(17 * HOP, -9 * HOP)
    np.testing.assert_allclose(back[before], sine(500)[before], atol=1e-3)
    np.testing.assert_allclose(back[after], sine(4000)[after], atol=1e-3)
    assert np.abs(back).max() < 0.45


def test_any_numbers_give_sound_of_a_bounded_level() -> None:
    numbers = np.random.default_rng(0).standard_normal((200, NUMBERS)) * 10 ** np.linspace(-2, 4, 200)[:, None]
    back = TONES.samples(numbers.astype(np.float32))[1]
    assert np.isfinite(back).all()
    assert np.abs(back).max() < 1.5 * np.exp(LOUDEST)


def test_entries_of_other_sounds_that_have_a_little_of_a_tone_give_none() -> None:
    numbers = TONES.numbers(coefficients(sine(1000)))[1]
    for part, expected in ((0.29, 0), (0.6, 1)):
        tonal, back = TONES.samples(numbers * np.float32(part))
        assert np.all(tonal[STEADILY] == expected)
        assert back.any() == bool(expected)
