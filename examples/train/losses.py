"""Reconstruction losses: multi-resolution mel, compressed spectrum, and the waveform by way of the MDCT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nac.codecs.mdct_torch import HOP, MdctNet

RATE = 24000
#: STFT window (samples): mel bands
RESOLUTIONS = {256: 24, 512: 48, 1024: 80, 2048: 128}


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
    ``compressed``: L1 on amplitudes to the power 0.3 at full frequency resolution, which sees harmonics that mel
    bands blur.
    """

    def __init__(self, floor: float = 1e-5) -> None:
        super().__init__()
        self.floor = floor
        for window, bands in RESOLUTIONS.items():
            filters = mel_filters(window, bands)
            keep = filters.sum(0) > 0  # at short windows the lowest bands hold no bin
            self.register_buffer(f"filters{window}", filters[:, keep] / filters[:, keep].sum(0))
            hann = torch.hann_window(window)
            self.register_buffer(f"window{window}", hann / hann.sum())

    def forward(self, a: Tensor, b: Tensor, windows: Sequence[int] = tuple(RESOLUTIONS)) -> dict[str, Tensor]:
        """The distances of ``a`` from the original ``b``. Some of the windows do for a step."""
        found = []
        for window in windows:
            hann, filters = self.get_buffer(f"window{window}"), self.get_buffer(f"filters{window}")
            spectrum = torch.stft(
                torch.cat([a, b]), window, window // 4, window=hann, center=False, return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square() + self.floor**2
            amplitudes = power.sqrt().transpose(1, 2) @ filters
            mel_a, mel_b = amplitudes.log().chunk(2)
            errors = (mel_a - mel_b).abs()
            weight = amplitudes.detach().chunk(2)[1].sqrt()
            weight = weight / weight.sum(-1, keepdim=True)
            small_a, small_b = (power**0.15).chunk(2)
            compressed = (small_a - small_b).abs().mean() / small_b.mean()
            found.append(torch.stack([errors.mean(), (errors * weight).sum(-1).mean(), compressed]))
        return dict(zip(("mel", "loud", "compressed"), torch.stack(found).mean(0), strict=True))


#: flatter than the encoder's companding: what is tonal at 1 to 4 kHz must not be left to noise
COMPANDING = 0.65


def waveform_loss(net: MdctNet, coded: Tensor, target: Tensor) -> Tensor:
    """Relative error of companded MDCT coefficients: fidelity of the waveform, weighted by hearing.

    ``coded`` [B, T, HOP], ``target`` [B, T, 2 HOP].
    """
    levels = net.gains(target) @ net.spread
    power = (2 * (1 - COMPANDING) * levels).exp().mean(dim=-1)
    errors = ((coded - target[..., :HOP]) * (-COMPANDING * levels).exp()).square().mean(dim=-1)
    # The logarithm keeps single frames whose gains came out too high from ruling the rest.
    return torch.log1p(errors / power).mean()
