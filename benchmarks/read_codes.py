"""Measure random five-second reads per second from 1000 files: .nac, packed and range coded, .npy, .dac.

    python benchmarks/read_codes.py [--files 1000] [--seconds 60] [--reads 2000] [--workers 1]

The files are made first, in a temporary folder. They contain random codes, with the rate of DAC at 24 kHz and 6
kbit/s (8 codebooks of 10 bits, 75 frames per second). Random codes cannot be compressed, so these .nac files are
packed; the range coded ones contain the codes of a recording with nac_24khz, at the same rate. .npy files are
memory-mapped. .dac files are read as by the `dac` package, which is safe only because they are made here. All
files are in the page cache, so the processor is measured, not the disk.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

import nac

RATE, CODEBOOKS, CROP = 75, 8, 5
RECORDING = Path(__file__).parents[1] / "examples" / "audio" / "speech.flac"


def make(folder: Path, files: int, seconds: int) -> None:
    random = np.random.default_rng(0)
    recorded = speech(seconds)
    for number in range(files):
        codes = random.integers(0, 1024, (CODEBOOKS, seconds * RATE), np.uint16)
        np.save(folder / f"{number}.npy", codes)
        metadata = {"input_db": np.zeros(1, np.float32), "original_length": seconds * 24000, "sample_rate": 24000}
        metadata |= {"chunk_length": seconds * RATE, "channels": 1, "padding": True, "dac_version": "1.0.0"}
        with (folder / f"{number}.dac").open("wb") as file:
            np.save(file, {"codes": codes[None], "metadata": metadata}, allow_pickle=True)
        write(codes, folder / f"{number}.nac", "dac_24khz")
        write(np.roll(recorded, 997 * number, axis=1), folder / f"{number}.range.nac", "nac_24khz")


def speech(seconds: int) -> np.ndarray:
    """Return codes of a recording with nac_24khz, repeated to this duration."""
    packed = io.BytesIO()
    nac.compress(RECORDING, packed, model="nac_24khz", codebooks=CODEBOOKS, mono=True)
    packed.seek(0)
    with nac.open(packed) as file:
        codes = np.stack(file.codes()[0])
    return np.tile(codes, -(-seconds * RATE // codes.shape[1]))[:, : seconds * RATE]


def write(codes: np.ndarray, path: Path, model: str) -> None:
    arrays = io.BytesIO()
    np.save(arrays, codes.astype(np.int16))
    arrays.seek(0)
    nac.write_codes(arrays, path, model=model, force=True)


def from_nac(path: str, start: int) -> np.ndarray:
    return np.stack(nac.read_codes(f"{path}.nac", start=start, duration=CROP)[0])


def from_range(path: str, start: int) -> np.ndarray:
    return from_nac(f"{path}.range", start)


def from_npy(path: str, start: int) -> np.ndarray:
    return np.array(np.load(f"{path}.npy", mmap_mode="r")[:, start * RATE : (start + CROP) * RATE])


def from_dac(path: str, start: int) -> np.ndarray:
    codes = np.load(f"{path}.dac", allow_pickle=True)[()]["codes"]
    return codes[0, :, start * RATE : (start + CROP) * RATE].astype(int)


READERS: dict[str, Callable[[str, int], np.ndarray]] = {
    ".nac": from_nac,
    ".range.nac": from_range,
    ".npy": from_npy,
    ".dac": from_dac,
}


def read(ending: str, excerpts: list[tuple[str, int]]) -> float:
    """Read excerpts (path, start), and return the seconds of processor time."""
    began = time.process_time()
    assert all(READERS[ending](path, start).shape == (CODEBOOKS, CROP * RATE) for path, start in excerpts)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("files", 1000), ("seconds", 60), ("reads", 2000), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.files, options.seconds)
        random = np.random.default_rng(1)
        excerpts = [
            (str(folder / str(random.integers(options.files))), int(random.integers(options.seconds - CROP)))
            for _ in range(options.reads)
        ]
        for path, start in excerpts[:20]:
            assert (from_nac(path, start) == from_npy(path, start)).all()
            assert (from_nac(path, start) == from_dac(path, start)).all()
        parts = [excerpts[worker :: options.workers] for worker in range(options.workers)]
        print(f"{options.files} files of {options.seconds} s, {options.workers} of {os.cpu_count()} cores")
        for ending in READERS:
            size = sum((folder / f"{n}{ending}").stat().st_size for n in range(options.files)) / options.files
            with ProcessPoolExecutor(options.workers) as pool:
                list(pool.map(partial(read, ending), [part[:5] for part in parts]))  # start the workers
                began = time.perf_counter()
                busy = sum(pool.map(partial(read, ending), parts))
                wall = time.perf_counter() - began
            speed = f"{options.reads / wall:6.0f} reads/s, {1000 * busy / options.reads:5.2f} ms of CPU each"
            print(f"{ending}: {speed}, {size / 1000:5.1f} kB per file")


if __name__ == "__main__":
    main()
