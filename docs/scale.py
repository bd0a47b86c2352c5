"""Print the tables of docs/scale.md: the cost of a million hours, from measurements and assumptions.

python docs/scale.py [--gpu 500] [--hours 1000000]
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass

LINK = 10e9
"""bit/s between the object store and all workers; assumed."""
LATENCY = 0.05
"""Latency of the object store in seconds; assumed. A file is fetched by one request and written by another."""


@dataclass(frozen=True)
class Measured:
    """Measurements of a model: ``encode``, times real time of the network on one core; ``memory`` in MB.

    ``kbps``: bitrate of the files; ``source``: that of the recordings, mono WAV at the model's sample rate.
    """

    name: str
    encode: float
    memory: float
    kbps: float
    source: float


MODELS = (
    Measured("nac_24khz", 41.8, 105, 6.0, 384.0),
    Measured("encodec_24khz", 8.1, 486, 6.0, 384.0),
    Measured("dac_44khz", 0.96, 882, 7.75, 705.6),
)
COMMAND = 24.7
"""Times real time of the whole command with nac_24khz on one core, with reading, resampling and range coding."""
OVERHEAD = 0.088
"""Relative overhead of Ray with two workers; the larger of two measurements."""
ASSIGNED = 8000.0
"""Files per second that Ray's driver lists, assigns in bundles and records; the smaller of two measurements."""
CLIPS = 1000
"""Clips in a shard."""


@dataclass(frozen=True)
class Archive:
    """An archive of recordings of some duration, ``clips`` of them in each file or shard."""

    name: str
    seconds: float
    clips: int = 1


ARCHIVES = (
    Archive("files of 10 s", 10),
    Archive(f"shards of {CLIPS:,} clips of 10 s", 10, CLIPS),
    Archive("files of 5 min", 300),
)


def core(model: Measured) -> float:
    """Return the times real time of the whole command on one core, with Ray."""
    rest = 1 / COMMAND - 1 / MODELS[0].encode
    return 1 / ((1 / model.encode + rest) * (1 + OVERHEAD))


def simulate(model: Measured, workers: int, speed: float, archive: Archive) -> float:
    """Return the times real time of a number of workers with this speed each on an archive.

    Each file or shard waits for the driver, which assigns one after the other, is fetched and written over the
    shared link, and is encoded, a shard while it is fetched. A worker processes one file or shard at a time.
    """
    free = [0.0] * workers  # when each worker takes its next file
    driver = link = end = 0.0
    jobs = 20 * workers
    seconds = archive.seconds * archive.clips
    for _ in range(jobs):
        driver = max(driver, heapq.heappop(free)) + 1 / ASSIGNED
        begun = max(link, driver)
        link = begun + seconds * 1000 * (model.source + model.kbps) / LINK
        ready = max(link, driver + LATENCY)
        done = ready + seconds / speed + LATENCY
        if archive.clips > 1:
            done = max(ready, begun + LATENCY + seconds / speed) + LATENCY
        end = max(end, done)
        heapq.heappush(free, done)
    return jobs * seconds / end


def bound(model: Measured, workers: int, speed: float, archive: Archive) -> str:
    """Return the bottleneck of a simulated run: the resource that a file or shard occupies the longest."""
    seconds = archive.seconds * archive.clips
    needs = {
        "workers": (seconds / speed + 2 * LATENCY) / workers,
        "driver": 1 / ASSIGNED,
        "network": seconds * 1000 * (model.source + model.kbps) / LINK,
    }
    return max(needs, key=needs.__getitem__)


def table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def work(hours: float, gpu: float) -> str:
    rows = [
        [
            "model",
            "network alone, one core",
            "command with Ray, one core",
            "core-hours",
            "GPU-hours",
            "MB of the process",
        ]
    ]
    for model in MODELS:
        cells = [model.name, f"{model.encode:.1f}x", f"{core(model):.1f}x", f"{hours / core(model):,.0f}"]
        rows.append([*cells, f"{hours / gpu:,.0f}", f"{model.memory:.0f}"])
    return table(rows)


def bytes_moved(hours: float) -> str:
    rows = [["model", "fetched, as WAV", "fetched, as FLAC (half)", "stored", "by 10 Gbit/s (WAV)"]]
    for model in MODELS:
        fetched, stored = (hours * 3600 * 1000 * rate / 8 / 1e12 for rate in (model.source, model.kbps))
        days = fetched * 8e12 / LINK / 86400
        rows.append(
            [model.name, f"{fetched:.0f} TB", f"{fetched / 2:.0f} TB", f"{stored:.2f} TB", f"{days:.1f} days"]
        )
    return table(rows)


def bottlenecks(hours: float, gpu: float) -> str:
    rows = [["workers", "archive", *(model.name for model in MODELS)]]
    machines = [(f"{n:,} cores", n, 0.0) for n in (100, 1000, 10000)] + [(f"{n} GPUs", n, gpu) for n in (8, 64)]
    for label, workers, speed in machines:
        for archive in ARCHIVES:
            row = [label, archive.name]
            for model in MODELS:
                each = speed or core(model)
                days = hours * 3600 / simulate(model, workers, each, archive) / 86400
                row.append(f"{days:,.1f} days ({bound(model, workers, each, archive)})")
            rows.append(row)
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=1e6, help="of audio")
    parser.add_argument("--gpu", type=float, default=500, help="times real time of a GPU; assumed")
    options = parser.parse_args()
    print(work(options.hours, options.gpu), bytes_moved(options.hours), sep="\n\n")
    print("", bottlenecks(options.hours, options.gpu), sep="\n")


if __name__ == "__main__":
    main()
