"""Read TFLite files without an interpreter: operators, their constants and their quantisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tflite.BuiltinOperator import BuiltinOperator
from tflite.Model import Model
from tflite.TensorType import TensorType

from nac.errors import ModelError

Array = npt.NDArray[Any]

_MAX_GROWTH = 4  # the most bytes to read per byte of a file
_KINDS = {code: kind for kind, code in vars(BuiltinOperator).items() if not kind.startswith("_")}
_TYPES = {TensorType.FLOAT32: "<f4", TensorType.INT32: "<i4", TensorType.INT8: "i1"}


@dataclass(frozen=True)
class Operand:
    """An input or output of an operator.

    ``values``: those of a constant, else None; a quantised constant means ``scale * (values - zero_point)``. Both
    are empty if a tensor is not quantised; otherwise they have one element, or one per channel.
    """

    name: str
    shape: tuple[int, ...]
    values: Array | None
    scale: Array
    zero_point: Array


@dataclass(frozen=True)
class Operator:
    """An operator. ``kind``: its name in the TFLite schema, such as CONV_2D. Omitted inputs are None."""

    kind: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]


def read_operators(path: Path, subgraph: str, kinds: Collection[str]) -> list[Operator]:
    """Read the operators of these kinds in one subgraph, in the order of execution.

    Raises ModelError, which names the file, if it cannot be read or is malformed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path.name}: {error.strerror or error}") from error
    try:
        return _operators(data, subgraph, kinds)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from None
    except Exception as error:  # flatbuffers does not check offsets, and may raise anything
        raise ModelError(f"{path.name}: not a TFLite file, or a damaged one") from error


def _operators(data: bytes, subgraph: str, kinds: Collection[str]) -> list[Operator]:
    if not Model.ModelBufferHasIdentifier(data, 0):
        raise ModelError("not a TFLite file")
    model = Model.GetRootAs(data, 0)
    left = _MAX_GROWTH * len(data)

    def take(size: int) -> None:
        """Count the bytes read: a file could use the same bytes for any number of tensors and operators."""
        nonlocal left
        left -= size
        if left < 0:
            raise ModelError("the same bytes are used too often")

    graphs = {}
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        take(len(graph.Name()) + 4)
        graphs[graph.Name().decode()] = graph
    if subgraph not in graphs:
        raise ModelError(f"no subgraph {subgraph!r}")
    graph = graphs[subgraph]

    @cache
    def operand(index: int) -> Operand | None:
        return None if index < 0 else _operand(model, graph.Tensors(index), take)

    operators = []
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        take(4 * (operator.InputsLength() + operator.OutputsLength()) + 4)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = _KINDS[code.BuiltinCode()]
        if kind not in kinds:
            continue
        inputs = tuple(operand(operator.Inputs(i)) for i in range(operator.InputsLength()))
        outputs = tuple(operand(operator.Outputs(i)) for i in range(operator.OutputsLength()))
        operators.append(Operator(kind, inputs, outputs))
    return operators


def _operand(model: Any, tensor: Any, take: Callable[[int], None]) -> Operand:
    buffer, quantisation = model.Buffers(tensor.Buffer()), tensor.Quantization()
    quantised = quantisation is not None and quantisation.ScaleLength() > 0
    take(len(tensor.Name()) + 4 * tensor.ShapeLength() + buffer.DataLength())
    if quantised:
        take(4 * quantisation.ScaleLength() + 8 * quantisation.ZeroPointLength())
    name = tensor.Name().decode()
    shape = tuple(tensor.Shape(i) for i in range(tensor.ShapeLength()))
    values = None
    if buffer.DataLength() and tensor.Type() in _TYPES:
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _TYPES[tensor.Type()])
        if values.size != math.prod(shape):
            raise ModelError(f"tensor {name!r} has {values.size} values, not those of shape {list(shape)}")
        values = values.reshape(shape)
    scale = quantisation.ScaleAsNumpy() if quantised else ()
    zero_point = quantisation.ZeroPointAsNumpy() if quantised else ()
    return Operand(name, shape, values, np.array(scale, np.float32), np.array(zero_point, np.int64))
