"""WAV written to any stream, also to one that cannot seek, where libsndfile cannot."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nac.audio.resample import Samples
from nac.errors import AudioError

_PCM = 1


def to_int16(block: Samples) -> npt.NDArray[np.int16]:
    """Samples rounded to 16 bits, little-endian, those beyond full scale set to it."""
    return np.clip(np.rint(block * 32768), -32768, 32767).astype("<i2")


class WavOutput:
    """16-bit WAV to any stream. A length not known beforehand is filled in at the end if the stream can seek."""

    def __init__(self, file: BinaryIO, sample_rate: int, channels: int, samples: int | None) -> None:
        self._file, self._rate, self._channels = file, sample_rate, channels
        self._announced, self._written = samples, 0
        if channels * 2 > 0xFFFF or sample_rate * channels * 2 > 0xFFFFFFFF:
            raise AudioError(f"cannot write wav with {channels} channels at {sample_rate} Hz")
        self._long = samples is not None and samples * channels * 2 + 44 > 0xFFFFFFFF
        self._file.write(self._header(samples))

    def write(self, block: Samples) -> None:
        self._file.write(to_int16(block).tobytes())
        self._written += len(block)

    def close(self) -> None:
        if self._written != self._announced and self._file.seekable():
            end = self._file.tell()
            self._file.seek(end - self._written * self._channels * 2 - len(self._header(None)))
            self._file.write(self._header(self._written))
            self._file.seek(end)

    def _header(self, samples: int | None) -> bytes:
        width = self._channels * 2
        size = None if samples is None else samples * width
        form = struct.pack("<HHIIHH", _PCM, self._channels, self._rate, self._rate * width, width, 16)
        if self._long:
            assert size is not None
            assert samples is not None
            long_sizes = b"ds64" + struct.pack("<IQQQI", 28, size + 72, size, samples, 0)
            start = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + long_sizes
            return start + b"fmt " + struct.pack("<I", 16) + form + struct.pack("<4sI", b"data", 0xFFFFFFFF)
        riff, data = (0xFFFFFFFF,) * 2 if size is None or size + 36 > 0xFFFFFFFF else (size + 36, size)
        return (
            struct.pack("<4sI4s4sI", b"RIFF", riff, b"WAVE", b"fmt ", 16)
            + form
            + struct.pack("<4sI", b"data", data)
        )
