"""Processes that train one network together, each with crops of its own and one thread.

Threads inside single operations wait for each other hundreds of times a step, and processes that share gradients
do so once a step, which on a machine with other work to do costs more than it gains: these meet after a number of
steps only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier

import torch
from torch import Tensor


class Team:
    """``rank`` of ``size`` processes. ``board`` [2, size, n]: where they show each other numbers, by turns."""

    def __init__(self, rank: int = 0, board: Tensor | None = None, barrier: Barrier | None = None) -> None:
        self.rank, self._board, self._barrier, self._turn = rank, board, barrier, 0
        self.size = 1 if board is None else board.shape[1]
        self._stop = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)

    def _asked_to_stop(self, *_: object) -> None:
        self._stop = True

    def stops(self) -> bool:
        """Whether anybody was asked to stop (SIGTERM, Ctrl-C); the same answer for all."""
        flag = torch.tensor([float(self._stop)])
        self.average([flag])
        return bool(flag > 0)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their means over all processes; everybody gets the same bits."""
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
        """Take the leader's float tensors."""
        for tensor in tensors if not self.leads else ():
            tensor.zero_()
        self.average(tensors)
        for tensor in tensors:
            tensor.mul_(self.size)


def together(work: Callable[..., None], processes: int, numbers: int, *args: object) -> None:
    """Run ``work(team, *args)`` in so many processes, which average up to so many numbers at a time."""
    if processes == 1:
        work(Team(), *args)
        return
    torch.set_num_threads(1)  # what forks must have no threads
    context = torch.multiprocessing.get_context("fork")
    board = torch.zeros(2, processes, numbers).share_memory_()
    barrier = context.Barrier(processes)
    started = [
        context.Process(target=_begin, args=(work, rank, board, barrier, *args), daemon=True)
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


def _begin(work: Callable[..., None], rank: int, board: Tensor, barrier: Barrier, *args: object) -> None:
    os.setsid()  # where the scheduler shares by sessions, each of them counts
    try:
        work(Team(rank, board, barrier), *args)
    except BaseException:
        barrier.abort()  # nobody waits for what will not come
        raise
