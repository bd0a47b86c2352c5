"""Compare coders: encode and decode excerpts with every coder at every bitrate, and measure the results."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nac.evaluate.averages import Mean, mean
from nac.evaluate.coders import Coder, Trial, distinct
from nac.evaluate.excerpt import Excerpt
from nac.evaluate.metrics import Metric


@dataclass(frozen=True)
class Score:
    """The figures for one excerpt and one coder.

    ``asked`` and ``kbps``: the requested bitrate and that of the file, in kbit/s. ``encode`` and ``decode``: speed
    as a multiple of real time. ``metrics``: values by name, NaN if undefined.
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
        """Return the figures as a row for `--json` and `--csv`, with None instead of NaN."""
        row = {**vars(self), **self.metrics}
        del row["metrics"]
        return {
            key: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
            for key, value in row.items()
        }


@dataclass(frozen=True)
class Compared:
    """An excerpt and its results. ``unsupported``: names of coders that support none of the bitrates."""

    excerpt: Excerpt
    trials: list[Trial]
    scores: list[Score]
    unsupported: list[str]


@dataclass(frozen=True)
class Average:
    """The means of a coder at a bitrate over all recordings. ``values``: by the names in a score's row."""

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
    """Encode and decode an excerpt with all coders. ``done`` is called with each finished share of the work."""
    plan = [(coder, distinct(coder, excerpt, kbps)) for coder in coders]
    steps = sum(len(rates) for _, rates in plan)
    trials: list[Trial] = []
    scores: list[Score] = []
    with tempfile.TemporaryDirectory(prefix="nac-") as folder:
        for coder, rates in plan:
            for rate in rates:
                trials.append(coder.run(excerpt, rate, Path(folder)))
                scores.append(_score(excerpt, trials[-1], metrics))
                done(1 / steps)
    return Compared(excerpt, trials, scores, [coder.name for coder, rates in plan if not rates])


def _score(excerpt: Excerpt, trial: Trial, metrics: Sequence[Metric]) -> Score:
    return Score(
        recording=excerpt.name,
        system=trial.system,
        asked=trial.kbps,
        kbps=trial.bytes * 8 / 1000 / excerpt.seconds,
        bytes=trial.bytes,
        seconds=excerpt.seconds,
        detail=trial.detail,
        encode=excerpt.seconds / max(trial.encode_seconds, 1e-9),
        decode=excerpt.seconds / max(trial.decode_seconds, 1e-9),
        metrics={
            metric.name: metric.of_channels(excerpt.samples, trial.samples, excerpt.rate) for metric in metrics
        },
    )


def averages(scores: Iterable[Score]) -> list[Average]:
    """Return the means for every coder and bitrate, sorted by first occurrence of the coder, then by bitrate."""
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
    """Return the mean of a metric over the systems, with its sign changed so that larger values are worse."""
    chosen = set(systems)
    found = mean(score.metrics[metric.name] for score in scores if score.system in chosen)
    if found is None:
        return -math.inf
    return -found.mean if metric.higher_is_better else found.mean
