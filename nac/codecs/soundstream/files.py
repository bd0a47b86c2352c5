"""Lyra's three TFLite files: the operators that they contain, in order, and their parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nac.codecs.soundstream.layers import Affine
from nac.codecs.soundstream.tflite import Array, Operand, Operator, read_operators
from nac.errors import ModelError

FEATURES = 64  # dimensions of the latent space
STAGES, ENTRIES = 46, 16


class Expected(NamedTuple):
    """An operator of a file. ``shape``: that of its constant in TFLite's layout, () if it has none."""

    name: str
    kind: str
    shape: tuple[int, ...]
    quantised: bool = False


NONE = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Parameters:
    """The parameters of an operator; arrays are empty if it has none.

    ``weight`` is in torch's layout. If it is quantised, ``scale`` has one value or one per output channel, and the
    32-bit ``bias`` is in units of ``source.scale * scale``.
    """

    weight: Array = field(default_factory=NONE.copy)
    bias: Array = field(default_factory=NONE.copy)
    scale: Array = field(default_factory=NONE.copy)
    source: Affine | None = None
    target: Affine | None = None

    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Yield all values on which the codes depend, in float32."""
        if self.weight.size:
            axes = (-1,) + (1,) * (self.weight.ndim - 1)
            yield "weight", self.weight * (self.scale.reshape(axes) if self.scale.size else np.float32(1))
        if self.bias.size:
            yield "bias", self.bias * (self.source.scale * self.scale if self.source else np.float32(1))
        for name, affine in (("source", self.source), ("target", self.target)):
            if affine is not None:
                yield name, np.array(affine, np.float32)

    @property
    def ratio(self) -> Array:
        """The factor that converts a sum to units of the output, rounded as in the kernels."""
        assert self.source is not None
        assert self.target is not None
        return np.asarray(self.source.scale * self.scale / self.target.scale)


UNIT = ("act0", "depthwise", "pointwise", "act1", "output")


def _unit(name: str, channels: int, groups: int, *, floats: int = len(UNIT)) -> Iterator[Expected]:
    """Yield a residual unit whose first ``floats`` steps compute in float32, the others with 8-bit integers."""
    for i, step in enumerate(UNIT):
        quantised = i >= floats
        if step == "depthwise":
            yield Expected(f"{name}.{step}", "DEPTHWISE_CONV_2D", (1, 3, 1, channels), quantised)
        elif step == "pointwise":
            yield _convolution(f"{name}.{step}", channels, 1, channels, quantised=quantised)
        elif step == "output":
            yield _convolution(f"{name}.{step}", channels, 1, channels // groups, quantised=quantised)
        elif quantised:
            yield _activation(f"{name}.{step}")


def _units(name: str, channels: int, groups: int) -> Iterator[Expected]:
    for i in range(3):
        yield from _unit(f"{name}.res{i}", channels, groups)


def _quantised_units(name: str, floats: int) -> Iterator[Expected]:
    """Yield the innermost stage of the encoder or decoder: the input of its first unit is float32."""
    yield from _unit(f"{name}.res0", 256, 4, floats=floats)
    yield from _unit(f"{name}.res1", 256, 4, floats=0)
    yield from _unit(f"{name}.res2", 256, 4, floats=0)


def _activation(name: str) -> Expected:
    return Expected(name, "LEAKY_RELU", (), quantised=True)


def _convolution(name: str, out: int, kernel: int, inputs: int, *, quantised: bool = False) -> Expected:
    return Expected(name, "CONV_2D", (out, kernel, 1, inputs), quantised)


def _transposed(name: str, out: int, kernel: int, inputs: int, *, quantised: bool = False) -> Iterator[Expected]:
    yield Expected(name, "TRANSPOSE_CONV", (out, kernel, 1, inputs), quantised)
    yield Expected(f"{name}.overlap", "SUB", (out,))


ENCODER = (
    _convolution("encoder.first", 64, 64, 1),
    *_units("encoder.0", 64, 1),
    _convolution("encoder.0.down", 128, 10, 64),
    *_units("encoder.1", 128, 2),
    _convolution("encoder.1.down", 256, 4, 64),
    *_quantised_units("encoder.2", floats=3),
    _activation("encoder.2.act"),
    _convolution("encoder.2.down", 512, 4, 64, quantised=True),
    _activation("encoder.act"),
    _convolution("encoder.bottleneck", FEATURES, 3, 128, quantised=True),
)
QUANTISER = tuple(Expected(f"quantiser.{i}", "SQUARED_DIFFERENCE", (1, ENTRIES, FEATURES)) for i in range(STAGES))
DECODER = (
    _convolution("decoder.bottleneck", 512, 3, FEATURES // 4),
    *(e for group in range(4) for e in _transposed(f"decoder.0.up{group}", 64, 4, 128, quantised=True)),
    *_quantised_units("decoder.0", floats=1),
    _activation("decoder.1.act"),
    *(e for group in range(2) for e in _transposed(f"decoder.1.up{group}", 64, 4, 128, quantised=True)),
    *_units("decoder.1", 128, 2),
    *_transposed("decoder.2.up", 64, 10, 128),
    *_units("decoder.2", 64, 1),
    *_transposed("decoder.last", 1, 64, 64),
)
FILES = (
    ("soundstream_encoder.tflite", "main", ENCODER),
    ("quantizer.tflite", "encode", QUANTISER),
    ("lyragan.tflite", "main", DECODER),
)


def read(folder: Path) -> dict[str, Parameters]:
    """Read the operators' parameters from the three files. Raises ModelError, which names what is wrong."""
    if missing := [file for file, *_ in FILES if not (folder / file).is_file()]:
        raise ModelError(f"{folder} contains no weights of SoundStream: {', '.join(missing)} missing")
    parameters: dict[str, Parameters] = {}
    for file, subgraph, expected in FILES:
        parameters.update(_read(folder / file, subgraph, expected))
    return parameters


def _read(path: Path, subgraph: str, expected: Sequence[Expected]) -> dict[str, Parameters]:
    operators = [
        operator
        for operator in read_operators(path, subgraph, {e.kind for e in expected})
        # Only quantised leaky ReLUs are in the lists.
        if operator.kind != "LEAKY_RELU" or any(o is not None and o.scale.size for o in operator.outputs)
    ]
    parameters = {}
    for i, entry in enumerate(expected):
        if i == len(operators):
            raise ModelError(f"{path.name}: {entry.name} is missing")
        try:
            parameters[entry.name] = _parameters(entry, operators[i])
        except ModelError as error:
            raise ModelError(f"{path.name}: {entry.name}: {error}") from None
    if len(operators) > len(expected):
        extra = ", ".join(_names(operators[len(expected) :]))
        raise ModelError(f"{path.name}: operators that SoundStream does not have: {extra}")
    return parameters


def _names(operators: Sequence[Operator]) -> Iterator[str]:
    for operator in operators:
        yield operator.outputs[0].name if operator.outputs and operator.outputs[0] else operator.kind


# The input numbers of the signal, the weight and the bias.
OPERANDS = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
    "LEAKY_RELU": (0,),
    "SUB": (0, 1),
    "SQUARED_DIFFERENCE": (0, 1),
}
# The axes of torch's weights among TFLite's, without the third one (the height of an image).
AXES = {"CONV_2D": (0, 2, 1), "DEPTHWISE_CONV_2D": (2, 0, 1), "TRANSPOSE_CONV": (2, 0, 1)}


def _parameters(expected: Expected, operator: Operator) -> Parameters:
    """Read the parameters of an operator. Raises ModelError if it is not the expected one."""
    _, kind, shape, quantised = expected
    if operator.kind != kind:
        raise ModelError(f"{kind} is missing, found {next(_names([operator]))} ({operator.kind})")
    if len(operator.inputs) <= max(OPERANDS[kind]) or len(operator.outputs) != 1:
        raise ModelError(f"{kind} has too few inputs or no output")
    signal, *constants = (operator.inputs[i] for i in OPERANDS[kind])
    source, target = (_affine(signal), _affine(operator.outputs[0])) if quantised else (None, None)
    if not constants:
        return Parameters(source=source, target=target)
    weight = _constant(constants[0], shape, np.int8 if quantised else np.float32)
    if len(constants) == 1:
        return Parameters(weight.reshape(shape[-2:]))
    out = shape[-1 if kind == "DEPTHWISE_CONV_2D" else 0]
    scale = _scale(constants[0], (1,) if kind == "TRANSPOSE_CONV" else (1, out)) if quantised else NONE
    bias = _constant(constants[1], (out,), np.int32 if quantised else np.float32)
    return Parameters(weight[:, :, 0].transpose(AXES[kind]), bias, scale, source, target)


def _constant(operand: Operand | None, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    if operand is None or operand.values is None:
        raise ModelError(f"values with shape {list(shape)} are missing")
    if operand.shape != shape or operand.values.dtype != dtype:
        found = f"{list(operand.shape)} {operand.values.dtype}"
        raise ModelError(f"{operand.name!r} is {found}, not {list(shape)} {np.dtype(dtype)}")
    return operand.values


def _scale(operand: Operand | None, sizes: tuple[int, ...]) -> Array:
    if operand is None or operand.scale.size not in sizes:
        raise ModelError(f"the number of scales is not {' or '.join(map(str, sizes))}")
    if not (np.isfinite(operand.scale) & (operand.scale > 0)).all():
        raise ModelError(f"{operand.name!r} has a scale that is not positive")
    return operand.scale


def _affine(operand: Operand | None) -> Affine:
    scale = _scale(operand, (1,))
    if operand is None or operand.zero_point.shape != (1,) or not -128 <= operand.zero_point[0] <= 127:
        raise ModelError("needs one zero point from -128 to 127")
    return Affine(np.float32(scale[0]), int(operand.zero_point[0]))
