"""Frames that hold a single sinusoid, as numbers that a residual vector quantiser can code.

A network has to learn each frequency and phase by itself; here they are numbers like others. Frequency and phase
are angles, given by cosine and sine: several angles for the frequency, of which the fast ones make it precise and
the slow ones unambiguous. Synthesis interpolates phases from frame to frame (McAulay and Quatieri 1986, IEEE
Trans. Acoust. Speech Signal Process. 34:744).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complexfloating[Any]]

#: turns of the angles for frequency over ``SPAN`` of the HTK mel scale
TURNS, SPAN = np.array([1, 4, 20, 100]), 4200.0
#: numbers of a frame: cosine and sine of these angles and of the phase, and the level
NUMBERS = 2 * len(TURNS) + 3
#: length of each pair of cosine and sine; units of level per neper, and the level (nepers) that is 0
RADIUS, LEVEL, MIDDLE = 20.0, 30.0, -3.0
#: below this frequency (Hz), a tone and its image at the negative frequency are too near
LOWEST = 45.0
#: rounds in which a tone and its image are told apart
ROUNDS = 6
#: a pure tone has less power beside it, relative to its own, and a higher level (nepers)
PURE, FAINTEST = 1e-6, -8.0
#: a received tone has at most this level (nepers), whatever the codes
LOUDEST = 3.5
#: frames before and after that have to be pure tones, too: what is one only now and then is left to the network
STEADY = 6
#: the least share of a tone's power that is in one bin
PEAK = 0.4
#: length of received pairs, relative to ``RADIUS``, from which on a frame is a tone in part, and wholly
PARTLY, WHOLLY = 0.3, 0.5
#: frequencies (Hz, and relative) that differ by less in successive frames are the same tone
NEAR, NEAR_PART = 30.0, 0.06


def window_spectrum(distance: Floats) -> Floats:
    """Return the spectrum of a sine window at a distance in MDCT bins from a sinusoid, relative to its maximum."""
    spectrum: Floats = math.pi / 4 * (np.sinc(distance - 0.5) + np.sinc(distance + 0.5))
    return spectrum


def rotation(bins: npt.NDArray[np.integer[Any]]) -> Complex:
    """Return what turns the phases of bins to those in the middle of a block, three half hops later."""
    quarters: Complex = np.exp(1.5j * math.pi * (np.arange(4) + 0.5))[bins % 4]
    return quarters


def wrapped(phase: Floats) -> Floats:
    """Return a phase in radians within half a turn of zero."""
    rest: Floats = phase - 2 * math.pi * np.round(phase / (2 * math.pi))
    return rest


@dataclass(frozen=True)
class PureTones:
    """Converts frames of ``hop`` samples at a ``rate`` in Hz."""

    rate: int
    hop: int

    def numbers(self, coefficients: Singles) -> tuple[Singles, Singles]:
        """Return which frames are tones, 1 or 0 [T], and their numbers [T, NUMBERS], else zeros.

        ``coefficients`` [T, 2 bins]: the first bins of the MDCT, then those of the MDST, with a sine window.
        """
        bins = coefficients.shape[1] // 2
        power = np.square(coefficients[:, :bins])
        power += np.square(coefficients[:, bins:])
        tonal, numbers = np.zeros(len(power), np.float32), np.zeros((len(power), NUMBERS), np.float32)
        highest = power.max(axis=1)
        frames = np.nonzero((highest > PEAK * power.sum(axis=1)) & (highest > 1e-8))[0]
        if len(frames):
            parts = coefficients[frames].reshape(len(frames), 2, bins)
            pure, *tones = self._fitted(parts[:, 0] - 1j * parts[:, 1], power[frames])
            tonal[frames] = pure
            around = np.lib.stride_tricks.sliding_window_view(np.pad(tonal, STEADY), 2 * STEADY + 1)
            tonal = around.min(axis=1)
            numbers[frames] = self.coded(*tones)
            numbers *= tonal[:, None]
        return tonal, numbers

    def coded(self, hertz: Floats, phase: Floats, level: Floats) -> Singles:
        """Return the numbers [T, NUMBERS] of tones with frequencies, phases and levels (nepers) [T]."""
        place = 2595 / SPAN * np.log10(1 + hertz / 700)
        angles = np.concatenate([2 * math.pi * place[:, None] * TURNS, phase[:, None]], axis=1)
        columns = [RADIUS * np.cos(angles), RADIUS * np.sin(angles), LEVEL * (level - MIDDLE)[:, None]]
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def _fitted(self, spectra: Complex, power: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Fit sinusoids to spectra [T, bins]: whether they are tones, in Hz, phases, and levels in nepers."""
        rows, bins = np.arange(len(power)), power.shape[1]
        peak = power[:, :-1].argmax(axis=1)
        above = (peak == 0) | (power[rows, peak + 1] > power[rows, peak - 1])
        lower = np.where(above, peak, peak - 1)
        both = lower[:, None] + [0, 1]
        turned = spectra[rows[:, None], both] * rotation(both)
        found, at = np.zeros(len(power), np.complex128), lower + 0.5
        for _ in range(ROUNDS):
            # The sinusoid's image at the negative frequency is at first unknown.
            pair = turned - found.conj()[:, None] * window_spectrum(both + at[:, None] + 1)
            # Two bins that a sinusoid is between have a ratio that depends on its place only.
            ratio = np.abs(pair[:, 1]) / np.maximum(np.abs(pair[:, 0]), 1e-12)
            at = lower + (3 * ratio - 1) / (2 * (1 + ratio))
            larger = (ratio > 1).astype(int)
            found = pair[rows, larger] / window_spectrum(lower + larger - at)
        level = np.log(np.abs(found) * math.pi / (2 * math.sqrt(2 * self.hop)) + 1e-12)
        hertz = (at + 0.5) * self.rate / (2 * self.hop)
        pure = (level > FAINTEST) & (hertz > LOWEST)
        # Most frames differ from a sinusoid already in the bins around it.
        for width in (8, bins):
            left = np.nonzero(pure)[0][:, None]
            among = np.minimum(np.maximum(lower[left] - width // 2, 0), bins - width) + np.arange(width)
            rest = spectra[left, among] * rotation(among)
            rest -= found[left] * window_spectrum(among - at[left])
            rest -= found.conj()[left] * window_spectrum(among + at[left] + 1)
            pure[left[:, 0]] = np.square(np.abs(rest)).sum(axis=1) < PURE * power[left, peak[left]][:, 0]
        return pure, hertz, np.angle(found), level

    def _received(self, numbers: Floats) -> Floats:
        """Return [4, T]: how far frames are tones, and frequency in Hz, phase and amplitude of tones."""
        count = len(TURNS)
        pairs = numbers[:, : count + 1] + 1j * numbers[:, count + 1 : -1]
        length = np.abs(pairs).mean(axis=1) / RADIUS
        share = ((length - PARTLY) / (WHOLLY - PARTLY)).clip(0, 1)
        places = np.arange(2048) / 2048
        turns = np.exp(-2j * math.pi * TURNS[:, None] * places)
        place = places[(pairs[:, :count] @ turns).real.argmax(axis=1)]
        finest = np.angle(pairs[:, count - 1]) / (2 * math.pi)
        place = (finest + np.round(TURNS[-1] * place - finest)) / TURNS[-1]
        hertz = (700 * (10 ** (place * SPAN / 2595) - 1)).clip(0, self.rate / 2)
        amplitude = share * np.exp(np.minimum(numbers[:, -1] / LEVEL + MIDDLE, LOUDEST))
        return np.stack([share, hertz, np.angle(pairs[:, count]), amplitude])

    def samples(self, numbers: Singles) -> tuple[Singles, Singles]:
        """Return how far frames are tones, [T] from 0 to 1, and the samples [hop * T] of tones."""
        shares = np.zeros(len(numbers), np.float32)
        sound = np.zeros((len(numbers) + 1, self.hop), np.float32)
        frames = np.nonzero(np.abs(numbers[:, :-1]).sum(axis=1) > RADIUS * PARTLY)[0]
        if len(frames):
            tones = np.zeros((4, len(numbers)))
            tones[:, frames] = self._received(numbers[frames])
            shares[:] = tones[0]
            # The tones of the first and the last frame go on to the signal's ends.
            tones = np.pad(tones, ((0, 0), (1, 1)), "edge")
            advance = 2 * math.pi * self.hop / self.rate * tones[1]
            tones[2, 0] -= advance[0]
            tones[2, -1] += advance[-1]
            between = np.nonzero(tones[3, :-1] + tones[3, 1:] > 0)[0]
            sound[between] = self._joined(tones[:, between, None], tones[:, between + 1, None])
        samples: Singles = sound.reshape(-1)[self.hop // 2 : -(self.hop // 2)]
        return shares, samples

    def _joined(self, left: Floats, right: Floats) -> Floats:
        """Return the samples [N, hop] between the middles of frames with tones [4, N, 1], as received."""
        steps = [2 * math.pi / self.rate * hertz for hertz in (left[1], right[1])]
        mean = self.hop * (steps[0] + steps[1]) / 2
        shared = (mean + wrapped(right[2] - left[2] - mean)) / self.hop
        near = np.abs(left[1] - right[1]) < NEAR + NEAR_PART * left[1]
        same = near & (left[3] > 0) & (right[3] > 0)
        first, second = (np.where(same, shared, step) for step in steps)
        time = np.arange(self.hop) + 0.5
        fade = np.cos(math.pi / (2 * self.hop) * time) ** 2
        sound: Floats = fade * left[3] * np.cos(left[2] + first * time)
        sound += (1 - fade) * right[3] * np.cos(right[2] - second * (self.hop - time))
        return sound
