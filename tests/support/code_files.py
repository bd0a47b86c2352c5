"""Small .nac files of random codes, for tests of what reads many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from container_files import written

from nac.container import Chunk, Header
from nac.spec import Codebook

HEADER = Header(
    model="encodec_24khz",
    fingerprint="0123456789abcdef",
    sample_rate=24000,
    frame_samples=320,
    codebooks=(Codebook(10),) * 32,
    network_channels=1,
    stereo_pair=False,
    stream_codebooks=(8,),
    original_sample_rate=24000,
    channels=1,
)
SNAC = replace(
    HEADER,
    model="snac_24khz",
    frame_samples=2048,
    codebooks=tuple(Codebook(12, unit) for unit in (1, 2, 4)),
    stream_codebooks=(3,),
)


def file(path: Path, seconds: float, header: Header = HEADER, seed: int = 0, start: int = 0) -> list[np.ndarray]:
    """A file in chunks of 100 frames; its codes."""
    spec, random = header.spec, np.random.default_rng(seed)
    samples = round(seconds * header.sample_rate)
    frames = spec.frames(start + samples)
    count = header.stream_codebooks[0]
    codes = [
        random.integers(0, 1 << book.bits, frames * book.codes_per_frame) for book in header.codebooks[:count]
    ]
    chunks = []
    for low in range(0, frames, 100):
        high = min(low + 100, frames)
        part = [a[low * u : high * u] for a, (_, u) in zip(codes, header.codebooks, strict=False)]
        chunks.append(Chunk.pack(header, low, high - low, [part, *[None] * (len(header.stream_codebooks) - 1)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written(replace(header, start=start), chunks, samples).getvalue())
    return codes
