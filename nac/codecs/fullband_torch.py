"""The network of :mod:`nac.codecs.fullband` in PyTorch, for training and GPUs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nac.codecs import fullband
from nac.codecs.fullband import (
    BANDS,
    BINS,
    COMPANDING,
    FLOOR,
    HIGHEST,
    HOP,
    LINES,
    LONG,
    LOWEST,
    NOISE_BANDS,
    OUTPUTS,
    PARTS,
    SHORT,
    SHORT_BINS,
    SOFTNESS,
    TONES,
)
from nac.codecs.mdct import KERNEL
from nac.codecs.mdct_torch import Block, Quantizer, TorchCodec, fill
from nac.codecs.pure_tones import NUMBERS
from nac.spec import CodecSpec


def position_noise(first: int | Tensor, frames: int, device: torch.device | None = None) -> Tensor:
    """The same as :func:`nac.codecs.fullband.position_noise`, made where it is needed.

    For ``first`` int64 [B, 1] it is [B, PARTS * frames, SHORT_BINS].
    """
    counter = (torch.arange(frames * HOP, dtype=torch.int64, device=device) + first * HOP) & 0xFFFFFFFF
    for shift, factor in ((16, 0x45D9F3B), (15, 0x119DE1F3), (16, 0x45D9F3B)):
        counter = ((counter ^ (counter >> shift)) * factor) & 0xFFFFFFFF
    uniform = (counter >> 8).float() * 2.0**-24 - 0.5
    return torch.unflatten(uniform * math.sqrt(12), -1, (-1, SHORT))[..., :SHORT_BINS]


def overlapped(blocks: Tensor) -> Tensor:
    """Overlap-add blocks [B, T, 2 hop] with a distance of half a block. Returns [B, hop * T]."""
    hop = blocks.shape[-1] // 2
    early, late = torch.split(blocks, hop, dim=-1)
    return (F.pad(early, (0, 0, 0, 1)) + F.pad(late, (0, 0, 1, 0))).flatten(1)[:, hop // 2 : -(hop // 2)]


class Half(nn.Module):
    """An encoder or decoder: the sum of a linear map and of ConvNeXt blocks."""

    def __init__(self, linear: tuple[int, int], deep: tuple[int, int], width: int, blocks: int, expansion: int):
        super().__init__()
        self.linear = nn.Linear(*linear)
        self.enter = nn.Linear(deep[0], width)
        self.blocks = nn.Sequential(*[Block(width, expansion * width) for _ in range(blocks)])
        self.leave = nn.Linear(width, deep[1])


class FullbandNet(nn.Module):
    """The codec's network; see :mod:`nac.codecs.fullband`."""

    basis: Tensor
    short: Tensor
    hann: Tensor
    ramp: Tensor
    average: Tensor
    spread: Tensor
    weight: Tensor
    long_average: Tensor
    long_bands: Tensor
    long_spread: Tensor
    noise_bands: Tensor
    noise_spread: Tensor

    def __init__(
        self,
        latent: int = 128,
        codebooks: int = 16,
        entries: int = 1024,
        encoder: tuple[int, int, int] = (256, 4, 2),
        decoder: tuple[int, int, int] = (384, 6, 2),
    ) -> None:
        """``encoder`` and ``decoder``: width, blocks, expansion."""
        super().__init__()
        bands = len(BANDS)
        self.encoder = Half((BINS + bands, latent), (2 * BINS + bands, latent), *encoder)
        self.quantizer = Quantizer(codebooks, entries, latent + NUMBERS)
        self.decoder = Half((latent, BINS + bands), (latent, sum(OUTPUTS)), *decoder)
        # The decoder's input depends on the number of codebooks.
        self.level = nn.Embedding(codebooks, decoder[0])
        self.noise = nn.Embedding(codebooks, len(NOISE_BANDS))
        arrays = fullband.constants() | {
            "basis": fullband.lapped_basis(HOP, BINS, sine=True),
            "hann": fullband.hann_window(),
            "ramp": fullband.first_ramp(),
            "short": fullband.lapped_basis(SHORT, SHORT_BINS, sine=False),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def context(self) -> tuple[int, int]:
        """Return how many frames on either side the latent of a frame, and a decoded frame, depend on."""
        encoder, decoder = len(self.encoder.blocks), len(self.decoder.blocks)
        return encoder * (KERNEL // 2) + 1, decoder * (KERNEL // 2) + 1

    # Analysis

    def transform(self, audio: Tensor) -> Tensor:
        """Compute MDCT and MDST coefficients [B, T, 2 BINS] of audio [B, 1, HOP * T]."""
        blocks = F.pad(audio[:, 0], (HOP // 2, HOP // 2)).unfold(-1, 2 * HOP, HOP)
        return blocks.contiguous() @ self.basis

    def long_transform(self, audio: Tensor) -> Tensor:
        """Compute lines [B, T, 2, LINES] of audio [B, 1, HOP * T]; a line of white noise has a sample's power."""
        blocks = F.pad(audio[:, 0], (HOP, HOP)).unfold(-1, LONG, HOP)
        spectrum = torch.fft.rfft(blocks * self.hann)[..., :LINES]
        scale: float = (0.375 * LONG) ** -0.5
        return torch.stack([spectrum.real, spectrum.imag], -2) * scale

    def gains(self, coefficients: Tensor) -> Tensor:
        """Compute the natural logarithms of the bands' amplitudes: [B, T, 2 BINS] to [B, T, bands]."""
        power = 0.5 * (coefficients[..., :BINS].square() + coefficients[..., BINS:].square())
        return 0.5 * torch.log(power @ self.average + FLOOR**2)

    def expansion(self, gains: Tensor) -> Tensor:
        """Convert gains [B, T, bands] to factors [B, T, BINS] that undo the companding of the shape."""
        levels = gains @ self.spread
        rest = (2 * (1 - COMPANDING) * levels).exp().mul(self.weight.square()).mean(dim=-1, keepdim=True)
        return (COMPANDING * levels).exp() * rest.sqrt() / self.weight

    def analyse(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Analyse audio [B, 1, HOP * T].

        Returns companded shape [B, T, 2 BINS] and gains [B, T, bands], which frames are pure tones [B, T, 1],
        and the numbers of these [B, T, NUMBERS].
        """
        coefficients = self.transform(audio)
        gains = self.gains(coefficients)
        expansion = self.expansion(gains)
        tonal, numbers = (
            torch.from_numpy(np.stack(part)).to(audio.device).view(*gains.shape[:2], -1)
            for part in zip(*map(TONES.numbers, coefficients.detach().cpu().numpy()), strict=True)
        )
        return coefficients / torch.cat([expansion, expansion], dim=-1), gains, tonal, numbers

    def latent(self, shape: Tensor, gains: Tensor, tonal: Tensor, numbers: Tensor) -> Tensor:
        """Convert the results of :meth:`analyse` to the latent [B, T, D]."""
        half = self.encoder
        deep = half.leave(half.blocks(half.enter(torch.cat([shape, gains], dim=-1))))
        latent = half.linear(torch.cat([shape[..., :BINS], gains], dim=-1)) + deep
        return torch.cat([latent * (1 - tonal), numbers], dim=-1)

    def encode(self, audio: Tensor) -> Tensor:
        """Convert audio [B, 1, HOP * T] to the latent [B, T, D]."""
        return self.latent(*self.analyse(audio))

    # Synthesis

    def tonal(self, shape: Tensor, levels: Tensor) -> Tensor:
        """Scale a shape [B, T, 2 LINES] to the bands' ``levels`` [B, T, bands]. Returns lines [B, T, 2, LINES]."""
        lines = torch.unflatten(shape, -1, (2, LINES)) * (levels @ self.long_spread).exp()[..., None, :]
        wanted = (2 * levels).exp()
        power = lines.square().sum(-2) @ self.long_average
        factor = (wanted / (power + SOFTNESS * wanted)).sqrt()
        return lines * (factor @ self.long_bands)[..., None, :]

    def describe(self, latent: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the linear map and the blocks to the latent [B, T, D] of ``codebooks`` int64 [B]."""
        half, latent = self.decoder, latent[..., :-NUMBERS]
        deep = half.leave(half.blocks(half.enter(latent) + self.level((codebooks - 1)[:, None])))
        return half.linear(latent), deep

    def render(self, plain: Tensor, deep: Tensor, codebooks: Tensor, latent: Tensor, noise: Tensor) -> Tensor:
        """Synthesise audio [B, 1, HOP * T] from :meth:`describe`'s results and noise [PARTS * T, SHORT_BINS].

        Frames that are pure tones, by their ``latent`` [B, T, D], have no other sound.
        """
        rest, tones = self.pure_tones(latent)
        waveform, gain_correction, shape, share, amounts, clicks = torch.split(deep, [*OUTPUTS], dim=-1)
        plain, gains = torch.split(plain, [BINS, len(BANDS)], dim=-1)
        gains = (gains + gain_correction).clamp(LOWEST, HIGHEST)
        coefficients = (plain + waveform) * self.expansion(gains) * rest
        lines = self.tonal(shape, (gains + share).clamp(LOWEST, HIGHEST)) * rest[..., None]
        floor = (gains @ self.noise_bands)[..., None, :]
        levels = (
            floor + torch.unflatten(amounts, -1, (PARTS, -1)) + self.noise((codebooks - 1)[:, None])[:, :, None]
        )
        short = (levels.clamp(LOWEST, HIGHEST) @ self.noise_spread).exp().flatten(1, 2) * noise
        short = short + (torch.unflatten(clicks, -1, (PARTS, -1)) * (floor @ self.noise_spread).exp()).flatten(
            1, 2
        )
        short = short * rest.repeat_interleave(PARTS, dim=1)
        audio = self.inverse(coefficients) + self.long_inverse(lines) + self.short_inverse(short) + tones
        return audio[:, None]

    def pure_tones(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of a frame is not a pure tone [B, T, 1], and the samples [B, HOP * T] of the tones."""
        rows = [TONES.samples(row) for row in latent[..., -NUMBERS:].detach().cpu().numpy()]
        tonal, samples = (torch.from_numpy(np.stack(part)).to(latent.device) for part in zip(*rows, strict=True))
        return 1 - tonal[..., None], samples

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Synthesise the signal [B, HOP * T] of MDCT coefficients [B, T, BINS]."""
        audio = overlapped(coefficients @ self.basis[:, :BINS].T)
        # The first and last half hop have only one block: undo its window.
        one = torch.ones(audio.shape[-1] - HOP, device=audio.device)
        return audio / torch.cat([self.ramp, one, self.ramp.flip(0)])

    def long_inverse(self, lines: Tensor) -> Tensor:
        """Synthesise the signal [B, HOP * T] of lines [B, T, 2, LINES]."""
        real, imaginary = lines.unbind(-2)
        blocks = torch.fft.irfft(torch.complex(real, imaginary), LONG) * (self.hann * (0.375 * LONG) ** 0.5)
        early, middle, late = torch.unflatten(blocks, -1, (3, HOP)).unbind(-2)
        hops = middle + F.pad(early[:, 1:], (0, 0, 0, 1)) + F.pad(late[:, :-1], (0, 0, 1, 0))
        overlap = hops.new_ones(hops.shape[1], HOP) * 1.125
        first, _, last = self.hann.square().view(3, HOP)
        overlap[0] -= last
        overlap[-1] -= first
        return (hops / overlap).flatten(1)

    def short_inverse(self, coefficients: Tensor) -> Tensor:
        """Synthesise the signal [B, HOP * T] of short MDCT coefficients [B, PARTS * T, SHORT_BINS]."""
        return overlapped(coefficients @ self.short.T)

    def decode(self, latent: Tensor, codebooks: int, first: int | Tensor = 0) -> Tensor:
        """The quantised latent [B, T, D] of frames ``first`` and on to audio [B, 1, HOP * T]."""
        count = torch.full((latent.shape[0],), codebooks, dtype=torch.int64, device=latent.device)
        noise = position_noise(first, latent.shape[1], latent.device)
        return self.render(*self.describe(latent, count), count, latent, noise)


def load(spec: CodecSpec, path: Path, device: torch.device) -> TorchCodec:
    """Load the codec from a safetensors file of :class:`FullbandNet`. Raises ModelError for other files."""
    net = FullbandNet()
    fill(net, spec, path)
    return TorchCodec(spec, net, device)
