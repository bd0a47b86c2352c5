"""EnCodec (Défossez et al. 2022, arXiv:2210.13438).

SEANet convolutions (Tagliasacchi et al. 2020, arXiv:2009.02095) with an LSTM on either side of a residual
quantiser (section 3.1). The model at 24 kHz is causal: its convolutions and its LSTM carry what they remember
from one block to the next, so that a signal of any length is one signal. The one at 48 kHz works on segments of a
second, each brought to the same loudness, which overlap by 1 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs import rvq
from nac.codecs.base import Codec, CodecSpec, Codes, Segment
from nac.codecs.layers import Conv, ToAudio, Transposed, Weights
from nac.workers import Together, in_turn

STRIDES = (2, 4, 5, 8)  # in the encoder's order
FILTERS = 32  # channels at the sample rate, doubled at each stride
LATENT = 128
BLOCK = 64  # frames that the 24 kHz model computes at a time, as measured
GROUP = 8  # segments that the 48 kHz model computes at a time
MOST_ROWS = 16  # signals whose LSTM is computed as one


@dataclass
class Stream:
    """Where a network is in a signal: whether the next piece is the ``first`` or ``last``, what it remembers.

    Only causal networks can take a signal in pieces; all but the last are whole frames, and the first has at least
    as many steps at each layer as the padding there.
    """

    first: bool = True
    last: bool = False
    memory: dict[object, Tensor] = field(default_factory=dict)


class Layer(Protocol):
    def __call__(self, x: Tensor, stream: Stream, /) -> Tensor: ...


def elu(x: Tensor) -> Tensor:
    """ELU with exp(x) - 1 for negative x: its error of 6e-8 does no harm, and it takes half the time of expm1."""
    below = x.clamp_max(0).exp_().sub_(1)
    return torch.maximum(x, below, out=below)


def reflect(x: Tensor, left: int, right: int) -> Tensor:
    """Reflections around the signal [B, T, C]; zeros follow one too short for them while it is reflected."""
    missing = max(left, right) + 1 - x.shape[1]
    if missing > 0:
        x = functional.pad(x, (0, 0, 0, missing))
    padded = torch.cat([x[:, 1 : left + 1].flip(1), x, x[:, -right - 1 : -1].flip(1)], 1)
    return padded[:, : padded.shape[1] - max(missing, 0)]


class Norm:
    """Group normalisation with one group: over all steps and channels (Wu and He 2018, arXiv:1803.08494)."""

    def __init__(self, weights: Weights, name: str, channels: int) -> None:
        self._scale, self._shift = (weights.take(f"{name}.norm.{part}", channels) for part in ("weight", "bias"))

    def __call__(self, x: Tensor) -> Tensor:
        normal = functional.layer_norm(x, x.shape[1:])
        return torch.addcmul(self._shift, normal, self._scale, out=normal)


class Reflected:
    """A convolution over a signal that is reflected at its ends, and normalised after it if not causal."""

    def __init__(
        self, weights: Weights, name: str, inner: int, outer: int, kernel: int, *, causal: bool, stride: int = 1
    ) -> None:
        weight = weights.take(f"{name}.conv.weight", outer, inner, kernel)
        bias = weights.take(f"{name}.conv.bias", outer)
        self._conv = ToAudio(weight, bias) if outer < 8 and stride == 1 else Conv(weight, bias, stride=stride)
        self._norm = None if causal else Norm(weights, name, outer)
        self._stride, total = stride, kernel - stride
        self._right = 0 if causal else total // 2
        self._left = total - self._right

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        x = self._conv(self._pad(x, stream))
        return self._norm(x) if self._norm else x

    def _pad(self, x: Tensor, stream: Stream) -> Tensor:
        right = self._right + -x.shape[1] % self._stride if stream.last else 0
        left = self._left if stream.first else 0
        if not stream.first and self._left:
            x = torch.cat([stream.memory[self], x], 1)
        if left or right:
            x = reflect(x, left, right)
        if self._left and not stream.last:
            stream.memory[self] = x[:, x.shape[1] - self._left :].clone()
        return x


class Up:
    """ELU, then a transposed convolution, normalised before it is cut if not causal."""

    def __init__(self, weights: Weights, name: str, inner: int, outer: int, stride: int, *, causal: bool) -> None:
        weight = weights.take(f"{name}.conv.weight", inner, outer, 2 * stride)
        bias = weights.take(f"{name}.conv.bias", outer)
        self._norm = None if causal else Norm(weights, name, outer)
        self._stride = stride
        self._conv = Transposed(weight, bias)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        length = x.shape[1] * self._stride
        x = elu(x)
        if self._norm:
            left = self._stride - self._stride // 2
            return self._norm(self._conv(functional.pad(x, (0, 0, 1, 1))))[:, left : left + length]
        before = torch.zeros_like(x[:, :1]) if stream.first else stream.memory[self]
        stream.memory[self] = x[:, -1:].clone()
        return self._conv(torch.cat([before, x], 1))


class Block:
    """Residual block: ELU, kernel 3, ELU, kernel 1, beside a shortcut of kernel 1."""

    def __init__(self, weights: Weights, name: str, channels: int, *, causal: bool) -> None:
        hidden = channels // 2
        self._wide = Reflected(weights, f"{name}.block.1", channels, hidden, 3, causal=causal)
        self._narrow = Reflected(weights, f"{name}.block.3", hidden, channels, 1, causal=causal)
        self._shortcut = Reflected(weights, f"{name}.shortcut", channels, channels, 1, causal=causal)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        inner = self._narrow(elu(self._wide(elu(x), stream)), stream)
        return self._shortcut(x, stream).add_(inner)


class EluConv:
    """ELU, then a convolution."""

    def __init__(self, conv: Reflected) -> None:
        self._conv = conv

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        return self._conv(elu(x), stream)


class Lstm:
    """Two layers of LSTM and a skip connection, [B, T, C] -> [B, T, C]."""

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

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        zeros = x.new_zeros(2, 2, x.shape[0], self._size)
        state = zeros if stream.first else stream.memory[self]  # hidden and memory, layers, B, C
        if x.is_cuda:
            with torch.backends.cudnn.flags(allow_tf32=False):  # codes must not depend on the device
                out, *after = torch.lstm(
                    x.transpose(0, 1), tuple(state), self._parameters, True, 2, 0.0, False, False, False
                )
            out, state = out.transpose(0, 1), torch.stack(after)
        else:
            out, state = self._together((x, state))
        stream.memory[self] = state
        return x + out

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


Piece = tuple[Tensor, Tensor]


class Rows:
    """Rows [B, i] times the transpose of a matrix [o, i], where no row's result depends on how many there are.

    oneDNN's products with weights that it has packed for ``PACKED_FOR`` rows are of that kind, and read the
    weights once for all; where they are not to be had, or turn out otherwise, row is multiplied by row.
    """

    PACKED_FOR = 8

    def __init__(self, matrix: Tensor) -> None:
        self._columns = matrix.t().contiguous()
        self._packed: Tensor | None = None
        if not matrix.is_cuda and torch._C._has_mkldnn:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), self.PACKED_FOR)
            trial = torch.linspace(-1, 1, MOST_ROWS * matrix.shape[1]).reshape(MOST_ROWS, -1).sin()
            whole = self(trial)
            if not all(torch.equal(self(trial[:rows]), whole[:rows]) for rows in range(1, MOST_ROWS)):
                self._packed = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return torch.cat([row @ self._columns for row in torch.split(x, 1)])
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], ""))


@dataclass(frozen=True)
class Network:
    """Half of the codec: convolutions on either side of an LSTM."""

    front: Sequence[Layer]
    lstm: Lstm
    back: Sequence[Layer]


def run(layers: Sequence[Layer], x: Tensor, stream: Stream) -> Tensor:
    for layer in layers:
        x = layer(x, stream)
    return x


def _encoder(weights: Weights, channels: int, *, causal: bool) -> Network:
    width = FILTERS
    front: list[Layer] = [Reflected(weights, "encoder.layers.0", channels, width, 7, causal=causal)]
    for i, stride in enumerate(STRIDES):
        front.append(Block(weights, f"encoder.layers.{3 * i + 1}", width, causal=causal))
        name = f"encoder.layers.{3 * i + 3}"
        front.append(EluConv(Reflected(weights, name, width, 2 * width, 2 * stride, causal=causal, stride=stride)))
        width *= 2
    lstm = Lstm(weights, "encoder.layers.13", width)
    return Network(
        front, lstm, [EluConv(Reflected(weights, "encoder.layers.15", width, LATENT, 7, causal=causal))]
    )


def _decoder(weights: Weights, channels: int, *, causal: bool) -> Network:
    width = FILTERS * 2 ** len(STRIDES)
    front = [Reflected(weights, "decoder.layers.0", LATENT, width, 7, causal=causal)]
    lstm = Lstm(weights, "decoder.layers.1", width)
    back: list[Layer] = []
    for i, stride in enumerate(reversed(STRIDES)):
        back.append(Up(weights, f"decoder.layers.{3 * i + 3}", width, width // 2, stride, causal=causal))
        width //= 2
        back.append(Block(weights, f"decoder.layers.{3 * i + 4}", width, causal=causal))
    back.append(EluConv(Reflected(weights, "decoder.layers.15", width, channels, 7, causal=causal)))
    return Network(front, lstm, back)


class _Encodec(Codec):
    """What both models share. ``weights`` are named as in transformers, with weight norm folded."""

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        self.spec, self.device, causal = spec, weights.device, spec.segment is None
        self.encode_network = _encoder(weights, spec.channels, causal=causal)
        self.decode_network = _decoder(weights, spec.channels, causal=causal)
        self.quantisers = [
            rvq.Euclidean(weights, f"quantizer.layers.{i}.codebook.embed", 2**book.bits, LATENT)
            for i, book in enumerate(spec.codebooks)
        ]
        weights.finish()


# 24 kHz


class Encodec24(_Encodec):
    """EnCodec at 24 kHz, one channel. Every frame depends on all before it."""

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder24:
        return Encoder24(self, self.spec.check_codebooks(codebooks))

    def decoder(self, *, origin: int = 0, start: int | None = None) -> Decoder24:
        return Decoder24(self, 0 if start is None else start - origin)

    def preroll(self, frame: int, origin: int = 0) -> int:
        return origin


class _Causal:
    """A signal on its way through a causal network: blocks of a fixed length, counted from its first frame."""

    def __init__(self, codec: Encodec24) -> None:
        self.codec = codec
        self._streams: list[list[Stream]] = []

    def run(
        self,
        network: Network,
        blocks: Sequence[Tensor],
        finish: Callable[[Tensor], Tensor],
        *,
        ended: bool = False,
    ) -> list[Tensor]:
        """The next blocks [B, T, C] through the network and what ``finish`` makes of them, side by side.

        At once on a GPU; on a CPU item by item but for the LSTM. If the signal has ``ended``, the last is its end.
        """
        if not blocks:
            return []
        if not self._streams:
            rows = 1 if self.codec.on_gpu else blocks[0].shape[0]
            self._streams = [[Stream() for _ in range(count)] for count in (rows, 1, rows)]

        def stage(layers: Sequence[Layer], streams: list[Stream], last: Callable[[Tensor], Tensor]) -> Stage:
            def step(item: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
                results = []
                for part, stream in zip(item[0].chunk(len(streams)), streams, strict=True):
                    stream.last = item[1]
                    results.append(last(run(layers, part, stream)))
                    stream.first = False
                return torch.cat(results), item[1]

            return self.codec.within(step)

        parts = (network.front, [network.lstm], network.back)
        finishes = (same, same, finish)
        stages = [stage(*each) for each in zip(parts, self._streams, finishes, strict=True)]
        items = [(block, ended and block is blocks[-1]) for block in blocks]
        return [x for x, _ in in_turn(stages, items)]


Stage = Callable[[tuple[Tensor, bool]], tuple[Tensor, bool]]


def same(x: Tensor) -> Tensor:
    return x


class Encoder24(_Causal):
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: Encodec24, codebooks: int) -> None:
        super().__init__(codec)
        self._quantisers = codec.quantisers[:codebooks]
        self._rest = torch.zeros(1, codec.spec.channels, 0, device=codec.device)

    def push(self, audio: Tensor) -> Codes:
        self.codec._check_audio(audio)
        audio = self.codec.array(audio, np.float32)
        audio = torch.cat([self._rest, audio], -1) if self._rest.shape[-1] else audio
        step = BLOCK * self.codec.spec.frame_samples
        whole = audio.shape[-1] // step * step
        self._rest = audio[..., whole:].clone()
        return self._encode(torch.split(audio[..., :whole], step, -1) if whole else ())

    def flush(self) -> Codes:
        rest, self._rest = self._rest, self._rest[..., :0]
        return self._encode([rest] if rest.shape[-1] else (), ended=True)

    def _encode(self, blocks: Sequence[Tensor], *, ended: bool = False) -> Codes:
        """Codes of blocks [B, C, n]."""
        inputs = [block.transpose(1, 2) for block in blocks]
        layers = self.run(self.codec.encode_network, inputs, self._quantise, ended=ended)
        none = torch.zeros(
            self._rest.shape[0], len(self._quantisers), 0, dtype=torch.int64, device=self._rest.device
        )
        return Codes(torch.cat([none, *layers], -1).unbind(1))

    def _quantise(self, latents: Tensor) -> Tensor:
        return torch.stack(rvq.encode(self._quantisers, latents), 1)


class Decoder24(_Causal):
    """See :class:`nac.codecs.base.Decoder`. ``skip``: frames at the beginning that are not wanted."""

    def __init__(self, codec: Encodec24, skip: int) -> None:
        super().__init__(codec)
        self._skip = skip * codec.spec.frame_samples
        self._rest: Tensor | None = None  # codes [B, codebooks, T] that do not fill a block yet
        self._batch = 1

    def push(self, codes: Codes) -> Tensor:
        arrays = torch.stack([self.codec.array(array, np.int64) for array in codes.arrays], 1)
        self._batch = arrays.shape[0]
        arrays = torch.cat([self._rest, arrays], -1) if self._rest is not None else arrays
        whole = arrays.shape[-1] // BLOCK * BLOCK
        self._rest = arrays[..., whole:].clone()
        return self._decode(torch.split(arrays[..., :whole], BLOCK, -1) if whole else ())

    def flush(self) -> Tensor:
        rest, self._rest = self._rest, None
        return self._decode([rest] if rest is not None and rest.shape[-1] else (), ended=True)

    def _decode(self, blocks: Sequence[Tensor], *, ended: bool = False) -> Tensor:
        vectors = [self.codec.within(rvq.decode)(self.codec.quantisers, block.unbind(1)) for block in blocks]
        parts = self.run(self.codec.decode_network, vectors, same, ended=ended)
        none = torch.zeros(self._batch, 0, self.codec.spec.channels, device=self.codec.device)
        audio = torch.cat([none, *parts], 1).transpose(1, 2)
        skipped = min(self._skip, audio.shape[-1])
        self._skip -= skipped
        return audio[..., skipped:]


# 48 kHz


class Encodec48(_Encodec):
    """EnCodec at 48 kHz, two channels, in segments that are coded by themselves and cross-faded.

    Of a segment's frames each depends on all others. Segments are computed in groups, counted from the first of
    the signal, so that the LSTM's weights are read once for all; there a segment has its row whatever the others.
    """

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        super().__init__(spec, weights)
        assert spec.segment
        self.segment: Segment = spec.segment
        self.samples = spec.segment.frames * spec.frame_samples
        self.overlap = self.samples - spec.segment.stride

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder48:
        return Encoder48(self, self.spec.check_codebooks(codebooks), origin)

    def decoder(self, *, origin: int = 0, start: int | None = None) -> Decoder48:
        return Decoder48(self, origin, origin if start is None else start)

    def preroll(self, frame: int, origin: int = 0) -> int:
        segment, inner = divmod(frame, self.segment.frames)
        fading = inner * self.spec.frame_samples < self.overlap
        return max((segment - fading) * self.segment.frames, origin)

    def encode_segments(self, audio: Tensor, codebooks: int) -> Codes:
        """Segments of equal length [B, S, C, n]."""
        batch = audio.shape[0]
        network, quantisers = self.encode_network, self.quantisers[:codebooks]

        def front(x: Tensor) -> tuple[Tensor, Tensor]:
            scale = x.mean(1).square().mean(-1).sqrt() + 1e-8
            return run(network.front, (x / scale[:, None, None]).transpose(1, 2), Stream(last=True)), scale

        def back(x: Tensor) -> tuple[Tensor, ...]:
            return rvq.encode(quantisers, run(network.back, x, Stream(last=True)))

        x, scale = self._each(front, audio.flatten(0, 1))
        codes = self._each(back, self._remember(network.lstm, x))
        return Codes(tuple(array.reshape(batch, -1) for array in codes), scale.reshape(batch, -1))

    def decode_segments(self, codes: Codes, segments: int) -> Tensor:
        """The inverse: [B, S, C, n]."""
        assert codes.scale is not None
        batch, network = codes.scale.shape[0], self.decode_network

        def front(*arrays: Tensor) -> tuple[Tensor]:
            return (run(network.front, rvq.decode(self.quantisers, arrays), Stream(last=True)),)

        def back(x: Tensor) -> tuple[Tensor]:
            return (run(network.back, x, Stream(last=True)),)

        (x,) = self._each(front, *(array.reshape(batch * segments, -1) for array in codes.arrays))
        (audio,) = self._each(back, self._remember(network.lstm, x))
        return audio.transpose(1, 2).reshape(batch, segments, *audio.shape[:0:-1]) * codes.scale[..., None, None]

    def _each(self, function: Callable[..., tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
        """A function of batches [B, ...]: at once on a GPU, item by item and side by side on a CPU."""
        if self.on_gpu:
            return self.within(function)(*batch)
        items = zip(*(torch.split(tensor, 1) for tensor in batch), strict=True)
        results = self.run([partial(function, *item) for item in items])
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))

    def _remember(self, lstm: Lstm, x: Tensor) -> Tensor:
        return self.within(lstm)(x, Stream(last=True))


class Encoder48:
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: Encodec48, codebooks: int, origin: int) -> None:
        self._codec, self._codebooks = codec, codebooks
        self._segment = origin // codec.segment.frames
        self._rest = torch.zeros(1, codec.spec.channels, 0, device=codec.device)

    def push(self, audio: Tensor) -> Codes:
        self._codec._check_audio(audio)
        audio = self._codec.array(audio, np.float32)
        self._rest = torch.cat([self._rest, audio], -1) if self._rest.shape[-1] else audio.clone()
        parts = []
        while self._whole >= (count := GROUP - self._segment % GROUP):
            parts.append(self._encode(count))
        self._rest = self._rest.clone()
        return self._join(parts)

    def flush(self) -> Codes:
        parts = [self._encode(self._whole)] if self._whole else []
        while self._rest.shape[-1]:
            parts.append(self._encode(1))
        return self._join(parts)

    @property
    def _whole(self) -> int:
        """Segments of full length that are there."""
        return max(self._rest.shape[-1] - self._codec.overlap, 0) // self._codec.segment.stride

    def _encode(self, count: int) -> Codes:
        length = min(self._codec.samples, self._rest.shape[-1])
        stride = self._codec.segment.stride
        segments = self._rest.unfold(-1, length, stride)[:, :, :count].transpose(1, 2)
        codes = self._codec.encode_segments(segments, self._codebooks)
        self._rest = self._rest[..., count * stride :]
        self._segment += count
        return codes

    def _join(self, parts: list[Codes]) -> Codes:
        none = torch.zeros(self._rest.shape[0], 0, device=self._rest.device)
        return Codes.join(parts or [Codes((none.long(),) * self._codebooks, none)])


class Decoder48:
    """See :class:`nac.codecs.base.Decoder`.

    A signal whose last segment has at most half a frame ends with segments of 149 frames and 1; no other ends with
    150. So a segment is whole when a frame follows it, and the last 150 frames are split if they have two scales.
    """

    def __init__(self, codec: Encodec48, origin: int, start: int) -> None:
        self._codec = codec
        self._segment = codec.preroll(start, origin) // codec.segment.frames
        self._skip = codec.spec.start(start) - self._segment * codec.segment.stride
        self._rest: Codes | None = None
        self._fading: Tensor | None = None  # what reaches from the last segment into the next
        self._weight: Tensor | None = None

    def push(self, codes: Codes) -> Tensor:
        assert codes.scale is not None
        device = self._codec.device
        arrays = tuple(array.to(device, torch.int64) for array in codes.arrays)
        codes = Codes(arrays, codes.scale.to(device, torch.float32))
        self._rest = Codes.join([self._rest, codes]) if self._rest else codes
        parts = []
        while self._followed >= (count := GROUP - self._segment % GROUP):
            parts += self._decode(count, self._codec.segment.frames)
        return self._join(parts)

    def flush(self) -> Tensor:
        parts = self._decode(self._followed, self._codec.segment.frames) if self._followed else []
        while self._rest and (frames := self._rest.arrays[0].shape[-1]):
            scales = 0 if self._rest.scale is None else self._rest.scale.shape[-1]
            parts += self._decode(1, frames - (frames == self._codec.segment.frames and scales > 1))
        return self._join(parts if self._fading is None else [*parts, self._fading])

    @property
    def _followed(self) -> int:
        """Whole segments that are there."""
        return (
            0 if self._rest is None else max(self._rest.arrays[0].shape[-1] - 1, 0) // self._codec.segment.frames
        )

    def _decode(self, count: int, frames: int) -> list[Tensor]:
        """Samples up to the next segment after ``count`` segments of so many frames."""
        assert self._rest is not None
        assert self._rest.scale is not None
        taken = Codes(tuple(a[:, : count * frames] for a in self._rest.arrays), self._rest.scale[:, :count])
        left = tuple(a[:, count * frames :].clone() for a in self._rest.arrays)
        self._rest = Codes(left, self._rest.scale[:, count:].clone())
        audio = self._codec.decode_segments(taken, count)
        self._segment += count
        return [self._fade(segment) for segment in audio.unbind(1)]

    def _fade(self, audio: Tensor) -> Tensor:
        """Weights are triangles, as long as the first segment, and brought to a sum of one where two overlap."""
        if self._weight is None:
            ramp = torch.linspace(0, 1, audio.shape[-1] + 2, device=audio.device)[1:-1]
            self._weight = 0.5 - (ramp - 0.5).abs()
        stride = self._codec.segment.stride
        if self._fading is not None:
            both = min(self._fading.shape[-1], audio.shape[-1])
            rise, fall = self._weight[:both], self._weight[stride : stride + both]
            mixed = (self._fading[..., :both] * fall + audio[..., :both] * rise) / (rise + fall)
            audio = torch.cat([mixed, audio[..., both:]], -1)
        self._fading = audio[..., stride:]
        return audio[..., :stride]

    def _join(self, parts: list[Tensor]) -> Tensor:
        batch = 1 if self._rest is None else self._rest.arrays[0].shape[0]
        none = torch.zeros(batch, self._codec.spec.channels, 0, device=self._codec.device)
        audio = torch.cat(parts, -1) if parts else none
        skipped = min(self._skip, audio.shape[-1])
        self._skip -= skipped
        return audio[..., skipped:]
