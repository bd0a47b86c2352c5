"""Metrics for the difference between a decoded recording and its original.

Spectral distances and the signal-to-distortion ratio are computed here; perceptual metrics require packages:
`zimtohrli` and `pystoi` (nac-audio[metrics]), `visqol-python` and `pesq`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from nac.audio.resample import Samples
from nac.errors import NacError

Signal = npt.NDArray[np.float32]
"""One channel: samples [n]."""

FLOOR = 1e-5  # lower amplitudes are raised to this value; a sine at full scale has 0.5


@dataclass(frozen=True)
class Metric:
    """A metric for a signal and its reference: ``measure(reference, result, sample rate in Hz)``.

    ``package``: the required package, and ``module``: its name in Python. ``least_seconds``: shorter signals have
    no value (some packages crash). ``defined_for_silence``: whether silence has a value.
    """

    name: str
    label: str
    higher_is_better: bool
    about: str
    measure: Callable[[Signal, Signal, int], float]
    package: str | None = None
    module: str | None = None
    least_seconds: float = 0.0
    defined_for_silence: bool = False

    def of_channels(self, reference: Samples, result: Samples, rate: int) -> float:
        """Return the mean over the channels of samples [n, channels], or NaN if it is undefined."""
        if len(reference) < self.least_seconds * rate:
            return math.nan
        found = [
            self.measure(np.ascontiguousarray(a), np.ascontiguousarray(b), rate)
            for a, b in zip(reference.T, result.T, strict=True)
            if self.defined_for_silence or np.abs(a).max(initial=0) > FLOOR
        ]
        known = [value for value in found if math.isfinite(value)]
        return math.fsum(known) / len(known) if known else math.nan


@cache
def _mel_filters(window: int, bands: int, rate: int) -> npt.NDArray[np.float64]:
    """Return triangles [window // 2 + 1, bands] of equal area on O'Shaughnessy's mel scale, without empty ones."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, window // 2 + 1)[:, None]
    filters = np.minimum((bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:])
    filters = filters.clip(0)[:, filters.max(0) > 0]
    return np.asarray(filters / filters.sum(0))


def spectra(samples: Signal, window: int, hop: int) -> npt.NDArray[np.float64]:
    """Return STFT amplitudes [frames, window // 2 + 1] with a Hann window; a sine of amplitude 1 has 0.5."""
    hann = np.hanning(window + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, window // 2), window)[::hop]
    return np.asarray(np.abs(np.fft.rfft(frames * (hann / hann.sum()))))


def _window(at_24_khz: int, rate: int) -> int:
    """Convert a window length at 24 kHz to another rate, rounded down to an even number of samples."""
    return at_24_khz * rate // 24000 // 2 * 2


def mel_distance(reference: Signal, result: Signal, rate: int) -> float:
    """Return the mean distance of natural-log mel amplitudes, for windows of 11, 21, 43 and 85 ms."""
    found = []
    for window, bands in ((256, 24), (512, 48), (1024, 80), (2048, 128)):
        size = _window(window, rate)
        filters = _mel_filters(size, bands, rate)
        a, b = (np.log(np.maximum(spectra(x, size, size // 4) @ filters, FLOOR)) for x in (reference, result))
        found.append(np.abs(a - b).mean())
    return float(np.mean(found))


def stft_distance(reference: Signal, result: Signal, rate: int) -> float:
    """Return the mean distance of natural-log amplitudes, for windows of 21, 43 and 85 ms."""
    found = []
    for window in (512, 1024, 2048):
        size = _window(window, rate)
        a, b = (np.log(np.maximum(spectra(x, size, size // 4), FLOOR)) for x in (reference, result))
        found.append(np.abs(a - b).mean())
    return float(np.mean(found))


def si_sdr(reference: Signal, result: Signal, rate: int) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    projected = reference * float(reference @ result) / float(reference @ reference + 1e-12)
    wrong = np.square(result - projected).sum()
    return float(10 * np.log10((projected @ projected + 1e-12) / (wrong + 1e-12)))


def _at(signal: Signal, rate: int, wanted: int) -> Signal:
    import soxr

    return np.asarray(soxr.resample(signal, rate, wanted), np.float32)


def zimtohrli_mos(reference: Signal, result: Signal, rate: int) -> float:
    """Return the mean opinion score predicted by Zimtohrli, 1 to 5."""
    import zimtohrli

    distance = _zimtohrli().distance(_at(reference, rate, 48000), _at(result, rate, 48000))
    return float(zimtohrli.mos_from_zimtohrli(distance))


@cache
def _zimtohrli() -> Any:
    import zimtohrli

    return zimtohrli.Pyohrli()


def visqol_mos(reference: Signal, result: Signal, rate: int) -> float:
    """Return the score of ViSQOL in audio mode, 1 to 4.75."""
    a, b = (_at(x, rate, 48000).astype(np.float64) for x in (reference, result))
    return float(_visqol().measure_from_arrays(a, b, 48000).moslqo)


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    return api


def pesq_mos(reference: Signal, result: Signal, rate: int) -> float:
    """Return wideband PESQ (ITU-T P.862.2), 1 to 4.64; NaN if it finds no speech."""
    from pesq import PesqError, pesq

    try:
        return float(pesq(16000, _at(reference, rate, 16000), _at(result, rate, 16000), "wb"))
    except PesqError:
        return math.nan


def stoi(reference: Signal, result: Signal, rate: int) -> float:
    """Return the short-time objective intelligibility (Taal et al., 2011), 0 to 1; NaN for too little speech."""
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(_at(reference, rate, 16000), _at(result, rate, 16000), 16000))
        except RuntimeWarning:
            return math.nan


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "zimtohrli",
            "Zimtohrli",
            True,
            "mean opinion score predicted by a model of hearing, 1 to 5",
            zimtohrli_mos,
            "nac-audio[metrics]",
            "zimtohrli",
            least_seconds=0.5,
        ),
        Metric(
            "visqol",
            "ViSQOL",
            True,
            "mean opinion score predicted by ViSQOL in audio mode, 1 to 4.75",
            visqol_mos,
            "visqol-python",
            "visqol",
            least_seconds=0.5,
        ),
        Metric(
            "pesq",
            "PESQ",
            True,
            "wideband PESQ, 1 to 4.64; meaningful only for speech",
            pesq_mos,
            "pesq",
            "pesq",
            least_seconds=0.5,
        ),
        Metric(
            "stoi",
            "STOI",
            True,
            "intelligibility, 0 to 1; meaningful only for speech",
            stoi,
            "nac-audio[metrics]",
            "pystoi",
            least_seconds=0.5,
        ),
        Metric(
            "mel",
            "mel distance",
            False,
            "mean distance of log mel spectra at four resolutions",
            mel_distance,
            defined_for_silence=True,
        ),
        Metric(
            "stft",
            "STFT distance",
            False,
            "mean distance of log spectra at three resolutions",
            stft_distance,
            defined_for_silence=True,
        ),
        Metric(
            "si-sdr",
            "SI-SDR, dB",
            True,
            "how closely the waveform is preserved; meaningless for SNAC, which does not code the waveform, and "
            "of little use below 10 kbit/s",
            si_sdr,
        ),
    )
}


def chosen(names: Iterable[str] | None) -> list[Metric]:
    """Return the metrics with these names, by default all installed ones. Raises NacError for missing ones."""
    if names is None:
        return [metric for metric in METRICS.values() if _installed(metric)]
    found = []
    for name in names:
        if name not in METRICS:
            raise NacError(f"unknown metric {name!r}: use one of {', '.join(METRICS)}")
        if not _installed(METRICS[name]):
            raise NacError(f"{name} is not installed: pip install '{METRICS[name].package}'")
        found.append(METRICS[name])
    return found


def _installed(metric: Metric) -> bool:
    return metric.module is None or find_spec(metric.module) is not None
