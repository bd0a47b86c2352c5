"""Exact processing of long signals in windows.

A network with a finite receptive field gives the same frames whether it sees the whole signal or a window with
enough context on both sides. Windows lie on a fixed grid of absolute frame numbers, so that their shapes, and with
them every rounding, do not depend on how the caller cuts the signal: pushing blocks of any size, or starting to
decode anywhere, gives the same numbers. Context is never zeros but the signal itself; only before its first and
after its last frame does the network's own padding apply, as it does for a whole signal.
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
    """How one direction of a network is run: all lengths in frames.

    ``left`` and ``right``: context that a frame's output depends on, before and after it. ``window``: output
    frames computed at a time, the spacing of the grid; a multiple of the codec's ``frame_multiple``.
    """

    left: int
    right: int
    window: int

    def preroll(self, frame: int, origin: int = 0) -> int:
        """First input frame that the window holding ``frame`` takes."""
        return max(frame // self.window * self.window - self.left, origin)

    def end(self, frame: int) -> int:
        """The number after the last input frame that the window holding ``frame`` takes."""
        return (frame // self.window + 1) * self.window + self.right


class Windows(Generic[A]):
    """A function of frames applied along a signal that arrives in parts.

    ``apply(inputs, first, wanted)`` maps arrays [..., n * in_units[i]] of n frames, of which the first is number
    ``first``, to arrays [..., n * out_units[j]]; those outside the frames ``wanted`` are not looked at.
    ``run`` does the work of several windows, none of which depends on another.
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
        self._next = start  # next frame to give
        self._first = plan.preroll(start, origin)  # number of the first frame held
        self._held: tuple[A, ...] | None = None

    @property
    def end(self) -> int:
        """Number after the last frame taken."""
        return self._first + (0 if self._held is None else length(self._held[0]) // self._in_units[0])

    def push(self, inputs: tuple[A, ...]) -> list[tuple[A, ...]]:
        """Take whole frames; give the windows they complete."""
        if self._held is not None:
            inputs = tuple(join(pair) for pair in zip(self._held, inputs, strict=True))
        self._held = inputs
        jobs = []
        while (self._next // self._plan.window + 1) * self._plan.window + self._plan.right <= self.end:
            jobs.append(self._job(inputs))
        self._forget(inputs)
        return self._run(jobs)

    def flush(self) -> list[tuple[A, ...]]:
        """Give the windows up to the last frame taken."""
        jobs = []
        while self._held is not None and self._next < self.end:
            jobs.append(self._job(self._held))
        return self._run(jobs)

    def _job(self, inputs: tuple[A, ...]) -> Callable[[], tuple[A, ...]]:
        """What computes the window that holds the next frame, and those after it in turn."""
        plan, base = self._plan, self._next // self._plan.window * self._plan.window
        low = max(base - plan.left, self._origin)
        high = min(base + plan.window + plan.right, self.end)
        start, stop = self._next, min(base + plan.window, self.end)
        window = self._slice(inputs, self._in_units, low - self._first, high - self._first)
        wanted = range(max(base, self._origin), stop)
        self._next = stop
        return lambda: self._slice(self._apply(window, low, wanted), self._out_units, start - low, stop - low)

    def _forget(self, inputs: tuple[A, ...]) -> None:
        """Drop the input that no later window takes."""
        keep = max(self._plan.preroll(self._next, self._origin), self._first)
        held = self._slice(inputs, self._in_units, keep - self._first, self.end - self._first)
        self._held = tuple(join([array]) for array in held)
        self._first = keep

    @staticmethod
    def _slice(arrays: tuple[A, ...], units: tuple[int, ...], low: int, high: int) -> tuple[A, ...]:
        return tuple(cut(array, low * unit, high * unit) for array, unit in zip(arrays, units, strict=True))


def length(array: A) -> int:
    """Size of the last dimension."""
    return int(cast(Any, array).shape[-1])


def cut(array: A, low: int, high: int | None = None) -> A:
    """Part of the last dimension."""
    return cast(A, cast(Any, array)[..., low:high])


class WindowedCodec(Codec[A]):
    """A codec whose encoder and decoder have finite receptive fields.

    A family gives ``encode_plan``, ``decode_plan`` and the two functions below; everything else is here.
    """

    encode_plan: Plan
    decode_plan: Plan

    @abstractmethod
    def encode_frames(self, audio: A, codebooks: int) -> tuple[A, ...]:
        """Codes of whole frames: float32 [B, C, n * frame_samples] to int64 [B, n * codes_per_frame] a codebook.

        The signal is taken to begin and end with ``audio``: the network pads as it does a whole signal.
        """

    @abstractmethod
    def decode_frames(self, arrays: tuple[A, ...], first: int) -> A:
        """Inverse of :meth:`encode_frames` for as many codebooks as are given: float32 [B, C, n * frame_samples].

        ``first`` is the number of the first frame, for networks that draw noise by position.
        """

    def decode_window(self, arrays: tuple[A, ...], first: int, wanted: range) -> A:
        """The same where only the frames ``wanted`` matter; the others, which are context, may be anything."""
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
        self._rest: A | None = None  # samples that do not fill a frame yet
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
        spec, given = self._codec.spec, []
        rest = 0 if self._rest is None else length(self._rest)
        taken = (self._windows.end - self._origin) * spec.frame_samples + rest
        missing = -taken % (spec.frame_samples * spec.frame_multiple)
        if self._rest is not None and rest + missing:
            zeros = self._codec._array(np.zeros((self._batch, spec.channels, missing)), np.float32)
            given = self._windows.push((join([self._rest, zeros]),))
            self._rest = None
        return self._codes(given + self._windows.flush())

    def _codes(self, given: list[tuple[A, ...]]) -> Codes[A]:
        if not given:
            empty = self._codec._array(np.zeros((self._batch, 0)), np.int64)
            return Codes((empty,) * len(self._out_units))
        return Codes.join([Codes(arrays) for arrays in given])


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

    def _audio(self, given: list[tuple[A, ...]]) -> A:
        if not given:
            return self._codec._array(np.zeros((self._batch, self._codec.spec.channels, 0)), np.float32)
        return join([audio for (audio,) in given])
