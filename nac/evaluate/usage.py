"""Statistics of a .nac file's codes: how its codebooks are used, and its bitrate over time. Needs no model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nac.container.chunk import Chunk
from nac.container.timeline import clock
from nac.errors import NacError
from nac.files.nacfile import NacFile
from nac.storage.places import as_text

MAX_POINTS = 300  # of the curve over time
MAX_ENTRIES = 1 << 22  # of all codebooks of all streams; each counts as at least 1024


@dataclass(frozen=True)
class CodebookUsage:
    """The usage of one codebook of one stream. ``counts`` [entries]: how often each entry is used."""

    stream: int
    codebook: int
    bits: int
    counts: npt.NDArray[np.int64]

    @property
    def codes(self) -> int:
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """The number of entries that are used at least once."""
        return int(np.count_nonzero(self.counts))

    @property
    def costs(self) -> npt.NDArray[np.float64]:
        """The information of each entry in bits [entries], from its frequency in this file; 0 if unused."""
        share = self.counts / max(1, self.codes)
        return -np.log2(np.where(self.counts > 0, share, 1.0))

    @property
    def entropy(self) -> float:
        """The mean information in bits per code."""
        return float(self.counts @ self.costs) / max(1, self.codes)


@dataclass(frozen=True)
class Usage:
    """The usage of a file's codebooks, and its bitrate over time in kbit/s.

    ``stored``: start of each chunk in seconds, and the bitrate of its bytes. ``information``: the bitrate from the
    entropy of the codebooks, in equal steps of time.
    """

    name: str
    about: str
    seconds: float
    layers: list[CodebookUsage]
    stored: list[tuple[float, float]]
    information: npt.NDArray[np.float64]


def usage(opened: NacFile) -> Usage:
    """Count a file's codes, in two passes and with little memory. Raises NacError if there are none."""
    if not opened.chunks:
        raise NacError("contains no codes to draw")
    header = opened.header
    if (
        sum(max(1024, 1 << bits) for count in header.stream_codebooks for bits, _ in header.codebooks[:count])
        > MAX_ENTRIES
    ):
        raise NacError(f"{sum(header.stream_codebooks)} codebooks are too many to draw")
    layers = [
        CodebookUsage(stream, number, book.bits, np.zeros(1 << book.bits, np.int64))
        for stream, count in enumerate(header.stream_codebooks)
        for number, book in enumerate(header.codebooks[:count])
    ]
    frame_seconds = header.frame_samples / header.sample_rate
    stored, end = [], 1
    for chunk, codes in _chunks(opened, layers):
        for layer, array in zip(layers, codes, strict=True):
            layer.counts[:] += np.bincount(array, minlength=len(layer.counts))
        rate = len(chunk.to_bytes(header)) * 8 / 1000 / (chunk.frames * frame_seconds)
        stored.append((chunk.first_frame * frame_seconds, rate))
        end = chunk.first_frame + chunk.frames
    steps = max(1, min(MAX_POINTS, end, int(end * frame_seconds / 0.1)))
    bits, present = np.zeros(steps), np.zeros(steps)
    costs = [layer.costs for layer in layers]
    for chunk, codes in _chunks(opened, layers):
        frames = np.arange(chunk.first_frame, chunk.first_frame + chunk.frames)
        at = frames * steps // end
        present += np.bincount(at, minlength=steps)
        for cost, array in zip(costs, codes, strict=True):
            if len(array):
                each = cost[array].reshape(chunk.frames, -1).sum(axis=1)
                bits += np.bincount(at, weights=each, minlength=steps)
    info = opened.info()
    about = f"{info.model}, {info.kbps:.3g} kbit/s, {clock(opened.seconds)}, {info.bytes} bytes"
    # The number of frames per step varies by one.
    information = bits / 1000 / np.maximum(present * frame_seconds, 1e-9)
    return Usage(as_text(Path(info.path).name), about, opened.seconds, layers, stored, information)


def _chunks(
    file: NacFile, layers: Sequence[CodebookUsage]
) -> Iterator[tuple[Chunk, list[npt.NDArray[np.uint16]]]]:
    """Yield each chunk with the codes of every codebook, empty arrays if its stream is silent."""
    empty = np.zeros(0, np.uint16)
    for chunk, codes in Chunk.unpacked(file.header, map(file.chunk, range(file.chunks))):
        yield chunk, [codes[one.stream][one.codebook] if codes[one.stream] else empty for one in layers]


# The picture

_WIDTH, _LEFT, _RIGHT, _TALL = 900, 64, 24, 190  # pixels: of the picture, its margins, and a panel's height
_STYLE = """
  svg { background: #fff; color: #1d1c1a; }
  text { font: 13px system-ui, sans-serif; fill: currentColor; }
  .title { font-size: 17px; font-weight: 600; } .soft { fill: #66635d; }
  .grid { stroke: #dedad2; } .whole { fill: #e9e5dd; }
  .s0 { fill: #0068a8; } .s1 { fill: #c2500a; } .s2 { fill: #00805e; } .s3 { fill: #a8397c; }
  .line { fill: none; stroke: #0068a8; stroke-width: 1.5; } .step { fill: none; stroke: #c2500a; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    svg { background: #171614; color: #eceae4; } .soft { fill: #a5a198; }
    .grid { stroke: #3a3833; } .whole { fill: #2f2d29; }
    .s0 { fill: #5db7f5; } .s1 { fill: #ffa05c; } .s2 { fill: #43d3a4; } .s3 { fill: #f49acb; }
    .line { stroke: #5db7f5; } .step { stroke: #ffa05c; }
  }
"""


def svg(found: Usage) -> str:
    """Draw the entropy and the used entries of every codebook, and the bitrate over time, as SVG."""
    top = max((layer.bits for layer in found.layers), default=1)
    entropy = _bars(found.layers, 100, top, [layer.entropy for layer in found.layers], "bits per code")
    used = [100 * layer.used / (1 << layer.bits) for layer in found.layers]
    entries = _bars(found.layers, 100 + _TALL + 70, 100, used, "% of the entries used")
    height = 100 + 3 * (_TALL + 70)
    few = min((layer.codes / (1 << layer.bits) for layer in found.layers), default=0) < 10
    parts = [
        _text(_LEFT - 44, 32, found.name, "title"),
        _text(_LEFT - 44, 54, found.about, "soft"),
        _text(_LEFT - 44, 86, "Entropy of each codebook's codes, and their size in bits (grey), coarse to fine"),
        *entropy,
        _text(_LEFT - 44, 86 + _TALL + 70, "Entries used"),
        *entries,
        _text(
            _LEFT - 44, 86 + 2 * (_TALL + 70), "kbit/s over time: as stored in each chunk, and from the entropy"
        ),
        *_over_time(found, 100 + 2 * (_TALL + 70)),
    ]
    if few:
        note = "Fewer than ten codes for each entry: entropy and used entries are underestimated."
        parts.append(_text(_WIDTH - _RIGHT, 54, note, "soft", "end"))
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _scale(y: float, top: float, unit: str) -> list[str]:
    """Draw the horizontal lines of a panel that starts at ``y``, for values from 0 to ``top``."""
    parts = [_text(_WIDTH - _RIGHT, y - 14, unit, "soft", "end")]
    for share in (0, 0.5, 1):
        at = y + _TALL * (1 - share)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{top * share:.3g}", "soft", "end"))
    return parts


def _bars(layers: Sequence[CodebookUsage], y: float, top: float, values: Sequence[float], unit: str) -> list[str]:
    """Draw a bar for each codebook, with space between streams, in front of a bar for its maximum."""
    streams = len({layer.stream for layer in layers})
    slot = (_WIDTH - _LEFT - _RIGHT) / max(1, len(layers) + streams - 1)
    width = min(40.0, 0.72 * slot)
    parts = _scale(y, top, unit)
    for i, (layer, value) in enumerate(zip(layers, values, strict=True)):
        x = _LEFT + (i + layer.stream + 0.5) * slot
        most = layer.bits if unit.startswith("bits") else 100
        tooltip = f"stream {layer.stream}, codebook {layer.codebook}: {layer.entropy:.2f} of {layer.bits} bits, "
        tooltip += f"{layer.used} of {1 << layer.bits} entries in {layer.codes} codes"
        for kind, part in (("whole", most), (f"s{layer.stream % 4}", value)):
            tall = _TALL * part / top
            box = f'x="{x - width / 2:.1f}" y="{y + _TALL - tall:.1f}" width="{width:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect class="{kind}" {box}><title>{escape(tooltip)}</title></rect>')
        if slot > 14 or layer.codebook % 4 == 0:
            parts.append(_text(x, y + _TALL + 17, str(layer.codebook), "soft", "middle"))
    return parts


def _over_time(found: Usage, y: float) -> list[str]:
    most = max([rate for _, rate in found.stored] + [float(found.information.max(initial=0)), 1e-3])
    unit = 10 ** math.floor(math.log10(most) - 1)
    top = math.ceil(1.05 * most / unit / 2) * 2 * unit
    whole = max(found.seconds, 1e-9)

    def point(seconds: float, rate: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, seconds / whole)
        return f"{across:.1f} {y + _TALL * (1 - rate / top):.1f}"

    step = whole / len(found.information)
    curve = "L".join(point((i + 0.5) * step, float(rate)) for i, rate in enumerate(found.information))
    ends = [start for start, _ in found.stored[1:]] + [whole]
    steps = "L".join(
        f"{point(start, rate)}L{point(end, rate)}" for (start, rate), end in zip(found.stored, ends, strict=True)
    )
    ticks = [
        _text(_LEFT + (_WIDTH - _LEFT - _RIGHT) * i / 6, y + _TALL + 17, clock(whole * i / 6), "soft", "middle")
        for i in range(7)
    ]
    return [
        *_scale(y, top, "kbit/s"),
        f'<path class="line" d="M{curve}"/>',
        *([f'<path class="step" d="M{steps}"/>'] if steps else []),
        *ticks,
        f'<path class="step" d="M{_LEFT} {y + _TALL + 34}h26"/>',
        _text(_LEFT + 32, y + _TALL + 38, "as stored", "soft"),
        f'<path class="line" d="M{_LEFT + 130} {y + _TALL + 34}h26"/>',
        _text(_LEFT + 162, y + _TALL + 38, "from the entropy of this file's codebooks", "soft"),
    ]
