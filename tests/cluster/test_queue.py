"""The order in which jobs are assigned to Ray's workers: shards in parts if workers would otherwise be idle."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from nac.cluster.jobs import Job, Outcome
from nac.cluster.manifest import Row
from nac.cluster.workers import Queue

FAILED = Outcome("failed", Row("a.tar", "a.tar", error="cut off"))


def shards(*names: str) -> list[Job]:
    return [Job(f"{name}.tar", f"{name}.tar", shard=True) for name in names]


def taken(queue: Queue) -> list[tuple[str, int, int]]:
    """Take all jobs: input, number of the part, and count of parts; 0 for a whole file."""
    found = []
    while jobs := queue.take(8):
        found += [(job.input, job.part.number, job.part.parts) if job.part else (job.input, 0, 0) for job in jobs]
    return found


def test_shards_are_cut_where_workers_would_be_idle() -> None:
    assert taken(Queue(shards("a"), 3)) == [("a.tar", 0, 3), ("a.tar", 1, 3), ("a.tar", 2, 3)]
    assert taken(Queue(shards("a"), 1)) == [("a.tar", 0, 0)]
    uneven = taken(Queue(shards("a", "b"), 3))  # no worker is left without
    assert uneven == [("a.tar", 0, 2), ("a.tar", 1, 2), ("b.tar", 0, 3), ("b.tar", 1, 3), ("b.tar", 2, 3)]
    many = taken(Queue(shards("a", "b", "c", "d"), 2))
    assert many == [("a.tar", 0, 0), ("b.tar", 0, 0), ("c.tar", 0, 0), ("d.tar", 0, 2), ("d.tar", 1, 2)]
    files = [Job(f"{number}.wav", f"{number}.nac") for number in range(3)]
    assert taken(Queue([*shards("a"), *files], 4)) == [("a.tar", 0, 0), *((job.input, 0, 0) for job in files)]


def test_a_shard_is_joined_when_all_its_parts_are_done() -> None:
    parts = {"a.tar": 2, "b.tar": 4}  # the last is cut finest, so that all workers end at about the same time
    queue = Queue(shards("a", "b"), 4)
    jobs = [job for _ in range(6) for job in queue.take(1)]
    assert queue.empty
    random.Random(0).shuffle(jobs)
    for number, job in enumerate(jobs):
        assert queue.finish(replace(job, suspect=True), []) == []  # the whole is suspect of nothing
        joins = [] if queue.empty else list(queue.take(8))
        done = [other.input for other in jobs[: number + 1]].count(job.input)
        assert joins == ([Job(job.input, job.input, shard=True, parts=done)] if done == parts[job.input] else [])
        for join in joins:
            assert queue.finish(join, [FAILED]) == [FAILED]


@pytest.mark.parametrize("retried", [False, True])
def test_one_part_that_fails_is_reported_for_the_whole_shard(retried: bool) -> None:
    queue = Queue(shards("a", "b"), 6)
    first, second = (job for _ in range(2) for job in queue.take(1))
    if retried:
        queue.suspects.append(second)
    assert queue.finish(first, [FAILED]) == [FAILED]
    assert not queue.suspects
    assert queue.finish(second, [FAILED]) == []
    assert queue.finish(second, []) == []
    assert {name for name, *_ in taken(queue)} == {"b.tar"}
