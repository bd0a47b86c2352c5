"""Measure clips in shards and in files: wall time and peak memory, plain and with Ray, also if a worker dies.

    python benchmarks/shards.py [--shards 20] [--clips 500] [--seconds 1] [-m nac_24khz]

All .nac files are compared with those of the plain command. Needs Linux and 'nac-audio[ray]'.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from memory import recording

from nac.files.shards import is_packed, items

RAY = ("--engine", "ray", "--workers", "2")


class Watch(Thread):
    """Measures all processes of a command, and kills one of its Ray workers if requested.

    ``memory``: their peak total memory in MB, with shared pages counted once; ``seconds``: their processor time.
    """

    def __init__(self, mark: str, kill_after: float | None) -> None:
        """``mark``: text that identifies the processes by their environment."""
        super().__init__(daemon=True)
        self._mark = mark.encode()
        self.memory, self.killed, self.stop = 0.0, False, Event()
        self._seconds: dict[int, float] = {}
        self._kill_at = None if kill_after is None else time.monotonic() + kill_after

    @property
    def seconds(self) -> float:
        return sum(self._seconds.values())

    def run(self) -> None:
        while not self.stop.wait(0.5):
            total = 0.0
            for folder in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    total += self._measure(folder)
            self.memory = max(self.memory, total)

    def _measure(self, folder: Path) -> float:
        """Measure a process, and return its memory in MB."""
        if self._mark not in (folder / "environ").read_bytes():
            return 0.0
        process = int(folder.name)
        name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(") ")
        user, system = map(int, rest.split()[11:13])
        self._seconds[process] = (user + system) / os.sysconf("SC_CLK_TCK")
        worker = name.startswith("ray::Proc")
        if worker and self._kill_at is not None and time.monotonic() > self._kill_at and not self.killed:
            os.kill(process, signal.SIGKILL)
            self.killed = True
        lines = (folder / "smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:"))


@dataclass(frozen=True)
class Run:
    """``wall``, ``processor``: seconds; ``memory``: MB of all processes; ``rows``: lines of --json."""

    wall: float
    processor: float
    memory: float
    rows: int

    def line(self, way: str) -> str:
        rate = self.rows / self.wall
        return (
            f"{way:22} {self.wall:6.1f} s, {rate:6.1f} clips/s, {self.processor:6.1f} s of processor time, "
            f"{self.memory:5.0f} MB"
        )


def run(source: Path, target: Path, *words: str, kill_after: float | None = None) -> Run:
    command = [sys.executable, "-m", "nac", "compress", "--json", "-q", "-r", source, "-o", target, *words]
    mark = f"NAC_BENCHMARK={target}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **dict([mark.split("=")])}
    watch, began = Watch(mark, kill_after), time.perf_counter()
    watch.start()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    wall = time.perf_counter() - began
    watch.stop.set()
    assert watch.killed == (kill_after is not None), "no worker was killed: use more clips"
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert not any(row["error"] for row in rows)
    return Run(wall, watch.seconds, watch.memory, len(rows))


def make(folder: Path, shards: int, clips: int, seconds: float) -> None:
    """Write clips as files, and the same clips in tar files, each with a text."""
    recording(folder / "long.wav", 1, 1, 24000)
    sound = (folder / "long.wav").read_bytes()[44:]
    size = int(24000 * seconds) * 2
    for shard in range(shards):
        (folder / "files" / f"{shard:03}").mkdir(parents=True)
        (folder / "shards").mkdir(exist_ok=True)
        with tarfile.open(folder / "shards" / f"{shard:03}.tar", "w") as file:
            for clip in range(clips):
                start = (shard * clips + clip) * 2 * 997 % (len(sound) - size)
                wav = folder / "files" / f"{shard:03}" / f"{clip:05}.wav"
                wav.write_bytes(header(size) + sound[start : start + size])
                for name, data in ((f"{clip:05}.json", b'{"text": "a clip"}'), (wav.name, wav.read_bytes())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    file.addfile(member, io.BytesIO(data))


def header(size: int) -> bytes:
    """Return the header of a WAV file with ``size`` bytes of samples."""
    words = [b"RIFF", (size + 36).to_bytes(4, "little"), b"WAVEfmt ", (16).to_bytes(4, "little")]
    rest = (1, 2), (1, 2), (24000, 4), (48000, 4), (2, 2), (16, 2)
    words += [number.to_bytes(width, "little") for number, width in rest]
    return b"".join([*words, b"data", size.to_bytes(4, "little")])


def packed(folder: Path) -> list[bytes]:
    """Return all .nac files in a folder or its shards, in order."""
    found = []
    for path in sorted(folder.rglob("*.tar")):
        with path.open("rb") as file:
            found += [bytes(item.data) for item in items(file, is_packed)]
    return found or [path.read_bytes() for path in sorted(folder.rglob("*.nac"))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--clips", type=int, default=500, help="per shard")
    parser.add_argument("--seconds", type=float, default=1, help="duration of a clip")
    parser.add_argument("-m", "--model", default="nac_24khz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.shards, options.clips, options.seconds)
        model = ("-m", options.model)
        for way, source, words in (
            ("files, plain", "files", ("-j", "2")),
            ("shards, plain", "shards", ("-j", "2")),
            ("files, Ray", "files", RAY),
            ("shards, Ray", "shards", RAY),
        ):
            done = run(folder / source, folder / way, *words, *model)
            assert done.rows == options.shards * options.clips
            assert packed(folder / way) == packed(folder / "files, plain")
            print(done.line(way), flush=True)
        killed = run(folder / "shards", folder / "killed", *RAY, *model, kill_after=done.wall / 2)
        assert packed(folder / "killed") == packed(folder / "files, plain")
        print(killed.line("shards, Ray, one killed"))


if __name__ == "__main__":
    main()
