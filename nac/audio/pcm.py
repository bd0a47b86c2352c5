"""Uncompressed samples: encodings of PCM and float, and their values as libsndfile converts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from nac.audio.resample import Samples
from nac.container.header import SampleFormat

Number = Literal["int", "unsigned", "float", "alaw", "ulaw"]


@dataclass(frozen=True)
class Coding:
    """A sample encoding, with a ``decode`` from bytes to an array [n]."""

    format: SampleFormat
    decode: Callable[[bytes], Samples]


def coding(number: Number | None, each: int, order: str) -> Coding | None:
    """The encoding with ``each`` bytes per sample in byte order ``order`` (< or >); None if unsupported."""
    if number == "float" and each in (4, 8):
        form = SampleFormat.F32 if each == 4 else SampleFormat.F64
        return Coding(form, lambda data: _floats(data, f"{order}f{each}"))
    if number in ("alaw", "ulaw") and each == 1:
        table = _alaw() if number == "alaw" else _ulaw()
        return Coding(SampleFormat.S16, lambda data: table[np.frombuffer(data, np.uint8)])
    if number in ("int", "unsigned") and each in _INTEGERS:
        return Coding(_INTEGERS[each], lambda data: _integers(data, each, order, number == "unsigned"))
    return None


_INTEGERS = {1: SampleFormat.U8, 2: SampleFormat.S16, 3: SampleFormat.S24, 4: SampleFormat.S32}


def _floats(data: bytes, form: str) -> Samples:
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are handled in levels
        numbers: Samples = np.frombuffer(data, form).astype(np.float32)
    return numbers


def _integers(data: bytes, each: int, order: str, unsigned: bool) -> Samples:
    numbers: Samples
    bits = 8 * each
    if unsigned:
        numbers = np.frombuffer(data, f"{order}u{each}").astype(np.float32) - np.float32(2 ** (bits - 1))
    elif each == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)[:, :: 1 if order == "<" else -1]
        numbers, bits = wide.view("<i4")[:, 0].astype(np.float32), 32
    else:
        numbers = np.frombuffer(data, f"{order}i{each}").astype(np.float32)
    numbers *= np.float32(2.0 ** (1 - bits))
    return numbers


@cache
def _ulaw() -> Samples:
    """Sample values of the mu-law bytes (ITU-T G.711)."""
    code = ~np.arange(256, dtype=np.uint8)
    steps = ((((code & 15).astype(np.int32) << 3) + 132) << (code >> 4 & 7)) - 132
    return _signed(steps, code < 128)


@cache
def _alaw() -> Samples:
    """Sample values of the A-law bytes (ITU-T G.711)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, steps = (code >> 4 & 7).astype(np.int32), ((code & 15).astype(np.int32) << 4) + 8
    return _signed(np.where(exponent > 0, (steps + 256) << np.maximum(exponent - 1, 0), steps), code >= 128)


def _signed(steps: npt.NDArray[np.int32], positive: npt.NDArray[np.bool_]) -> Samples:
    return (np.where(positive, steps, -steps) / 32768).astype(np.float32)
