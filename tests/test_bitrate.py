"""Bitrates to codebooks: as many as fit, none more, in the same steps for everybody."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from nac.bitrate import allocate, is_stereo_pair, ladder, total_kbps
from nac.codecs.registry import MODELS
from nac.errors import ModelChoiceError
from nac.spec import CodecSpec

SPECS = [model.spec for model in MODELS.values()]


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_each_bitrate_as_it_is_written_gives_just_its_codebooks(spec: CodecSpec, channels: int) -> None:
    """Whatever the rounding of its sum; and a little less gives those below, or none."""
    steps = ladder(spec, channels, pair=is_stereo_pair(spec, channels))
    below = None
    for step in steps[:16]:
        kbps = float(f"{total_kbps(spec, step):.10g}")
        assert allocate(spec, channels, kbps=kbps) == step
        if below is not None:
            assert allocate(spec, channels, kbps=kbps * 0.9999) == below
        below = step


def test_the_second_of_a_stereo_pair_has_half_of_the_first_rounded_either_way() -> None:
    steps = ladder(MODELS["nac_24khz"].spec, 2, pair=True)
    assert steps[:9] == [(1, 0), (1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (5, 2), (5, 3), (6, 3)]
    most = len(MODELS["nac_24khz"].spec.codebooks)
    assert steps[-1] == (most, most)
    for before, after in pairwise(steps):
        assert sum(after) == sum(before) + 1
        assert after[0] == most or after[1] in (after[0] // 2, (after[0] + 1) // 2)


@pytest.mark.parametrize(("channels", "counts"), [(1, (1,)), (2, (1, 0)), (3, (1, 1, 1))])
def test_a_model_that_goes_no_lower_than_the_default_gives_its_least(
    channels: int, counts: tuple[int, ...]
) -> None:
    spec = replace(SPECS[0], sample_rate=64 * SPECS[0].sample_rate)
    assert spec.kbps(1) > 8 * channels
    assert allocate(spec, channels) == counts


@pytest.mark.parametrize("kbps", [0, 0.0, -1, -0.001, float("nan"), float("inf"), float("-inf")])
def test_a_bitrate_is_a_number_above_zero_and_not_endless(kbps: float) -> None:
    with pytest.raises(ModelChoiceError, match="is not a possible bitrate"):
        allocate(SPECS[0], 1, kbps=kbps)
