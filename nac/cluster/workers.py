"""Ray's part (https://docs.ray.io): workers where there is room, what they are given, what is done if one breaks.

No audio goes through Ray, only names of files and what became of them. A file in whose hands a worker dies, by a
crash or with its machine, is tried once more, alone in a worker; dying again, it is recorded and left. Ray's
actors are used for this and not Ray Data, which tries a block whose worker dies again for ever: one bad file would
hold up all others.
"""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

from nac.cluster.jobs import Action, Job, Outcome
from nac.cluster.manifest import Row
from nac.cluster.worker import Worker
from nac.errors import NacError, reason

OBJECT_STORE = 80 << 20
"""Bytes of shared memory for a Ray of one's own: little goes through it, and Ray allows no less."""
STILLBORN = 3
"""So many workers in a row that die before they have begun end the job."""
PATIENCE = 60.0
"""Seconds without a worker after which it is told that the cluster has no room."""


@dataclass(frozen=True)
class Crew:
    """``workers`` at a time, each with so many ``cpus`` and (parts of) ``gpus``, and ``files`` in hand at once."""

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    files: int = 1


@dataclass
class Member:
    """A worker as its employer sees it. ``alone``: it has a suspect in hand, and gets nothing else."""

    actor: Any
    files: int = 0
    ready: bool = False
    alone: bool = False


@contextmanager
def cluster(address: str | None, crew: Crew) -> Iterator[None]:
    """Ray's cluster at an address, or where there is none (nor RAY_ADDRESS) one on this machine for the while."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    options: dict[str, Any] = {}
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        cpus = max(os.cpu_count() or 1, int(-(-(crew.workers or 1) * crew.cpus // 1)))
        options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    elif found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
        # Ray itself would wait for minutes.
        with _told_as_nacs(address), socket.create_connection((found[1], int(found[2])), timeout=10):
            pass
    with redirect_stdout(_OnlyBytes(sys.stdout)):
        terminated = signal.getsignal(signal.SIGTERM)
        with _told_as_nacs(address):
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **options)
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
def _told_as_nacs(address: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        raise NacError(f"no Ray at {address}: {str(error).splitlines()[0]}") from None


@dataclass
class Fleet:
    """Workers of one action in the cluster that is connected. ``note`` is told what people should know."""

    action: Action
    crew: Crew
    note: Callable[[str], None]
    _members: list[Member] = field(default_factory=list)
    _pending: dict[Any, tuple[Member, Job | None]] = field(default_factory=dict)
    _suspects: deque[Job] = field(default_factory=deque)
    _next: Job | None = None
    _kit: tuple[str, ...] | None = None
    _stillborn: int = 0

    def run(self, work: Iterable[Job]) -> Iterator[Outcome]:
        """Have all jobs done, in any order. They are taken as workers are free for them. Raises NacError."""
        import ray

        queue = iter(work)
        self._next = next(queue, None)
        if self._next is None:
            return
        try:
            for _ in range(self._size()):
                self._hire()
            while self._next or self._suspects or any(job for _, job in self._pending.values()):
                self._hand_out(queue)
                refs = ray.wait(list(self._pending), num_returns=1, timeout=PATIENCE)[0]
                if not refs and not any(member.ready for member in self._members):
                    crew = self.crew
                    self.note(f"the cluster has no room for a worker yet ({crew.cpus:g} CPU, {crew.gpus:g} GPU)")
                for ref in refs:
                    member, job = self._pending.pop(ref)
                    try:
                        result = ray.get(ref)
                    except ray.exceptions.RayTaskError as error:  # only `ready` raises
                        raise NacError(f"a worker cannot begin: {reason(error.cause)}") from None
                    except ray.exceptions.RayError:
                        yield from self._lost(member, job)
                        continue
                    if job is None:
                        self._welcome(member, result)
                    else:
                        member.files -= 1
                        member.alone = False
                        yield result
        finally:
            self._dismiss()

    def _size(self) -> int:
        import ray

        return self.crew.workers or max(1, int(ray.cluster_resources().get("CPU", 1) // max(self.crew.cpus, 0.01)))

    def _hire(self) -> None:
        import ray

        crew = self.crew
        options = {"num_cpus": crew.cpus, "num_gpus": crew.gpus, "max_concurrency": crew.files}
        actor = ray.remote(Worker).options(**options).remote(self.action)
        member = Member(actor)
        self._members.append(member)
        self._pending[actor.ready.remote()] = member, None

    def _welcome(self, member: Member, kit: tuple[str, ...]) -> None:
        """A worker has begun; what it works with has to be what the others have."""
        self._kit = self._kit or kit
        if kit != self._kit:
            raise NacError(
                "the machines differ in nac's version or in their models, and would make different files: "
                f"{', '.join(kit)}; {', '.join(self._kit)}",
                remedy="model",
            )
        member.ready, self._stillborn = True, 0

    def _hand_out(self, queue: Iterator[Job]) -> None:
        """Give every worker as much as it takes."""
        for member in self._members:
            while member.ready and not member.alone and member.files < self.crew.files:
                if self._suspects and not member.files:
                    job, member.alone = self._suspects.popleft(), True
                elif self._next:
                    job, self._next = self._next, next(queue, None)
                else:
                    break
                member.files += 1
                self._pending[member.actor.do.remote(job)] = member, job

    def _lost(self, member: Member, job: Job | None) -> Iterator[Outcome]:
        """A worker has died, with this in hand."""
        import ray

        if member in self._members:  # else this was told of already, by another file
            ray.kill(member.actor)
            self._members.remove(member)
            self._stillborn += not member.ready
            if self._stillborn >= STILLBORN:
                raise NacError(f"workers die before they have begun, {STILLBORN} in a row: Ray's logs may say why")
            self._hire()
        if job is None:
            return
        if job.suspect:
            error = "two workers died on it, the second with nothing else in hand"
            yield Outcome("failed", Row(job.input, job.output, error=error))
        else:
            self.note(f"a worker died over {job.input}, which is tried once more, alone")
            self._suspects.append(replace(job, suspect=True))

    def _dismiss(self) -> None:
        import ray

        busy = {id(member) for member, _ in self._pending.values()}
        leaving = [member.actor.leave.remote() for member in self._members if id(member) not in busy]
        ray.wait(leaving, num_returns=len(leaving), timeout=5) if leaving else None
        for member in self._members:
            ray.kill(member.actor)
        self._members, self._pending = [], {}
