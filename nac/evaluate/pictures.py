"""Pictures for the page: spectrograms on a common scale, and outlines of waveforms."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from nac.audio.resample import Samples
from nac.evaluate.metrics import spectra

WIDTH, HEIGHT = 900, 128  # pixels of a spectrogram
QUIETEST, LOUDEST = -100.0, -18.0  # levels of the first and the last colour, in dB relative to a full-scale sine
OUTLINE = 600  # points of an outline

_COLOURS = ((0, 4, 5, 16), (0.25, 58, 20, 94), (0.5, 158, 42, 99), (0.75, 239, 112, 62), (1, 252, 240, 180))
"""Colour map with linear interpolation: level from 0 to 1, red, green, blue."""


def spectrogram(samples: Samples, rate: int) -> bytes:
    """Draw a spectrogram of samples [n, channels] as PNG: 0 Hz to ``rate`` / 2 upwards, on the mel scale."""
    window = max(64, rate * 43 // 1000 // 2 * 2)
    hop = max(1, -(-len(samples) // WIDTH))
    power = np.mean([np.square(2 * spectra(channel, window, hop)) for channel in samples.T], axis=0)
    # The mean over each row's band, from differences of the integral: correct also for bands narrower than a bin.
    integral = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    edges = _mel_edges(rate) / (rate / 2) * (integral.shape[1] - 1)
    low = np.minimum(edges.astype(int), integral.shape[1] - 2)
    at_edges = integral[:, low] + (edges - low) * (integral[:, low + 1] - integral[:, low])
    level = 10 * np.log10(np.maximum(np.diff(at_edges, axis=1) / np.diff(edges), 1e-12))
    share = (level - QUIETEST) / (LOUDEST - QUIETEST)
    return png(np.clip(np.rint(share * 255), 0, 255).astype(np.uint8).T[::-1])


def _mel_edges(rate: int) -> npt.NDArray[np.float64]:
    """Return the frequencies (Hz) of the borders between rows, from the bottom."""
    top = np.log1p(rate / 2 / 700)
    return np.asarray(700 * np.expm1(np.linspace(0, top, HEIGHT + 1)))


def palette() -> npt.NDArray[np.uint8]:
    """Return 256 colours [256, 3], from quiet to loud."""
    at, *channels = zip(*_COLOURS, strict=True)
    levels = np.linspace(0, 1, 256)
    return np.stack([np.rint(np.interp(levels, at, channel)) for channel in channels], axis=1).astype(np.uint8)


def png(levels: npt.NDArray[np.uint8]) -> bytes:
    """Encode levels [height, width] as a PNG (RFC 2083) with the colours of :func:`palette`."""
    height, width = levels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), levels], axis=1)  # filter 0 before every row
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette().tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def outline(samples: Samples, full: float) -> list[int]:
    """Return the peaks of up to ``OUTLINE`` equal parts of the samples, in percent of ``full``, at most 100."""
    peaks = np.abs(samples).max(axis=1)
    parts = np.array_split(peaks, min(OUTLINE, len(peaks)))
    return [min(100, round(100 * float(part.max()) / max(full, 1e-9))) for part in parts]
