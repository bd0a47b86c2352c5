"""A small network between lapped transforms, for any audio at 48 kHz.

The encoder is like that of :mod:`nac.codecs.mdct`: MDCT and MDST of each frame are split into band gains and
companded shape, and mapped to the latent of a residual vector quantiser by a linear map and ConvNeXt blocks. Of a
frame that is a single sinusoid, the latent has frequency, phase and level instead (:mod:`nac.codecs.pure_tones`).
Of all others, the decoder synthesises three signals, which are added:

- an MDCT for the waveform, as far as it was coded;
- a longer transform for tonal content: lines of an STFT with threefold overlap. Level and shape are separate, as
  in CELT (Valin et al. 2013, arXiv:1602.04845): each band has its level whatever the size of the shape, so a tone
  whose phase was not coded does not fade;
- a short transform, four per frame, for other content: noise with given levels, and MDCT coefficients for clicks.

Frame t covers samples 640 t to 640 t + 639.

This is the implementation in numpy, for CPUs; :mod:`nac.codecs.fullband_torch` is the one for training and GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nac.codecs import mdct
from nac.codecs.base import Array
from nac.codecs.mdct import Floats, Half, Integers, MdctCodec, Quantizer, Weights
from nac.codecs.pure_tones import NUMBERS, PureTones
from nac.spec import CodecSpec

RATE = 48000
#: samples from frame to frame
HOP = 640
#: widths of the gain bands in MDCT bins of 37.5 Hz, roughly the frequency resolution of hearing
BANDS = (
    *[2] * 10, *[3] * 4, *[4] * 3, 5, 5, 6, 6, 8, 8, 10, 10, 13, 13, 16, 16, 20, 24, 28, 40, 48, 44, 52, 60, 68
)  # fmt: skip
#: MDCT bins that are coded: to 20.4 kHz
BINS = sum(BANDS)
#: window of the long transform (samples), and its number of lines of 25 Hz
LONG = 3 * HOP
LINES = BINS * LONG // (2 * HOP)
#: hop of the short transform, its number per frame, its bins of 150 Hz, and the widths of its noise bands in bins
SHORT = 160
PARTS = HOP // SHORT
SHORT_BINS = BINS * SHORT // HOP
NOISE_BANDS = (*[1] * 6, *[2] * 4, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12, 14, 16, 14, 16)
# : sizes of the decoder blocks' outputs: corrections of MDCT shape and gains, shape and level of the lines, levels
# of : noise, shape of clicks
OUTPUTS = (BINS, len(BANDS), 2 * LINES, len(BANDS), PARTS * len(NOISE_BANDS), PARTS * SHORT_BINS)
#: the lowest amplitude of gains, just below the last of 16 bits
FLOOR = 1e-5
#: the share of a band's level in dB that companding removes from the shape
COMPANDING = 0.5
#: limits for levels, as natural logarithms
LOWEST, HIGHEST = -12.0, 3.5
#: frames that are a single sinusoid
TONES = PureTones(RATE, HOP)
#: a shape with this power or more gets its level; a weaker one stays below it
SOFTNESS = 0.05


def lapped_basis(hop: int, bins: int, sine: bool) -> Floats:
    """Return an orthonormal MDCT basis with sine window, or also the MDST's: [2 hop samples, bins or 2 bins]."""
    n, k = np.arange(2 * hop)[:, None], np.arange(bins)
    window = np.sin(math.pi / (2 * hop) * (n + 0.5)) * math.sqrt(2 / hop)
    # All phases are multiples of the same one: looking up their cosines takes less time than computing them.
    steps = ((2 * n + 1 + hop) * (2 * k + 1)).astype(np.int32) % np.int32(8 * hop)
    phases = math.pi / (4 * hop) * np.arange(8 * hop)
    waves = [np.cos(phases), np.sin(phases)] if sine else [np.cos(phases)]
    basis = np.empty((2 * hop, len(waves), bins), np.float32)
    for part, wave in enumerate(waves):
        np.multiply(window, wave[steps], out=basis[:, part], casting="same_kind")
    return basis.reshape(2 * hop, -1)


def interpolation(middles: npt.NDArray[Any], at: npt.NDArray[Any]) -> Floats:
    """Return a matrix [middles, at] for linear interpolation of values at ``middles``, constant outside."""
    right = np.searchsorted(middles, at).clip(1, len(middles) - 1)
    part = ((at - middles[right - 1]) / (middles[right] - middles[right - 1])).clip(0, 1)
    matrix = np.zeros((len(middles), len(at)), np.float32)
    matrix[right - 1, np.arange(len(at))] = 1 - part
    matrix[right, np.arange(len(at))] = part
    return matrix


def membership(edges: npt.NDArray[Any], at: npt.NDArray[Any]) -> Floats:
    """Return a matrix [bands, at] that is 1 where a frequency is in a band."""
    band = (np.searchsorted(edges, at, side="right") - 1).clip(0, len(edges) - 2)
    matrix: Floats = (np.arange(len(edges) - 1)[:, None] == band).astype(np.float32)
    return matrix


def constants() -> dict[str, Floats]:
    """Return the matrices that both implementations use."""
    edges = np.cumsum([0, *BANDS]) * (RATE / 2 / HOP)
    bins = (np.arange(BINS) + 0.5) * (RATE / 2 / HOP)
    lines = np.arange(LINES) * (RATE / LONG)
    short = (np.arange(SHORT_BINS) + 0.5) * (RATE / 2 / SHORT)
    noise_edges = np.cumsum([0, *NOISE_BANDS]) * (RATE / 2 / SHORT)
    middles, noise_middles = (edges[:-1] + edges[1:]) / 2, (noise_edges[:-1] + noise_edges[1:]) / 2
    bands, long_bands = membership(edges, bins), membership(edges, lines)
    return {
        "average": np.ascontiguousarray((bands / bands.sum(1, keepdims=True)).T),
        "spread": interpolation(middles, bins),
        "weight": ((1 + bins / 1500) ** -0.5).astype(np.float32),
        "long_average": np.ascontiguousarray((long_bands / long_bands.sum(1, keepdims=True)).T),
        "long_bands": long_bands,
        "long_spread": interpolation(middles, lines),
        "noise_bands": interpolation(middles, noise_middles),
        "noise_spread": interpolation(noise_middles, short),
    }


def position_noise(first: int, frames: int) -> Floats:
    """Return noise [PARTS * frames, SHORT_BINS] with unit power that depends only on the absolute frame number."""
    return mdct.position_noise(PARTS * first, PARTS * frames, SHORT)[:, :SHORT_BINS]


def hann_window() -> Floats:
    """Return the window of the long transform."""
    window: Floats = (0.5 - 0.5 * np.cos(2 * math.pi / LONG * np.arange(LONG))).astype(np.float32)
    return window


def first_ramp() -> Floats:
    """Return the squared MDCT window of a signal's first half hop, which has one block; reversed for its last."""
    ramp: Floats = (np.sin(math.pi / (2 * HOP) * (np.arange(HOP // 2, HOP) + 0.5)) ** 2).astype(np.float32)
    return ramp


def overlapped(blocks: Floats) -> Floats:
    """Overlap-add blocks [T, 2 hop] with a distance of half a block. Returns samples [hop * T]."""
    hop = blocks.shape[1] // 2
    hops = np.zeros((len(blocks) + 1, hop), np.float32)
    hops[:-1] = blocks[:, :hop]
    hops[1:] += blocks[:, hop:]
    samples: Floats = hops.reshape(-1)[hop // 2 : -(hop // 2)]
    return samples


class Network:
    """The network for one signal at a time: samples [HOP * T], codes [T] of each codebook."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        """``tensors``: named as in :class:`nac.codecs.fullband_torch.FullbandNet`; otherwise raises ValueError."""
        weights, bands = Weights(tensors), len(BANDS)
        self.quantizer = Quantizer(weights)
        latent = self.quantizer.latent - NUMBERS
        self.encoder = Half(weights, "encoder", (BINS + bands, latent), (2 * BINS + bands, latent))
        self.decoder = Half(weights, "decoder", (latent, BINS + bands), (latent, sum(OUTPUTS)))
        # The decoder's input depends on the number of codebooks.
        self._level = weights.take("level.weight", self.quantizer.count, self.decoder.width)
        self._noise = weights.take("noise.weight", self.quantizer.count, len(NOISE_BANDS))
        self._basis = lapped_basis(HOP, BINS, sine=True)
        self._inverse = np.ascontiguousarray(self._basis[:, :BINS].T)
        self._short = np.ascontiguousarray(lapped_basis(SHORT, SHORT_BINS, sine=False).T)
        self._hann = hann_window()
        self._constants = constants()

    def encode(self, samples: Floats, codebooks: int) -> list[Integers]:
        """Encode samples. Returns codes [T], one array per codebook."""
        padded = np.pad(samples, HOP // 2)
        coefficients = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP] @ self._basis
        power = np.square(coefficients[:, :BINS])
        power += np.square(coefficients[:, BINS:])
        power *= np.float32(0.5)
        gains = np.float32(0.5) * np.log(power @ self._constants["average"] + np.float32(FLOOR**2))
        scale = 1 / self._expansion(gains)
        shape = np.concatenate([coefficients[:, :BINS] * scale, coefficients[:, BINS:] * scale, gains], axis=1)
        latent = self.encoder.linear(np.concatenate([shape[:, :BINS], gains], axis=1))
        latent += self.encoder.deep(shape)
        tonal, numbers = TONES.numbers(coefficients)
        latent *= 1 - tonal[:, None]
        return self.quantizer.encode(np.concatenate([latent, numbers], axis=1), codebooks)

    def decode(self, codes: tuple[Integers, ...], first: int) -> Floats:
        """Decode the codes of frames from ``first`` on."""
        latent, number = self.quantizer.decode(codes), len(codes) - 1
        tonal, samples = TONES.samples(latent[:, -NUMBERS:])
        latent, rest = np.ascontiguousarray(latent[:, :-NUMBERS]), 1 - tonal
        deep = self.decoder.deep(latent, self._level[number])
        waveform, gain_correction, shape, share, amounts, clicks = np.split(deep, np.cumsum(OUTPUTS[:-1]), axis=1)
        plain = self.decoder.linear(latent)
        gains = (plain[:, BINS:] + gain_correction).clip(LOWEST, HIGHEST)
        samples += self._waveform(plain[:, :BINS] + waveform, gains, rest)
        samples += self._long(self._tonal(shape, (gains + share).clip(LOWEST, HIGHEST), rest))
        amounts += np.tile(self._noise[number], PARTS)
        samples += self._clicks_and_noise(gains, amounts, clicks, rest, first)
        return samples

    def _expansion(self, gains: Floats) -> Floats:
        """Convert gains [T, bands] to factors [T, BINS] that undo the companding of the shape."""
        levels = gains @ self._constants["spread"]
        levels *= np.float32(COMPANDING)
        np.exp(levels, out=levels)
        # The rest of the level is the other half in dB, so its square is the value just computed.
        rest = np.square(levels) @ np.square(self._constants["weight"])[:, None] / np.float32(BINS)
        levels *= np.sqrt(rest)
        levels /= self._constants["weight"]
        return levels

    def _waveform(self, shape: Floats, gains: Floats, rest: Floats) -> Floats:
        """Synthesise the MDCT's signal from companded shape [T, BINS] and gains [T, bands], times ``rest`` [T]."""
        shape *= self._expansion(gains)
        shape *= rest[:, None]
        samples = overlapped(shape @ self._inverse)
        ramp = first_ramp()
        samples[: HOP // 2] /= ramp
        samples[-(HOP // 2) :] /= ramp[::-1]
        return samples

    def _tonal(self, shape: Floats, levels: Floats, rest: Floats) -> Floats:
        """Scale a shape [T, 2 LINES] to the bands' ``levels`` [T, bands], times ``rest``: [T, 2, LINES]."""
        lines = shape.reshape(-1, 2, LINES)
        lines *= np.exp(levels @ self._constants["long_spread"])[:, None]
        wanted = np.exp(2 * levels)
        power = np.square(lines[:, 0])
        power += np.square(lines[:, 1])
        factor = np.sqrt(wanted / (power @ self._constants["long_average"] + np.float32(SOFTNESS) * wanted))
        factor *= rest[:, None]
        lines *= (factor @ self._constants["long_bands"])[:, None]
        return lines

    def _long(self, lines: Floats) -> Floats:
        """Synthesise the signal of lines [T, 2, LINES]."""
        spectrum = np.zeros((len(lines), LONG // 2 + 1), np.complex64)
        spectrum.real[:, :LINES], spectrum.imag[:, :LINES] = lines[:, 0], lines[:, 1]
        blocks = np.fft.irfft(spectrum, LONG).astype(np.float32, copy=False)
        blocks *= self._hann * np.float32((0.375 * LONG) ** 0.5)
        early, middle, late = (blocks[:, start : start + HOP] for start in range(0, LONG, HOP))
        hops = middle.copy()
        hops[:-1] += early[1:]
        hops[1:] += late[:-1]
        # At both ends, the window of a neighbour is missing.
        overlap = np.full_like(hops, 1.125)
        overlap[0] -= np.square(self._hann[2 * HOP :])
        overlap[-1] -= np.square(self._hann[:HOP])
        hops /= overlap
        samples: Floats = hops.reshape(-1)
        return samples

    def _clicks_and_noise(
        self, gains: Floats, amounts: Floats, clicks: Floats, rest: Floats, first: int
    ) -> Floats:
        """Synthesise the signal of the short transform: clicks, and noise with levels relative to the gains."""
        spread = self._constants["noise_spread"]
        floor = gains @ self._constants["noise_bands"]
        levels = amounts.reshape(len(gains), PARTS, -1) + floor[:, None]
        short = np.exp(levels.clip(LOWEST, HIGHEST) @ spread)
        short *= position_noise(first, len(gains)).reshape(short.shape)
        short += clicks.reshape(short.shape) * np.exp(floor @ spread)[:, None]
        short *= rest[:, None, None]
        return overlapped(short.reshape(-1, SHORT_BINS) @ self._short)


def load(spec: CodecSpec, path: Path) -> MdctCodec:
    """Load the codec from a safetensors file, for the CPU. Raises ModelError for other weights."""
    return mdct.load(spec, path, Network)
