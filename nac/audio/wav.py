"""WAV output to any stream, also one that cannot seek, which libsndfile does not support."""

from __future__ import annotations

import struct
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from nac.audio.resample import Samples
from nac.errors import AudioError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID = bytes.fromhex("000000001000800000aa00389b71")  # the rest of a subformat GUID of WAVE_FORMAT_EXTENSIBLE
Bits = Literal["16", "24", "float"]
"""The sample format of an output."""
BYTES: dict[Bits, int] = {"16": 2, "24": 3, "float": 4}


def to_int16(block: Samples) -> npt.NDArray[np.int16]:
    """Samples rounded and clipped to 16 bits, little-endian."""
    return np.clip(np.rint(block * 32768), -32768, 32767).astype("<i2")


def to_int32(block: Samples) -> npt.NDArray[np.int32]:
    """Samples rounded and clipped to 24 bits, in the upper three of four bytes."""
    numbers: npt.NDArray[np.int32] = np.clip(np.rint(block * 2.0**23), -(2**23), 2**23 - 1).astype("<i4")
    return numbers << 8


def _to_bytes(block: Samples, bits: Bits) -> bytes:
    if bits == "16":
        return to_int16(block).tobytes()
    if bits == "24":
        return np.ascontiguousarray(to_int32(block)).view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    return block.astype("<f4").tobytes()


class WavOutput:
    """WAV to any stream. An unknown length is filled in at the end if the stream can seek.

    ``mask``: the channel layout, or 0 (:mod:`nac.audio.layout`).
    """

    def __init__(
        self,
        file: BinaryIO,
        sample_rate: int,
        channels: int,
        samples: int | None,
        *,
        bits: Bits = "16",
        mask: int = 0,
    ) -> None:
        self._file, self._rate, self._channels, self._bits, self._mask = file, sample_rate, channels, bits, mask
        self._announced, self._written, self._width = samples, 0, channels * BYTES[bits]
        if self._width > 0xFFFF or sample_rate * self._width > 0xFFFFFFFF:
            raise AudioError(f"cannot write wav with {channels} channels at {sample_rate} Hz")
        self._long = samples is not None and samples * self._width + 68 > 0xFFFFFFFF
        self._file.write(self._header(samples))

    def write(self, block: Samples) -> None:
        """Append samples [n, channels]."""
        self._file.write(_to_bytes(block, self._bits))
        self._written += len(block)

    def close(self) -> None:
        """Fill in the length if it was unknown and the stream can seek."""
        if self._written != self._announced and self._file.seekable():
            end, header = self._file.tell(), self._header(self._written)
            self._file.seek(end - self._written * self._width - len(header))
            self._file.write(header)
            self._file.seek(end)

    def _header(self, samples: int | None) -> bytes:
        size = None if samples is None else samples * self._width
        form = self._form()
        if self._long:
            assert size is not None
            assert samples is not None
            long_sizes = b"ds64" + struct.pack("<IQQQI", 28, size + len(form) + 48, size, samples, 0)
            start = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE") + long_sizes
            return start + form + struct.pack("<4sI", b"data", 0xFFFFFFFF)
        more = len(form) + 12
        riff, data = (0xFFFFFFFF,) * 2 if size is None or size + more > 0xFFFFFFFF else (size + more, size)
        return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", data)

    def _form(self) -> bytes:
        """The format chunk."""
        tag, bits = (_FLOAT if self._bits == "float" else _PCM), 8 * BYTES[self._bits]
        numbers = self._channels, self._rate, self._rate * self._width, self._width, bits
        if not self._mask:
            return struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, *numbers)
        extended = struct.pack("<HHIH", 22, bits, self._mask, tag) + _GUID
        return struct.pack("<4sIHHIIHH", b"fmt ", 40, _EXTENSIBLE, *numbers) + extended
