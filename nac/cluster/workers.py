"""Process the files with Ray (https://docs.ray.io): start workers, assign files to them, replace those that die.

Ray transfers no audio, only names of files and outcomes. Files are assigned in bundles, whose size grows while
they are processed fast; a shard is assigned alone, or in parts if some workers would otherwise be idle. If a
worker dies, by a crash or with its machine, each of its files is tried once more, alone in a worker; if that one
dies too, the file has failed.

This uses Ray's actors, not Ray Data. Ray Data retries a block forever if its worker dies, so one bad file would
block all others. Its readers and writers of WebDataset and Parquet convert shards to tables and write new shards
with other names and sizes, some of which remain after a failed run. So other files in a shard would not stay byte
for byte the same, incomplete output would be possible, and a run could not find out what is left to do.
"""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TextIO

from nac.cluster.jobs import Action, Job, Outcome
from nac.cluster.manifest import Row
from nac.cluster.worker import ProcessWorker
from nac.errors import NacError, reason
from nac.storage.records import Part

OBJECT_STORE = 80 << 20
"""Bytes of shared memory for a local Ray: the minimum that Ray allows, since little data goes through it."""
FAILED_STARTS = 3
"""The run ends if this many workers in a row die while starting."""
START_TIMEOUT = 60.0
"""Seconds without a worker until it is reported that the cluster has no free resources."""
FAST, SLOW = 0.5, 2.0
"""Seconds: after a faster bundle the next one is twice as large, after a slower one half as large."""
MAX_BUNDLE = 1024
"""The most files in a bundle."""


@dataclass(frozen=True)
class WorkerOptions:
    """The number of ``workers`` (None: as many as the cluster has CPUs for), and the resources of each.

    ``cpus`` and ``gpus`` may be fractions; ``files``: the number of files that a worker processes in parallel.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    files: int = 1


@dataclass
class Started:
    """A worker that was started.

    ``files``: the number of files in progress; a shard counts as the maximum. ``bundle``: the size of the next
    bundle; ``alone``: it processes a suspect.
    """

    actor: Any
    files: int = 0
    ready: bool = False
    alone: bool = False
    bundle: int = 1


@dataclass(frozen=True)
class Call:
    """A call to a worker. Without jobs, it asks whether the worker is ready."""

    worker: Started
    jobs: tuple[Job, ...] = ()
    began: float = field(default_factory=time.monotonic)


@contextmanager
def cluster(address: str | None, options: WorkerOptions) -> Iterator[None]:
    """Connect to the Ray cluster at an address, by default RAY_ADDRESS, else start one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    settings: dict[str, Any] = {}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        cpus = max(os.cpu_count() or 1, int(-(-(options.workers or 1) * options.cpus // 1)))
        settings = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
        # Without this check, Ray would wait for minutes.
        with _reported(address), socket.create_connection((found[1], int(found[2])), timeout=10):
            pass
    with redirect_stdout(_OnlyBytes(sys.stdout)):
        terminated = signal.getsignal(signal.SIGTERM)
        with _reported(address):
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **settings)
        signal.signal(signal.SIGTERM, terminated)  # Ray's handler prints a traceback
        try:
            yield
        finally:
            ray.shutdown()


class _OnlyBytes(io.TextIOBase):
    """Standard output for bytes only. Ray prints text to it when a worker dies, and has no option against that."""

    def __init__(self, output: TextIO | None) -> None:
        self.buffer = getattr(output, "buffer", None)  # None if standard output is closed

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """Convert Ray's errors to NacError."""
    try:
        yield
    except Exception as error:  # a timeout at its start has no class of its own
        raise NacError(f"cannot connect to Ray at {address}: {str(error).splitlines()[0]}") from None


class Queue:
    """The jobs that are not yet assigned. It reads one job per worker of ``work`` ahead.

    If fewer jobs than workers remain, shards are split into parts, which are joined once all are done.
    """

    def __init__(self, work: Iterable[Job], workers: int) -> None:
        self._work, self._workers = iter(work), workers
        self._next = deque(islice(self._work, workers))
        self._parts = deque[Job]()  # also jobs that join the parts of a shard
        self._left = dict[str, int]()  # the number of unfinished parts of each split shard
        self.suspects: deque[Job] = deque()

    @property
    def empty(self) -> bool:
        return not (self._next or self._parts or self.suspects)

    def take(self, most: int) -> tuple[Job, ...]:
        """Take up to ``most`` jobs; a shard or a part of one is taken alone."""
        if self._parts:
            return (self._parts.popleft(),)
        taken = list[Job]()
        while self._next and len(taken) < most and not (taken and self._next[0].shard):
            if self._next[0].shard:
                return self._shard()
            taken.append(self._next.popleft())
            self._next.extend(islice(self._work, 1))
        return tuple(taken)

    def _shard(self) -> tuple[Job]:
        """Return the next job, or its first part; the other parts follow."""
        parts = -(-self._workers // len(self._next))
        job = self._next.popleft()
        self._next.extend(islice(self._work, 1))
        if parts == 1:
            return (job,)
        self._left[job.input] = parts
        first, *others = (replace(job, part=Part(number, parts)) for number in range(parts))
        self._parts.extend(others)
        return (first,)

    def finish(self, job: Job, outcomes: list[Outcome]) -> list[Outcome]:
        """Return the outcomes to report for a finished job: none for a part, unless it is the first that fails."""
        if job.part is None:
            return outcomes
        if job.input not in self._left:  # another part has failed
            return []
        self._left[job.input] -= 1
        if outcomes:
            self._parts = deque(other for other in self._parts if other.input != job.input)
            self.suspects = deque(other for other in self.suspects if other.input != job.input)
        elif not self._left[job.input]:
            self._parts.append(replace(job, part=None, parts=job.part.parts, suspect=False))
        else:
            return []
        del self._left[job.input]
        return outcomes


@dataclass
class Workers:
    """The workers of one action in the connected cluster. ``note`` is called with messages for the user."""

    action: Action
    options: WorkerOptions
    note: Callable[[str], None]
    _workers: list[Started] = field(default_factory=list)
    _calls: dict[Any, Call] = field(default_factory=dict)
    _version: tuple[str, ...] | None = None
    _failed_starts: int = 0

    def run(self, work: Iterable[Job]) -> Iterator[list[Outcome]]:
        """Do all jobs and yield their outcomes, in any order. Jobs are read on demand. Raises NacError."""
        count = self._count()
        queue = Queue(work, count)
        if queue.empty:
            return
        try:
            for _ in range(count):
                self._start()
            while not queue.empty or any(call.jobs for call in self._calls.values()):
                self._assign(queue)
                for call, result in self._returned():
                    if isinstance(result, Exception):
                        yield from self._lost(call, queue)
                    elif not call.jobs:
                        self._mark_ready(call.worker, result)
                    else:
                        self._mark_done(call)
                        yield queue.finish(call.jobs[0], result)
        finally:
            self._stop()

    def _count(self) -> int:
        import ray

        cpus = int(ray.cluster_resources().get("CPU", 1) // max(self.options.cpus, 0.01))
        return self.options.workers or max(1, cpus)

    def _start(self) -> None:
        import ray

        options = self.options
        settings = {"num_cpus": options.cpus, "num_gpus": options.gpus, "max_concurrency": options.files}
        worker = Started(ray.remote(ProcessWorker).options(**settings).remote(self.action))
        self._workers.append(worker)
        self._calls[worker.actor.ready.remote()] = Call(worker)

    def _returned(self) -> Iterator[tuple[Call, Any]]:
        """Yield calls that have returned, and their results: an exception if the worker died."""
        import ray

        refs = ray.wait(list(self._calls), num_returns=1, timeout=START_TIMEOUT)[0]
        if not refs and not any(worker.ready for worker in self._workers):
            options = self.options
            needed = f"{options.cpus:g} CPU, {options.gpus:g} GPU"
            self.note(f"waiting for the cluster, which has no free resources for a worker ({needed})")
        for ref in refs:
            call = self._calls.pop(ref)
            try:
                yield call, ray.get(ref)
            except ray.exceptions.RayTaskError as error:  # only `ready` raises
                raise NacError(f"a worker cannot start: {reason(error.cause)}") from None
            except ray.exceptions.RayError as error:
                yield call, error

    def _mark_ready(self, worker: Started, version: tuple[str, ...]) -> None:
        """Mark a worker as ready. Raises NacError if its version or weights differ from those of the others."""
        self._version = self._version or version
        if version != self._version:
            raise NacError(
                "the machines have different versions of nac or different models: "
                f"{', '.join(version)}; {', '.join(self._version)}",
                remedy="model",
            )
        worker.ready, self._failed_starts = True, 0

    def _mark_done(self, call: Call) -> None:
        """Mark a bundle as done, and adapt the size of the worker's next one."""
        worker, took = call.worker, time.monotonic() - call.began
        worker.files -= self._weight(call.jobs)
        worker.alone = False
        if took < FAST and len(call.jobs) == worker.bundle:
            worker.bundle = min(MAX_BUNDLE, 2 * worker.bundle)
        elif took > SLOW:
            worker.bundle = max(1, worker.bundle // 2)

    def _assign(self, queue: Queue) -> None:
        """Assign jobs to all workers that can take more."""
        for worker in self._workers:
            while worker.ready and not worker.alone and worker.files < self.options.files and not queue.empty:
                worker.alone = bool(queue.suspects) and not worker.files
                jobs = (queue.suspects.popleft(),) if worker.alone else queue.take(worker.bundle)
                if not jobs:  # only suspects are left, which wait until the worker is idle
                    break
                worker.files += self._weight(jobs)
                self._calls[worker.actor.do.remote(jobs)] = Call(worker, jobs)

    def _weight(self, jobs: tuple[Job, ...]) -> int:
        """Return how many of a worker's files a call counts as: a shard uses all threads of a worker."""
        return self.options.files if jobs[0].shard else 1

    def _lost(self, call: Call, queue: Queue) -> Iterator[list[Outcome]]:
        """Replace a worker that died during a call. Yields the outcomes of jobs that were suspects already."""
        import ray

        worker = call.worker
        if worker in self._workers:  # otherwise another call of the worker has returned before
            ray.kill(worker.actor)
            self._workers.remove(worker)
            self._failed_starts += not worker.ready
            if self._failed_starts >= FAILED_STARTS:
                raise NacError(f"{FAILED_STARTS} workers in a row died while starting: see Ray's logs")
            self._start()
        suspects = [job for job in call.jobs if not job.suspect]
        queue.suspects += (replace(job, suspect=True) for job in suspects)
        if len(suspects) == 1:
            self.note(f"a worker died while processing {suspects[0].input}; trying it once more, alone")
        elif suspects:
            files = f"{suspects[0].input} and {len(suspects) - 1} more"
            self.note(f"a worker died while processing {files}; trying each once more, alone")
        error = "two workers died while processing it, the second one alone with it"
        for job in call.jobs:
            if job.suspect:
                yield queue.finish(job, [Outcome("failed", Row(job.input, job.output, error=error))])

    def _stop(self) -> None:
        import ray

        busy = {id(call.worker) for call in self._calls.values()}
        leaving = [worker.actor.leave.remote() for worker in self._workers if id(worker) not in busy]
        ray.wait(leaving, num_returns=len(leaving), timeout=5) if leaving else None
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers, self._calls = [], {}
