"""Samples in arrays, as soundfile means them: integers fill their type, floats are nominally within -1 to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import index
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nac.audio.levels import measure, tamed
from nac.audio.reading import BLOCK, Source
from nac.audio.resample import Samples
from nac.audio.stereo import common_angle
from nac.audio.tags import kept
from nac.container.header import MAX_CHANNELS, SampleFormat
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
    """An array, numpy's or torch's, [n] or [n, channels], as a recording: what a WAV file of its type would be.

    Raises
    ------
    ArgumentTypeError
        For samples of another type than int16, int32, float32 or float64.
    ArgumentError
        For other shapes, and rates that are none.
    """
    array = as_array(samples)
    blocks, peak, notes = as_blocks(array), 1.0, tuple[str, ...]()
    if array.dtype.kind == "f":  # which may lie above full scale: look first
        levels = measure(as_blocks(array))
        blocks, notes = (tamed(block, levels.peak) for block in blocks), levels.notes
        peak = max(1.0, levels.peak)
    form, own = format_of(array), kept((tags or {}).items())
    angle = common_angle(as_blocks(array)) if array.shape[1] == 2 else None
    rate, channels = check_rate(sample_rate), array.shape[1]
    return Source(rate, channels, len(array), form, blocks, peak, tags=own, notes=notes, angle=angle)


def as_array(samples: Any) -> Array:
    """Samples as a numpy array [n, channels], of whatever type they are of. Raises as :func:`in_memory`."""
    if hasattr(samples, "detach"):  # a tensor, wherever it is
        samples = samples.detach().cpu()
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
    """What kind of samples an array has. Raises ArgumentTypeError where it is none."""
    found = _FORMATS.get(array.dtype.name)
    if found is None:
        raise ArgumentTypeError(f"samples of {array.dtype}, where {', '.join(_FORMATS)} are known")
    return found


def check_rate(sample_rate: int) -> int:
    """A sample rate, Hz, as an int. Raises ArgumentTypeError or ArgumentError where it is none."""
    try:
        rate = index(sample_rate)
    except TypeError:
        raise ArgumentTypeError(f"a sample rate is a whole number of Hz, not {sample_rate!r}") from None
    if rate < 1:
        raise ArgumentError(f"a sample rate of {rate} Hz")
    return rate


def check_channels(channels: int) -> int:
    """A number of channels as an int. Raises ArgumentTypeError or ArgumentError where it is none."""
    try:
        count = index(channels)
    except TypeError:
        raise ArgumentTypeError(f"a number of channels is a whole one, not {channels!r}") from None
    if not 1 <= count <= MAX_CHANNELS:
        raise ArgumentError(f"{count} channels, where 1 to {MAX_CHANNELS} can be")
    return count


def as_blocks(array: Array) -> Iterator[Samples]:
    """An array [n, channels] as float32, a block at a time."""
    for start in range(0, len(array), BLOCK):
        yield as_float32(array[start : start + BLOCK])


def as_float32(block: Array) -> Samples:
    """Samples as floats, as libsndfile reads them."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is dealt with where levels are
        floats: Samples = block.astype(np.float32)
    if block.dtype.kind == "i":
        floats *= np.float32(2.0 ** (1 - 8 * block.dtype.itemsize))
    return floats


def as_dtype(samples: Samples, dtype: DType) -> Array:
    """Float samples as another type: integers are rounded, those beyond full scale set to it.

    Raises ArgumentTypeError for a type that is none of samples.
    """
    kind = np.dtype(dtype)
    if kind.name not in _FORMATS:
        raise ArgumentTypeError(f"samples as {kind}, where {', '.join(_FORMATS)} are known")
    if kind.kind == "f":
        return samples.astype(kind, copy=False)
    full = 2.0 ** (8 * kind.itemsize - 1)
    return np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1).astype(kind)
