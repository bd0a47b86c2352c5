"""Work side by side: in order, in batches, with errors told to whom they belong; and codecs that do not notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import Any

import pytest

from nac.codecs import parallel as workers


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(workers, "count", lambda: request.param)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    return int(request.param)


def assert_all_idle() -> None:
    """Helpers count as busy until a moment after the work."""
    deadline = time.monotonic() + 5
    while workers._pool._busy and time.monotonic() < deadline:
        time.sleep(0.001)
    assert workers._pool._busy == 0


def test_results_come_in_order(threads: int) -> None:
    def job(number: int) -> int:
        time.sleep(0.01 * (5 - number))
        return number

    assert workers.each([lambda number=n: job(number) for n in range(6)]) == list(range(6))  # type: ignore[misc]


def test_stages_take_items_in_turn(threads: int) -> None:
    seen: list[list[int]] = [[], []]

    def stage(number: int, item: int) -> int:
        time.sleep(0.005 * (item % 3))
        seen[number].append(item)
        return item

    found = workers.pipeline([lambda item: stage(0, item), lambda item: stage(1, item)], list(range(9)))
    assert found == list(range(9))
    assert seen == [list(range(9))] * 2


def test_errors_end_it(threads: int) -> None:
    def fail(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    with pytest.raises(ValueError, match="two"):
        workers.each([lambda number=n: fail(number) for n in range(4)])  # type: ignore[misc]
    with pytest.raises(ValueError, match="two"):
        workers.pipeline([fail, fail], list(range(4)))
    assert_all_idle()


def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "_pool", workers._Pool())


@pytest.mark.parametrize("inner", ["each", "pipeline"])
@pytest.mark.parametrize("outer", ["each", "pipeline"])
def test_work_within_work_does_not_wait_for_threads_that_wait_for_it(
    inner: str, outer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads are in the outer work when the inner begins."""
    two_threads(monkeypatch)
    both, found = threading.Barrier(2, timeout=20), list[object]()

    def work(item: int) -> int:
        if item < 2:
            both.wait()
        if inner == "pipeline":
            return sum(workers.pipeline([lambda number: number + 1, lambda number: number * item], [1, 2, 3]))
        return sum(workers.each([lambda number=number: number * item for number in (2, 3, 4)]))  # type: ignore[misc]

    def run() -> None:
        if outer == "each":
            found.extend(workers.each([partial(work, item) for item in range(5)]))
        else:
            found.extend(workers.pipeline([lambda item: item, work], [2, 3, 4]))
            found.extend(workers.pipeline([work, lambda item: item], [2, 3, 4]))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert found == ([0, 9, 18, 27, 36] if outer == "each" else [18, 27, 36] * 2)


@pytest.mark.parametrize("nested", [False, True])
def test_of_several_errors_the_first_in_order_is_told(nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on one thread, whichever comes first in time."""
    two_threads(monkeypatch)
    both, failed = threading.Barrier(2, timeout=20), threading.Event()

    def early() -> int:
        both.wait()
        failed.wait(20)
        raise ValueError("first in order")

    def late() -> int:
        both.wait()
        failed.set()
        raise ValueError("first in time")

    run = partial(workers.parts if nested else workers.each, [early, late])
    with pytest.raises(ValueError, match="first in order"):
        workers.each([run]) if nested else run()
    assert_all_idle()


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_starts_after_an_error(nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    two_threads(monkeypatch)
    both, started = threading.Barrier(2, timeout=20), list[int]()

    def job(number: int) -> int:
        started.append(number)
        if number < 2:
            both.wait()
        if number == 0:
            raise ValueError("zero")
        time.sleep(0.3)  # by then the other thread has said so
        return number

    run = partial(workers.parts if nested else workers.each, [partial(job, number) for number in range(6)])
    with pytest.raises(ValueError, match="zero"):
        workers.each([run]) if nested else run()
    assert sorted(started) == [0, 1]


@pytest.mark.parametrize("nested", [False, True])
def test_stages_work_on_different_items_at_the_same_time(nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    both = threading.Barrier(2, timeout=20)

    def first(item: int) -> int:
        if item:
            both.wait()  # returns only if the second stage has the item before meanwhile
        return item + 10

    def second(item: int) -> int:
        if item < 13:
            both.wait()
        return item + 100

    def run() -> list[int]:
        return workers.pipeline([first, second], [0, 1, 2, 3])

    assert (workers.each([run])[0] if nested else run()) == [110, 111, 112, 113]
    assert_all_idle()


def test_a_thread_that_waits_for_its_turn_gives_its_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    both = threading.Barrier(2, timeout=20)

    def alone(item: int) -> int:
        time.sleep(0.1)  # the other thread has nothing to do by now
        workers.parts([both.wait, both.wait])
        return item

    assert workers.pipeline([alone, lambda item: -item], [1, 2]) == [-1, -2]


def test_threads_that_wait_for_a_batch_do_not_keep_out_the_one_that_computes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    done, helped = threading.Semaphore(0), threading.Event()

    def batch(items: list[int]) -> list[int]:
        leader = threading.get_ident()

        def slow(item: int) -> int:  # the leader waits for its helper, and others take its place meanwhile
            time.sleep(0.01)
            if threading.get_ident() != leader:
                helped.set()
                time.sleep(0.3)
            return item

        return workers.pipeline([slow, slow], items * 2)[: len(items)]

    batcher = workers.Batcher(batch, 1)

    def call(number: int) -> None:
        assert workers.each([lambda: batcher(number)]) == [number]
        done.release()

    for number in range(4):
        threading.Thread(target=call, args=(number,), daemon=True).start()
        assert helped.wait(20)
    assert all(done.acquire(timeout=20) for _ in range(4))
    assert_all_idle()


def test_few_items_are_under_way_if_a_stage_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count", lambda: 3)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    started, finished, most = [], [], []

    def fast(item: int) -> int:
        started.append(item)
        most.append(len(started) - len(finished))
        return item

    def slow(item: int) -> int:
        time.sleep(0.005)
        finished.append(item)
        return item

    assert workers.pipeline([fast, slow], list(range(40))) == list(range(40))
    assert max(most) <= 6


def test_an_interrupted_wait_ends_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    started, main = [], threading.main_thread().ident
    assert main

    def step(item: int) -> int:
        started.append(item)
        time.sleep(0.005)
        if threading.get_ident() != main:
            time.sleep(0.1)  # the main thread has nothing to do by now
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.1)
        return item

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.pipeline([step, step], list(range(100)))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert len(started) < 100
    assert_all_idle()
    assert workers.pipeline([str, str], list("ab")) == ["a", "b"]


def test_what_waits_is_done_at_once() -> None:
    begun, release, sizes = threading.Event(), threading.Event(), []

    def double(items: list[int]) -> list[int]:
        sizes.append(len(items))
        begun.set()
        release.wait(10)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]

    batcher, found = workers.Batcher(double, max_batch=4), {}

    def call(item: int) -> None:
        try:
            found[item] = batcher(item)
        except ValueError as error:
            found[item] = str(error)

    callers = [threading.Thread(target=call, args=(item,)) for item in (1, 2, 3, 4, 5, 13)]
    callers[0].start()
    begun.wait(10)
    for caller in callers[1:]:
        caller.start()
        while len(batcher._waiting) + 1 < callers.index(caller) + 1:
            time.sleep(0.001)
    release.set()
    for caller in callers:
        caller.join(10)
    assert sizes == [1, 4, 1]
    assert found == {1: 2, 2: 4, 3: 6, 4: 8, 5: 10, 13: "thirteen"}


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3)])
def test_nobody_waits_for_a_batch_that_ended_early(error: BaseException) -> None:
    """Whatever ended it, and whoever was computing it."""
    begun, release = threading.Event(), threading.Event()

    def batch(items: list[int]) -> list[int]:
        begun.set()
        release.wait(10)
        if len(items) > 1:
            raise error
        return items

    batcher, found = workers.Batcher(batch, max_batch=4), list[object]()

    def call(item: int) -> None:
        try:
            found.append(batcher(item))
        except BaseException as caught:
            found.append(caught)

    callers = [threading.Thread(target=call, args=(item,), daemon=True) for item in range(3)]
    callers[0].start()
    begun.wait(10)
    for count, caller in enumerate(callers[1:], 1):
        caller.start()
        while len(batcher._waiting) < count:
            time.sleep(0.001)
    release.set()
    for caller in callers:
        caller.join(5)
    assert found[0] == 0
    assert found[1:] == [error, error]
    assert batcher(7) == 7


def test_what_was_read_ahead_is_not_begun_after_an_error() -> None:
    """An interrupt does not wait for work that nobody will see."""
    begun = list[int]()

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("zero")
        time.sleep(0.3)
        return item

    with pytest.raises(ValueError, match="zero"):
        list(workers.ahead(work, range(10), 2))
    assert max(begun) <= 2  # the next one, which the thread takes at once


@pytest.mark.parametrize(("message", "count"), [("1", 1), ("3,2", 3), ("", None), ("many", None)])
def test_as_many_threads_as_the_environment_says(message: str, count: int | None, monkeypatch: Any) -> None:
    """Also where PyTorch, which goes by it, is not loaded."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", message)
    assert workers.count() == (count or workers.cores())


EXIT = """
import atexit, gc, os, signal, sys, threading, time, torch
from collections import Counter
from nac.codecs import parallel
atexit.register(gc.freeze)  # as the command does: exits sooner
started, lock = threading.Event(), threading.Lock()
sound, weight = torch.randn(1, 64, 400), torch.randn(64, 64, 7)

def job():
    if threading.current_thread().name != "nac":
        return started.wait(10)
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        torch.nn.functional.conv1d(sound, weight)
        with lock:
            if not started.is_set():
                started.set()
                if case != "done":
                    os.kill(os.getpid(), signal.SIGTERM if case == "terminated" else signal.SIGINT)

def end(*_):
    raise SystemExit(143)

def work(jobs):
    torch.set_num_threads(3)  # each thread has a number of its own
    parallel.each(jobs)

def exit_at_work():
    if case == "done":
        threading.Thread(target=work, args=([job] * 3,), daemon=True).start()
        started.wait(10)
        sys.exit(7)
    signal.signal(signal.SIGTERM, end)
    try:
        work([job] * 3)
    except KeyboardInterrupt:
        sys.exit(130)

case, codes = sys.argv[1], Counter()
work([lambda: None] * 3)  # threads that a fork will not have
for _ in range(12):
    if not (child := os.fork()):
        exit_at_work()
    codes[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
print(dict(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are faster than processes that load PyTorch")
@pytest.mark.parametrize(("case", "code"), [("done", 7), ("terminated", 143), ("interrupted", 130)])
def test_a_process_that_ends_while_helpers_are_at_work_exits_with_its_code(case: str, code: int) -> None:
    """A thread within PyTorch that waits for an interpreter that is gone is ended, and with it the process."""
    ended = subprocess.run([sys.executable, "-c", EXIT, case], capture_output=True, text=True, timeout=300)
    assert (ended.stdout.splitlines()[-1], ended.returncode) == (f"{{{code}: 12}}", 0), ended.stderr
