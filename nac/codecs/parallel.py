"""Work done side by side, each piece by one thread, so that results do not depend on the number of threads."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def count() -> int:
    """How many threads work: what PyTorch is set to, if it is loaded, else what it would be set to."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    told = re.match(r"[1-9]\d*", os.environ.get("OMP_NUM_THREADS", ""))  # as by Ray, for each of its workers
    return int(told[0]) if told else cores()


def cores() -> int:
    """How many cores may be used."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Do the jobs and give their results in order. A job must not call this again."""
    if len(jobs) < 2 or count() < 2:
        return [job() for job in jobs]
    return list(_workers().map(lambda job: job(), jobs))


def in_turn(stages: Sequence[Callable[[T], T]], items: Sequence[T]) -> list[T]:
    """Every item through all stages. A stage takes items in order, while others work on their neighbours."""
    threads = min(count(), len(stages), len(items))
    if threads < 2:
        return [reduce(lambda item, stage: stage(item), stages, item) for item in items]
    passed = [[threading.Event() for _ in items] for _ in stages]

    def through(number: int) -> T:
        item = items[number]
        for stage, events in zip(stages, passed, strict=True):
            if number:
                events[number - 1].wait()
            try:
                item = stage(item)
            finally:
                events[number].set()
        return item

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(through, range(len(items))))


class Together(Generic[T, R]):
    """A function of lists, called with one item each by several threads: what waits is done at once.

    While one call is worked on, others gather, so that batches grow as the work does.
    """

    def __init__(self, function: Callable[[list[T]], list[R]], most: int) -> None:
        """``most``: items in a batch."""
        self._function, self._most = function, most
        self._lock, self._busy = threading.Lock(), False
        self._waiting: list[tuple[T, Future[R]]] = []

    def __call__(self, item: T) -> R:
        future: Future[R] = Future()
        with self._lock:
            self._waiting.append((item, future))
            leads, self._busy = not self._busy, True
        while leads:
            with self._lock:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                leads = self._busy = bool(batch)
            if batch:
                self._do(batch)
        return future.result()

    def _do(self, batch: list[tuple[T, Future[R]]]) -> None:
        try:
            results = self._function([item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)


def _workers() -> ThreadPoolExecutor:
    """One pool for all files and models of the process, so that they do not crowd each other out."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(count(), thread_name_prefix="nac")
        return _pool


def _forget() -> None:
    global _pool
    _pool = None  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
