"""WAV on streams that cannot seek, where libsndfile cannot read or write it."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nac.audio.declared import cut_off
from nac.audio.resample import Samples
from nac.audio.tags import Tags, info_list, kept
from nac.container.header import SampleFormat
from nac.errors import AudioError
from nac.streams import read_exactly

_BLOCK = 1 << 15
_UNKNOWN = 0x7FFFF000  # writers that cannot seek announce a data length from here up, or 0
_HEADER_LIMIT = 1 << 20  # bytes before the samples; more is refused
_PCM, _EXTENSIBLE = 1, 0xFFFE
_FORMATS = {
    (_PCM, 8): SampleFormat.U8,
    (_PCM, 16): SampleFormat.S16,
    (_PCM, 24): SampleFormat.S24,
    (_PCM, 32): SampleFormat.S32,
}


class WavUnsupported(Exception):
    """Not a plain WAV stream. ``taken``: the bytes read so far."""

    def __init__(self, taken: bytes) -> None:
        self.taken = taken


class WavInput:
    """A WAV stream (RIFF or RF64) of integers read from front to back, of unknown length if it says so.

    Raises WavUnsupported, with the bytes it took, where the stream is something else: floats too, whose peak has
    to be known beforehand.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._taken = file, b""
        start = self._take(12)
        if start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
            raise WavUnsupported(self._taken)
        form, long_size, size = b"", None, 0
        self.tags: Tags = ()
        while True:
            name, size = struct.unpack("<4sI", self._take(8))
            if name == b"data":
                break
            if len(self._taken) + size > _HEADER_LIMIT:
                raise WavUnsupported(self._taken)
            body = self._take(size + size % 2)
            if name == b"fmt ":
                form = body
            elif name == b"LIST":
                self.tags += kept(info_list(body))
            elif name == b"ds64" and len(body) >= 16:
                long_size = struct.unpack_from("<Q", body, 8)[0]
        if len(form) < 16:
            raise WavUnsupported(self._taken)
        tag, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", form)
        if tag == _EXTENSIBLE and len(form) >= 26:
            tag = struct.unpack_from("<H", form, 24)[0]
        if (tag, bits) not in _FORMATS or not channels or not rate or width != channels * bits // 8:
            raise WavUnsupported(self._taken)
        self.sample_rate, self.channels, self._width = rate, channels, width
        self.sample_format = _FORMATS[tag, bits]
        if size == 0xFFFFFFFF and long_size:
            size = long_size
        riff = struct.unpack_from("<I", start, 4)[0]
        empty = size == 0 and 0 < riff < _UNKNOWN  # else 0 stands for a length not known when it was written
        known = empty or 0 < size < _UNKNOWN or (long_size is not None and size == long_size)
        self.samples = size // width if known else None
        self._left = self.samples

    def _take(self, size: int) -> bytes:
        """Bytes of the header, remembered."""
        data = read_exactly(self._file, size)
        self._taken += data
        if len(data) < size:
            raise WavUnsupported(self._taken)
        return data

    def read(self) -> Samples:
        wanted = _BLOCK if self._left is None else min(_BLOCK, self._left)
        data = read_exactly(self._file, wanted * self._width)
        count = len(data) // self._width
        if self._left is not None:
            self._left -= count
            if len(data) < wanted * self._width:
                raise cut_off(self._left * self._width)
            if count == 0:
                while self._file.read(1 << 16):  # what follows the samples: tags, perhaps; let the writer finish
                    pass
        return _decode(data[: count * self._width], self.sample_format).reshape(-1, self.channels)

    def close(self) -> None:
        pass


def _decode(data: bytes, form: SampleFormat) -> Samples:
    """Bytes to samples, as libsndfile scales them."""
    if form is SampleFormat.U8:
        numbers, bits = np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128), 8
    elif form is SampleFormat.S16:
        numbers, bits = np.frombuffer(data, "<i2").astype(np.float32), 16
    elif form is SampleFormat.S24:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        numbers, bits = wide.view("<i4")[:, 0].astype(np.float32), 32
    else:
        numbers, bits = np.frombuffer(data, "<i4").astype(np.float32), 32
    samples: Samples = numbers * np.float32(2 ** (1 - bits))
    return samples


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
