"""Discriminators on complex spectrograms, which distinguish decoded audio from recordings.

After Défossez et al. 2022 (arXiv:2210.13438, section 3.4), with few channels, so that training on a CPU is
possible. Amplitudes are compressed with the exponent 0.3, so that weak high frequencies count too, and normalised:
at their own level, usually far below 1, the scores hardly change in hundreds of steps. A third channel contains
the frequency, because what is natural at 10 kHz is not natural at 200 Hz.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

#: STFT windows (samples), one discriminator each
WINDOWS = (512, 1024, 2048, 4096)
WIDTH = 16


def convolution(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Module:
    """Make a convolution over time and frequency with weight normalisation."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return cast(nn.Module, weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding)))


class Discriminator(nn.Module):
    """Scores every patch of a spectrogram: above 1 for recordings, below -1 for decoded audio."""

    hann: Tensor

    def __init__(self, window: int, width: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("hann", torch.hann_window(window) / (window / 2), persistent=False)
        self.layers = nn.ModuleList(
            [
                convolution(3, width, (3, 9), (1, 2)),
                convolution(width, 2 * width, (3, 9), (1, 2)),
                convolution(2 * width, 2 * width, (3, 9), (1, 2)),
                convolution(2 * width, 2 * width, (3, 3), (2, 2)),
            ]
        )
        self.score = convolution(2 * width, 1, (3, 3), (1, 1))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute from audio [B, N] scores [B, 1, T, F] and the activations of each layer."""
        window = len(self.hann)
        spectrum = torch.fft.rfft(audio.unfold(-1, window, window // 4) * self.hann)[:, :, : window * 7 // 16]
        parts = torch.stack([spectrum.real, spectrum.imag], 1)  # to 21 kHz
        x = parts * (parts.square().sum(1, keepdim=True) + 1e-10) ** -0.35
        x = x / (x.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-4)
        frequency = torch.linspace(-1, 1, x.shape[3], device=x.device).expand(x.shape[0], 1, x.shape[2], -1)
        x = torch.cat([x, frequency], 1).contiguous(memory_format=torch.channels_last)
        activations = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            activations.append(x)
        return cast(Tensor, self.score(x)).float(), activations


def discriminator_loss(discriminator: nn.Module, decoded: Tensor, original: Tensor) -> Tensor:
    """Return the discriminator's hinge loss for both signals [B, N]."""
    scores = discriminator(torch.cat([decoded, original]))[0]
    fake, real = scores.chunk(2)
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()


def generator_losses(discriminator: nn.Module, decoded: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codec's adversarial losses: its hinge loss, and feature matching (relative L1 of activations)."""
    with torch.no_grad():
        _, wanted = discriminator(original)
    scores, activations = discriminator(decoded)
    distances = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(activations, wanted, strict=True)]
    return F.relu(1 - scores).mean(), torch.stack(distances).float().mean()
