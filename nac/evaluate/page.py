"""Write the page of a comparison: one self-contained HTML file with figures, pictures and audio."""

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
class RecordingView:
    """A recording on the page. ``audio``: FLAC files of the original and of each version, or an empty list."""

    facts: dict[str, Any]
    audio: list[bytes]


def recording_view(compared: Compared) -> RecordingView:
    """Make a recording's pictures and audio for the page."""
    excerpt = compared.excerpt
    full = float(abs(excerpt.samples).max())
    original = _flac(excerpt.samples, excerpt.rate)
    audio = [original, *(_flac(trial.samples, excerpt.rate) for trial in compared.trials)]
    first = {
        "bytes": len(original),
        "picture": _data_uri("image/png", spectrogram(excerpt.samples, excerpt.rate)),
        "outline": outline(excerpt.samples, full),
    }
    versions = [
        {
            **_version(score),
            "picture": _data_uri("image/png", spectrogram(trial.samples, excerpt.rate)),
            "outline": outline(trial.samples - excerpt.samples, full),
        }
        for trial, score in zip(compared.trials, compared.scores, strict=True)
    ]
    return RecordingView(_facts(excerpt, compared.unsupported, [first, *versions]), audio)


def without_player(shown: RecordingView) -> RecordingView:
    """Remove the pictures and the audio, which need most of the space."""
    versions = [
        {key: value for key, value in version.items() if key not in ("picture", "outline")}
        for version in shown.facts["versions"]
    ]
    return RecordingView({**shown.facts, "versions": versions}, [])


def write_page(
    file: BinaryIO,
    views: Sequence[RecordingView],
    averages: Iterable[Average],
    metrics: Iterable[Metric],
    models: Iterable[Model],
    duration: float,
) -> None:
    """Write the page. At least one of the recordings must have audio."""
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
        "recordings": [shown.facts for shown in views],
    }
    template = (files("nac.evaluate") / "page.html").read_text(encoding="utf-8")
    before, rest = template.split("<!--audio-->")
    between, after = rest.split("<!--data-->")
    file.write(before.encode())
    for part in _audio(views):
        file.write(part)
    file.write(between.encode())
    # In a script element only "<" must be escaped, because "</script>" ends it.
    file.write(json.dumps(data, allow_nan=False).replace("<", "\\u003c").encode())
    file.write(after.encode())


def _audio(views: Sequence[RecordingView]) -> Iterator[bytes]:
    for i, shown in enumerate(views):
        for j, flac in enumerate(shown.audio):
            yield f'<script type="text/plain" id="audio-{i}-{j}">'.encode()
            yield base64.b64encode(flac)
            yield b"</script>\n"


def _facts(excerpt: Excerpt, unsupported: list[str], versions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": excerpt.name,
        "rate": excerpt.rate,
        "channels": excerpt.channels,
        "start": excerpt.start,
        "seconds": excerpt.seconds,
        "whole": excerpt.whole,
        "unsupported": unsupported,
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
