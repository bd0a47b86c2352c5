"""Measure the overhead of Ray: nac compress with and without --engine ray, on the same files of this machine.

    python benchmarks/scale.py [--files 60] [--seconds 20] [--rounds 3] [-m nac_24khz]

For each way, the output has the start-up (until the first files are done, without the time for encoding them), the
speed from then on (seconds of audio per second), and the peak memory of a worker process; then the number of files
per second that Ray's driver assigns to idle workers. The .nac files are compared. Needs Linux and
'nac-audio[ray]'.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from memory import recording

from nac import cli
from nac.cluster import workers
from nac.cluster.jobs import Job, Outcome
from nac.cluster.manifest import Row
from nac.cluster.worker import ProcessWorker
from nac.storage.places import MANIFEST

WAYS = {
    "plain, 1 core": ("-j", "1"),
    "Ray, 1 worker": ("--engine", "ray", "--workers", "1"),
    "plain, 2 cores": ("-j", "2"),
    "Ray, 2 workers": ("--engine", "ray", "--workers", "2"),
}


@dataclass(frozen=True)
class Run:
    """``startup``, ``wall``: seconds; ``speed``: times real time after that; ``memory``: MB per worker."""

    startup: float
    speed: float
    wall: float
    memory: float


class Watch(Thread):
    """Records the peak memory of a process and of Ray's workers."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.stop = process, 0.0, Event()

    def run(self) -> None:
        while not self.stop.wait(0.5):
            for status in Path("/proc").glob("[0-9]*/status"):
                with suppress(OSError):
                    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
                    counted = (
                        fields["Name"].strip().startswith("ray::Proc") or int(status.parent.name) == self.process
                    )
                    if counted and "VmHWM" in fields:
                        self.peak = max(self.peak, int(fields["VmHWM"].split()[0]) / 1000)


def timed(*words: str | Path) -> tuple[list[float], float, float]:
    """Return when nac compress reports each file and when it ends (seconds), and the worker's peak memory (MB)."""
    command = [sys.executable, "-m", "nac", "compress", "--json", "-q", "-r", *words]
    threads = {"OMP_NUM_THREADS": "1"}  # as Ray sets it for workers of one CPU
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **threads}) as process:
        watch = Watch(process.pid)
        watch.start()
        assert process.stdout is not None
        times = [(time.perf_counter() - began, json.loads(line)["error"]) for line in process.stdout]
        watch.stop.set()
    assert process.returncode == 0
    assert not any(error for _, error in times)
    return [when for when, _ in times], time.perf_counter() - began, watch.peak


def run(src: Path, dst: Path, model: str, words: tuple[str, ...], seconds: float) -> Run:
    """Measure one way. Its start-up ends with the first two files for each worker."""
    times, wall, memory = timed(src, "-o", dst, "-m", model, "-f", *words)
    skip = 2 * int(words[-1])
    speed = (len(times) - skip) * seconds / (times[-1] - times[skip - 1])
    return Run(times[skip - 1] - skip * seconds / speed, speed, wall, memory)


class IdleWorker(ProcessWorker):
    """A worker that reports jobs as done without doing them."""

    def do(self, jobs: Iterable[Job]) -> list[Outcome]:
        return [Outcome("done", Row(job.input, job.output)) for job in jobs]


def assigned(folder: Path, count: int) -> tuple[float, float]:
    """Return the files per second that Ray's driver lists, assigns, records and reports with two idle workers.

    Measured from the first to the last reported file; and the peak memory of the driver (MB), a separate process.
    """
    (folder / "in").mkdir()
    for number in range(count):
        (folder / "in" / f"{number * 7919 % count:08}.wav").touch()
    command = [sys.executable, __file__, "--assign", folder / "in", folder / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        times = [time.perf_counter() for line in process.stdout if json.loads(line)["error"] is None]
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert len(times) == count
    return (count - 1) / (times[-1] - times[0]), used.ru_maxrss / 1000


def assign(source: str, target: str) -> None:
    workers.ProcessWorker = IdleWorker  # type: ignore[misc]
    command = ["compress", "-r", source, "-o", target, "--json", "-q", *WAYS["Ray, 2 workers"]]
    cli.main(command, standalone_mode=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.nac")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest is printed")
    parser.add_argument("--names", type=int, default=200_000, help="number of files for the idle workers")
    parser.add_argument("-m", "--model", default="nac_24khz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "src").mkdir()
        for number in range(options.files):
            recording(folder / "src" / f"{number}.wav", options.seconds / 60, 1, 24000)
        runs: dict[str, Run] = {}
        for way, words in list(WAYS.items()) * options.rounds:
            found = run(folder / "src", folder / way, options.model, words, options.seconds)
            assert contents(folder / way) == contents(folder / "plain, 1 core")
            shutil.rmtree(folder / way / MANIFEST, ignore_errors=True)
            runs[way] = max(runs.get(way, found), found, key=lambda run: run.speed)
        for way, best in runs.items():
            print(
                f"{way:15} start-up {best.startup:4.1f} s, then {best.speed:5.1f}x real time; "
                f"{best.wall:5.1f} s in total; {best.memory:4.0f} MB per worker"
            )
        for cores, ray in (("1 core", "1 worker"), ("2 cores", "2 workers")):
            cost = runs[f"plain, {cores}"].speed / runs[f"Ray, {ray}"].speed - 1
            print(f"Ray, {ray}: {cost:+.1%} time per file compared with plain on {cores}")
        rate, memory = assigned(folder, options.names)
        print(f"{rate:.0f} files/s of {options.names} are assigned; {memory:.0f} MB in the driver")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--assign"]:
        assign(*sys.argv[2:])
    else:
        main()
