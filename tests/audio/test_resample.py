"""Sample rate conversion along a stream."""

from __future__ import annotations

from math import gcd

import numpy as np
import pytest
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nac.audio.resample import Resampler
from nac.errors import AudioError

RATES = st.sampled_from([8000, 11025, 16000, 22050, 24000, 44099, 44100, 48000, 96000])


def convert(
    samples: np.ndarray, rates: tuple[int, int], steps: list[int], start: int = 0
) -> tuple[int, np.ndarray]:
    """Number of the first output sample, and the output."""
    resampler = Resampler(*rates, start=start)
    at, parts = resampler.first_input, []
    while at < len(samples):
        step = steps[at % len(steps)]
        parts.append(resampler.push(samples[at : at + step]))
        at += step
    parts.append(resampler.flush())
    return resampler.first_output, np.concatenate([part for part in parts if len(part)] or [samples[:0]])


@settings(max_examples=80, deadline=None)
@example((16_000, 44_099), 71_754, [999])
@given(
    rates=st.tuples(RATES, RATES),
    length=st.integers(0, 250_000),
    steps=st.lists(st.integers(999, 60_000), min_size=1),
)
def test_blocks_of_any_size_give_the_whole_conversion(rates, length, steps) -> None:
    samples = np.random.default_rng(length).uniform(-1, 1, (length, 2)).astype(np.float32)
    first, out = convert(samples, rates, steps)
    assert first == 0
    assert len(out) == -(-length * rates[1] // rates[0])
    whole = soxr.resample(samples, *rates, quality="VHQ")[: len(out)]
    # Between rates without a common factor soxr's clock drifts, so that the whole is inexact by itself.
    drift = 0 if gcd(*rates) > 1 else 3e-10 * np.arange(len(whole))[:, None]
    assert (np.abs(out[: len(whole)] - whole) < 1e-5 + drift).all()


def test_a_long_conversion_does_not_drift() -> None:
    """As soxr's own does between such rates: by a ten-thousandth of full scale in this."""
    rates, hertz = (16_000, 44_099), 5000
    time = np.arange(400_000) / rates[0]
    samples = np.sin(2 * np.pi * hertz * time).astype(np.float32)[:, None]
    wanted = np.sin(2 * np.pi * hertz * np.arange(1_090_000) / rates[1])
    _, out = convert(samples, rates, [30_000])
    whole = soxr.resample(samples, *rates, quality="VHQ")
    end = slice(1_050_000, 1_090_000)
    assert np.abs(out[end, 0] - wanted[end]).max() < 1e-5 < np.abs(whole[end, 0] - wanted[end]).max()


@settings(max_examples=60, deadline=None)
@given(rates=st.tuples(RATES, RATES), length=st.integers(1, 400_000), data=st.data())
def test_any_start_gives_the_samples_of_the_whole(rates, length, data) -> None:
    samples = np.random.default_rng(length).standard_normal((length, 1)).astype(np.float32)
    _, whole = convert(samples, rates, [30_000])
    start = data.draw(st.integers(0, length - 1))
    first, part = convert(samples, rates, [30_000], start)
    assert first <= start * rates[1] / rates[0]
    assert np.array_equal(part, whole[first:])


@pytest.mark.parametrize("low", [8000, 16000, 22050])
@pytest.mark.parametrize("high", [24000, 44100, 48000, 96000, 192_000])
def test_seconds_join_without_a_trace_whichever_rate_is_the_higher(low: int, high: int) -> None:
    for rates in (low, high), (high, low):
        samples = np.random.default_rng(0).uniform(-1, 1, (5 * rates[0] // 2, 1)).astype(np.float32)
        _, out = convert(samples, rates, [30_000])
        whole = soxr.resample(samples, *rates, quality="VHQ")
        assert np.abs(out[: len(whole)] - whole).max() < 1e-6


@pytest.mark.parametrize("rates", [(16_000, 24_000), (24_000, 16_000), (44_100, 8000), (8000, 8000)])
def test_an_output_is_given_as_soon_as_the_input_it_depends_on_and_does_not_change(rates: tuple[int, int]) -> None:
    samples = np.random.default_rng(0).standard_normal((3 * rates[0], 1)).astype(np.float32)
    _, whole = convert(samples, rates, [30_000])
    for output in (0, 1, rates[1] - 1, rates[1], rates[1] + 1, 2 * rates[1] - 1):
        resampler = Resampler(*rates)
        end = resampler.input_end(output)
        out = resampler.push(samples[:end])
        assert len(out) > output
        assert np.array_equal(out, whole[: len(out)])
        assert len(Resampler(*rates).push(samples[: end - 1])) <= output


@pytest.mark.parametrize("other", [1000, 16_000, 48_000])
def test_the_lowest_rate_is_1000_hz(other: int) -> None:
    samples = np.ones((3000, 1), np.float32)
    for rates in ((1000, other), (other, 1000)):
        _, found = convert(samples, rates, [999])
        assert len(found) == -(-3000 * rates[1] // rates[0])
    for rates in ((999, other), (other, 999)):
        with pytest.raises(AudioError, match="999 Hz; 1000 Hz is the lowest"):
            Resampler(*rates)
