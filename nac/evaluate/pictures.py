"""Pictures of sound for the page: spectrograms, all on one scale, and the outlines of waveforms."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from nac.audio.resample import Samples
from nac.evaluate.metrics import spectra

WIDTH, HEIGHT = 900, 128  # pixels of a spectrogram
QUIETEST, LOUDEST = -100.0, -18.0  # dB of a sine at full scale that the first and the last colour stand for
OUTLINE = 600  # points of an outline

_COLOURS = ((0, 4, 5, 16), (0.25, 58, 20, 94), (0.5, 158, 42, 99), (0.75, 239, 112, 62), (1, 252, 240, 180))
"""Colour map: level from 0 to 1, red, green, blue; in between, straight lines."""


def spectrogram(samples: Samples, rate: int) -> bytes:
    """A PNG of samples [n, channels]: time to the right, 0 Hz to ``rate`` / 2 upwards on the mel scale."""
    window = max(64, rate * 43 // 1000 // 2 * 2)
    hop = max(1, -(-len(samples) // WIDTH))
    power = np.mean([np.square(2 * spectra(channel, window, hop)) for channel in samples.T], axis=0)
    # The mean over each row's band: differences of the integral, so that it works for bands below a bin too.
    integral = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    edges = _mel_edges(rate) / (rate / 2) * (integral.shape[1] - 1)
    low = np.minimum(edges.astype(int), integral.shape[1] - 2)
    at_edges = integral[:, low] + (edges - low) * (integral[:, low + 1] - integral[:, low])
    level = 10 * np.log10(np.maximum(np.diff(at_edges, axis=1) / np.diff(edges), 1e-12))
    share = (level - QUIETEST) / (LOUDEST - QUIETEST)
    return png(np.clip(np.rint(share * 255), 0, 255).astype(np.uint8).T[::-1])


def _mel_edges(rate: int) -> npt.NDArray[np.float64]:
    """Frequencies (Hz) of the borders of the rows, from below."""
    top = np.log1p(rate / 2 / 700)
    return np.asarray(700 * np.expm1(np.linspace(0, top, HEIGHT + 1)))


def palette() -> npt.NDArray[np.uint8]:
    """The 256 colours [256, 3] from quiet to loud."""
    at, *channels = zip(*_COLOURS, strict=True)
    levels = np.linspace(0, 1, 256)
    return np.stack([np.rint(np.interp(levels, at, channel)) for channel in channels], axis=1).astype(np.uint8)


def png(levels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG (RFC 2083) of levels [height, width] in the colours of :func:`palette`."""
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
    """The largest absolute sample of each of up to ``OUTLINE`` stretches, in percent of ``full``, at most 100."""
    peaks = np.abs(samples).max(axis=1)
    stretches = np.array_split(peaks, min(OUTLINE, len(peaks)))
    return [min(100, round(100 * float(stretch.max()) / max(full, 1e-9))) for stretch in stretches]
