"""Arrays as recordings: types, shapes, and what is possible at most and at least."""

from __future__ import annotations

import numpy as np
import pytest

from nac.audio.memory import as_dtype, check_channels, check_rate, in_memory
from nac.container.header import MAX_CHANNELS, MAX_RATE, MIN_RATE
from nac.errors import ArgumentError


def test_rates_and_channels_up_to_their_limits_are_possible_and_none_beyond() -> None:
    for check, least, most in ((check_rate, MIN_RATE, MAX_RATE), (check_channels, 1, MAX_CHANNELS)):
        assert [check(least), check(most)] == [least, most]
        for beyond in (least - 1, most + 1):
            with pytest.raises(ArgumentError, match=str(beyond)):
                check(beyond)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_integers_use_their_full_range(dtype: str) -> None:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    numbers = np.array([least, least // 2, 0, most // 2 + 1], dtype)
    blocks = list(in_memory(numbers, 8000).blocks)
    assert np.concatenate(blocks)[:, 0].tolist() == [-1, -0.5, 0, 0.5]
    assert np.array_equal(as_dtype(np.concatenate(blocks), dtype)[:, 0], numbers)  # type: ignore[arg-type]
    assert as_dtype(np.float32([-2, 1, 2]), dtype).tolist() == [least, most, most]  # type: ignore[arg-type]


def test_an_array_with_more_channels_than_samples_is_refused_where_it_must_be_the_wrong_way_round() -> None:
    assert in_memory(np.zeros((1, MAX_CHANNELS), "f4"), 8000).channels == MAX_CHANNELS
    for samples in (1, MAX_CHANNELS):
        with pytest.raises(ArgumentError, match="looks like"):
            in_memory(np.zeros((samples, MAX_CHANNELS + 1), "f4"), 8000)
    for wrong in (np.zeros(()), np.zeros((2, 2, 2)), np.zeros((5, 0))):
        with pytest.raises(ArgumentError, match=r"\[n, channels\] are needed"):
            in_memory(wrong, 8000)


def test_only_floats_above_full_scale_have_a_peak_above_one() -> None:
    for samples, peak in (([0.5, -0.25], 1), ([0.5, -3.0], 3)):
        source = in_memory(np.float32(samples), 8000)
        assert source.peak == peak
        assert np.concatenate(list(source.blocks))[:, 0].tolist() == samples
    assert in_memory(np.int16([-32768]), 8000).peak == 1
