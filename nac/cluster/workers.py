"""Ray's part (https://docs.ray.io): workers where there is room, what they are given, what is done if one dies.

No audio goes through Ray, only names of files and what became of them. Names are given out in bundles, which grow
as long as they come back fast; a shard is given out by itself, or in parts where some workers would else have
nothing to do. What a worker has in hand when it dies, by a crash or with its machine, is tried once more, each
file alone in a worker; what a worker dies on then is recorded and left.

Ray's actors are used for this and not Ray Data. That tries a block whose worker dies again for ever, so that one
bad file would hold up all others. And its readers and writers of WebDataset and Parquet turn what is in a shard
into tables and write it anew, in shards cut and named otherwise, some of which stay where a job ends early: no
file beside a recording would be byte for byte as it was, no shard whole or absent, and no run could tell what is
left.
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
"""Bytes of shared memory for a Ray of one's own: little goes through it, and Ray allows no less."""
FAILED_STARTS = 3
"""So many workers in a row that die before they have begun end the job."""
PATIENCE = 60.0
"""Seconds without a worker after which it is reported that the cluster has no room."""
FAST, SLOW = 0.5, 2.0
"""Seconds: a bundle that is back sooner is followed by one twice as large, one that takes longer by half of it."""
LARGEST = 1024
"""Names in a bundle."""


@dataclass(frozen=True)
class WorkerOptions:
    """``workers`` at a time, each with so many ``cpus`` and (parts of) ``gpus``, and ``files`` in hand at once."""

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    files: int = 1


@dataclass
class Started:
    """A worker that was started. ``files``: in hand, where a shard counts for as many as it may have.

    ``bundle``: names to give it at once; ``alone``: it has a suspect in hand.
    """

    actor: Any
    files: int = 0
    ready: bool = False
    alone: bool = False
    bundle: int = 1


@dataclass(frozen=True)
class Call:
    """What a worker was asked to do: no jobs are the question whether it is ready."""

    worker: Started
    jobs: tuple[Job, ...] = ()
    began: float = field(default_factory=time.monotonic)


@contextmanager
def cluster(address: str | None, options: WorkerOptions) -> Iterator[None]:
    """Ray's cluster at an address, or where there is none (nor RAY_ADDRESS) one on this machine for the while."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    settings: dict[str, Any] = {}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        cpus = max(os.cpu_count() or 1, int(-(-(options.workers or 1) * options.cpus // 1)))
        settings = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
        # Ray itself would wait for minutes.
        with _reported(address), socket.create_connection((found[1], int(found[2])), timeout=10):
            pass
    with redirect_stdout(_OnlyBytes(sys.stdout)):
        terminated = signal.getsignal(signal.SIGTERM)
        with _reported(address):
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **settings)
        signal.signal(signal.SIGTERM, terminated)  # Ray's own prints a stack
        try:
            yield
        finally:
            ray.shutdown()


class _OnlyBytes(io.TextIOBase):
    """Standard output as nac writes to it. Ray prints text there, whatever it is told, when a worker dies."""

    def __init__(self, output: TextIO | None) -> None:
        self.buffer = getattr(output, "buffer", None)  # standard output may be closed

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """Ray's errors as NacError."""
    try:
        yield
    except Exception as error:  # of any kind: that its own processes took too long to start has none
        raise NacError(f"no Ray at {address}: {str(error).splitlines()[0]}") from None


class Queue:
    """Jobs to come, taken as they are wanted: of those that ``work`` gives one for each worker is held.

    Where fewer are left than there are workers, shards are cut into parts, and joined when these are done.
    """

    def __init__(self, work: Iterable[Job], workers: int) -> None:
        self._work, self._workers = iter(work), workers
        self._next = deque(islice(self._work, workers))
        self._parts = deque[Job]()  # and shards whose parts are to be joined
        self._left = dict[str, int]()  # parts that are not done, of the shards that were cut
        self.suspects: deque[Job] = deque()

    @property
    def empty(self) -> bool:
        return not (self._next or self._parts or self.suspects)

    def take(self, most: int) -> tuple[Job, ...]:
        """At most so many jobs, but a shard or a part of one by itself."""
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
        """The next job, or its first part: the others come next."""
        parts = -(-self._workers // len(self._next))
        job = self._next.popleft()
        self._next.extend(islice(self._work, 1))
        if parts == 1:
            return (job,)
        self._left[job.input] = parts
        first, *others = (replace(job, part=Part(number, parts)) for number in range(parts))
        self._parts.extend(others)
        return (first,)

    def back(self, job: Job, outcomes: list[Outcome]) -> list[Outcome]:
        """What to tell of a job that is done: of a part nothing, unless it is the first that fails."""
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
    """Workers of one action in the cluster that is connected. ``note`` is given what people should know."""

    action: Action
    options: WorkerOptions
    note: Callable[[str], None]
    _workers: list[Started] = field(default_factory=list)
    _calls: dict[Any, Call] = field(default_factory=dict)
    _version: tuple[str, ...] | None = None
    _failed_starts: int = 0

    def run(self, work: Iterable[Job]) -> Iterator[list[Outcome]]:
        """Have all jobs done, in any order. They are taken as workers are free for them. Raises NacError."""
        count = self._count()
        queue = Queue(work, count)
        if queue.empty:
            return
        try:
            for _ in range(count):
                self._start()
            while not queue.empty or any(call.jobs for call in self._calls.values()):
                self._hand_out(queue)
                for call, result in self._returned():
                    if isinstance(result, Exception):
                        yield from self._lost(call, queue)
                    elif not call.jobs:
                        self._is_ready(call.worker, result)
                    else:
                        self._is_back(call)
                        yield queue.back(call.jobs[0], result)
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
        """Calls that are back, and their results: an exception where the worker has died."""
        import ray

        refs = ray.wait(list(self._calls), num_returns=1, timeout=PATIENCE)[0]
        if not refs and not any(worker.ready for worker in self._workers):
            options = self.options
            self.note(f"the cluster has no room for a worker yet ({options.cpus:g} CPU, {options.gpus:g} GPU)")
        for ref in refs:
            call = self._calls.pop(ref)
            try:
                yield call, ray.get(ref)
            except ray.exceptions.RayTaskError as error:  # only `ready` raises
                raise NacError(f"a worker cannot begin: {reason(error.cause)}") from None
            except ray.exceptions.RayError as error:
                yield call, error

    def _is_ready(self, worker: Started, version: tuple[str, ...]) -> None:
        """A worker has begun; what it works with has to be what the others have."""
        self._version = self._version or version
        if version != self._version:
            raise NacError(
                "the machines differ in nac's version or in their models, and would make different files: "
                f"{', '.join(version)}; {', '.join(self._version)}",
                remedy="model",
            )
        worker.ready, self._failed_starts = True, 0

    def _is_back(self, call: Call) -> None:
        """A worker is done with a bundle."""
        worker, took = call.worker, time.monotonic() - call.began
        worker.files -= self._weight(call.jobs)
        worker.alone = False
        if took < FAST and len(call.jobs) == worker.bundle:
            worker.bundle = min(LARGEST, 2 * worker.bundle)
        elif took > SLOW:
            worker.bundle = max(1, worker.bundle // 2)

    def _hand_out(self, queue: Queue) -> None:
        """Give every worker as much as it takes."""
        for worker in self._workers:
            while worker.ready and not worker.alone and worker.files < self.options.files and not queue.empty:
                worker.alone = bool(queue.suspects) and not worker.files
                jobs = (queue.suspects.popleft(),) if worker.alone else queue.take(worker.bundle)
                if not jobs:  # only suspects, which wait until it has nothing else
                    break
                worker.files += self._weight(jobs)
                self._calls[worker.actor.do.remote(jobs)] = Call(worker, jobs)

    def _weight(self, jobs: tuple[Job, ...]) -> int:
        """Of a call: a shard is worked on by all threads that a worker has."""
        return self.options.files if jobs[0].shard else 1

    def _lost(self, call: Call, queue: Queue) -> Iterator[list[Outcome]]:
        """A worker has died, with this in hand."""
        import ray

        worker = call.worker
        if worker in self._workers:  # else it was seen already, by another call
            ray.kill(worker.actor)
            self._workers.remove(worker)
            self._failed_starts += not worker.ready
            if self._failed_starts >= FAILED_STARTS:
                in_a_row = f"workers die before they have begun, {FAILED_STARTS} in a row"
                raise NacError(f"{in_a_row}: Ray's logs may say why")
            self._start()
        suspects = [job for job in call.jobs if not job.suspect]
        queue.suspects += (replace(job, suspect=True) for job in suspects)
        if len(suspects) == 1:
            self.note(f"a worker died over {suspects[0].input}, which is tried once more, alone")
        elif suspects:
            more = f"{suspects[0].input} and {len(suspects) - 1} more"
            self.note(f"a worker died over {more}, which are tried once more, each alone")
        error = "two workers died on it, the second with nothing else in hand"
        for job in call.jobs:
            if job.suspect:
                yield queue.back(job, [Outcome("failed", Row(job.input, job.output, error=error))])

    def _stop(self) -> None:
        import ray

        busy = {id(call.worker) for call in self._calls.values()}
        leaving = [worker.actor.leave.remote() for worker in self._workers if id(worker) not in busy]
        ray.wait(leaving, num_returns=len(leaving), timeout=5) if leaving else None
        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers, self._calls = [], {}
