"""Comparing: every excerpt through every coder at every bitrate, and the numbers that come of it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nac.evaluate.averages import Mean, mean
from nac.evaluate.coders import Coder, Take, distinct
from nac.evaluate.excerpt import Excerpt
from nac.evaluate.metrics import Metric


@dataclass(frozen=True)
class Score:
    """One excerpt after one coder, in numbers. ``asked`` and ``kbps`` in kbit/s, the latter of the file that came.

    ``encode`` and ``decode``: times real time. ``metrics``: by name, NaN where one has no answer.
    """

    recording: str
    system: str
    asked: float
    kbps: float
    bytes: int
    seconds: float
    detail: str
    encode: float
    decode: float
    metrics: dict[str, float]

    def row(self) -> dict[str, Any]:
        """As `--json` and `--csv` give it: None for what is not a number."""
        row = {**vars(self), **self.metrics}
        del row["metrics"]
        return {
            key: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
            for key, value in row.items()
        }


@dataclass(frozen=True)
class Compared:
    """An excerpt with all that was made of it. ``lacking``: the coders that could not do any of the bitrates."""

    excerpt: Excerpt
    takes: list[Take]
    scores: list[Score]
    lacking: list[str]


@dataclass(frozen=True)
class Average:
    """A coder at a bitrate over all recordings; ``values``: by the names of the numbers in a score's row."""

    system: str
    asked: float
    values: dict[str, Mean]


def compare(
    excerpt: Excerpt,
    coders: Iterable[Coder],
    kbps: Sequence[float],
    metrics: Sequence[Metric],
    done: Callable[[float], None],
) -> Compared:
    """Put an excerpt through the coders. ``done`` is told what share of the work is done, part by part."""
    plan = [(coder, distinct(coder, excerpt, kbps)) for coder in coders]
    steps = sum(len(rates) for _, rates in plan)
    takes: list[Take] = []
    scores: list[Score] = []
    with tempfile.TemporaryDirectory(prefix="nac-") as folder:
        for coder, rates in plan:
            for rate in rates:
                takes.append(coder.take(excerpt, rate, Path(folder)))
                scores.append(_score(excerpt, takes[-1], metrics))
                done(1 / steps)
    return Compared(excerpt, takes, scores, [coder.name for coder, rates in plan if not rates])


def _score(excerpt: Excerpt, take: Take, metrics: Sequence[Metric]) -> Score:
    return Score(
        recording=excerpt.name,
        system=take.system,
        asked=take.kbps,
        kbps=take.bytes * 8 / 1000 / excerpt.seconds,
        bytes=take.bytes,
        seconds=excerpt.seconds,
        detail=take.detail,
        encode=excerpt.seconds / max(take.encode_seconds, 1e-9),
        decode=excerpt.seconds / max(take.decode_seconds, 1e-9),
        metrics={
            metric.name: metric.of_channels(excerpt.samples, take.samples, excerpt.rate) for metric in metrics
        },
    )


def averages(scores: Iterable[Score]) -> list[Average]:
    """The means of every coder at every bitrate, in the order of the scores' coders and by bitrate."""
    groups: dict[tuple[str, float], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.system, score.asked), []).append(score)
    order = list(dict.fromkeys(system for system, _ in groups))
    found = []
    for system, asked in sorted(groups, key=lambda group: (order.index(group[0]), group[1])):
        members = groups[system, asked]
        columns: dict[str, list[float]] = {
            name: [getattr(score, name) for score in members] for name in ("kbps", "bytes", "encode", "decode")
        }
        for name in members[0].metrics:
            columns[name] = [score.metrics[name] for score in members]
        means = {name: mean(values) for name, values in columns.items()}
        found.append(Average(system, asked, {name: value for name, value in means.items() if value}))
    return found


def badness(scores: Iterable[Score], systems: Iterable[str], metric: Metric) -> float:
    """How badly the systems did with a recording: their mean of the metric, the larger the worse."""
    judged = set(systems)
    found = mean(score.metrics[metric.name] for score in scores if score.system in judged)
    if found is None:
        return -math.inf
    return -found.mean if metric.higher_is_better else found.mean
