"""The page: one HTML file with everything in it, numbers, pictures and audio."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, BinaryIO

import soundfile

from nac.audio.resample import Samples
from nac.audio.wav import to_int16
from nac.codecs.family import Model
from nac.evaluate.comparison import Average, Compared, Score
from nac.evaluate.excerpt import Excerpt
from nac.evaluate.metrics import Metric
from nac.evaluate.pictures import LOUDEST, QUIETEST, outline, palette, spectrogram
from nac.version import __version__


@dataclass(frozen=True)
class Exhibit:
    """What the page shows of a recording; ``audio``: FLAC files of the original and each version, or none."""

    facts: dict[str, Any]
    audio: list[bytes]


def exhibit(compared: Compared) -> Exhibit:
    """A recording with pictures and audio."""
    excerpt = compared.excerpt
    full = float(abs(excerpt.samples).max())
    original = _flac(excerpt.samples, excerpt.rate)
    audio = [original, *(_flac(take.samples, excerpt.rate) for take in compared.takes)]
    first = {
        "bytes": len(original),
        "picture": _data_uri("image/png", spectrogram(excerpt.samples, excerpt.rate)),
        "outline": outline(excerpt.samples, full),
    }
    versions = [
        {
            **_version(score),
            "picture": _data_uri("image/png", spectrogram(take.samples, excerpt.rate)),
            "outline": outline(take.samples - excerpt.samples, full),
        }
        for take, score in zip(compared.takes, compared.scores, strict=True)
    ]
    return Exhibit(_facts(excerpt, compared.lacking, [first, *versions]), audio)


def without_player(shown: Exhibit) -> Exhibit:
    """The same without pictures and audio, which are what is large."""
    versions = [
        {key: value for key, value in version.items() if key not in ("picture", "outline")}
        for version in shown.facts["versions"]
    ]
    return Exhibit({**shown.facts, "versions": versions}, [])


def write_page(
    file: BinaryIO,
    exhibits: Sequence[Exhibit],
    averages: Iterable[Average],
    metrics: Iterable[Metric],
    models: Iterable[Model],
    duration: float,
) -> None:
    """Write the page for these recordings. At least one of them must have its audio."""
    colours = palette()[:: 255 // 15]
    data = {
        "version": __version__,
        "duration": duration,
        "scale": [QUIETEST, LOUDEST],
        "palette": ["#" + bytes(colour).hex() for colour in colours],
        "metrics": [
            {"name": m.name, "label": m.label, "higher": m.higher_is_better, "about": m.about} for m in metrics
        ],
        "models": [{"name": m.name, "about": m.about, "licence": m.licence} for m in models],
        "averages": [_average(average) for average in averages],
        "recordings": [shown.facts for shown in exhibits],
    }
    template = (files("nac.evaluate") / "page.html").read_text(encoding="utf-8")
    before, rest = template.split("<!--audio-->")
    between, after = rest.split("<!--data-->")
    file.write(before.encode())
    for part in _audio(exhibits):
        file.write(part)
    file.write(between.encode())
    # In a script element only "<" can do harm: "</script>" ends it.
    file.write(json.dumps(data, allow_nan=False).replace("<", "\\u003c").encode())
    file.write(after.encode())


def _audio(exhibits: Sequence[Exhibit]) -> Iterator[bytes]:
    for i, shown in enumerate(exhibits):
        for j, flac in enumerate(shown.audio):
            yield f'<script type="text/plain" id="audio-{i}-{j}">'.encode()
            yield base64.b64encode(flac)
            yield b"</script>\n"


def _facts(excerpt: Excerpt, lacking: list[str], versions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": excerpt.name,
        "rate": excerpt.rate,
        "channels": excerpt.channels,
        "start": excerpt.start,
        "seconds": excerpt.seconds,
        "whole": excerpt.whole,
        "lacking": lacking,
        "versions": versions,
    }


def _version(score: Score) -> dict[str, Any]:
    facts = {key: value for key, value in asdict(score).items() if key not in ("recording", "seconds", "metrics")}
    known = {name: round(x, 4) if math.isfinite(x) else None for name, x in score.metrics.items()}
    return {**facts, "scores": known}


def _average(average: Average) -> dict[str, Any]:
    return {**vars(average), "values": {name: asdict(value) for name, value in average.values.items()}}


def _flac(samples: Samples, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, to_int16(samples), rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return file.getvalue()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
