"""Work done side by side, each piece by one thread, so that results do not depend on the number of threads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def count() -> int:
    """How many threads work: what PyTorch is set to, if it is loaded, else the cores that may be used."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Do the jobs and give their results in order. A job must not call this again."""
    if len(jobs) < 2 or count() < 2:
        return [job() for job in jobs]
    return list(_workers().map(lambda job: job(), jobs))


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
