"""An LSTM (Hochreiter and Schmidhuber 1997) for many signals, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from threadpoolctl import LibController, ThreadpoolController
from torch import Tensor

from nac.codecs.devices import on_gpu
from nac.codecs.layers import onednn
from nac.codecs.layers.compiled import compiled
from nac.codecs.layers.kernels import Kernel, convolve
from nac.codecs.layers.weights import Weights
from nac.codecs.parallel import Batcher, idle

MAX_ROWS = 16  # signals that are computed in one batch
Piece = tuple[Tensor, Tensor]


class Lstm:
    """An LSTM with two layers.

    Pieces with the same length from several threads are computed in one batch, so that the weights, which are
    larger than a core's cache, are read once for all of them. The result for a signal does not depend on the
    others.
    """

    def __init__(self, weights: Weights, name: str, size: int) -> None:
        self._size = size
        shapes = {"weight_ih": (4 * size, size), "weight_hh": (4 * size, size), "bias_ih": (4 * size,)}
        shapes["bias_hh"] = shapes["bias_ih"]
        names = [(f"{name}.lstm.{part}_l{layer}", shape) for layer in (0, 1) for part, shape in shapes.items()]
        gpu = on_gpu(weights)
        parameters = [weights.take(part, *shape, copy=gpu) for part, shape in names]  # as torch orders them
        self._parameters = parameters if gpu else []
        self._cells = [] if gpu else [self._cell(*parameters[:4]), self._cell(*parameters[4:])]
        self._batcher = Batcher(self._batch, MAX_ROWS)

    def _cell(self, *parameters: Tensor) -> Cell:
        """Reorder the gates from input, forget, cell, output: here the cell's is last, for one call of sigmoid."""
        order = (0, 1, 3, 2)
        into, again, bias, more = (torch.cat([p.chunk(4)[gate] for gate in order]) for p in parameters)
        return Cell(Rows(into), Rows(again), bias + more)

    def __call__(self, x: Tensor, state: Tensor | None) -> Piece:
        """Compute the next piece [B, T, C] of signals from a state [B, 2, layers, C], None at their start.

        Returns the output and the new state.
        """
        if state is None:
            state = x.new_zeros(x.shape[0], 2, 2, self._size)  # hidden and memory
        parts = state.permute(1, 2, 0, 3).contiguous()
        if not on_gpu(x):
            out, after = self._batcher((x, parts))
        else:
            with torch.backends.cudnn.flags(allow_tf32=False):  # codes must not depend on the device
                out, *pair = torch.lstm(
                    x.transpose(0, 1), tuple(parts), self._parameters, True, 2, 0.0, False, False, False
                )
            out, after = out.transpose(0, 1), torch.stack(pair)
        return out, after.permute(2, 0, 1, 3)

    def _batch(self, items: list[Piece]) -> list[Piece]:
        """Process pieces [B, T, C] of several signals with their states; those with equal lengths in one batch."""
        results: dict[int, Piece] = {}
        for length in {x.shape[1] for x, _ in items}:
            same_length = [i for i, (x, _) in enumerate(items) if x.shape[1] == length]
            x, state = (
                torch.cat([items[i][0] for i in same_length]),
                torch.cat([items[i][1] for i in same_length], 2),
            )
            rows = zip(torch.split(x, MAX_ROWS), torch.split(state, MAX_ROWS, 2), strict=True)
            outs, states = zip(*(self._layers(*part) for part in rows), strict=True)
            sizes = [items[i][0].shape[0] for i in same_length]
            parts = zip(
                torch.split(torch.cat(outs), sizes), torch.split(torch.cat(states, 2), sizes, 2), strict=True
            )
            results.update(zip(same_length, parts, strict=True))
        return [results[i] for i in range(len(items))]

    def _layers(self, x: Tensor, state: Tensor) -> Piece:
        after = []
        for cell, hidden, memory in zip(self._cells, *state, strict=True):
            x, *last = self._layer(x, cell, hidden, memory)
            after.append(torch.stack(last))
        return x, torch.stack(after, 1)

    def _layer(self, x: Tensor, cell: Cell, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute one layer for [B, T, C], step by step from a state [B, C]. Returns output and new state."""
        gates = torch.stack([cell.into(row).add_(cell.bias) for row in x], 1)
        out = x.new_empty(x.shape[1], x.shape[0], self._size)
        hidden, memory = cell.again.steps(gates, (hidden, memory), out)
        return out.transpose(0, 1), hidden, memory


State = tuple[Tensor, Tensor]


class Cell(NamedTuple):
    """A layer: the matrices for its input and for its last output, and its bias [4 C]."""

    into: Rows
    again: Rows
    bias: Tensor


class Rows:
    """Multiplies rows [B, i] by the transpose of a matrix [o, i]; a row's result does not depend on other rows.

    oneDNN's products with packed weights read them once for all rows; without oneDNN, rows are multiplied
    separately.
    """

    PROBE = 6  # steps for measuring the time with several threads
    MAX_PAUSE = 64  # the most calls without a new measurement, after several threads were slower than one

    def __init__(self, matrix: Tensor) -> None:
        self._width, packed = matrix.shape[1], not on_gpu(matrix) and onednn.works()
        self._packed = onednn.kernel(matrix[..., None], steps=MAX_ROWS // 2) if packed else None
        self._columns = None if packed else matrix.t().contiguous()
        self._thread_invariant: dict[int, bool] = {}  # by number of threads: whether results equal those of one
        self._alone: dict[int, float] = {}  # by number of rows: seconds for PROBE steps with one thread
        self._pause, self._left = 0, 0  # calls without a new measurement: in all, and remaining

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            return convolve(x, self._packed)
        assert self._columns is not None
        return torch.cat([row @ self._columns for row in torch.split(x, 1)])

    def steps(self, gates: Tensor, state: State, out: Tensor) -> State:
        """Compute all steps [T, B, C]. ``gates`` [T, B, 4 C]: without the product with this matrix."""
        matrix = self._packed
        if not matrix:
            for gate, step in zip(gates.unbind(), out.unbind(), strict=True):
                state = lstm_step(gate.add_(self(state[0])), state[1], step)
            return state
        with idle() as threads:
            done = 0
            long = len(gates) > 2 * self.PROBE
            if threads > 1 and long and self._is_thread_invariant(matrix, threads) and self._should_probe():
                state, done, threads = self._probe(matrix, threads, gates, state, out)
            with openmp_threads(threads if done else 1):
                return lstm_steps(gates[done:], matrix.weight, *state, out[done:])

    def _is_thread_invariant(self, matrix: Kernel, threads: int) -> bool:
        if threads not in self._thread_invariant:
            self._thread_invariant[threads] = onednn.thread_invariant(matrix, self._width, threads, MAX_ROWS)
        return self._thread_invariant[threads]

    def _should_probe(self) -> bool:
        """Return whether to measure several threads again.

        A measurement on a busy machine can take a hundred times as long as the work itself, if waiting threads
        spin for long, as in programs that load PyTorch before ``GOMP_SPINCOUNT`` is set.
        """
        self._left -= 1
        return self._left < 0

    def _probe(
        self, matrix: Kernel, threads: int, gates: Tensor, state: State, out: Tensor
    ) -> tuple[State, int, int]:
        """Compute the first steps with several threads, and if necessary with one, and measure the times.

        Each thread has a part of the matrix in its cache. But threads wait for each other at every step, which
        takes far longer than the work on a busy machine. Returns the state, the number of steps done, and the
        faster number of threads.
        """
        rows, taken, done = gates.shape[1], dict[int, float](), 0
        for number in (threads,) if rows in self._alone else (threads, 1):
            part = slice(done, done + self.PROBE)
            began = time.perf_counter()
            with openmp_threads(number):
                state = lstm_steps(gates[part], matrix.weight, *state, out[part])
            taken[number], done = time.perf_counter() - began, done + self.PROBE
        self._alone.setdefault(rows, taken.get(1, 0.0))
        faster = taken[threads] < self._alone[rows]
        self._pause = self._left = 0 if faster else min(2 * self._pause + 1, self.MAX_PAUSE)
        return state, done, threads if faster else 1


@contextmanager
def openmp_threads(number: int) -> Iterator[None]:
    """Set the number of threads within operations; PyTorch's own function would start and stop another pool."""
    for library in _openmp():
        library.set_num_threads(number)
    try:
        yield
    finally:
        for library in _openmp():
            library.set_num_threads(1)


@cache
def _openmp() -> list[LibController]:
    return list(ThreadpoolController().select(user_api="openmp").lib_controllers)


def lstm_step(gate: Tensor, memory: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Compute one step. Returns the new state [B, C]; its hidden state is also stored in ``out``."""
    gate[:, : 3 * memory.size(1)].sigmoid_()
    enter, keep, leave, new = gate.chunk(4, 1)
    memory = torch.addcmul(memory * keep, enter, new.tanh_())
    return torch.mul(memory.tanh(), leave, out=out), memory


@compiled
def lstm_steps(
    gates: Tensor, packed: Tensor, hidden: Tensor, memory: Tensor, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute all steps with a packed matrix. Returns the new state."""
    for t in range(gates.size(0)):
        again = torch.ops.mkldnn._linear_pointwise(hidden, packed, None, "none", [], "")
        hidden, memory = lstm_step(gates[t].add_(again), memory, out[t])
    return hidden, memory
