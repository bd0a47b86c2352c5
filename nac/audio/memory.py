"""Arrays of samples, with soundfile's convention: integers use their full range, floats -1 to 1."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from operator import index
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nac.audio.levels import measure, tamed
from nac.audio.reading import BLOCK, Source
from nac.audio.resample import Samples
from nac.audio.stereo import CommonAngle
from nac.audio.tags import own
from nac.container.header import MAX_CHANNELS, MAX_RATE, MIN_RATE, SampleFormat
from nac.errors import ArgumentError, ArgumentTypeError

Array = npt.NDArray[Any]
DType = Literal["float32", "float64", "int16", "int32"]
_FORMATS: Mapping[str, SampleFormat] = {
    "int16": SampleFormat.S16,
    "int32": SampleFormat.S32,
    "float32": SampleFormat.F32,
    "float64": SampleFormat.F64,
}


def in_memory(samples: Any, sample_rate: int, tags: Mapping[str, str] | None = None) -> Source:
    """An array [n] or [n, channels] of numpy or torch as a recording, as if read from a WAV file of its type.

    Raises
    ------
    ArgumentTypeError
        If the samples are not of type int16, int32, float32 or float64.
    ArgumentError
        If the shape or the sample rate is invalid.
    """
    array = as_array(samples)
    blocks, peak, notes = as_blocks(array), 1.0, tuple[str, ...]()
    if array.dtype.kind == "f":  # may lie above full scale, so scan first
        levels = measure(as_blocks(array))
        blocks, notes = (tamed(block, levels.peak) for block in blocks), levels.notes
        peak = max(1.0, levels.peak)
    form, named = format_of(array), own(tags)
    angle = CommonAngle(array.shape[1]).scan(as_blocks(array))
    rate, channels = check_rate(sample_rate), array.shape[1]
    return Source(rate, channels, len(array), form, blocks, peak, tags=named, notes=notes, angle=angle)


def as_array(samples: Any) -> Array:
    """Samples as a numpy array [n, channels], of unchanged type. Raises as :func:`in_memory`."""
    if hasattr(samples, "detach"):  # a tensor on any device
        if samples.device.type == "meta":
            raise ArgumentTypeError("a meta tensor holds no samples")
        samples = samples.detach().cpu()
    if samples is None or isinstance(samples, (str, bytes, os.PathLike, Mapping)):  # a file, or its column
        raise ArgumentTypeError(f"an array or tensor of samples is needed, not a {type(samples).__name__}")
    try:
        array = np.asarray(samples)
    except TypeError as error:
        raise ArgumentTypeError(f"samples of {getattr(samples, 'dtype', type(samples))}: {error}") from None
    except ValueError as error:
        raise ArgumentError(f"samples of one shape are needed: {error}") from None
    format_of(array)
    if array.ndim not in (1, 2) or 0 in array.shape[1:]:
        raise ArgumentError(f"samples [n] or [n, channels] are needed, not {list(array.shape)}")
    if array.ndim == 2 and array.shape[1] > MAX_CHANNELS >= len(array):
        raise ArgumentError(f"samples [n, channels] are needed; {list(array.shape)} looks like [channels, n]")
    return array[:, None] if array.ndim == 1 else array


def format_of(array: Array) -> SampleFormat:
    """The sample format of an array. Raises ArgumentTypeError for an unsupported type."""
    found = _FORMATS.get(array.dtype.name)
    if found is None:
        raise ArgumentTypeError(f"samples of type {array.dtype}; supported are {', '.join(_FORMATS)}")
    return found


def check_rate(sample_rate: int) -> int:
    """A sample rate, Hz, as an int. Raises ArgumentTypeError or ArgumentError if invalid."""
    try:
        rate = index(sample_rate)
    except TypeError:
        raise ArgumentTypeError(f"a sample rate must be a whole number of Hz, not {sample_rate!r}") from None
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ArgumentError(f"invalid sample rate: {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are possible")
    return rate


def check_channels(channels: int) -> int:
    """A number of channels as an int. Raises ArgumentTypeError or ArgumentError if invalid."""
    try:
        count = index(channels)
    except TypeError:
        raise ArgumentTypeError(f"the number of channels must be a whole number, not {channels!r}") from None
    if not 1 <= count <= MAX_CHANNELS:
        raise ArgumentError(f"{count} channels; 1 to {MAX_CHANNELS} are possible")
    return count


def as_blocks(array: Array) -> Iterator[Samples]:
    """An array [n, channels] as float32, block by block."""
    for start in range(0, len(array), BLOCK):
        yield as_float32(array[start : start + BLOCK])


def as_float32(block: Array) -> Samples:
    """Samples converted to float, like libsndfile does."""
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are handled in levels
        floats: Samples = block.astype(np.float32)
    if block.dtype.kind == "i":
        floats *= np.float32(2.0 ** (1 - 8 * block.dtype.itemsize))
    return floats


def as_dtype(samples: Samples, dtype: DType) -> Array:
    """Float samples as another type: integers are rounded and clipped to full scale.

    Raises ArgumentTypeError for an unsupported type.
    """
    kind = np.dtype(dtype)
    if kind.name not in _FORMATS:
        raise ArgumentTypeError(f"samples of type {kind}; supported are {', '.join(_FORMATS)}")
    if kind.kind == "f":
        return samples.astype(kind, copy=False)
    full = 2.0 ** (8 * kind.itemsize - 1)
    return np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1).astype(kind)
