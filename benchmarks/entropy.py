"""Measure the bits per code, packed, range coded, and packed with zstd -19 and xz -9e, and the coder's speed.

    python benchmarks/entropy.py RECORDING... -m nac_24khz -k 3 6 12

Recordings are divided into chunks as by nac compress; zstd and xz compress all packed codes of a recording at
once, without headers. Speed is seconds of audio per second of processor time.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import shutil
import subprocess
import time
from pathlib import Path

import nac
from nac.container.chunk import Chunk, Draft
from nac.container.header import Header
from nac.container.reader import Reader
from nac.weights import models


def zstd(data: bytes) -> int | None:
    """Return the size with `zstd -19`, or None if it is not installed."""
    if not shutil.which("zstd"):
        return None
    return len(subprocess.run(["zstd", "-19", "-c"], input=data, capture_output=True, check=True).stdout)


def chunks(path: Path, model: str, kbps: float, weights: str | None) -> tuple[Header, float, list[Chunk]]:
    """Return the header, the duration in seconds and the packed chunks of a recording."""
    packed = io.BytesIO()
    codec = models.load(model, weights=weights, device="cpu")
    nac.compress(path, packed, model=model, kbps=kbps, coding="packed", load=lambda _: codec)
    packed.seek(0)
    reader = Reader(packed)
    return reader.header, (reader.samples or 0) / reader.header.original_sample_rate, list(reader.chunks())


def size(chunk: Chunk) -> int:
    return sum(len(layer) for stream in chunk.layers for layer in stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument("-m", "--model", default="nac_24khz")
    parser.add_argument("--weights")
    parser.add_argument("-k", "--kbps", nargs="+", type=float, default=[3.0, 6.0, 12.0])
    args = parser.parse_args()
    print(f"{'recording':<24} kbit/s  packed   range    zstd      xz   saved  encode  decode")
    for path in args.recordings:
        for kbps in args.kbps:
            header, seconds, packed = chunks(path, args.model, kbps, args.weights)
            codes = [[chunk.codes(header, i) or None for i in range(len(chunk.layers))] for chunk in packed]
            count = sum(len(layer) for streams in codes for stream in streams for layer in stream or ())
            began = time.process_time()
            drafts = [
                Draft(c.first_frame, c.frames, streams, c.angle) for c, streams in zip(packed, codes, strict=True)
            ]
            coded = Chunk.pack_all(header, drafts)
            middle = time.process_time()
            Chunk.codes_all(header, coded, header.stream_codebooks)
            ended = time.process_time()
            plain = b"".join(layer for chunk in packed for stream in chunk.layers for layer in stream)
            sizes = [
                len(plain),
                sum(map(size, coded)),
                zstd(plain),
                len(lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)),
            ]
            cells = "".join(f"{8 * s / count:8.3f}" if s is not None else f"{'-':>8}" for s in sizes)
            speeds = f"{seconds / (middle - began):7.0f}x{seconds / (ended - middle):7.0f}x"
            print(f"{path.name:<24} {kbps:6g}{cells} {1 - sizes[1] / sizes[0]:7.1%}{speeds}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
