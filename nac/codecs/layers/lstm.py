"""An LSTM (Hochreiter and Schmidhuber 1997) over many signals, piece by piece."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from threadpoolctl import LibController, ThreadpoolController
from torch import Tensor

from nac.codecs.layers import onednn
from nac.codecs.layers.compiled import compiled
from nac.codecs.layers.kernels import Kernel, convolve
from nac.codecs.layers.weights import Weights
from nac.codecs.parallel import Together, idle

MOST_ROWS = 16  # signals that are computed as one
Piece = tuple[Tensor, Tensor]


class Lstm:
    """Two layers of LSTM.

    Signals that several threads are at with the same piece length are computed as one, so that weights, which are
    larger than a core's cache, are read once for all of them; a signal's numbers are the same in any company.
    """

    def __init__(self, weights: Weights, name: str, size: int) -> None:
        self._size = size
        shapes = {"weight_ih": (4 * size, size), "weight_hh": (4 * size, size), "bias_ih": (4 * size,)}
        shapes["bias_hh"] = shapes["bias_ih"]
        names = [(f"{name}.lstm.{part}_l{layer}", shape) for layer in (0, 1) for part, shape in shapes.items()]
        on_gpu = weights.device.type != "cpu"
        parameters = [weights.take(part, *shape, copy=on_gpu) for part, shape in names]  # as torch orders them
        self._parameters = parameters if on_gpu else []
        self._cells = [] if on_gpu else [self._cell(*parameters[:4]), self._cell(*parameters[4:])]
        self._together = Together(self._batch, MOST_ROWS)

    def _cell(self, *parameters: Tensor) -> Cell:
        """Gates come as input, forget, cell, output; here the cell's is last: one call does all sigmoids."""
        order = (0, 1, 3, 2)
        into, again, bias, more = (torch.cat([p.chunk(4)[gate] for gate in order]) for p in parameters)
        return Cell(Rows(into), Rows(again), bias + more)

    def __call__(self, x: Tensor, state: Tensor | None) -> Piece:
        """The next piece [B, T, C] of signals, and the state [2, layers, B, C] after it; None at their start."""
        if state is None:
            state = x.new_zeros(2, 2, x.shape[0], self._size)  # hidden and memory
        if x.is_cpu:
            return self._together((x, state))
        with torch.backends.cudnn.flags(allow_tf32=False):  # codes must not depend on the device
            out, *after = torch.lstm(
                x.transpose(0, 1), tuple(state), self._parameters, True, 2, 0.0, False, False, False
            )
        return out.transpose(0, 1), torch.stack(after)

    def _batch(self, items: list[Piece]) -> list[Piece]:
        """Pieces [B, T, C] of several signals with their states: those of one length are done as one."""
        results: dict[int, Piece] = {}
        for length in {x.shape[1] for x, _ in items}:
            alike = [i for i, (x, _) in enumerate(items) if x.shape[1] == length]
            x, state = torch.cat([items[i][0] for i in alike]), torch.cat([items[i][1] for i in alike], 2)
            rows = zip(torch.split(x, MOST_ROWS), torch.split(state, MOST_ROWS, 2), strict=True)
            outs, states = zip(*(self._layers(*part) for part in rows), strict=True)
            sizes = [items[i][0].shape[0] for i in alike]
            parts = zip(
                torch.split(torch.cat(outs), sizes), torch.split(torch.cat(states, 2), sizes, 2), strict=True
            )
            results.update(zip(alike, parts, strict=True))
        return [results[i] for i in range(len(items))]

    def _layers(self, x: Tensor, state: Tensor) -> Piece:
        after = []
        for cell, hidden, memory in zip(self._cells, *state, strict=True):
            x, *last = self._layer(x, cell, hidden, memory)
            after.append(torch.stack(last))
        return x, torch.stack(after, 1)

    def _layer(self, x: Tensor, cell: Cell, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over [B, T, C], step by step from a state [B, C], and the state after it."""
        gates = torch.stack([cell.into(row).add_(cell.bias) for row in x], 1)
        out = x.new_empty(x.shape[1], x.shape[0], self._size)
        hidden, memory = cell.again.steps(gates, (hidden, memory), out)
        return out.transpose(0, 1), hidden, memory


State = tuple[Tensor, Tensor]


class Cell(NamedTuple):
    """A layer: what its input and its last output are multiplied by, and its bias [4 C]."""

    into: Rows
    again: Rows
    bias: Tensor


class Rows:
    """Rows [B, i] times the transpose of a matrix [o, i], where no row's result depends on how many there are.

    oneDNN's products with packed weights read them once for all rows; without it, row is multiplied by row.
    """

    PROBE = 6  # steps that tell how long others will take
    MOST_TURNS = 64  # that are taken by one thread after several were slower

    def __init__(self, matrix: Tensor) -> None:
        self._width, packed = matrix.shape[1], matrix.is_cpu and onednn.works()
        self._packed = onednn.kernel(matrix[..., None], steps=MOST_ROWS // 2) if packed else None
        self._columns = None if packed else matrix.t().contiguous()
        self._steady: dict[int, bool] = {}  # numbers of threads that give the same numbers as one
        self._alone: dict[int, float] = {}  # seconds that one thread takes for PROBE steps of so many rows
        self._turns, self._left = 0, 0  # to be taken by one thread, and those left of them

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            return convolve(x, self._packed)
        assert self._columns is not None
        return torch.cat([row @ self._columns for row in torch.split(x, 1)])

    def steps(self, gates: Tensor, state: State, out: Tensor) -> State:
        """Take all steps [T, B, C]; ``gates`` [T, B, 4 C] are without what this matrix adds."""
        matrix = self._packed
        if not matrix:
            for gate, step in zip(gates.unbind(), out.unbind(), strict=True):
                state = lstm_step(gate.add_(self(state[0])), state[1], step)
            return state
        with idle() as threads:
            done = 0
            long = len(gates) > 2 * self.PROBE
            if threads > 1 and long and self._is_steady(matrix, threads) and self._is_time():
                state, done, threads = self._probe(matrix, threads, gates, state, out)
            with openmp_threads(threads if done else 1):
                return lstm_steps(gates[done:], matrix.weight, *state, out[done:])

    def _is_steady(self, matrix: Kernel, threads: int) -> bool:
        if threads not in self._steady:
            self._steady[threads] = onednn.steady(matrix, self._width, threads, MOST_ROWS)
        return self._steady[threads]

    def _is_time(self) -> bool:
        """Whether to try several threads, and not yet another turn with one.

        A trial on a busy machine can take a hundred times as long as the work, where threads that wait spin for
        long: so they do in programs that loaded PyTorch before ``GOMP_SPINCOUNT`` was set.
        """
        self._left -= 1
        return self._left < 0

    def _probe(
        self, matrix: Kernel, threads: int, gates: Tensor, state: State, out: Tensor
    ) -> tuple[State, int, int]:
        """Begin with several threads, each of which holds a part of the matrix in its cache.

        They wait for each other at every step, which on a busy machine takes far longer than the work: then one
        is better. The state, steps taken, and the number of threads to go on with.
        """
        rows, taken, done = gates.shape[1], dict[int, float](), 0
        for number in (threads,) if rows in self._alone else (threads, 1):
            some = slice(done, done + self.PROBE)
            began = time.perf_counter()
            with openmp_threads(number):
                state = lstm_steps(gates[some], matrix.weight, *state, out[some])
            taken[number], done = time.perf_counter() - began, done + self.PROBE
        self._alone.setdefault(rows, taken.get(1, 0.0))
        faster = taken[threads] < self._alone[rows]
        self._turns = self._left = 0 if faster else min(2 * self._turns + 1, self.MOST_TURNS)
        return state, done, threads if faster else 1


@contextmanager
def openmp_threads(number: int) -> Iterator[None]:
    """So many threads within an operation; PyTorch's own way would make and end threads of another pool."""
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
    """The new state [B, C], of which the first is put into ``out``."""
    gate[:, : 3 * memory.size(1)].sigmoid_()
    enter, keep, leave, new = gate.chunk(4, 1)
    memory = torch.addcmul(memory * keep, enter, new.tanh_())
    return torch.mul(memory.tanh(), leave, out=out), memory


@compiled
def lstm_steps(
    gates: Tensor, packed: Tensor, hidden: Tensor, memory: Tensor, out: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for all steps, with a packed matrix."""
    for t in range(gates.size(0)):
        again = torch.ops.mkldnn._linear_pointwise(hidden, packed, None, "none", [], "")
        hidden, memory = lstm_step(gates[t].add_(again), memory, out[t])
    return hidden, memory
