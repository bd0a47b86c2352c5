"""Validate the arguments of codecs: samples and codes, as numpy arrays or PyTorch tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nac.errors import ArgumentError, ModelError
from nac.spec import CodecSpec

SILENCE = -1
"""The code of silent frames."""


def kind_of(array: Any) -> str:
    """Return the kind of an array's dtype: "i" for integers, "f" for floats, or another of numpy's letters."""
    dtype = getattr(array, "dtype", None)
    if isinstance(dtype, np.dtype):
        return "i" if dtype.kind == "u" else dtype.kind
    if dtype is None or not hasattr(dtype, "is_floating_point"):
        raise ArgumentError(f"a tensor or a numpy array is needed, not {type(array).__name__}")
    return "f" if dtype.is_floating_point else "c" if dtype.is_complex else "b" if "bool" in str(dtype) else "i"


def check_audio(spec: CodecSpec, audio: Any) -> None:
    """Raise ArgumentError unless these are real samples [B, C, N] for a codec."""
    if kind_of(audio) != "f":
        raise ArgumentError(f"{spec.name} takes float samples, of which 1 is full scale, not {audio.dtype}")
    shape = list(audio.shape)
    if len(shape) != 3 or shape[1] != spec.channels:
        raise ArgumentError(f"{spec.name} takes audio [B, {spec.channels}, N], not {shape}")
    if not shape[0]:
        raise ArgumentError(f"{spec.name} takes audio [B, {spec.channels}, N] with B of at least 1, not {shape}")


def check_finite(spec: CodecSpec, audio: Any) -> None:
    """Raise ArgumentError if any sample [B, C, N] is NaN or infinite."""
    audio = audio.detach() if hasattr(audio, "detach") else audio
    if audio.shape[-1] and not -np.inf < float(audio.min()) <= float(audio.max()) < np.inf:
        raise ArgumentError(f"{spec.name} takes finite samples, not NaN or infinity")


def check_range(spec: CodecSpec, results: Iterable[tuple[Any, ...]]) -> None:
    """Raise ModelError if any decoded sample is NaN or infinite: numbers have exceeded the range of float16."""
    for arrays in results:
        if not all(bool(array.isfinite().all()) for array in arrays if array.dtype.is_floating_point):
            raise ModelError(f"{spec.name} exceeds the range of half precision here", remedy="fast")


def check_codes(spec: CodecSpec, arrays: Sequence[Any], *, silence: bool) -> None:
    """Raise ArgumentError unless these are codes: integers [B, frames * codes_per_frame], coarse to fine.

    Codes are 0 to 2^bits - 1 or, with ``silence``, ``SILENCE``.
    """
    if not 1 <= len(arrays) <= len(spec.codebooks):
        raise ArgumentError(f"{spec.name} takes codes of 1 to {len(spec.codebooks)} codebooks, not {len(arrays)}")
    batch = frames = None
    for number, (array, book) in enumerate(zip(arrays, spec.codebooks, strict=False)):
        name = f"codebook {number} of {spec.name}"
        if kind_of(array) != "i":
            raise ArgumentError(f"{name}: integer codes are needed, not {array.dtype}")
        shape = list(array.shape)
        if not shape:
            raise ArgumentError(f"{name}: codes [B, frames] are needed, not a number")
        batch, frames = (shape[0], shape[-1] // book.codes_per_frame) if batch is None else (batch, frames)
        if len(shape) != 2 or shape != [batch, (frames or 0) * book.codes_per_frame]:
            raise ArgumentError(
                f"{name}: codes [{batch}, {(frames or 0) * book.codes_per_frame}] are needed, not {shape}: "
                f"{book.codes_per_frame} in each of {frames} frames, with the same frames in every codebook"
            )
        low, high = (int(array.min()), int(array.max())) if shape[-1] and batch else (0, 0)
        if low < (SILENCE if silence else 0) or high >= 1 << book.bits:
            also = f", or {SILENCE} for silence" if silence else ""
            raise ArgumentError(f"{name}: codes must be 0 to {(1 << book.bits) - 1}{also}, not {low} to {high}")


def runs(spec: CodecSpec, arrays: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Return the runs of frames with codes, as (first, end), for one signal's codes [1, n].

    Raises ArgumentError if a frame is silent only in some codebooks, or a segment only in some frames.
    """
    silent = [
        (array[0] == SILENCE).reshape(-1, book.codes_per_frame)
        for array, book in zip(arrays, spec.codebooks, strict=False)
    ]
    joint = np.concatenate(silent, axis=1)
    unit = spec.segment.frames if spec.segment else 1
    edges = range(0, len(joint), unit)
    partly = np.array([joint[edge : edge + unit].any() for edge in edges], bool)
    fully = np.array([joint[edge : edge + unit].all() for edge in edges], bool)
    if (partly != fully).any():
        what = "segment" if spec.segment else "frame"
        number = int(np.flatnonzero(partly != fully)[0])
        raise ArgumentError(
            f"{what} {number} is silent ({SILENCE}) only in part: set all of its codes to {SILENCE}"
        )
    borders = np.flatnonzero(np.diff(np.concatenate([[True], fully, [True]]).astype(np.int8)))
    ends = np.minimum(borders * unit, len(joint))
    return [(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True)]
