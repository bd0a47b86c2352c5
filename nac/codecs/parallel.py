"""Run jobs in parallel, each in one thread, so that results do not depend on the number of threads."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from itertools import islice
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Context = Callable[[], AbstractContextManager[object]]


def count() -> int:
    """Return the number of threads: PyTorch's setting if it is loaded, else its default."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    setting = re.match(r"[1-9]\d*", os.environ.get("OMP_NUM_THREADS", ""))  # Ray sets it for its workers
    return int(setting[0]) if setting else cores()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(jobs: Sequence[Callable[[], T]], context: Context = nullcontext) -> list[T]:
    """Run jobs in the calling thread and idle threads of the pool. Returns their results in order.

    ``context``: a context manager that every participating thread enters. Jobs can have parts, see :func:`parts`.
    """
    if _current.work or not jobs:
        return parts(jobs)
    if (threads := count()) < 2:
        with context():
            return [job() for job in jobs]
    return _outermost(Work(jobs, threads, context))


def parts(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Run the parts of a job in :func:`each` with threads that are idle by then; elsewhere, one by one."""
    outer = _current.work
    if outer is None or len(jobs) < 2:
        return [job() for job in jobs]
    return _shared(Work(jobs, outer.threads, outer.context))


def _outermost(work: Work[T]) -> list[T]:
    """Run work in a thread that has none, once few enough threads are busy. Returns the results."""
    try:
        _pool.enter(work.threads)
        with work.context():
            return _shared(work)
    finally:
        _pool.leave()


def _shared(work: Work[T]) -> list[T]:
    """Run work with helpers from the pool. Returns the results."""
    _pool.call(work)
    try:
        work.finish()
    finally:
        work.close()
    return work.results()


def pipeline(stages: Sequence[Callable[[T], T]], items: Sequence[T], context: Context = nullcontext) -> list[T]:
    """Apply all stages to each item. A stage processes items in order, in parallel with other stages.

    ``context``: see :func:`each`. Within a job of :func:`each` or a stage, only threads that are idle help.
    """

    def through(items: Sequence[T]) -> list[T]:
        return [reduce(lambda item, stage: stage(item), stages, item) for item in items]

    outer = _current.work
    threads = outer.threads if outer else count()
    if threads < 2 or len(items) < 2:
        (results,) = each([partial(through, items)], context)
        return results
    if outer:
        return _shared(Pipeline(stages, items, threads, outer.context))
    return _outermost(Pipeline(stages, items, threads, context))


def ahead(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Apply a function to items with ``workers`` threads. Yields the results in order, reads few items ahead."""
    if workers == 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(remaining, 2 * workers))
        try:
            while running:
                yield running.popleft().result()
                running.extend(pool.submit(function, item) for item in islice(remaining, 1))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Batcher(Generic[T, R]):
    """Batches calls from several threads: each passes one item, and waiting items are processed as one list.

    While one thread processes a batch, the items of other threads wait for the next one, so that batches are
    larger under load. One of the waiting threads processes the next batch; a thread returns when its item is done.
    """

    def __init__(self, function: Callable[[list[T]], list[R]], max_batch: int) -> None:
        """``max_batch``: items in a batch."""
        self._function, self._max_batch = function, max_batch
        self._changed, self._busy = threading.Condition(), False
        self._waiting: list[tuple[T, Future[R]]] = []

    def __call__(self, item: T) -> R:
        future: Future[R] = Future()
        with self._changed:
            self._waiting.append((item, future))
            while not future.done():
                if self._busy:
                    self._changed.wait()
                else:
                    self._lead()
        return future.result()

    def _lead(self) -> None:
        """Do the next batch, without the lock."""
        batch, self._waiting, self._busy = self._waiting[: self._max_batch], self._waiting[self._max_batch :], True
        self._changed.release()
        try:
            self._do(batch)
        finally:
            self._changed.acquire()
            self._busy = False
            self._changed.notify_all()

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
    """A queue of jobs that several threads process, in order."""

    def __init__(self, jobs: Sequence[Callable[[], T]], threads: int, context: Context) -> None:
        """``threads``: the maximum number of busy threads in the process."""
        self.threads, self.context, self.max_helpers = threads, context, len(jobs) - 1
        self._left = deque(enumerate(jobs))
        self._results: dict[int, T] = {}
        self._errors: dict[int, BaseException] = {}
        self._changed, self._helpers, self._closed = threading.Condition(), 0, False

    def run(self, continues: Callable[[], bool] = lambda: True) -> None:
        """Process jobs in this thread, while ``continues`` returns true. After an error, no more jobs start."""
        outer, _current.work = _current.work, self
        try:
            while continues() and (job := self._take()):
                self._do(*job)
        finally:
            _current.work = outer

    def finish(self) -> None:
        """Process jobs in the calling thread until no more can start."""
        self.run()

    def _take(self) -> tuple[int, Callable[[], T]] | None:
        """Return the next job and its number; None if there is none for this thread."""
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def _do(self, number: int, job: Callable[[], T]) -> None:
        try:
            self._results[number] = job()
        except BaseException as error:
            self._errors[number] = error
            self._left.clear()

    def help(self) -> None:
        """Process jobs in a thread of the pool, unless the work is closed."""
        with self._changed:
            if self._closed:
                return
            self._helpers += 1
        try:
            with self.context():
                self.run(lambda: not _pool.ended)  # the calling thread does the rest
        finally:
            with self._changed:
                self._helpers -= 1
                self._changed.notify()

    def close(self) -> None:
        """Accept no more helpers, and wait for those at work."""
        with self._changed:
            self._closed = True
            while self._helpers:
                self._changed.wait()

    def results(self) -> list[T]:
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[number] for number in range(len(self._results))]


class Pipeline(Work[T]):
    """Work whose jobs are steps: a stage for an item, when the stage before it and the item before it are done.

    Of the steps that are possible, threads process those of the first item first, so that few items are under way.
    """

    def __init__(
        self, stages: Sequence[Callable[[T], T]], items: Sequence[T], threads: int, context: Context
    ) -> None:
        super().__init__((), threads, context)
        self._stages, self.max_helpers = stages, min(len(stages), len(items)) - 1
        self._results = dict(enumerate(items))
        self._done, self._running = [0] * len(items), [False] * len(items)  # stages of each item; whether in one
        self._first = 0  # the first item that is not finished
        self._most = threads + len(stages)  # items under way, whose intermediate results take memory

    def finish(self) -> None:
        self.run()
        while not self._ended():
            _pool.leave()  # while it waits, another thread can help with a step
            try:
                with self._changed:
                    self._changed.wait_for(lambda: self._possible() or self._ended())
            finally:
                _pool.come_back()
            self.run()

    def _ended(self) -> bool:
        """Whether no step is under way, and none will be."""
        return not any(self._running) and (bool(self._errors) or self._first == len(self._done))

    def _possible(self) -> list[int]:
        """Return the items that can go through their next stage."""
        found, before = list[int](), len(self._stages)  # the stages that the item before has done
        end = 0 if self._closed or self._errors else min(self._first + self._most, len(self._done))
        for item in range(self._first, end):
            done = self._done[item]
            if not self._running[item] and done < before:
                found.append(item)
            if not done:
                break
            before = done
        return found

    def _take(self) -> tuple[int, Callable[[], T]] | None:
        with self._changed:
            if not (possible := self._possible()):
                return None
            item = possible[0]
            self._running[item] = True
        return item, partial(self._stages[self._done[item]], self._results[item])

    def _do(self, number: int, job: Callable[[], T]) -> None:
        super()._do(number, job)
        with self._changed:
            self._running[number] = False
            self._done[number] += 1
            while self._first < len(self._done) and self._done[self._first] == len(self._stages):
                self._first += 1
            several = len(self._possible()) > 1
            self._changed.notify_all()
        if several:
            _pool.call(self)


class _Current(threading.local):
    """The work that the current thread processes."""

    work: Work[Any] | None = None


class _Pool:
    """The helper threads of the process, shared by all files and models so that there are not too many."""

    def __init__(self) -> None:
        self._changed, self._busy, self.ended = threading.Condition(), 0, False
        self._idle: list[SimpleQueue[Work[Any] | None]] = []
        self._members: list[tuple[threading.Thread, SimpleQueue[Work[Any] | None]]] = []

    def enter(self, threads: int) -> None:
        """Count the caller as busy, once fewer than ``threads`` threads are. Interrupted, it counts as well."""
        with self._changed:
            try:
                self._changed.wait_for(lambda: self._busy < threads)
            finally:
                self._busy += 1

    def come_back(self) -> None:
        """Count the caller as busy again, at once: others may wait for it, for example in a batch."""
        with self._changed:
            self._busy += 1

    def leave(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def call(self, work: Work[Any]) -> None:
        """Assign work to as many helpers as allowed."""
        if self._busy >= work.threads:  # without the lock, since an outdated value does no harm
            return
        with self._changed:
            if self.ended:
                return
            for _ in range(min(work.max_helpers, work.threads - self._busy)):
                self._busy += 1
                self._queue().put(work)

    def end(self) -> None:
        """Stop all threads after their current jobs."""
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
                torch.set_num_threads(1)  # permanently, since changing it takes as long as a tile
            work.help()
            with self._changed:
                self._busy -= 1
                self._idle.append(queue)
                self._changed.notify()


_current, _pool = _Current(), _Pool()


def _forget() -> None:
    global _pool
    _pool = _Pool()  # threads do not survive a fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def _end() -> None:
    _pool.end()  # a thread inside PyTorch at exit of the interpreter would abort the process
