"""SoundStream in the form that Lyra V2 ships: 16 kHz, one frame of up to 46 codes each 20 ms.

Zeghidour et al. 2021, "SoundStream: An End-to-End Neural Audio Codec" (arXiv:2107.03312), sections III-A to III-C;
the trained networks are those of https://github.com/google/lyra (v1.3.2). Lyra's networks differ from the paper:
residual units have a depthwise and a pointwise convolution, the activation is a leaky ReLU, and about half of the
layers compute with 8-bit integers. Those are reproduced to the bit, as the XNNPACK kernels of TFLite round them:
the codes depend on it.

Integers are held in float32 and *centred*: a value q with zero point z is held as q - z, so that 0 means zero
and padding needs no care. All sums stay below 2**24 in magnitude, which makes float32 arithmetic on them exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs import layers, rvq
from nac.codecs.fingerprint import fingerprint
from nac.codecs.layers import Pointwise, Span, Weights, context, conv_span, each, transposed_span, union
from nac.codecs.tflite import Array, Operand, Operator, read_operators
from nac.codecs.windows import Plan, Tensors, WindowedCodec
from nac.errors import ModelError
from nac.spec import CodecSpec

SLOPE = float(np.float32(0.3))  # of all leaky ReLUs
FEATURES = 64  # dimensions of the latent space
STAGES, ENTRIES = 46, 16
WINDOW = 250  # frames, 5 s; measured: context costs more in shorter windows, memory in longer ones


# Layers: functions of [B, channels, steps] that know which inputs an output depends on.


class Affine(NamedTuple):
    """An 8-bit quantisation: q stands for ``scale * (q - zero_point)``."""

    scale: np.float32
    zero_point: int

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest centred value."""
        return -128 - self.zero_point, 127 - self.zero_point


class Layer(Protocol):
    """``source`` and ``target`` say how input and output are quantised; None is plain float32."""

    @property
    def source(self) -> Affine | None: ...

    @property
    def target(self) -> Affine | None: ...

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def needs(self, span: Span, /) -> Span:
        """The inputs that the outputs ``span`` depend on."""
        ...


@dataclass(frozen=True)
class Quantise(Pointwise):
    target: Affine
    source: None = None

    def __call__(self, x: Tensor) -> Tensor:
        return (x / float(self.target.scale)).round_().clamp_(*self.target.limits)


@dataclass(frozen=True)
class Dequantise(Pointwise):
    source: Affine
    target: None = None

    def __call__(self, x: Tensor) -> Tensor:
        return x * float(self.source.scale)


@dataclass(frozen=True)
class LeakyReLU(Pointwise):
    source: Affine | None = None
    target: Affine | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.source is None or self.target is None:
            return functional.leaky_relu(x, SLOPE)
        # The kernel multiplies by whole 256ths and rounds half up. As the slope is less than 1, the greater of the
        # two products is the one for the value's own sign.
        up = np.rint(256 * (self.source.scale / self.target.scale)) / 256
        down = np.rint(256 * (self.source.scale * np.float32(SLOPE) / self.target.scale)) / 256
        y = torch.maximum(x * float(up), x * float(down))
        return y.add_(0.5).floor_().clamp_(*self.target.limits)


@dataclass(frozen=True, eq=False)
class Convolution:
    """Causal convolution. ``weight``: [out, in / groups, kernel]; integers if quantised, as is the bias [out].

    ``ratio`` [out, 1] turns the sums into units of ``target``.
    """

    weight: Tensor
    bias: Tensor
    stride: int = 1
    dilation: int = 1
    source: Affine | None = None
    target: Affine | None = None
    ratio: Tensor | None = None

    @property
    def left(self) -> int:
        """Padding before the signal: none of it looks ahead."""
        return self.dilation * (self.weight.shape[-1] - 1) + 1 - self.stride

    def sums(self, x: Tensor) -> Tensor:
        groups = x.shape[1] // self.weight.shape[1]
        x = functional.pad(x, (self.left, 0)) if self.left else x
        return functional.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, groups)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.sums(x)
        if self.ratio is None or self.target is None:
            return y
        return y.mul_(self.ratio).round_().clamp_(*self.target.limits)

    def needs(self, span: Span) -> Span:
        kernel = self.weight.shape[-1]
        return conv_span(span, kernel=kernel, stride=self.stride, dilation=self.dilation, left=self.left)


class Depthwise(Convolution):
    """Each channel by itself; products of shifted signals are faster than torch's convolution here."""

    def sums(self, x: Tensor) -> Tensor:
        *before, last = self.weight.unbind(-1)
        y = torch.addcmul(self.bias[:, None], x, last)
        for i, weight in enumerate(reversed(before), start=1):
            shift = i * self.dilation
            y[..., shift:].addcmul_(x[..., :-shift], weight)
        return y


@dataclass(frozen=True, eq=False)
class Transposed:
    """Causal transposed convolution in float32, whose kernel is a multiple of the stride.

    ``weight``: [groups, out * kernel / groups, in / groups]; ``bias``: [out, 1, 1].
    """

    weight: Tensor
    bias: Tensor
    stride: int
    kernel: int
    source: Affine | None = None
    target: Affine | None = None

    def products(self, x: Tensor) -> Tensor:
        """[B, out, i, stride, steps]: what a step adds to the outputs of the i-th step from it on."""
        batch, _, steps = x.shape
        y = torch.matmul(self.weight, x.reshape(batch, len(self.weight), -1, steps))
        return y.view(batch, -1, self.kernel // self.stride, self.stride, steps)

    def __call__(self, x: Tensor) -> Tensor:
        first, *later = self.products(x).unbind(2)
        y = first + self.bias
        for i, products in enumerate(later, start=1):
            y[..., i:] += products[..., :-i]
        return y.transpose(2, 3).flatten(2)

    def needs(self, span: Span) -> Span:
        return transposed_span(span, kernel=self.kernel, stride=self.stride)


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantisedTransposed(Transposed):
    """Causal transposed convolution of 8-bit integers in groups, each with a quantisation of its own.

    The kernel is two strides. Each ``block`` of steps (one frame) is quantised by itself, the bias included, and
    then they overlap in float32; ``overlap`` is the bias that is there once too often. It and ``ratio``, ``low``,
    ``high`` and ``scale`` belong to the output channels: [out, 1, 1, 1], as does ``bias`` here.
    """

    block: int
    overlap: Tensor
    ratio: Tensor
    low: Tensor
    high: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        products = self.products(x)
        blocks = products.view(*products.shape[:-1], -1, self.block)
        head, tail = blocks.unbind(2)  # [B, out, stride, blocks, block]
        head[..., 1:] += tail[..., :-1]
        head, tail = self.rounded(head), self.rounded(tail[..., -1:])
        head[..., 1:, :1] += tail[..., :-1, :] - self.overlap
        return head.flatten(3).transpose(2, 3).flatten(2)

    def rounded(self, sums: Tensor) -> Tensor:
        return (sums + self.bias).mul_(self.ratio).round_().clamp_(self.low, self.high).mul_(self.scale)


@dataclass(frozen=True, eq=False)
class Residual:
    """``x + branch(x)``; of 8-bit integers as the kernel does it, with 21-bit multipliers and rounding half up."""

    branch: Chain
    source: Affine | None = None
    target: Affine | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        if self.source is None or self.branch.target is None or self.target is None:
            return y.add_(x)
        scales = [float(addend.scale / self.target.scale) for addend in (self.branch.target, self.source)]
        shift = 20 - (math.frexp(max(scales))[1] - 1)
        a, b = (round(scale * 2**shift) for scale in scales)
        total = (y.int() * a).add_(x.int() * b).add_(1 << shift - 1) >> shift
        return torch.clamp(total, *self.target.limits).to(torch.float32)

    def needs(self, span: Span) -> Span:
        return union(span, self.branch.needs(span))


class Chain(layers.Chain):
    """Layers one after the other, made by :func:`chain`."""

    def __init__(self, parts: Sequence[Layer]) -> None:
        super().__init__(parts)
        self.source, self.target = parts[0].source, parts[-1].target


def chain(parts: Sequence[Layer], source: Affine | None = None, *, to_float: bool = False) -> Chain:
    """Connect layers, from ``source`` on, converting where one kind of arithmetic meets the other."""
    connected: list[Layer] = []
    for layer in parts:
        if source is None and layer.source is not None:
            connected.append(Quantise(layer.source))
        elif source is not None and layer.source is None:
            connected.append(Dequantise(source))
        elif source != layer.source:
            raise ModelError(f"layers disagree on a quantisation: {source} and {layer.source}")
        connected.append(layer)
        source = layer.target
    if to_float and source is not None:
        connected.append(Dequantise(source))
    return Chain(connected)


# The files: which operators they hold, in order, and what is read from each.


class Expected(NamedTuple):
    """An operator of a file. ``shape`` is that of its constant in TFLite's layout, () if it has none."""

    name: str
    kind: str
    shape: tuple[int, ...]
    quantised: bool = False


NONE = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Parameters:
    """What an operator computes with, empty where it has none.

    ``weight`` is in torch's layout. If it is quantised, ``scale`` has one value or one for each output channel,
    and the 32-bit ``bias`` is in units of ``source.scale * scale``.
    """

    weight: Array = field(default_factory=NONE.copy)
    bias: Array = field(default_factory=NONE.copy)
    scale: Array = field(default_factory=NONE.copy)
    source: Affine | None = None
    target: Affine | None = None

    def tensors(self) -> Iterator[tuple[str, Array]]:
        """Everything that the codes depend on, in float32."""
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
        """What a sum is multiplied with to be in units of the output, rounded as the kernels have it."""
        assert self.source is not None
        assert self.target is not None
        return np.asarray(self.source.scale * self.scale / self.target.scale)


UNIT = ("act0", "depthwise", "pointwise", "act1", "output")


def _unit(name: str, channels: int, groups: int, *, floats: int = len(UNIT)) -> Iterator[Expected]:
    """A residual unit of which the first ``floats`` steps compute in float32, the others with 8-bit integers."""
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
    """The innermost stage of either network: its first unit takes float32."""
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


def load(spec: CodecSpec, folder: Path, device: torch.device) -> SoundStream:
    """The codec of the three TFLite files in ``folder``. Raises ModelError, which names what is not right."""
    parameters = {}
    if missing := [file for file, *_ in FILES if not (folder / file).is_file()]:
        raise ModelError(f"{folder} holds no weights of SoundStream: {', '.join(missing)} missing")
    for file, subgraph, expected in FILES:
        parameters.update(_read(folder / file, subgraph, expected))
    return SoundStream(spec, parameters, device)


def _read(path: Path, subgraph: str, expected: Sequence[Expected]) -> dict[str, Parameters]:
    operators = [
        operator
        for operator in read_operators(path, subgraph, {e.kind for e in expected})
        # Leaky ReLUs are listed only where they have a quantisation.
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
        raise ModelError(f"{path.name}: more than SoundStream has: {extra}")
    return parameters


def _names(operators: Sequence[Operator]) -> Iterator[str]:
    for operator in operators:
        yield operator.outputs[0].name if operator.outputs and operator.outputs[0] else operator.kind


# Which inputs are the signal, the weight and the bias.
OPERANDS = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
    "LEAKY_RELU": (0,),
    "SUB": (0, 1),
    "SQUARED_DIFFERENCE": (0, 1),
}
# Axes of torch's weights among TFLite's, of which the third (the height of an image) is left out.
AXES = {"CONV_2D": (0, 2, 1), "DEPTHWISE_CONV_2D": (2, 0, 1), "TRANSPOSE_CONV": (2, 0, 1)}


def _parameters(expected: Expected, operator: Operator) -> Parameters:
    """Raises ModelError if the operator is not the one expected."""
    _, kind, shape, quantised = expected
    if operator.kind != kind:
        raise ModelError(f"{kind} is missing, found {next(_names([operator]))} ({operator.kind})")
    if len(operator.inputs) <= max(OPERANDS[kind]) or len(operator.outputs) != 1:
        raise ModelError(f"{kind} lacks inputs or an output")
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
        raise ModelError(f"no values of shape {list(shape)}")
    if operand.shape != shape or operand.values.dtype != dtype:
        found = f"{list(operand.shape)} {operand.values.dtype}"
        raise ModelError(f"{operand.name!r} is {found}, not {list(shape)} {np.dtype(dtype)}")
    return operand.values


def _scale(operand: Operand | None, sizes: tuple[int, ...]) -> Array:
    if operand is None or operand.scale.size not in sizes:
        raise ModelError(f"not {' or '.join(map(str, sizes))} scales")
    if not (np.isfinite(operand.scale) & (operand.scale > 0)).all():
        raise ModelError(f"{operand.name!r} has a scale that is not positive")
    return operand.scale


def _affine(operand: Operand | None) -> Affine:
    scale = _scale(operand, (1,))
    if operand is None or operand.zero_point.shape != (1,) or not -128 <= operand.zero_point[0] <= 127:
        raise ModelError("not one zero point from -128 to 127")
    return Affine(np.float32(scale[0]), int(operand.zero_point[0]))


# The networks.


class Builder:
    """Makes layers of parameters."""

    def __init__(self, parameters: Mapping[str, Parameters], device: torch.device) -> None:
        self._parameters, self._device = parameters, device

    def tensor(self, values: Any) -> Tensor:
        return torch.tensor(np.array(values, np.float32), device=self._device)

    def encoder(self) -> Chain:
        """Audio [B, 1, n * 320] to features [B, 64, n] (section III-A)."""
        parts: list[Layer] = [
            self.convolution("encoder.first", stride=16),
            *self.units("encoder.0"),
            self.activation("encoder.0.act"),
            self.convolution("encoder.0.down", stride=5),
            *self.units("encoder.1"),
            self.activation("encoder.1.act"),
            self.convolution("encoder.1.down", stride=2),
            *self.units("encoder.2", following="encoder.2.act"),
            self.activation("encoder.2.act"),
            self.convolution("encoder.2.down", stride=2),
            self.activation("encoder.act"),
            self.convolution("encoder.bottleneck"),
        ]
        return chain(parts, to_float=True)

    def decoder(self) -> Chain:
        """Features [B, 64, n] to audio [B, 1, n * 320] (section III-B)."""
        parts: list[Layer] = [
            self.convolution("decoder.bottleneck"),
            self.activation("decoder.0.act"),
            self.quantised_transposed("decoder.0.up", groups=4, block=1),
            *self.units("decoder.0", following="decoder.1.act"),
            self.activation("decoder.1.act"),
            self.quantised_transposed("decoder.1.up", groups=2, block=2),
            *self.units("decoder.1"),
            self.activation("decoder.2.act"),
            self.transposed("decoder.2.up", stride=5),
            *self.units("decoder.2"),
            self.activation("decoder.last.act"),
            self.transposed("decoder.last", stride=16),
        ]
        return chain(parts)

    def quantisers(self) -> list[rvq.Euclidean]:
        entries = Weights({e.name: self.tensor(self._parameters[e.name].weight) for e in QUANTISER}, self._device)
        return [rvq.Euclidean(entries.take(e.name, ENTRIES, FEATURES)) for e in QUANTISER]

    def units(self, name: str, following: str = "") -> Iterator[Layer]:
        """Three residual units; their sums are quantised as the activation after each wants it."""
        for i, dilation in enumerate((1, 3, 9)):
            steps: list[Layer] = [
                self.activation(f"{name}.res{i}.act0"),
                self.convolution(f"{name}.res{i}.depthwise", dilation=dilation),
                self.convolution(f"{name}.res{i}.pointwise"),
                self.activation(f"{name}.res{i}.act1"),
                self.convolution(f"{name}.res{i}.output"),
            ]
            source = steps[0].source
            after = self.activation(f"{name}.res{i + 1}.act0" if i < 2 else following)
            target = None if source is None else after.source
            yield Residual(chain(steps, source, to_float=source is None), source, target)

    def activation(self, name: str) -> LeakyReLU:
        """In float32 where the files tell no quantisation."""
        parameters = self._parameters.get(name, Parameters())
        return LeakyReLU(parameters.source, parameters.target)

    def convolution(self, name: str, stride: int = 1, dilation: int = 1) -> Convolution:
        p = self._parameters[name]
        ratio = None if p.target is None else self.tensor(p.ratio[:, None])
        layer = Depthwise if name.endswith("depthwise") else Convolution
        return layer(self.tensor(p.weight), self.tensor(p.bias), stride, dilation, p.source, p.target, ratio)

    def transposed(self, name: str, stride: int) -> Transposed:
        p = self._parameters[name]
        weight, bias = self._rows([p]), self.tensor(p.bias)[:, None, None]
        return Transposed(weight, bias, stride, p.weight.shape[-1])

    def quantised_transposed(self, name: str, groups: int, block: int) -> QuantisedTransposed:
        """One layer of the groups, which are operators of their own in the file."""
        parts = [self._parameters[f"{name}{group}"] for group in range(groups)]
        overlaps = [self._parameters[f"{name}{group}.overlap"].weight for group in range(groups)]
        targets = [part.target for part in parts if part.target is not None]
        if any(part.source != parts[0].source for part in parts):
            raise ModelError(f"the groups of {name} are not quantised alike")

        def channels(values: Sequence[Any]) -> Tensor:
            """[out, 1, 1, 1] of one value a group, or a row of values a group."""
            rows = [np.broadcast_to(value, part.bias.shape) for value, part in zip(values, parts, strict=True)]
            return self.tensor(np.concatenate(rows)[:, None, None, None])

        return QuantisedTransposed(
            weight=self._rows(parts),
            bias=channels([part.bias for part in parts]),
            stride=2,
            kernel=4,
            source=parts[0].source,
            block=block,
            overlap=channels(overlaps),
            ratio=channels([part.ratio for part in parts]),
            low=channels([target.limits[0] for target in targets]),
            high=channels([target.limits[1] for target in targets]),
            scale=channels([target.scale for target in targets]),
        )

    def _rows(self, groups: Sequence[Parameters]) -> Tensor:
        """Weights [in, out, kernel] of each group to [groups, out * kernel, in]."""
        return self.tensor([p.weight.reshape(p.weight.shape[0], -1).T for p in groups])


class SoundStream(WindowedCodec):
    """See :class:`nac.codecs.base.Codec`. ``parameters``: by the names in ENCODER, QUANTISER and DECODER."""

    def __init__(self, spec: CodecSpec, parameters: Mapping[str, Parameters], device: torch.device) -> None:
        tensors = {f"{name}.{key}": t for name, p in parameters.items() for key, t in p.tensors()}
        self.spec = spec.with_fingerprint(fingerprint(tensors))
        self.device = device
        build = Builder(parameters, device)
        self._encoder, self._quantisers, self._decoder = build.encoder(), build.quantisers(), build.decoder()
        hop = self.spec.frame_samples
        self.encode_plan = Plan(*context(self._encoder.needs, in_units=hop, out_units=1), WINDOW)
        self.decode_plan = Plan(*context(self._decoder.needs, in_units=1, out_units=hop), WINDOW)

    def encode_frames(self, audio: Tensor, codebooks: int) -> Tensors:
        return each(lambda audio: self.quantise(self.features(audio), codebooks), audio)

    def decode_frames(self, arrays: Tensors, first: int) -> Tensor:
        (audio,) = each(lambda *arrays: (self.synthesise(self.dequantise(arrays)),), *arrays)
        return audio

    def features(self, audio: Tensor) -> Tensor:
        """Float32 [B, 1, n * 320] to [B, 64, n]."""
        return self._encoder(audio)

    def quantise(self, features: Tensor, codebooks: int) -> Tensors:
        """Codes [B, n] of each codebook."""
        return rvq.encode(self._quantisers[:codebooks], features.transpose(1, 2))

    def dequantise(self, arrays: Tensors) -> Tensor:
        """Inverse of :meth:`quantise`, as near as it gets: the sum of the entries, coarse to fine."""
        features = torch.zeros(*arrays[0].shape, FEATURES, device=self.device)
        for quantiser, codes in zip(self._quantisers, arrays, strict=False):
            features += quantiser.decode(codes)
        return features.transpose(1, 2)

    def synthesise(self, features: Tensor) -> Tensor:
        """Features [B, 64, n] to audio [B, 1, n * 320], which may pass -1 to 1 a little."""
        return self._decoder(features)
