"""Causal networks: a signal is processed in blocks, and layers keep their state from one block to the next.

Signals are float32 [B, T, C]. Blocks have a fixed length, so that their shapes, and thereby all rounding, do not
depend on how the caller splits the signal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from nac.codecs.base import Codec, Codes
from nac.codecs.batches import Job
from nac.codecs.parallel import parts, pipeline
from nac.codecs.windows import Plan

AT_ONCE = 8
"""The maximum number of blocks that a GPU processes as one piece."""


@dataclass
class Stream:
    """The state of a network in a signal: whether the next piece is the ``first`` or ``last``, and its memory.

    Only causal networks can process a signal in pieces; all but the last consist of whole frames. The memory of a
    layer has a row for each signal, [B, ...].
    """

    first: bool = True
    last: bool = False
    memory: dict[object, Tensor] = field(default_factory=dict)


class StreamLayer(Protocol):
    """A layer that keeps its state in a stream's memory."""

    def __call__(self, x: Tensor, stream: Stream, /) -> Tensor: ...


def run(layers: Sequence[StreamLayer], x: Tensor, stream: Stream) -> Tensor:
    """Apply layers one after the other."""
    for layer in layers:
        x = layer(x, stream)
    return x


def as_float(x: Tensor, stream: Stream) -> Tensor:
    """The last layer of a decoder that may compute in half precision."""
    return x.float()


class Stage(NamedTuple):
    """Layers that one thread computes for a block, while others compute other stages for neighbouring blocks.

    ``batched``: the whole batch is computed at once, also on a CPU; otherwise item by item.
    """

    layers: Sequence[StreamLayer]
    batched: bool = False


class CausalCodec(Codec):
    """A codec whose encoder and decoder are causal networks.

    ``block``: frames per block, counted from the first of the signal. A network with finite memory has a
    ``decode_plan`` with windows of the same length, to which its blocks are aligned, so that decoding can start
    anywhere and gives the same numbers.
    """

    block: int
    decode_plan: Plan | None = None

    @abstractmethod
    def encode_stages(self, codebooks: int) -> Sequence[Stage]:
        """Return the stages from audio [B, T, C] to codes, int64 [B, codebooks, frames]."""

    @abstractmethod
    def decode_stages(self) -> Sequence[Stage]:
        """Return the stages from codes, int64 [B, codebooks, frames], to audio [B, T, C]."""

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> CausalEncoder:
        return CausalEncoder(self, self.spec.check_codebooks(codebooks), origin)

    def decoder(self, *, origin: int = 0, start: int | None = None) -> CausalDecoder:
        return CausalDecoder(self, origin, origin if start is None else start)

    def _encode_whole(self, audio: Tensor, codebooks: int | None) -> Codes:
        return self.encoder(codebooks).whole(audio)

    def _decode_whole(self, codes: Codes, first: int = 0) -> Tensor:
        return self.decoder(origin=first).whole(codes)

    def preroll(self, frame: int, origin: int = 0) -> int:
        return self.decode_plan.preroll(frame, origin) if self.decode_plan else origin


@dataclass(frozen=True)
class _Piece:
    """Applies all stages of a network to the next piece of some signals, on a GPU.

    ``codebooks``: the number that the encoder returns; None for the decoder. ``shapes``: those of the layers'
    memory, which must be equal for streams that are computed as one batch.
    """

    codec: CausalCodec
    codebooks: int | None
    first: bool
    last: bool
    shapes: tuple[torch.Size, ...]

    def __call__(self, arrays: tuple[Tensor, ...], streams: Sequence[Stream]) -> tuple[Tensor, ...]:
        (x,) = arrays
        memory = {layer: torch.cat([one.memory[layer] for one in streams]) for layer in streams[0].memory}
        stream = Stream(self.first, self.last, memory)
        codec, codebooks = self.codec, self.codebooks
        for stage in codec.decode_stages() if codebooks is None else codec.encode_stages(codebooks):
            x = run(stage.layers, x, stream)
        for row, one in enumerate(streams):
            one.first, one.memory = False, {layer: kept[row : row + 1] for layer, kept in stream.memory.items()}
        return (x,)


class _Blocks:
    """Processes a signal block by block, with the encoder for ``codebooks`` or, if None, with the decoder."""

    def __init__(self, codec: CausalCodec, codebooks: int | None, origin: int) -> None:
        self.codec, self._codebooks = codec, codebooks
        self._stages = codec.decode_stages() if codebooks is None else codec.encode_stages(codebooks)
        self._left = codec.block - (origin % codec.block if codec.decode_plan else 0)
        self._streams: list[list[Stream]] = []

    def split(self, buffered: Tensor, unit: int) -> tuple[list[Tensor], Tensor]:
        """Split [..., frames * unit] into whole blocks, several as one on a GPU, and the rest."""
        blocks, block = [], self.codec.block
        while (more := buffered.shape[-1] // unit - self._left) >= 0:
            size = self._left + (min(more // block, AT_ONCE - 1) * block if self.codec._on_gpu else 0)
            blocks.append(buffered[..., : size * unit])
            buffered, self._left = buffered[..., size * unit :], block
        return blocks, buffered.clone()

    def run(self, blocks: Sequence[Tensor], *, ended: bool = False) -> list[Tensor]:
        """Process the next blocks in all stages, in parallel: whole batches on a GPU, item by item on a CPU.

        ``ended``: the last block is the end of the signal.
        """
        if not blocks:
            return []
        items = [(block, ended and block is blocks[-1]) for block in blocks]
        if self.codec._on_gpu:
            return [self._piece(*item) for item in items]
        if not self._streams:
            rows = blocks[0].shape[0]
            self._streams = [[Stream() for _ in range(1 if stage.batched else rows)] for stage in self._stages]
        stages = [self._step(*pair) for pair in zip(self._stages, self._streams, strict=True)]
        return [x for x, _ in pipeline(stages, items, self.codec._inference)]

    def _piece(self, piece: Tensor, last: bool) -> Tensor:
        if not self._streams:
            self._streams = [[Stream() for _ in piece]]
        (streams,) = self._streams
        shapes = tuple(kept.shape for kept in streams[0].memory.values())
        function = _Piece(self.codec, self._codebooks, streams[0].first, last, shapes)
        ((result,),) = self.codec._run([Job(function, (piece,), streams)])
        return result

    def _step(self, stage: Stage, streams: list[Stream]) -> Callable[[tuple[Tensor, bool]], tuple[Tensor, bool]]:
        def step(item: tuple[Tensor, bool]) -> tuple[Tensor, bool]:
            def one(part: Tensor, stream: Stream) -> Tensor:
                stream.last = item[1]
                result = run(stage.layers, part, stream)
                stream.first = False
                return result

            pairs = zip(item[0].chunk(len(streams)), streams, strict=True)
            return torch.cat(parts([partial(one, *pair) for pair in pairs])), item[1]

        return step


class CausalEncoder:
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: CausalCodec, codebooks: int, origin: int) -> None:
        self._codec, self._codebooks = codec, codebooks
        self._blocks = _Blocks(codec, codebooks, origin)
        self._rest = torch.zeros(1, codec.spec.channels, 0, device=codec.device)

    def push(self, audio: Tensor) -> Codes:
        return self._encode(self._split(audio))

    def flush(self) -> Codes:
        return self._encode(self._end(), ended=True)

    def whole(self, audio: Tensor) -> Codes:
        """Encode a whole signal: like :meth:`push` and :meth:`flush`, but its end in parallel with the rest."""
        return self._encode([*self._split(audio), *self._end()], ended=True)

    def _split(self, audio: Tensor) -> list[Tensor]:
        self._codec._check_audio(audio)
        audio = self._codec._signal(audio, np.float32)
        audio = torch.cat([self._rest, audio], -1) if self._rest.shape[-1] else audio
        blocks, self._rest = self._blocks.split(audio, self._codec.spec.frame_samples)
        return blocks

    def _end(self) -> list[Tensor]:
        rest, self._rest = self._rest, self._rest[..., :0]
        return [rest] if rest.shape[-1] else []

    def _encode(self, blocks: Sequence[Tensor], *, ended: bool = False) -> Codes:
        """Encode blocks [B, C, n]."""
        layers = self._blocks.run([block.transpose(1, 2) for block in blocks], ended=ended)
        batch, device = self._rest.shape[0], self._rest.device
        none = torch.zeros(batch, self._codebooks, 0, dtype=torch.int64, device=device)
        return Codes(torch.cat([none, *layers], -1).unbind(1))


class CausalDecoder:
    """See :class:`nac.codecs.base.Decoder`."""

    def __init__(self, codec: CausalCodec, origin: int, start: int) -> None:
        self._codec = codec
        first = codec.preroll(start, origin)
        self._blocks = _Blocks(codec, None, first)
        self._skip = (start - first) * codec.spec.frame_samples
        self._rest: Tensor | None = None  # codes [B, codebooks, T] that do not fill a block yet
        self._none = torch.zeros(1, 0, codec.spec.channels, device=codec.device)

    def push(self, codes: Codes) -> Tensor:
        return self._decode(self._split(codes))

    def flush(self) -> Tensor:
        return self._decode(self._end(), ended=True)

    def whole(self, codes: Codes) -> Tensor:
        """Decode a whole signal: like :meth:`push` and :meth:`flush`, but its end in parallel with the rest."""
        return self._decode([*self._split(codes), *self._end()], ended=True)

    def _split(self, codes: Codes) -> list[Tensor]:
        self._codec._check_codes(codes)
        arrays = torch.stack([self._codec._signal(array, np.int64) for array in codes.arrays], 1)
        self._none = self._none.new_zeros(len(arrays), *self._none.shape[1:], device=arrays.device)
        arrays = torch.cat([self._rest, arrays], -1) if self._rest is not None else arrays
        blocks, self._rest = self._blocks.split(arrays, 1)
        return blocks

    def _end(self) -> list[Tensor]:
        rest, self._rest = self._rest, None
        return [rest] if rest is not None and rest.shape[-1] else []

    def _decode(self, blocks: Sequence[Tensor], *, ended: bool = False) -> Tensor:
        audio = torch.cat([self._none, *self._blocks.run(blocks, ended=ended)], 1).transpose(1, 2)
        skipped = min(self._skip, audio.shape[-1])
        self._skip -= skipped
        return audio[..., skipped:]
