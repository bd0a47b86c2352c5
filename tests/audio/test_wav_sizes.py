"""WAV of unknown length that becomes as long as its 32-bit sizes can say, and a sample longer."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from nac.audio import wav
from nac.audio.wav import WavOutput


class LongFile:
    """Keeps what is written at its start; of sound, only the length counts."""

    def __init__(self) -> None:
        self.at, self.start = 0, b""

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, at: int) -> None:
        self.at = at

    def write(self, data: bytes) -> None:
        if self.at == 0:
            self.start = data
        self.at += len(data)


class Zeros:
    """So many bytes of sound, that are nowhere."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


@pytest.mark.parametrize(("mask", "header"), [(0, 44), (4, 68)])
@pytest.mark.parametrize("beyond", [-1, 0, 1, 20])
def test_sizes_are_filled_in_as_long_as_they_fit(
    mask: int, header: int, beyond: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wav, "_to_bytes", lambda block, bits: Zeros(2 * len(block)))
    file = LongFile()
    output = WavOutput(file, 16000, 1, None, mask=mask)  # type: ignore[arg-type]
    samples = (0xFFFFFFFF - (header - 8)) // 2 + beyond
    output.write(np.broadcast_to(np.float32(0), (samples, 1)))
    output.close()
    assert file.at == header + 2 * samples
    assert len(file.start) == header
    sizes = struct.unpack_from("<I", file.start, 4) + struct.unpack_from("<I", file.start, header - 4)
    fits = beyond <= 0
    assert sizes == ((header - 8 + 2 * samples, 2 * samples) if fits else (0xFFFFFFFF, 0xFFFFFFFF))


@pytest.mark.parametrize("mask", [0, 4])
@pytest.mark.parametrize("beyond", [-20, -1, 0, 1, 20, 1 << 30])
def test_a_wav_of_known_length_always_has_its_sizes(mask: int, beyond: int) -> None:
    """In 32 bits as long as they fit, else in 64, where the first one is that of the file without 8 bytes."""
    form = 48 if mask else 24
    samples = (0xFFFFFFFF - form - 12) // 2 + beyond
    file = LongFile()
    WavOutput(file, 16000, 1, samples, mask=mask)  # type: ignore[arg-type]
    if file.start.startswith(b"RF64"):
        riff, data, count = struct.unpack_from("<QQQ", file.start, 20)
        assert count == samples
    else:
        assert beyond <= 0
        (riff,), (data,) = struct.unpack_from("<I", file.start, 4), struct.unpack("<I", file.start[-4:])
    assert (riff + 8, data) == (len(file.start) + 2 * samples, 2 * samples)
