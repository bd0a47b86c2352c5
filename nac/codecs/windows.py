"""Exact processing of long signals in windows.

A network with a finite receptive field computes the same frames from the whole signal and from a window with
enough context on both sides. Windows are aligned to absolute frame numbers, so that their shapes, and thereby all
rounding, do not depend on how the caller splits the signal: blocks of any size, and decoding from any start, give
the same numbers. The context is the signal itself; the network's own padding is only used before the first and
after the last frame, as for a whole signal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, cast

import numpy as np

from nac.codecs.base import A, Codec, Codes, join, zeros
from nac.codecs.batches import Function, Job

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

    ``function(wanted)`` returns a function, see :class:`nac.codecs.batches.Job`, of arrays
    [B, ..., n * in_units[i]] with n frames, and of the number of the first frame for each row. That function
    returns arrays [B, ..., m * out_units[j]] with the m frames ``wanted``, counted from the first. ``run`` does
    the jobs of several windows, which do not depend on each other. ``alike``: the last windows are as long as the
    others and end where the signal ends, so that windows of signals of any length can be stacked.
    """

    def __init__(
        self,
        function: Callable[[range], Function[A]],
        plan: Plan,
        in_units: tuple[int, ...],
        out_units: tuple[int, ...],
        *,
        origin: int,
        start: int,
        run: Callable[[list[Job[A]]], list[tuple[A, ...]]],
        alike: bool = False,
    ) -> None:
        self._function, self._plan, self._run, self._alike = function, plan, run, alike
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
        """Add whole frames. Returns the results of the windows that are complete."""
        if self._buffer is not None:
            inputs = tuple(join(pair) for pair in zip(self._buffer, inputs, strict=True))
        self._buffer = inputs
        windows = []
        while (self._next // self._plan.window + 1) * self._plan.window + self._plan.right <= self.end:
            windows.append(self._window(inputs, self._next // self._plan.window * self._plan.window))
        self._forget(inputs)
        return self._done(windows)

    def flush(self) -> list[tuple[A, ...]]:
        """Return the results up to the last frame."""
        windows = []
        while self._buffer is not None and self._next < self.end:
            windows.append(self._window(self._buffer, self._last_base()))
        return self._done(windows)

    def _last_base(self) -> int:
        """Return the first frame of the next window at the end of the signal."""
        plan = self._plan
        base = self.end - plan.window - (plan.right if self.end - self._next > plan.window else 0)
        if self._alike and base - plan.left >= self._first and base + plan.window > self._next:
            return base
        return self._next // plan.window * plan.window

    def _window(self, inputs: tuple[A, ...], base: int) -> tuple[Job[A], int]:
        """Return the job for the window at ``base``, and how many of its frames were returned before."""
        plan = self._plan
        low = max(base - plan.left, self._origin)
        high = min(base + plan.window + plan.right, self.end)
        begin, stop = max(base, self._origin), min(base + plan.window, self.end)
        window = self._slice(inputs, self._in_units, low - self._first, high - self._first)
        job = Job(self._function(range(begin - low, stop - low)), window, (low,) * len(cast(Any, window[0])))
        before, self._next = self._next - begin, stop
        return job, before

    def _done(self, windows: list[tuple[Job[A], int]]) -> list[tuple[A, ...]]:
        results = self._run([job for job, _ in windows])
        return [
            self._slice(result, self._out_units, before)
            for result, (_, before) in zip(results, windows, strict=True)
        ]

    def _forget(self, inputs: tuple[A, ...]) -> None:
        """Drop the input that no later window needs."""
        plan, keep = self._plan, self._plan.preroll(self._next, self._origin)
        if self._alike:
            keep = min(keep, self.end - plan.left - plan.window - plan.right)
        keep = max(keep, self._first)
        kept = self._slice(inputs, self._in_units, keep - self._first, self.end - self._first)
        self._buffer = tuple(join([array]) for array in kept)
        self._first = keep

    @staticmethod
    def _slice(arrays: tuple[A, ...], units: tuple[int, ...], low: int, high: int | None = None) -> tuple[A, ...]:
        return tuple(
            cut(array, low * unit, None if high is None else high * unit)
            for array, unit in zip(arrays, units, strict=True)
        )


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
    def decode_frames(self, arrays: tuple[A, ...], first: int | A) -> A:
        """Inverse of :meth:`encode_frames` for as many codebooks as are given: float32 [B, C, n * frame_samples].

        ``first`` is the number of the first frame, for networks whose noise depends on the position. For a batch
        of windows with different positions, which occurs only on a GPU, it is int64 [B, 1].
        """

    def decode_window(self, arrays: tuple[A, ...], first: int | A, wanted: range) -> A:
        """The same, but only the frames ``wanted``, counted from the first, need to be right."""
        return self.decode_frames(arrays, first)

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> WindowedEncoder[A]:
        return WindowedEncoder(self, self.spec.check_codebooks(codebooks), origin)

    def decoder(self, *, origin: int = 0, start: int | None = None) -> WindowedDecoder[A]:
        return WindowedDecoder(self, origin, origin if start is None else start)

    def preroll(self, frame: int, origin: int = 0) -> int:
        return self.decode_plan.preroll(frame, origin)


@dataclass(frozen=True)
class _Encode(Generic[A]):
    """Encodes windows of a signal: returns the codes of the frames ``wanted``."""

    codec: WindowedCodec[A]
    codebooks: int
    wanted: range

    def __call__(self, arrays: tuple[A, ...], firsts: Sequence[int]) -> tuple[A, ...]:
        (audio,) = arrays
        codes = self.codec.encode_frames(audio, self.codebooks)
        units = (book.codes_per_frame for book in self.codec.spec.codebooks)
        return tuple(_frames(array, self.wanted, unit) for array, unit in zip(codes, units, strict=False))


@dataclass(frozen=True)
class _Decode(Generic[A]):
    """Decodes windows: returns the samples of the frames ``wanted``."""

    codec: WindowedCodec[A]
    wanted: range

    def __call__(self, arrays: tuple[A, ...], firsts: Sequence[int]) -> tuple[A, ...]:
        first: Any = firsts[0]
        if len(set(firsts)) > 1:
            first = self.codec._there(np.array(firsts)[:, None])
        audio = self.codec.decode_window(arrays, first, self.wanted)
        return (_frames(audio, self.wanted, self.codec.spec.frame_samples),)


def _frames(array: A, wanted: range, unit: int) -> A:
    return cut(array, wanted.start * unit, wanted.stop * unit)


class WindowedEncoder(Generic[A]):
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, codec: WindowedCodec[A], codebooks: int, origin: int) -> None:
        self._codec, self._origin = codec, origin
        self._out_units = tuple(c.codes_per_frame for c in codec.spec.codebooks[:codebooks])
        self._windows = Windows(
            partial(_Encode, codec, codebooks),
            codec.encode_plan,
            (codec.spec.frame_samples,),
            self._out_units,
            origin=origin,
            start=origin,
            run=codec._run,
            alike=codec._on_gpu,
        )
        self._rest: A | None = None  # samples that do not fill a frame yet
        self._like, self._batch = codec._array(np.zeros(0), np.float32), 1  # an empty array where the input is

    def push(self, audio: A) -> Codes[A]:
        codec, unit = self._codec, self._codec.spec.frame_samples
        codec._check_audio(audio)
        audio = codec._signal(audio, np.float32)
        self._like, self._batch = cut(audio, 0, 0), cast(Any, audio).shape[0]
        if self._rest is not None:
            audio = join([self._rest, audio])
        whole = length(audio) // unit * unit
        self._rest = cut(audio, whole)
        return self._codes(self._windows.push((cut(audio, 0, whole),)) if whole else [])

    def flush(self) -> Codes[A]:
        spec, results = self._codec.spec, list[tuple[A, ...]]()
        rest = 0 if self._rest is None else length(self._rest)
        taken = (self._windows.end - self._origin) * spec.frame_samples + rest
        missing = -taken % (spec.frame_samples * spec.frame_multiple)
        if self._rest is not None and rest + missing:
            silence = zeros(self._rest, (self._batch, spec.channels, missing), np.float32)
            results = self._windows.push((join([self._rest, silence]),))
            self._rest = None
        return self._codes(results + self._windows.flush())

    def _codes(self, given: list[tuple[A, ...]]) -> Codes[A]:
        if not given:
            return Codes((zeros(self._like, (self._batch, 0), np.int64),) * len(self._out_units))
        return Codes.join([Codes(arrays) for arrays in given])


class WindowedDecoder(Generic[A]):
    """See :class:`nac.codecs.base.Decoder`."""

    def __init__(self, codec: WindowedCodec[A], origin: int, start: int) -> None:
        self._codec, self._origin, self._start = codec, origin, start
        self._windows: Windows[A] | None = None
        self._like, self._batch = codec._array(np.zeros(0), np.int64), 1  # an empty array where the input is

    def push(self, codes: Codes[A]) -> A:
        spec = self._codec.spec
        self._codec._check_codes(codes)
        if self._windows is None:
            self._windows = Windows(
                partial(_Decode, self._codec),
                self._codec.decode_plan,
                tuple(c.codes_per_frame for c in spec.codebooks[: len(codes.arrays)]),
                (spec.frame_samples,),
                origin=self._origin,
                start=self._start,
                run=self._codec._run,
                alike=self._codec._on_gpu,
            )
        arrays = tuple(self._codec._signal(array, np.int64) for array in codes.arrays)
        self._like, self._batch = cut(arrays[0], 0, 0), cast(Any, arrays[0]).shape[0]
        return self._audio(self._windows.push(arrays))

    def flush(self) -> A:
        return self._audio([] if self._windows is None else self._windows.flush())

    def _audio(self, given: list[tuple[A, ...]]) -> A:
        if not given:
            return zeros(self._like, (self._batch, self._codec.spec.channels, 0), np.float32)
        return join([audio for (audio,) in given])
