"""Processes that train one network run_processes, each with its own crops and one thread.

Threads within operations wait for each other hundreds of times per step, processes that share gradients once per
step. On a busy machine this costs more than it gains, so these processes synchronise only after a number of steps.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier

import torch
from torch import Tensor


class Team:
    """Process ``rank`` of ``size``. ``board`` [2, size, n]: two alternating buffers in shared memory."""

    def __init__(self, rank: int = 0, board: Tensor | None = None, barrier: Barrier | None = None) -> None:
        self.rank, self._board, self._barrier, self._turn = rank, board, barrier, 0
        self.size = 1 if board is None else board.shape[1]
        self._stop = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request_stop)

    def _request_stop(self, *_: object) -> None:
        self._stop = True

    def stops(self) -> bool:
        """Return whether any process received a signal to stop (SIGTERM, Ctrl-C); equal for all processes."""
        flag = torch.tensor([float(self._stop)])
        self.average([flag])
        return bool(flag > 0)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors with their means over all processes, bit-identical in each."""
        if self._board is None or self._barrier is None:
            return
        board, self._turn = self._board[self._turn], 1 - self._turn
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        board[self.rank, : len(flat)] = flat
        self._barrier.wait()
        means = board[:, : len(flat)].mean(0)
        for tensor, part in zip(tensors, means.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def follow(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors with those of the leader."""
        for tensor in tensors if not self.leads else ():
            tensor.zero_()
        self.average(tensors)
        for tensor in tensors:
            tensor.mul_(self.size)


def run_processes(work: Callable[..., None], processes: int, numbers: int, *args: object) -> None:
    """Run ``work(team, *args)`` in several processes, which average up to ``numbers`` numbers at a time."""
    if processes == 1:
        work(Team(), *args)
        return
    torch.set_num_threads(1)  # a process that forks must not have threads
    context = torch.multiprocessing.get_context("fork")
    board = torch.zeros(2, processes, numbers).share_memory_()
    barrier = context.Barrier(processes)
    started = [
        context.Process(target=_run_process, args=(work, rank, board, barrier, *args), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: [process.terminate() for process in started])
    for process in started:
        process.join()
    if any(process.exitcode for process in started):
        raise SystemExit("a training process failed")


def _run_process(work: Callable[..., None], rank: int, board: Tensor, barrier: Barrier, *args: object) -> None:
    os.setsid()  # a scheduler that divides time among sessions then counts each process
    try:
        work(Team(rank, board, barrier), *args)
    except BaseException:
        barrier.abort()  # so that the other processes do not wait forever
        raise
