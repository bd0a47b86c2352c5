"""Reconstruction losses: multi-resolution mel, compressed spectrum, and correlation of the waveform in bands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nac.codecs.fullband import BANDS
from nac.codecs.fullband_torch import FullbandNet

RATE = 48000
#: frames and bands of the patches that the structural loss compares
PATCH = (5, 5)
#: in dB; smaller means and standard deviations have little effect
MEAN_FLOOR, DEVIATION_FLOOR = 10.0, 1.5
#: weight of errors above the bandwidth of a recording, where the original signal is unknown
BEYOND = 0.3


def mel(frequency: Tensor) -> Tensor:
    """Convert frequencies in Hz to the HTK mel scale."""
    return 2595 * torch.log10(1 + frequency / 700)


def erb(frequency: Tensor) -> Tensor:
    """Convert frequencies in Hz to ERB numbers (Glasberg and Moore 1990, Hearing Research 47:103).

    This scale is finer below 1 kHz than mel.
    """
    return 21.4 * torch.log10(1 + 0.00437 * frequency)


def filters(window: int, bands: int, scale: Callable[[Tensor], Tensor]) -> Tensor:
    """Return triangular filters evenly spaced on a scale, with sum 1: [window // 2 + 1, non-empty bands]."""
    positions = scale(torch.arange(window // 2 + 1) * RATE / window)[:, None]
    edges = torch.linspace(0, float(positions[-1]), bands + 2)
    rise = (positions - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - positions) / (edges[2:] - edges[1:-1])
    found = torch.minimum(rise, fall).clamp(min=0)
    found = found[:, found.sum(0) > 0]
    return found / found.sum(0)


#: STFT window (samples): number of bands, and the scale on which they are evenly spaced
RESOLUTIONS = {512: (24, mel), 1024: (48, erb), 2048: (80, mel), 4096: (128, erb)}


class SpectralLoss(nn.Module):
    """Spectral distances between two signals [B, N], means over resolutions.

    ``mel``: L1 on natural-log band amplitudes; all bands have the same weight. ``loud``: the same with bands
    weighted by the square root of their amplitude; otherwise a single tone would not count beside the silence
    around it. ``structure``: :func:`dissimilarity` of the same logarithms. ``compressed``: L1 on the fourth root
    of amplitudes at full frequency resolution, which resolves harmonics that bands blur.
    """

    def __init__(self, floor: float = 1e-5) -> None:
        super().__init__()
        self.floor = floor
        for window, (bands, scale) in RESOLUTIONS.items():
            made = filters(window, bands, scale)
            self.register_buffer(f"filters{window}", made)
            self.register_buffer(f"middles{window}", torch.arange(len(made)) * RATE / window @ made)
            hann = torch.hann_window(window)
            self.register_buffer(f"window{window}", hann / hann.sum())

    def amplitudes(self, audio: Tensor, window: int) -> Tensor:
        """Return STFT amplitudes [B, frames, window // 2 + 1] of signals [B, N]; frames overlap by half."""
        blocks = audio.unfold(-1, window, window // 2) * self.get_buffer(f"window{window}")
        spectrum = torch.fft.rfft(blocks)
        return (spectrum.real.square() + spectrum.imag.square() + self.floor**2).sqrt()

    def forward(
        self, a: Tensor, b: Tensor, band: Tensor, windows: Sequence[int] = tuple(RESOLUTIONS)
    ) -> dict[str, Tensor]:
        """Return the distances between ``a`` and the original ``b``, whose bandwidth is ``band`` [B] (Hz).

        ``windows``: the resolutions to use; a training step uses only some of them.
        """
        found = []
        for window in windows:
            bands, middles = self.get_buffer(f"filters{window}"), self.get_buffer(f"middles{window}")
            frequencies = torch.arange(window // 2 + 1, device=a.device) * RATE / window
            known, known_mel = (
                torch.where(at <= band[:, None], 1.0, BEYOND)[:, None] for at in (frequencies, middles)
            )
            amplitudes_a = self.amplitudes(a, window)
            with torch.no_grad():
                amplitudes_b = self.amplitudes(b, window)
                mel_b, small_b = amplitudes_b @ bands, amplitudes_b.sqrt().sqrt()
                weight = mel_b.sqrt() * known_mel
                weight /= weight.sum(-1, keepdim=True)
            log_a, log_b = (amplitudes_a @ bands).log(), mel_b.log()
            errors = (log_a - log_b).abs()
            compressed = ((amplitudes_a.sqrt().sqrt() - small_b).abs() * known).mean() / small_b.mean()
            mel = (errors * known_mel).mean() / known_mel.mean()
            patches = dissimilarity(log_a - math.log(self.floor), log_b - math.log(self.floor))
            known_patch = known_mel[..., PATCH[1] // 2 : -(PATCH[1] // 2)]
            structure = (patches * known_patch).mean() / known_patch.mean()
            found.append(torch.stack([mel, (errors * weight).sum(-1).mean(), compressed, structure]))
        return dict(zip(("mel", "loud", "compressed", "structure"), torch.stack(found).mean(0), strict=True))


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """Return one minus the neurogram similarity of two spectrograms [B, T, bands], for each patch.

    The spectrograms are in nepers above the floor. After Hines and Harte 2012 (Speech Communication 54:306): it
    compares the means of patches and their correlation. Unlike errors in level, the correlation measures the fine
    structure in time and frequency.
    """
    scale = 20 / math.log(10)
    a, b = a * scale, b * scale
    stack = torch.stack([a, b, a * a, b * b, a * b], 1)
    mean_a, mean_b, square_a, square_b, product = F.avg_pool2d(stack, PATCH, 1).unbind(1)
    variance_a, variance_b = (square_a - mean_a**2).clamp(min=0), (square_b - mean_b**2).clamp(min=0)
    covariance = product - mean_a * mean_b
    level = (2 * mean_a * mean_b + MEAN_FLOOR**2) / (mean_a**2 + mean_b**2 + MEAN_FLOOR**2)
    deviations = ((variance_a + 1e-3) * (variance_b + 1e-3)).sqrt()
    structure = (covariance + DEVIATION_FLOOR**2) / (deviations + DEVIATION_FLOOR**2)
    return 1 - level * structure


def waveform_loss(net: FullbandNet, lines: Tensor, wanted: Tensor) -> Tensor:
    """Return one minus the correlation of lines [B, T, 2, LINES] with those wanted, in bands weighted by loudness.

    Unlike a squared error, it does not depend on amplitudes, so tones do not fade where the phase is not coded.
    """
    products = (lines * wanted).sum(-2) @ net.long_average
    power, wanted_power = (x.square().sum(-2) @ net.long_average + 1e-9 for x in (lines, wanted))
    weight = wanted_power**0.3 * torch.tensor(BANDS, device=lines.device).sqrt()
    return 1 - (weight * products * (power * wanted_power).rsqrt()).sum() / weight.sum()
