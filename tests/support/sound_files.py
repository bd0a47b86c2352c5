"""Audio files that programs and accidents make, and what nac reads of them by each way in."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np

from nac.audio.reading import Source, open_source

RATE = 16000


class Stream(io.RawIOBase):
    """Bytes that arrive a few at a time and cannot be sought."""

    def __init__(self, data: bytes, step: int = 5000) -> None:
        self._file, self._step = io.BytesIO(data), step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._step if size < 0 else min(size, self._step))


def noise(samples: int = 8000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Something that is nowhere the same: float32 [n, channels] within full scale."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def read_source(file: Path | io.IOBase) -> tuple[np.ndarray, Source]:
    """All samples, and what was said of them."""
    with open_source(file) as source:
        return np.concatenate([np.zeros((0, source.channels), np.float32), *source.blocks]), source


def every_way(path: Path, data: bytes) -> list[Path | io.IOBase]:
    """A file by its path, as an object, and through a pipe."""
    path.write_bytes(data)
    return [path, io.BytesIO(data), Stream(data)]


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    """A chunk of a WAV."""
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def wav_form(channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    """What says of a WAV that it is of integers."""
    width = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, rate * width, width, bits))


def riff(*chunks: bytes, size: int | None = None, name: bytes = b"RIFF") -> bytes:
    """A WAV of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body
