"""Metrics of quality, on signals for which the answer is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nac.errors import NacError
from nac.evaluate import metrics
from nac.evaluate.metrics import METRICS, Metric, chosen


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return (np.random.default_rng(1).standard_normal((32000, 2)) * 0.1).astype(np.float32)


@pytest.mark.parametrize("name", ["mel", "stft"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_twice_as_loud_is_a_distance_of_the_logarithm_of_two(noise: np.ndarray, name: str, rate: int) -> None:
    measure = METRICS[name].of_channels
    assert measure(noise, noise, rate) == 0
    assert measure(noise, 2 * noise, rate) == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("name", ["mel", "stft"])
def test_windows_last_as_long_at_every_rate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """11 (mel only), 21, 43 and 85 ms, to two samples, with a frame each quarter of them."""
    seen, spectra = list[tuple[int, int]](), metrics.spectra

    def noted(samples: metrics.Signal, window: int, hop: int) -> np.ndarray:
        seen.append((window, hop))
        return spectra(samples, window, hop)

    monkeypatch.setattr(metrics, "spectra", noted)
    for rate in (8000, 16000, 24000, 44100, 48000):
        seen.clear()
        METRICS[name].measure(np.ones(rate, np.float32), np.ones(rate, np.float32), rate)
        wanted = [256, 512, 1024, 2048][name == "stft" :]
        assert len(seen) == 2 * len(wanted)
        for (window, hop), at_24_khz in zip(seen, np.repeat(wanted, 2), strict=True):
            assert 0 <= at_24_khz * rate / 24000 - window < 2
            assert window % 2 == 0
            assert hop == window // 4


def test_si_sdr_is_the_ratio_of_signal_to_what_was_added(noise: np.ndarray) -> None:
    added = np.roll(noise, 5000, axis=0) * np.float32(0.1)
    measure = METRICS["si-sdr"].of_channels
    assert measure(noise, noise + added, 16000) == pytest.approx(20, abs=0.2)
    assert measure(noise, (noise + added) * np.float32(0.3), 16000) == pytest.approx(20, abs=0.2)


def test_a_silent_channel_counts_only_where_it_can(noise: np.ndarray) -> None:
    left = noise * np.float32([1, 0])
    assert METRICS["si-sdr"].of_channels(left, left + noise * np.float32([0.1, 0.1]), 16000) > 50
    assert METRICS["mel"].of_channels(left, left + noise * np.float32([0, 0.1]), 16000) > 1
    assert math.isnan(METRICS["si-sdr"].of_channels(left * 0, noise, 16000))


def test_the_value_of_a_recording_is_the_mean_of_the_channels_that_have_one(noise: np.ndarray) -> None:
    """As PESQ and STOI have none for a channel without speech."""
    three = np.column_stack([noise, noise[:, 0]])
    for values, mean in (
        ((1.0, 2.0, 6.0), 3.0),
        ((math.nan, 2.0, 6.0), 4.0),
        ((1.0, math.nan, math.inf), 1.0),
        ((math.nan, -math.inf, math.nan), math.nan),
    ):
        given = iter(values)
        metric = Metric("any", "Any", True, "", lambda reference, result, rate, given=given: next(given))
        assert metric.of_channels(three, three, 16000) == pytest.approx(mean, nan_ok=True)


def test_a_signal_has_a_value_from_the_least_length_on(noise: np.ndarray) -> None:
    metric = Metric("count", "Count", True, "", lambda reference, result, rate: len(result), least_seconds=0.5)
    for rate in (16000, 44100, 11025):
        least = math.ceil(0.5 * rate)
        assert math.isnan(metric.of_channels(noise[: least - 1], noise[: least - 1], rate))
        assert metric.of_channels(noise[:least], noise[:least], rate) == least


@pytest.mark.parametrize("name", ["zimtohrli", "visqol", "pesq", "stoi"])
def test_perceptual_metrics_tell_more_noise_from_less(name: str, speech: np.ndarray) -> None:
    metric = METRICS[name]
    pytest.importorskip(metric.module)
    noise = np.random.default_rng(2).standard_normal(speech.shape).astype(np.float32)
    scores = [metric.of_channels(speech, speech + noise * np.float32(level), 16000) for level in (0.001, 0.03)]
    assert scores[0] > scores[1] > 0
    assert math.isnan(metric.of_channels(speech[:400], speech[:400], 16000))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    path = Path(__file__).parents[2] / "examples" / "audio" / "speech.flac"
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True, stop=32000)
    assert rate == 16000
    return samples


def test_names() -> None:
    assert {"mel", "stft", "si-sdr"} <= {metric.name for metric in chosen(None)}
    assert [metric.name for metric in chosen(["stft", "mel"])] == ["stft", "mel"]
    with pytest.raises(NacError, match="unknown metric 'peaq': use one of zimtohrli"):
        chosen(["peaq"])
