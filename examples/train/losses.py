"""Reconstruction losses: multi-resolution mel, compressed spectrum, and agreement of the waveform by bands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nac.codecs.fullband import BANDS
from nac.codecs.fullband_torch import FullbandNet

RATE = 48000
#: STFT window (samples): mel bands
RESOLUTIONS = {512: 24, 1024: 48, 2048: 80, 4096: 128}
#: what an error counts above the band of a recording, where nothing is known of what was there
BEYOND = 0.3


def mel_filters(window: int, bands: int) -> Tensor:
    """Triangular filters of the HTK mel scale, peak 1: [window // 2 + 1, bands]."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = torch.linspace(0, RATE / 2, window // 2 + 1)[:, None]
    rise = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0)


class SpectralLoss(nn.Module):
    """Distances between two signals [B, N] by their spectra, means over resolutions.

    ``mel``: L1 on natural-log mel amplitudes, in which all bands count the same. ``loud``: the same with bands
    weighted by the square root of their amplitude, or a lone tone would not count beside the silence around it.
    ``compressed``: L1 on the fourth root of amplitudes at full frequency resolution, which sees harmonics that mel
    bands blur.
    """

    def __init__(self, floor: float = 1e-5) -> None:
        super().__init__()
        self.floor = floor
        for window, bands in RESOLUTIONS.items():
            filters = mel_filters(window, bands)
            filters = filters[:, filters.sum(0) > 0]  # at short windows the lowest bands hold no bin
            filters = filters / filters.sum(0)
            self.register_buffer(f"filters{window}", filters)
            self.register_buffer(f"middles{window}", torch.arange(len(filters)) * RATE / window @ filters)
            hann = torch.hann_window(window)
            self.register_buffer(f"window{window}", hann / hann.sum())

    def amplitudes(self, audio: Tensor, window: int) -> Tensor:
        """[B, N] to [B, frames, window // 2 + 1], from frames that overlap by half."""
        blocks = audio.unfold(-1, window, window // 2) * self.get_buffer(f"window{window}")
        spectrum = torch.fft.rfft(blocks)
        return (spectrum.real.square() + spectrum.imag.square() + self.floor**2).sqrt()

    def forward(
        self, a: Tensor, b: Tensor, band: Tensor, windows: Sequence[int] = tuple(RESOLUTIONS)
    ) -> dict[str, Tensor]:
        """The distances of ``a`` from the original ``b``, which has sound up to ``band`` [B] (Hz).

        Some of the windows do for a step.
        """
        found = []
        for window in windows:
            filters, middles = self.get_buffer(f"filters{window}"), self.get_buffer(f"middles{window}")
            frequencies = torch.arange(window // 2 + 1, device=a.device) * RATE / window
            known, known_mel = (
                torch.where(at <= band[:, None], 1.0, BEYOND)[:, None] for at in (frequencies, middles)
            )
            whole_a = self.amplitudes(a, window)
            with torch.no_grad():
                whole_b = self.amplitudes(b, window)
                mel_b, small_b = whole_b @ filters, whole_b.sqrt().sqrt()
                weight = mel_b.sqrt() * known_mel
                weight /= weight.sum(-1, keepdim=True)
            errors = ((whole_a @ filters).log() - mel_b.log()).abs()
            compressed = ((whole_a.sqrt().sqrt() - small_b).abs() * known).mean() / small_b.mean()
            mel = (errors * known_mel).mean() / known_mel.mean()
            found.append(torch.stack([mel, (errors * weight).sum(-1).mean(), compressed]))
        return dict(zip(("mel", "loud", "compressed"), torch.stack(found).mean(0), strict=True))


def waveform_loss(net: FullbandNet, lines: Tensor, wanted: Tensor) -> Tensor:
    """One minus the correlation of lines [B, T, 2, LINES] with those wanted: of bands, loud ones counting more.

    Unlike a squared error it asks nothing of amplitudes: where the phase is not coded, tones need not fade.
    """
    products = (lines * wanted).sum(-2) @ net.long_average
    power, wanted_power = (x.square().sum(-2) @ net.long_average + 1e-9 for x in (lines, wanted))
    weight = wanted_power**0.3 * torch.tensor(BANDS, device=lines.device)
    return 1 - (weight * products * (power * wanted_power).rsqrt()).sum() / weight.sum()
