"""An LSTM (Hochreiter and Schmidhuber 1997) over many signals, piece by piece."""

from __future__ import annotations

import torch
from torch import Tensor

from nac.codecs import onednn
from nac.codecs.layers import Weights
from nac.codecs.parallel import Together

MOST_ROWS = 16  # signals that are computed as one
Piece = tuple[Tensor, Tensor]


class Lstm:
    """Two layers of LSTM.

    Signals that several threads are at with the same piece length are computed as one, so that weights, which are
    larger than a core's cache, are read once for all of them; a signal's numbers are the same in any company.
    """

    def __init__(self, weights: Weights, name: str, size: int) -> None:
        self._size = size
        self._parameters: list[Tensor] = []  # as torch orders them
        for layer in (0, 1):
            for part in ("weight_ih", "weight_hh"):
                self._parameters.append(weights.take(f"{name}.lstm.{part}_l{layer}", 4 * size, size))
            for part in ("bias_ih", "bias_hh"):
                self._parameters.append(weights.take(f"{name}.lstm.{part}_l{layer}", 4 * size))
        self._cells = [self._cell(*self._parameters[:4]), self._cell(*self._parameters[4:])]
        self._together = Together(self._batch, MOST_ROWS)

    def _cell(self, *parameters: Tensor) -> tuple[Tensor, Rows, Tensor]:
        """The weights of a layer [C, 4 C] and its bias.

        Gates come as input, forget, cell, output; here the cell's is last, so that one call does all sigmoids.
        """
        order = (0, 1, 3, 2)
        into, again, bias, more = (torch.cat([p.chunk(4)[gate] for gate in order]) for p in parameters)
        return into.t().contiguous(), Rows(again), bias + more

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

    def _layer(
        self, x: Tensor, cell: tuple[Tensor, Rows, Tensor], hidden: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over [B, T, C], step by step from a state [B, C], and the state after it."""
        into, again, bias = cell
        gates = torch.stack([torch.addmm(bias, row, into) for row in x], 1)
        out = x.new_empty(x.shape[1], x.shape[0], self._size)
        for gate, step in zip(gates.unbind(), out.unbind(), strict=True):
            gate += again(hidden)
            gate[:, : 3 * self._size].sigmoid_()
            enter, keep, leave, new = gate.chunk(4, 1)
            memory = torch.addcmul(memory * keep, enter, new.tanh_())
            hidden = torch.mul(memory.tanh(), leave, out=step)
        return out.transpose(0, 1), hidden, memory


class Rows:
    """Rows [B, i] times the transpose of a matrix [o, i], where no row's result depends on how many there are.

    oneDNN's products with packed weights read them once for all rows; without it, row is multiplied by row.
    """

    def __init__(self, matrix: Tensor) -> None:
        packed = matrix.is_cpu and onednn.works()
        self._matrix = onednn.Rows(matrix, rows=MOST_ROWS // 2) if packed else matrix.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        if isinstance(self._matrix, onednn.Rows):
            return self._matrix(x)
        return torch.cat([row @ self._matrix for row in torch.split(x, 1)])
