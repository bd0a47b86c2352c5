"""EnCodec (Défossez et al. 2022, arXiv:2210.13438).

SEANet convolutions (Tagliasacchi et al. 2020, arXiv:2009.02095) with an LSTM on either side of a residual
quantiser (section 3.1). The model at 24 kHz is causal: its convolutions and its LSTM carry what they remember
from one block to the next, so that a signal of any length is one signal. The one at 48 kHz works on segments of a
second, each brought to the same loudness, which overlap by 1 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from nac.codecs import rvq
from nac.codecs.base import Codec, CodecSpec, Codes, Segment
from nac.codecs.layers import Conv, ToAudio, Transposed, Weights, each

STRIDES = (2, 4, 5, 8)  # in the encoder's order
FILTERS = 32  # channels at the sample rate, doubled at each stride
LATENT = 128
BLOCK = 32  # frames that the 24 kHz model computes at a time, as measured
GROUP = 8  # segments that the 48 kHz model computes at a time


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
    return x.clamp_max(0).exp_().sub_(1).add_(x.clamp_min(0))


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

    def _cell(self, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of a layer [C, 4 C] and its bias.

        Gates come as input, forget, cell, output; here the cell's is last, so that one call does all sigmoids.
        """
        order = (0, 1, 3, 2)
        into, again, bias, more = (torch.cat([p.chunk(4)[gate] for gate in order]) for p in parameters)
        return into.t().contiguous(), again.t().contiguous(), bias + more

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        steps = x.transpose(0, 1).contiguous()
        zeros = steps.new_zeros(2, steps.shape[1], self._size)
        hidden, memory = (zeros, zeros) if stream.first else stream.memory[self].unbind()
        if x.is_cuda:
            with torch.backends.cudnn.flags(allow_tf32=False):  # codes must not depend on the device
                steps, hidden, memory = torch.lstm(
                    steps, (hidden, memory), self._parameters, True, 2, 0.0, False, False, False
                )
        else:
            states = []
            for cell, *state in zip(self._cells, hidden, memory, strict=True):
                steps, *state = self._layer(steps, cell, *state)
                states.append(state)
            hidden, memory = (torch.stack(part) for part in zip(*states, strict=True))
        stream.memory[self] = torch.stack([hidden, memory])
        return x + steps.transpose(0, 1)

    def _layer(
        self, x: Tensor, cell: tuple[Tensor, Tensor, Tensor], hidden: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One layer over [T, B, C], step by step from a state [B, C], and the state after it."""
        into, again, bias = cell
        gates = torch.addmm(bias, x.flatten(0, 1), into).view(*x.shape[:2], -1)
        out = torch.empty_like(x)
        for gate, step in zip(gates.unbind(), out.unbind(), strict=True):
            gate.addmm_(hidden, again)
            gate[:, : 3 * self._size].sigmoid_()
            enter, keep, leave, new = gate.chunk(4, 1)
            memory = torch.addcmul(memory * keep, enter, new.tanh_())
            hidden = torch.mul(memory.tanh(), leave, out=step)
        return out, hidden, memory


@dataclass(frozen=True)
class Network:
    """Half of the codec: convolutions on either side of an LSTM."""

    front: Sequence[Layer]
    lstm: Lstm
    back: Sequence[Layer]

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        return run(self.back, self.lstm(run(self.front, x, stream), stream), stream)


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
        self._streams: list[Stream] = []

    def run(self, network: Callable[[Tensor, Stream], Tensor], x: Tensor, *, last: bool = False) -> Tensor:
        """The next block [B, T, C]: at once on a GPU, item by item on a CPU, as :func:`nac.codecs.layers.each`."""
        if not self._streams:
            self._streams = [Stream() for _ in range(1 if x.is_cuda else x.shape[0])]
        results = []
        for stream, part in zip(self._streams, x.chunk(len(self._streams)), strict=True):
            stream.last = last
            results.append(network(part, stream))
            stream.first = False
        return torch.cat(results)


class Encoder24(_Causal):
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: Encodec24, codebooks: int) -> None:
        super().__init__(codec)
        self._quantisers = codec.quantisers[:codebooks]
        self._rest = torch.zeros(1, codec.spec.channels, 0, device=codec.device)

    @torch.inference_mode()
    def push(self, audio: Tensor) -> Codes:
        self.codec._check_audio(audio)
        audio = audio.to(self.codec.device, torch.float32)
        self._rest = torch.cat([self._rest, audio], -1) if self._rest.shape[-1] else audio.clone()
        step = BLOCK * self.codec.spec.frame_samples
        parts = []
        while self._rest.shape[-1] >= step:
            parts.append(self._encode(self._rest[..., :step]))
            self._rest = self._rest[..., step:]
        self._rest = self._rest.clone()
        return self._join(parts)

    @torch.inference_mode()
    def flush(self) -> Codes:
        rest, self._rest = self._rest, self._rest[..., :0]
        return self._join([self._encode(rest, last=True)] if rest.shape[-1] else [])

    def _encode(self, audio: Tensor, *, last: bool = False) -> Codes:
        latents = self.run(self.codec.encode_network, audio.transpose(1, 2), last=last)
        return Codes(each(lambda x: rvq.encode(self._quantisers, x), latents))

    def _join(self, parts: list[Codes]) -> Codes:
        none = torch.zeros(self._rest.shape[0], 0, dtype=torch.int64, device=self._rest.device)
        return Codes.join(parts or [Codes((none,) * len(self._quantisers))])


class Decoder24(_Causal):
    """See :class:`nac.codecs.base.Decoder`. ``skip``: frames at the beginning that are not wanted."""

    def __init__(self, codec: Encodec24, skip: int) -> None:
        super().__init__(codec)
        self._skip = skip * codec.spec.frame_samples
        self._rest: Codes | None = None
        self._batch = 1

    @torch.inference_mode()
    def push(self, codes: Codes) -> Tensor:
        codes = Codes(tuple(array.to(self.codec.device, torch.int64) for array in codes.arrays))
        self._batch = codes.arrays[0].shape[0]
        codes = Codes.join([self._rest, codes]) if self._rest else codes
        frames = codes.arrays[0].shape[-1]
        whole = frames - frames % BLOCK
        parts = [self._decode(codes, start, start + BLOCK) for start in range(0, whole, BLOCK)]
        self._rest = Codes(tuple(array[:, whole:].clone() for array in codes.arrays))
        return self._join(parts)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        rest, self._rest = self._rest, None
        if rest is None or not (frames := rest.arrays[0].shape[-1]):
            return self._join([])
        return self._join([self._decode(rest, 0, frames, last=True)])

    def _decode(self, codes: Codes, start: int, stop: int, *, last: bool = False) -> Tensor:
        arrays = [array[:, start:stop] for array in codes.arrays]
        vectors = rvq.decode(self.codec.quantisers, arrays)
        return self.run(self.codec.decode_network, vectors, last=last).transpose(1, 2)

    def _join(self, parts: list[Tensor]) -> Tensor:
        none = torch.zeros(self._batch, self.codec.spec.channels, 0, device=self.codec.device)
        audio = torch.cat(parts, -1) if parts else none
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

    def encode_segments(self, audio: Tensor, codebooks: int, row: int) -> Codes:
        """Segments of equal length [B, S, C, n] of one group, of which the first is its number ``row``."""
        batch = audio.shape[0]
        audio = audio.flatten(0, 1)
        scale = audio.mean(1).square().mean(-1).sqrt() + 1e-8
        network, quantisers = self.encode_network, self.quantisers[:codebooks]

        def front(x: Tensor) -> tuple[Tensor]:
            return (run(network.front, x, Stream(last=True)),)

        def back(x: Tensor) -> tuple[Tensor, ...]:
            return rvq.encode(quantisers, run(network.back, x, Stream(last=True)))

        (x,) = each(front, (audio / scale[:, None, None]).transpose(1, 2))
        codes = each(back, self._remember(network.lstm, x, batch, row))
        return Codes(tuple(array.reshape(batch, -1) for array in codes), scale.reshape(batch, -1))

    def decode_segments(self, codes: Codes, segments: int, row: int) -> Tensor:
        """The inverse: [B, S, C, n]."""
        assert codes.scale is not None
        batch, network = codes.scale.shape[0], self.decode_network

        def front(*arrays: Tensor) -> tuple[Tensor]:
            return (run(network.front, rvq.decode(self.quantisers, arrays), Stream(last=True)),)

        def back(x: Tensor) -> tuple[Tensor]:
            return (run(network.back, x, Stream(last=True)),)

        (x,) = each(front, *(array.reshape(batch * segments, -1) for array in codes.arrays))
        (audio,) = each(back, self._remember(network.lstm, x, batch, row))
        return audio.transpose(1, 2).reshape(batch, segments, *audio.shape[:0:-1]) * codes.scale[..., None, None]

    def _remember(self, lstm: Lstm, x: Tensor, batch: int, row: int) -> Tensor:
        if x.is_cuda:
            return lstm(x, Stream(last=True))
        count = x.shape[0] // batch
        rows = [functional.pad(item, (0, 0, 0, 0, row, GROUP - row - count)) for item in x.chunk(batch)]
        return torch.cat([lstm(item, Stream(last=True))[row : row + count] for item in rows])


class Encoder48:
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: Encodec48, codebooks: int, origin: int) -> None:
        self._codec, self._codebooks = codec, codebooks
        self._segment = origin // codec.segment.frames
        self._rest = torch.zeros(1, codec.spec.channels, 0, device=codec.device)

    @torch.inference_mode()
    def push(self, audio: Tensor) -> Codes:
        self._codec._check_audio(audio)
        audio = audio.to(self._codec.device, torch.float32)
        self._rest = torch.cat([self._rest, audio], -1) if self._rest.shape[-1] else audio.clone()
        parts = []
        while self._whole >= (count := GROUP - self._segment % GROUP):
            parts.append(self._encode(count))
        self._rest = self._rest.clone()
        return self._join(parts)

    @torch.inference_mode()
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
        codes = self._codec.encode_segments(segments, self._codebooks, self._segment % GROUP)
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

    @torch.inference_mode()
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

    @torch.inference_mode()
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
        audio = self._codec.decode_segments(taken, count, self._segment % GROUP)
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
