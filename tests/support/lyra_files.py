"""SoundStream's three files with random weights: valid TFLite, with those operators that hold parameters.

Features and codes are lively and the audio is about as loud as speech, which the scales below see to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite

from nac.codecs.soundstream.files import FILES, OPERANDS, Expected

Array = np.ndarray[Any, Any]
Change = Callable[[list[dict[str, Any]]], None]

ACTIVATION = (0.04, -7)  # scale and zero point of all activations


def write_models(folder: Path, seed: int = 0, change: Change = lambda operators: None, only: str = "") -> Path:
    """Write the files, or ``only`` one of them, into the folder; ``change`` may alter their operators before."""
    rng = np.random.default_rng(seed)
    for name, subgraph, expected in FILES:
        operators = [operator(entry, rng) for entry in expected]
        if only in ("", name):
            change(operators)
            (folder / name).write_bytes(model(subgraph, operators))
    return folder


def operator(entry: Expected, rng: np.random.Generator) -> dict[str, Any]:
    """``kind``, ``inputs`` and ``outputs``; each of these is None or has name, shape, values and quantisation."""
    activation = ACTIVATION if entry.quantised else None
    signal, *constants = OPERANDS[entry.kind]
    inputs: list[dict[str, Any] | None] = [None] * (max(OPERANDS[entry.kind]) + 1)
    inputs[signal] = tensor(f"{entry.name}/input", quantisation=activation)
    if entry.kind in ("SUB", "SQUARED_DIFFERENCE"):
        inputs[constants[0]] = tensor(f"{entry.name}/values", lone_constant(entry, rng))
    elif constants:
        weight, bias = constants
        inputs[weight], inputs[bias] = convolution(entry, rng)
    return {"kind": entry.kind, "inputs": inputs, "outputs": [tensor(entry.name, quantisation=activation)]}


def tensor(name: str, values: Array | None = None, quantisation: Any = None) -> dict[str, Any]:
    shape = () if values is None else values.shape
    return {"name": name, "shape": shape, "values": values, "quantisation": quantisation}


def lone_constant(entry: Expected, rng: np.random.Generator) -> Array:
    if entry.kind == "SUB":
        return np.zeros(entry.shape, np.float32)
    # Finer codebooks are smaller; features have a variance of about one.
    spread = 0.5 * 0.93 ** int(entry.name.split(".")[1])
    return (spread * rng.standard_normal(entry.shape)).astype(np.float32)


def convolution(entry: Expected, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weight and bias. Sums of so many products have about unit variance again, after the leaky ReLU."""
    depthwise = entry.kind == "DEPTHWISE_CONV_2D"
    out = entry.shape[-1 if depthwise else 0]
    level = {"encoder.first": 6.0, "decoder.last": 2.0}.get(entry.name, 1.0)
    if entry.name.endswith("output"):
        level = 0.3  # a residual
    spread = 1.3 * level / np.sqrt(3 if depthwise else np.prod(entry.shape[1:]))
    bias = 0.1 * level * (not depthwise) * rng.standard_normal(out)
    if not entry.quantised:
        values = (spread * rng.standard_normal(entry.shape)).astype(np.float32)
        return tensor(f"{entry.name}/weight", values), tensor(f"{entry.name}/bias", bias.astype(np.float32))
    scale = spread / 73 * rng.uniform(0.7, 1.3, 1 if entry.kind == "TRANSPOSE_CONV" else out)
    values = rng.integers(-127, 128, entry.shape, np.int8)
    bias = np.rint(bias / (ACTIVATION[0] * scale)).astype(np.int32)
    return tensor(f"{entry.name}/weight", values, (scale, 0)), tensor(f"{entry.name}/bias", bias)


# TFLite's tables. Children are written before their parents.

TYPES = {"float32": tflite.TensorType.FLOAT32, "int32": tflite.TensorType.INT32, "int8": tflite.TensorType.INT8}


def model(subgraph: str, operators: Sequence[dict[str, Any]]) -> bytes:
    """A TFLite file of one subgraph."""
    b = flatbuffers.Builder(1 << 22)
    kinds = sorted({op["kind"] for op in operators})
    tensors: list[int] = []
    buffers = [table(b, "Buffer")]  # the first is empty by convention

    def add(operand: dict[str, Any] | None) -> int:
        if operand is None:
            return -1
        values = operand["values"]
        if values is not None:
            data = b.CreateNumpyVector(np.frombuffer(values.tobytes(), np.uint8))
            buffers.append(table(b, "Buffer", Data=data))
        kind = "float32" if operand["quantisation"] is None else "int8"
        fields = {
            "Name": b.CreateString(operand["name"]),
            "Shape": b.CreateNumpyVector(np.array(operand["shape"], np.int32)),
            "Quantization": quantisation(b, operand["quantisation"]),
        }
        fields["Type"] = TYPES[kind if values is None else str(values.dtype)]
        tensors.append(table(b, "Tensor", **fields, Buffer=0 if values is None else len(buffers) - 1))
        return len(tensors) - 1

    written = []
    for op in operators:
        inputs, outputs = ([add(operand) for operand in op[key]] for key in ("inputs", "outputs"))
        fields = {
            key: b.CreateNumpyVector(np.array(value, np.int32))
            for key, value in (("Inputs", inputs), ("Outputs", outputs))
        }
        written.append(table(b, "Operator", OpcodeIndex=kinds.index(op["kind"]), **fields))
    codes = [
        table(b, "OperatorCode", DeprecatedBuiltinCode=getattr(tflite.BuiltinOperator, kind)) for kind in kinds
    ]
    graph = table(
        b, "SubGraph", Name=b.CreateString(subgraph), Tensors=vector(b, tensors), Operators=vector(b, written)
    )
    fields = {"OperatorCodes": vector(b, codes), "Subgraphs": vector(b, [graph]), "Buffers": vector(b, buffers)}
    b.Finish(table(b, "Model", Version=3, **fields), file_identifier=b"TFL3")
    return bytes(b.Output())


def quantisation(b: flatbuffers.Builder, value: Any) -> int:
    if value is None:
        return table(b, "QuantizationParameters")
    scale, zero_point = (np.atleast_1d(part) for part in value)
    fields = {
        "Scale": b.CreateNumpyVector(scale.astype(np.float32)),
        "ZeroPoint": b.CreateNumpyVector(zero_point.astype(np.int64)),
    }
    return table(b, "QuantizationParameters", **fields)


def table(b: flatbuffers.Builder, name: str, **fields: int) -> int:
    getattr(tflite, f"{name}Start")(b)
    for field, value in fields.items():
        getattr(tflite, f"{name}Add{field}")(b, value)
    return getattr(tflite, f"{name}End")(b)


def vector(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
