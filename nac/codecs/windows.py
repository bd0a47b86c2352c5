"""Exact processing of long signals in windows.

A network with a finite receptive field computes the same frames from the whole signal and from a window with
enough context on both sides. Windows are aligned to absolute frame numbers, so that their shapes, and thereby all
rounding, do not depend on how the caller splits the signal: blocks of any size, and decoding from any start, give
the same numbers. The context is the signal itself; the network's own padding is only used before the first and
after the last frame, as for a whole signal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, cast

import numpy as np

from nac.codecs.base import A, Codec, Codes, join

if TYPE_CHECKING:
    from torch import Tensor

Tensors = tuple["Tensor", ...]


@dataclass(frozen=True)
class Plan:
    """The windows for an encoder or decoder; all lengths in frames.

    ``left`` and ``right``: the context on which a frame depends, before and after it. ``window``: output frames
    per window; a multiple of the codec's ``frame_multiple``.
    """

    left: int
    right: int
    window: int

    def preroll(self, frame: int, origin: int = 0) -> int:
        """Return the first input frame of the window with ``frame``."""
        return max(frame // self.window * self.window - self.left, origin)

    def end(self, frame: int) -> int:
        """Return the number after the last input frame of the window with ``frame``."""
        return (frame // self.window + 1) * self.window + self.right


class Windows(Generic[A]):
    """Applies a function of frames to a signal that arrives in parts.

    ``apply(inputs, first, wanted)``: maps arrays [..., n * in_units[i]] of n frames, the first of which has the
    number ``first``, to arrays [..., n * out_units[j]]; only the frames ``wanted`` are used. ``run``: processes
    several independent windows.
    """

    def __init__(
        self,
        apply: Callable[[tuple[A, ...], int, range], tuple[A, ...]],
        plan: Plan,
        in_units: tuple[int, ...],
        out_units: tuple[int, ...],
        *,
        origin: int,
        start: int,
        run: Callable[[list[Callable[[], tuple[A, ...]]]], list[tuple[A, ...]]],
    ) -> None:
        self._apply, self._plan, self._run = apply, plan, run
        self._in_units, self._out_units = in_units, out_units
        self._origin = origin
        self._next = start  # next frame to return
        self._first = plan.preroll(start, origin)  # number of the first buffered frame
        self._buffer: tuple[A, ...] | None = None

    @property
    def end(self) -> int:
        """The number after the last frame pushed."""
        return self._first + (0 if self._buffer is None else length(self._buffer[0]) // self._in_units[0])

    def push(self, inputs: tuple[A, ...]) -> list[tuple[A, ...]]:
        """Push whole frames. Returns the windows that are now complete."""
        if self._buffer is not None:
            inputs = tuple(join(pair) for pair in zip(self._buffer, inputs, strict=True))
        self._buffer = inputs
        jobs = []
        while (self._next // self._plan.window + 1) * self._plan.window + self._plan.right <= self.end:
            jobs.append(self._job(inputs))
        self._discard(inputs)
        return self._run(jobs)

    def flush(self) -> list[tuple[A, ...]]:
        """Return the windows up to the last frame pushed."""
        jobs = []
        while self._buffer is not None and self._next < self.end:
            jobs.append(self._job(self._buffer))
        return self._run(jobs)

    def _job(self, inputs: tuple[A, ...]) -> Callable[[], tuple[A, ...]]:
        """Return a function that computes the window with the next frame, and advance to the next window."""
        plan, base = self._plan, self._next // self._plan.window * self._plan.window
        low = max(base - plan.left, self._origin)
        high = min(base + plan.window + plan.right, self.end)
        start, stop = self._next, min(base + plan.window, self.end)
        window = self._slice(inputs, self._in_units, low - self._first, high - self._first)
        wanted = range(max(base, self._origin), stop)
        self._next = stop
        return lambda: self._slice(self._apply(window, low, wanted), self._out_units, start - low, stop - low)

    def _discard(self, inputs: tuple[A, ...]) -> None:
        """Discard input that no later window needs."""
        keep = max(self._plan.preroll(self._next, self._origin), self._first)
        kept = self._slice(inputs, self._in_units, keep - self._first, self.end - self._first)
        self._buffer = tuple(join([array]) for array in kept)
        self._first = keep

    @staticmethod
    def _slice(arrays: tuple[A, ...], units: tuple[int, ...], low: int, high: int) -> tuple[A, ...]:
        return tuple(cut(array, low * unit, high * unit) for array, unit in zip(arrays, units, strict=True))


def length(array: A) -> int:
    """Return the size of the last dimension."""
    return int(cast(Any, array).shape[-1])


def cut(array: A, low: int, high: int | None = None) -> A:
    """Slice the last dimension."""
    return cast(A, cast(Any, array)[..., low:high])


class WindowedCodec(Codec[A]):
    """A codec whose encoder and decoder have finite receptive fields.

    Subclasses define ``encode_plan``, ``decode_plan`` and the two abstract methods.
    """

    encode_plan: Plan
    decode_plan: Plan

    @abstractmethod
    def encode_frames(self, audio: A, codebooks: int) -> tuple[A, ...]:
        """Encode whole frames: float32 [B, C, n * frame_samples] to int64 [B, n * codes_per_frame] per codebook.

        The network pads ``audio`` like a whole signal.
        """

    @abstractmethod
    def decode_frames(self, arrays: tuple[A, ...], first: int) -> A:
        """Decode whole frames of any number of codebooks to float32 [B, C, n * frame_samples].

        ``first``: the number of the first frame, for networks whose noise depends on the position.
        """

    def decode_window(self, arrays: tuple[A, ...], first: int, wanted: range) -> A:
        """Decode like :meth:`decode_frames`, but only the frames ``wanted``; others may have any values."""
        return self.decode_frames(arrays, first)

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> WindowedEncoder[A]:
        return WindowedEncoder(self, self.spec.check_codebooks(codebooks), origin)

    def decoder(self, *, origin: int = 0, start: int | None = None) -> WindowedDecoder[A]:
        return WindowedDecoder(self, origin, origin if start is None else start)

    def preroll(self, frame: int, origin: int = 0) -> int:
        return self.decode_plan.preroll(frame, origin)


class WindowedEncoder(Generic[A]):
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: WindowedCodec[A], codebooks: int, origin: int) -> None:
        self._codec, self._origin = codec, origin
        self._out_units = tuple(c.codes_per_frame for c in codec.spec.codebooks[:codebooks])
        self._windows = Windows(
            lambda inputs, *_: codec.encode_frames(inputs[0], codebooks),
            codec.encode_plan,
            (codec.spec.frame_samples,),
            self._out_units,
            origin=origin,
            start=origin,
            run=codec._run,
        )
        self._rest: A | None = None  # samples of an incomplete frame
        self._batch = 1

    def push(self, audio: A) -> Codes[A]:
        codec, unit = self._codec, self._codec.spec.frame_samples
        codec._check_audio(audio)
        self._batch = cast(Any, audio).shape[0]
        audio = codec._array(audio, np.float32)
        if self._rest is not None:
            audio = join([self._rest, audio])
        whole = length(audio) // unit * unit
        self._rest = cut(audio, whole)
        return self._codes(self._windows.push((cut(audio, 0, whole),)) if whole else [])

    def flush(self) -> Codes[A]:
        spec, results = self._codec.spec, []
        rest = 0 if self._rest is None else length(self._rest)
        taken = (self._windows.end - self._origin) * spec.frame_samples + rest
        missing = -taken % (spec.frame_samples * spec.frame_multiple)
        if self._rest is not None and rest + missing:
            zeros = self._codec._array(np.zeros((self._batch, spec.channels, missing)), np.float32)
            results = self._windows.push((join([self._rest, zeros]),))
            self._rest = None
        return self._codes(results + self._windows.flush())

    def _codes(self, results: list[tuple[A, ...]]) -> Codes[A]:
        if not results:
            empty = self._codec._array(np.zeros((self._batch, 0)), np.int64)
            return Codes((empty,) * len(self._out_units))
        return Codes.join([Codes(arrays) for arrays in results])


class WindowedDecoder(Generic[A]):
    """See :class:`nac.codecs.base.Decoder`."""

    def __init__(self, codec: WindowedCodec[A], origin: int, start: int) -> None:
        self._codec, self._origin, self._start = codec, origin, start
        self._windows: Windows[A] | None = None
        self._batch = 1

    def push(self, codes: Codes[A]) -> A:
        spec = self._codec.spec
        self._codec._check_codes(codes)
        self._batch = cast(Any, codes.arrays[0]).shape[0]
        if self._windows is None:
            self._windows = Windows(
                lambda *window: (self._codec.decode_window(*window),),
                self._codec.decode_plan,
                tuple(c.codes_per_frame for c in spec.codebooks[: len(codes.arrays)]),
                (spec.frame_samples,),
                origin=self._origin,
                start=self._start,
                run=self._codec._run,
            )
        arrays = tuple(self._codec._array(array, np.int64) for array in codes.arrays)
        return self._audio(self._windows.push(arrays))

    def flush(self) -> A:
        return self._audio([] if self._windows is None else self._windows.flush())

    def _audio(self, results: list[tuple[A, ...]]) -> A:
        if not results:
            return self._codec._array(np.zeros((self._batch, self._codec.spec.channels, 0)), np.float32)
        return join([audio for (audio,) in results])
