"""Work done side by side, each piece by one thread, so that results do not depend on the number of threads."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from itertools import islice
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Within = Callable[[], AbstractContextManager[object]]


def count() -> int:
    """How many threads work: what PyTorch is set to, if it is loaded, else what it would be set to."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    told = re.match(r"[1-9]\d*", os.environ.get("OMP_NUM_THREADS", ""))  # as by Ray, for each of its workers
    return int(told[0]) if told else cores()


def cores() -> int:
    """How many cores may be used."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(jobs: Sequence[Callable[[], T]], within: Within = nullcontext) -> list[T]:
    """Do the jobs and give their results in order. The caller takes part, and whoever of the crew is idle.

    ``within``: made and entered by every thread that takes part. Jobs may have parts, see :func:`parts`.
    """
    if _mine.work or not jobs:
        return parts(jobs)
    if (threads := count()) < 2:
        with within():
            return [job() for job in jobs]
    _crew.enter(threads)
    try:
        with within():
            return _shared(Work(jobs, threads, within))
    finally:
        _crew.leave()


def parts(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Do the parts of a job that :func:`each` does, with whoever is idle by then; those of any other in turn."""
    outer = _mine.work
    if outer is None or len(jobs) < 2:
        return [job() for job in jobs]
    return _shared(Work(jobs, outer.threads, outer.within))


def _shared(work: Work[T]) -> list[T]:
    """The results of work that this thread leads."""
    _crew.call(work)
    try:
        work.take_part()
    finally:
        work.close()
    return work.results()


@contextmanager
def idle() -> Iterator[int]:
    """Keep those of the crew who are idle for what has threads of its own; gives how many it may have."""
    work = _mine.work
    taken = _crew.take(work.threads) if work else 0
    try:
        yield 1 + taken
    finally:
        _crew.leave(taken)


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


def ahead(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """What a function makes of each item, in order, by so many threads; few items are taken before their time."""
    if workers == 1:
        yield from map(function, items)
        return
    left = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(left, 2 * workers))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(function, item) for item in islice(left, 1))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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


class Work(Generic[T]):
    """Jobs that several threads take from, in order."""

    def __init__(self, jobs: Sequence[Callable[[], T]], threads: int, within: Within) -> None:
        """``threads``: that may be at work in the process."""
        self.threads, self.within, self.helpers_wanted = threads, within, len(jobs) - 1
        self._left = deque(enumerate(jobs))
        self._results: dict[int, T] = {}
        self._errors: dict[int, BaseException] = {}
        self._changed, self._helpers, self._closed = threading.Condition(), 0, False

    def take_part(self, stays: Callable[[], bool] = lambda: True) -> None:
        """Do what jobs there are, while the thread ``stays``. After an error no more are begun."""
        outer, _mine.work = _mine.work, self
        try:
            while self._left and stays():
                try:
                    number, job = self._left.popleft()
                except IndexError:  # another was faster
                    break
                try:
                    self._results[number] = job()
                except BaseException as error:
                    self._errors[number] = error
                    self._left.clear()
        finally:
            _mine.work = outer

    def help(self) -> None:
        """The same for a thread of the crew, if it does not come too late."""
        with self._changed:
            if self._closed:
                return
            self._helpers += 1
        try:
            with self.within():
                self.take_part(lambda: not _crew.ended)  # who leads the work does the rest
        finally:
            with self._changed:
                self._helpers -= 1
                self._changed.notify()

    def close(self) -> None:
        """Wait for those who help; no more may."""
        with self._changed:
            self._closed = True
            while self._helpers:
                self._changed.wait()

    def results(self) -> list[T]:
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[number] for number in range(len(self._results))]


class _Mine(threading.local):
    """Work that a thread takes part in."""

    work: Work[Any] | None = None


class _Crew:
    """Threads that help, for all files and models of the process, so that they do not crowd each other out."""

    def __init__(self) -> None:
        self._changed, self._busy, self.ended = threading.Condition(), 0, False
        self._idle: list[SimpleQueue[Work[Any] | None]] = []
        self._members: list[tuple[threading.Thread, SimpleQueue[Work[Any] | None]]] = []

    def enter(self, threads: int) -> None:
        """Begin to work when fewer than so many do."""
        with self._changed:
            while self._busy >= threads:
                self._changed.wait()
            self._busy += 1

    def take(self, threads: int) -> int:
        """Count as busy those who are not, of so many; how many they are."""
        with self._changed:
            taken = max(threads - self._busy, 0)
            self._busy += taken
            return taken

    def leave(self, number: int = 1) -> None:
        with self._changed:
            self._busy -= number
            self._changed.notify_all()

    def call(self, work: Work[Any]) -> None:
        """Have as many help as may."""
        if self._busy >= work.threads:  # without the lock: a moment later will do as well
            return
        with self._changed:
            if self.ended:
                return
            for _ in range(min(work.helpers_wanted, work.threads - self._busy)):
                self._busy += 1
                self._queue().put(work)

    def end(self) -> None:
        """Have all go, each after the job that it is at."""
        with self._changed:
            self.ended = True
        for _, queue in self._members:
            queue.put(None)
        for thread, _ in self._members:
            thread.join()

    def _queue(self) -> SimpleQueue[Work[Any] | None]:
        if self._idle:
            return self._idle.pop()
        queue: SimpleQueue[Work[Any] | None] = SimpleQueue()
        thread = threading.Thread(target=self._serve, args=(queue,), name="nac", daemon=True)
        thread.start()
        self._members.append((thread, queue))
        return queue

    def _serve(self, queue: SimpleQueue[Work[Any] | None]) -> None:
        while (work := queue.get()) is not None:
            if (torch := sys.modules.get("torch")) and torch.get_num_threads() > 1:
                torch.set_num_threads(1)  # for good, as to change it takes as long as a tile
            work.help()
            with self._changed:
                self._busy -= 1
                self._idle.append(queue)
                self._changed.notify()


_mine, _crew = _Mine(), _Crew()


def _forget() -> None:
    global _crew
    _crew = _Crew()  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _end() -> None:
    _crew.end()  # a thread within PyTorch when the interpreter ends would abort the process
