"""An LSTM (Hochreiter and Schmidhuber 1997) for many signals, piece by piece."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nac.codecs.devices import on_gpu
from nac.codecs.layers import onednn
from nac.codecs.layers.compiled import compiled
from nac.codecs.layers.kernels import convolve
from nac.codecs.layers.weights import Weights
from nac.codecs.parallel import Batcher, pipeline

MAX_ROWS = 16  # signals that are computed in one batch
STEPS = 25  # steps that a layer computes before the next layer
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
        """Compute both layers of [B, T, C] from a state [2, layers, B, C]: the second while the first goes on."""
        layers = [Layer(cell, *pair) for cell, *pair in zip(self._cells, *state, strict=True)]
        out = torch.cat(pipeline(layers, torch.split(x, STEPS, 1)), 1)
        return out, torch.stack([torch.stack([layer.hidden, layer.memory]) for layer in layers], 1)


class Cell(NamedTuple):
    """The weights of a layer: the matrices for its input and for its last output, and its bias [4 C]."""

    into: Rows
    again: Rows
    bias: Tensor


class Layer:
    """A layer with its state, hidden and memory [B, C]."""

    def __init__(self, cell: Cell, hidden: Tensor, memory: Tensor) -> None:
        self.cell, self.hidden, self.memory = cell, hidden, memory

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the next steps [B, T, C]."""
        cell = self.cell
        gates = torch.stack([cell.into(row).add_(cell.bias) for row in x], 1)
        out = gates.new_empty(x.shape[1], *self.hidden.shape)
        self.hidden, self.memory = cell.again.steps(gates, self.hidden, self.memory, out)
        return out.transpose(0, 1)


class Rows:
    """Multiplies rows [B, i] by the transpose of a matrix [o, i]; a row's result does not depend on other rows.

    oneDNN's products with packed weights read them once for all rows; without oneDNN, rows are multiplied
    separately.
    """

    def __init__(self, matrix: Tensor) -> None:
        packed = not on_gpu(matrix) and onednn.works()
        self._packed = onednn.kernel(matrix[..., None], steps=MAX_ROWS // 2) if packed else None
        self._columns = None if packed else matrix.t().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            return convolve(x, self._packed)
        assert self._columns is not None
        return torch.cat([row @ self._columns for row in torch.split(x, 1)])

    def steps(self, gates: Tensor, hidden: Tensor, memory: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Compute all steps; ``gates`` [T, B, 4 C] lack the product with this matrix. Returns the new state."""
        if self._packed:
            return lstm_steps(gates, self._packed.weight, hidden, memory, out)
        for gate, step in zip(gates.unbind(), out.unbind(), strict=True):
            hidden, memory = lstm_step(gate.add_(self(hidden)), memory, step)
        return hidden, memory


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
