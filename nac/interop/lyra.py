"""Lyra V2: raw packets of 20 ms without any header; the first codebook is in the top four bits."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from nac.codecs.registry import MODELS
from nac.container import Header
from nac.errors import DamageError, FormatError, NacError
from nac.interop.recording import Recording, check_model, check_streams, from_first_frame, header_for

KBPS = {3.2: 16, 6.0: 30, 9.2: 46}
"""Lyra's bitrates, and their numbers of codebooks."""


def read(file: BinaryIO, kbps: float | None) -> Recording:
    """``kbps``: 3.2, 6 or 9.2, not contained in the file. Raises FormatError without it, and DamageError."""
    if kbps not in KBPS:
        raise FormatError("a .lyra file does not contain its bitrate, 3.2, 6 or 9.2 kbit/s", remedy="kbps")
    codebooks, data = KBPS[kbps], file.read()
    if not data or len(data) % (codebooks // 2):
        raise DamageError(
            f"{len(data)} bytes are not a multiple of the packet size, {codebooks // 2} bytes at {kbps:g} kbit/s"
        )
    packets = np.frombuffer(data, np.uint8).reshape(-1, codebooks // 2)
    codes = np.stack([packets >> 4, packets & 15], axis=2).reshape(-1, codebooks).T.astype(np.uint16)
    spec = MODELS["soundstream_16khz"].spec
    header = header_for(spec, codebooks, channels=1, samples=codes.shape[1] * spec.frame_samples)
    return Recording(header, [codes], notes=[f"the recording's own sample rate (taken: {spec.sample_rate} Hz)"])


def check(header: Header) -> None:
    """Raise NacError unless the content of a .nac file with this header fits a .lyra file."""
    check_model(header, "soundstream", ".lyra")
    check_streams(header, ".lyra")
    if len(header.stream_codebooks) > 1:
        raise NacError(f"has {len(header.stream_codebooks)} streams; .lyra has one")
    if header.stream_codebooks[0] not in KBPS.values():
        kbps = header.spec.kbps(header.stream_codebooks[0])
        raise NacError(f"has {kbps:g} kbit/s; Lyra has 3.2, 6 and 9.2", remedy="peel")


def write(recording: Recording, file: BinaryIO) -> list[str]:
    """Returns the properties that the file cannot store."""
    recording = from_first_frame(recording)
    codes = recording.codes[0].T.astype(np.uint8)
    file.write((codes[:, ::2] << 4 | codes[:, 1::2]).tobytes())
    header, lost = recording.header, ["the bitrate"]
    if header.original_sample_rate != header.sample_rate:
        lost.append(f"the sample rate of {header.original_sample_rate} Hz")
    late = (
        recording.frames * header.frame_samples / header.sample_rate
        - recording.samples / header.original_sample_rate
    )
    if late > 0:
        lost.append(f"where it ends ({late:.3f} s earlier)")
    return [*recording.notes, *lost]
