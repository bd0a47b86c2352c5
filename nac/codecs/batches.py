"""Batches of rows of many signals for a GPU, which is fast only if it has much to do at once.

Only this module stacks rows. While the GPU computes a batch, jobs from all threads are gathered for the next one.
Rows with equal functions and shapes form a batch, as many as fit into the GPU's memory. Their results are copied
back together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nac.codecs.devices import Gpu
from nac.codecs.parallel import Batcher, Context
from nac.errors import NacError

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A")
Function = Callable[[tuple[A, ...], Sequence[Any]], tuple[A, ...]]
Tensors = tuple["Tensor", ...]
Outcome = Tensors | Exception
FIRST, UNMEASURED, MOST = 4, 8, 64  # rows in the first batch of a kind, if memory cannot be measured, at most
SHARE = 0.7  # of the free memory that a batch may take


@dataclass(frozen=True)
class Job(Generic[A]):
    """A computation: ``function(arrays, asides)``, with a row of each array, [B, ...], for each signal.

    ``asides``: an object that belongs to each row. Rows do not depend on each other. The function returns arrays
    with as many rows. On a GPU, rows with the same shapes and equal functions are computed as one batch.
    """

    function: Function[A]
    arrays: tuple[A, ...]
    asides: Sequence[Any]

    def __call__(self) -> tuple[A, ...]:
        return self.function(self.arrays, self.asides)


@dataclass(frozen=True)
class Row:
    """A row of a job, [1, ...] of each array."""

    function: Function[Tensor]
    arrays: tuple[Tensor, ...]
    aside: Any

    @property
    def kind(self) -> Hashable:
        """A key that is equal for rows that can be stacked."""
        return self.function, tuple((array.shape, array.dtype, array.device) for array in self.arrays)

    @property
    def size(self) -> int:
        """The number of elements."""
        return sum(array.numel() for array in self.arrays)

    @property
    def way(self) -> Hashable:
        """A key for rows that need the same memory per element: the types of function and of numbers."""
        return type(self.function), self.arrays[0].dtype


@dataclass
class Limit:
    """The maximum number of rows in a batch.

    ``tried``: whether a batch has been measured. ``bytes``: memory per element of a row, 0 if unknown.
    """

    rows: int = FIRST
    tried: bool = False
    bytes: float = 0.0

    def of(self, row: Row, free: int) -> int:
        """The maximum for rows like this one with ``free`` bytes of memory."""
        fit = SHARE * free / (self.bytes * row.size) if self.bytes else self.rows
        return max(min(int(fit), self.rows), 1)


class Batches:
    """Runs jobs on a GPU for any number of threads."""

    def __init__(self, gpu: Gpu, within: Context, name: str) -> None:
        """``within``: the context manager for computing; ``name``: the codec's."""
        self.gpu, self._within, self._name = gpu, within, name
        self._limits: dict[Hashable, Limit] = {}
        self._together = Batcher(self._gathered, MOST)

    def __call__(self, jobs: Sequence[Job[Tensor]]) -> list[Tensors]:
        """Return the jobs' results in order, on the host if their arrays are there. Raises the first error."""
        if not jobs:
            return []
        # Arrays on the GPU belong to this thread's stream, so they are not stacked with those of other threads.
        together = self._together if _on_host(jobs[0]) else self._alone
        return [_result(outcome) for outcome in together(jobs)]

    def _alone(self, jobs: Sequence[Job[Tensor]]) -> list[Outcome]:
        return self._gathered([jobs])[0]

    def _gathered(self, calls: list[Sequence[Job[Tensor]]]) -> list[list[Outcome]]:
        """Return the outcomes of the jobs of each call."""
        parts = [[_rows(job) for job in jobs] for jobs in calls]
        with self._within():
            outcomes = iter(self._outcomes([row for jobs in parts for rows in jobs for row in rows]))
            if _on_host(calls[0][0]):
                self.gpu.wait()
            return [[_joined(list(islice(outcomes, len(rows)))) for rows in jobs] for jobs in parts]

    def _outcomes(self, rows: list[Row]) -> list[Outcome]:
        """Return the outcome of each row. Copies to the host may still be in progress."""
        kinds: dict[Hashable, list[int]] = {}
        for number, row in enumerate(rows):
            kinds.setdefault(row.kind, []).append(number)
        found: dict[int, Outcome] = {}
        for numbers in kinds.values():
            alike = [rows[number] for number in numbers]
            done: list[Outcome] = []
            while len(done) < len(alike):
                limit = self._limit(alike[0]).of(alike[0], self.gpu.free())
                done += self._tried(alike[len(done) : len(done) + limit])
            found.update(zip(numbers, done, strict=True))
        return [found[number] for number in range(len(rows))]

    def _limit(self, row: Row) -> Limit:
        return self._limits.setdefault(row.way, Limit())

    def _tried(self, rows: list[Row]) -> list[Outcome]:
        """Return the outcomes of the first of these rows, as many as fit into memory.

        A row that fails does not affect the others.
        """
        try:
            return list(self._batch(rows))
        except Exception as error:
            if not _is_of_memory(error) and len(rows) == 1:
                return [error]
            short = _is_of_memory(error)
        # Outside the except clause, because the traceback keeps what was allocated.
        if not short:
            return [outcome for row in rows for outcome in self._tried([row])]
        self.gpu.release()
        if len(rows) == 1:
            return [NacError(f"{self.gpu.device} has too little memory free for {self._name}")]
        self._limit(rows[0]).rows = len(rows) // 2
        return self._tried(rows[: len(rows) // 2])

    def _batch(self, rows: list[Row]) -> Iterator[Tensors]:
        """Compute rows of one kind as one batch."""
        import torch

        limit, gpu = self._limit(rows[0]), self.gpu
        stacked = tuple(gpu.take(parts) for parts in zip(*(row.arrays for row in rows), strict=True))
        asides = [row.aside for row in rows]
        if limit.tried:
            results = rows[0].function(stacked, asides)
        else:
            results, peak = gpu.measured(lambda: rows[0].function(stacked, asides))
            limit.bytes, limit.rows = peak / sum(row.size for row in rows), MOST if peak else UNMEASURED
            limit.tried = True
        if _on_host(rows[0]):
            results = gpu.give(results)
        return zip(*(torch.split(result, 1) for result in results), strict=True)


def _on_host(work: Job[Tensor] | Row) -> bool:
    return work.arrays[0].device.type == "cpu"


def _rows(job: Job[Tensor]) -> list[Row]:
    import torch

    arrays = zip(*(torch.split(array, 1) for array in job.arrays), strict=True)
    return [Row(job.function, row, aside) for row, aside in zip(arrays, job.asides, strict=True)]


def _joined(rows: list[Outcome]) -> Outcome:
    """Join the outcomes of a job's rows."""
    import torch

    results: list[Tensors] = []
    for row in rows:
        if isinstance(row, Exception):
            return row
        results.append(row)
    return results[0] if len(results) == 1 else tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def _result(outcome: Outcome) -> Tensors:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _is_of_memory(error: Exception) -> bool:
    """Return whether the device ran out of memory; PyTorch has a class for this error only with CUDA."""
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("out of memory", "ALLOC_FAILED")
    )
