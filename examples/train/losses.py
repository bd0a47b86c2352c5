"""Losses: multi-resolution mel, compressed spectrum, loudness, correlation of the waveform."""

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
PATCH = (3, 5)
#: in dB; smaller means and standard deviations have little effect
MEAN_FLOOR, DEVIATION_FLOOR = 10.0, 3.0
#: weight of errors above the bandwidth of a recording, where the original signal is unknown
BEYOND = 0.3
#: weight of what was added to critical bands, relative to all errors of their loudness
ADDED = 0.05


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


def power_spectra(audio: Tensor, window: Tensor) -> Tensor:
    """Return the power [B, frames, n // 2 + 1] of an STFT of signals [B, N], whose windows [n] overlap by half."""
    spectra = torch.fft.rfft(audio.unfold(-1, len(window), len(window) // 2) * window)
    return spectra.real.square() + spectra.imag.square()


#: STFT window (samples): number of bands, and the scale on which they are evenly spaced
RESOLUTIONS = {512: (24, mel), 1024: (64, erb), 2048: (80, mel), 4096: (128, erb)}


class SpectralLoss(nn.Module):
    """Spectral distances between two signals [B, N], means over resolutions.

    ``mel``: L1 on natural-log band amplitudes; all bands have the same weight. ``loud``: the same with bands
    weighted by the square root of their amplitude; otherwise a single tone would not count beside the silence
    around it. ``structure``: :func:`dissimilarity` of the same logarithms. ``compressed``: L1 on the fourth root
    of amplitudes at full frequency resolution, which resolves harmonics that bands blur. ``loudness``: see
    :class:`LoudnessLoss`; its resolution is always the same.
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
        self.loudness = LoudnessLoss()

    def amplitudes(self, audio: Tensor, window: int) -> Tensor:
        """Return STFT amplitudes [B, frames, window // 2 + 1] of signals [B, N]."""
        return (power_spectra(audio, self.get_buffer(f"window{window}")) + self.floor**2).sqrt()

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
        means = dict(zip(("mel", "loud", "compressed", "structure"), torch.stack(found).mean(0), strict=True))
        return means | {"loudness": self.loudness(a, b, band)}


def threshold(frequency: Tensor) -> Tensor:
    """Return the threshold of hearing in quiet in dB SPL (Terhardt 1979, Hearing Research 1:155), up to 70 dB."""
    f = (frequency / 1000).clamp(min=0.02)
    return (3.64 * f**-0.8 - 6.5 * torch.exp(-0.6 * (f - 3.3) ** 2) + 1e-3 * f**4).clamp(max=70)


class LoudnessLoss(nn.Module):
    """Differences in specific loudness that are not masked, as in PESQ (ITU-T P.862.2; Rix et al. 2001, ICASSP).

    The bands are those of PESQ, single bins at low frequencies, so that they resolve the harmonics of voices, and
    are continued up to 20 kHz. Louder parts of the original are taken to be played at 76 dB SPL, and the
    result as loud. It is filtered towards the mean spectrum of the original, by up to 3 dB. The loudness of a band
    is that of Zwicker and Fastl (1990, "Psychoacoustics", section 8.7). A difference below a quarter of the
    loudness does not count. What was added to a band counts more than what was lost, in proportion to the ratio.
    """

    window, played = 1536, 76.0
    #: widths of bands in bins of 31.25 Hz: up to 8 kHz those of PESQ
    widths = (
        *[1] * 8, 2, *[1] * 5, 2, 1, 1, *[2] * 8, *[3] * 4, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9, 12, 12, 15, 16,
        18, 21, 25, 20, 24, 28, 32, 36, 42, 48, 54, 60, 60
    )  # fmt: skip
    middles: Tensor
    filters: Tensor
    quiet: Tensor
    exponent: Tensor
    extent: Tensor
    hann: Tensor

    def __init__(self) -> None:
        super().__init__()
        edges, bins = torch.tensor([0, *self.widths]).cumsum(0), torch.arange(self.window // 2 + 1)
        inside = (bins[:, None] >= edges[:-1]) & (bins[:, None] < edges[1:])
        extent = 0.32 + 0.0052 * torch.arange(len(self.widths))  # in PESQ's critical bands
        middles = (edges[:-1] + edges[1:] - 1) / 2 * RATE / self.window
        hann = torch.hann_window(self.window)
        # At low frequencies, loudness grows faster with level.
        faster = (6 / (extent.cumsum(0) + 2)).clamp(1, 2) ** 0.15
        self.register_buffer("middles", middles)
        self.register_buffer("filters", inside.float())
        self.register_buffer("quiet", 10 ** (threshold(middles) / 10))
        self.register_buffer("exponent", 0.23 * faster)
        self.register_buffer("extent", extent)
        self.register_buffer("hann", hann / (hann.square().sum() * self.window / 2).sqrt())

    def power(self, audio: Tensor) -> Tensor:
        """Return the power of critical bands [B, T, bands] of signals [B, N]."""
        return power_spectra(audio, self.hann) @ self.filters

    def loudness(self, power: Tensor) -> Tensor:
        """Return the specific loudness in units of :attr:`power` relative to 0 dB SPL."""
        scale = (2 * self.quiet) ** self.exponent
        return (scale * ((0.5 + 0.5 * power / self.quiet) ** self.exponent - 1)).clamp(min=0)

    def filtered(self, result: Tensor, original: Tensor) -> Tensor:
        """Bring the result's powers nearer to the original's mean spectrum: filtering is less annoying."""
        frames = original.sum(-1, keepdim=True)
        active = (frames > 1e-3 * frames.mean(1, keepdim=True)).float()
        means = [(power * active).sum(1) / active.sum(1).clamp(min=1) + 1e3 for power in (original, result)]
        return result * (means[0] / means[1]).clamp(0.5, 2)[:, None]

    def forward(self, a: Tensor, b: Tensor, band: Tensor) -> Tensor:
        """Return the loss of signals ``a`` [B, N] against the original ``b``, whose bandwidth is ``band`` [B]."""
        power_a, power_b = self.power(a), self.power(b)
        frames = power_b.sum(-1)
        level = frames.square().mean(-1) / frames.mean(-1).clamp(min=1e-12)
        gain = (10 ** (self.played / 10) / level.clamp(min=1e-9))[:, None, None]
        power_b = power_b * gain
        power_a = power_a * (power_b.mean((1, 2)) / power_a.mean((1, 2)).clamp(min=1e-12))[:, None, None]
        power_a = self.filtered(power_a, power_b)
        loud_a, loud_b = self.loudness(power_a), self.loudness(power_b)
        known = torch.where(self.middles <= band[:, None], 1.0, BEYOND)[:, None]
        error = ((loud_a - loud_b).abs() - torch.minimum(loud_a, loud_b) / 4).clamp(min=0) * known * self.extent
        ratio = ((power_a.detach() + 50) / (power_b.detach() + 50)) ** 1.2
        added = (error * torch.where(ratio < 3, 0.0, ratio.clamp(max=12))).sum(-1)
        changed = (error.square().sum(-1) * self.extent.sum()).mean(-1)
        total = (changed + 1e-3).sqrt() + ADDED * (added.square().mean(-1) + 1e-3).sqrt()
        return 0.05 * total.mean()


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
