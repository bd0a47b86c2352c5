"""How many random five-second reads a second come from 1000 files: .nac, memory-mapped .npy, pickled .dac.

    python tests/bench/read_codes.py [--files 1000] [--seconds 60] [--reads 2000] [--workers 1]

The files are made first, in a temporary folder: random codes, as many as DAC at 24 kHz makes at 6 kbit/s (8
codebooks of 10 bits, 75 frames a second). Random codes cannot be made smaller, so the .nac files are packed. A
.dac file is read as the `dac` package does it, which is only safe here because the files are our own. All are in
the page cache: the numbers are those of the processor, not of the disk.
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


def make(folder: Path, files: int, seconds: int) -> None:
    random = np.random.default_rng(0)
    for number in range(files):
        codes = random.integers(0, 1024, (CODEBOOKS, seconds * RATE), np.uint16)
        np.save(folder / f"{number}.npy", codes)
        metadata = {"input_db": np.zeros(1, np.float32), "original_length": seconds * 24000, "sample_rate": 24000}
        metadata |= {"chunk_length": seconds * RATE, "channels": 1, "padding": True, "dac_version": "1.0.0"}
        with (folder / f"{number}.dac").open("wb") as file:
            np.save(file, {"codes": codes[None], "metadata": metadata}, allow_pickle=True)
        arrays = io.BytesIO()
        np.save(arrays, codes.astype(np.int16))
        arrays.seek(0)
        nac.write_codes(arrays, folder / f"{number}.nac", model="dac_24khz", force=True)


def from_nac(path: str, start: int) -> np.ndarray:
    return np.stack(nac.read_codes(f"{path}.nac", start=start, duration=CROP)[0])


def from_npy(path: str, start: int) -> np.ndarray:
    return np.array(np.load(f"{path}.npy", mmap_mode="r")[:, start * RATE : (start + CROP) * RATE])


def from_dac(path: str, start: int) -> np.ndarray:
    codes = np.load(f"{path}.dac", allow_pickle=True)[()]["codes"]
    return codes[0, :, start * RATE : (start + CROP) * RATE].astype(int)


READERS: dict[str, Callable[[str, int], np.ndarray]] = {".nac": from_nac, ".npy": from_npy, ".dac": from_dac}


def read(ending: str, places: list[tuple[str, int]]) -> float:
    """Seconds of the processor's time."""
    began = time.process_time()
    assert all(READERS[ending](path, start).shape == (CODEBOOKS, CROP * RATE) for path, start in places)
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
        places = [
            (str(folder / str(random.integers(options.files))), int(random.integers(options.seconds - CROP)))
            for _ in range(options.reads)
        ]
        for path, start in places[:20]:
            assert (from_nac(path, start) == from_npy(path, start)).all()
            assert (from_nac(path, start) == from_dac(path, start)).all()
        parts = [places[worker :: options.workers] for worker in range(options.workers)]
        print(f"{options.files} files of {options.seconds} s, {options.workers} of {os.cpu_count()} cores")
        for ending in READERS:
            size = sum(path.stat().st_size for path in folder.glob(f"*{ending}")) / options.files
            with ProcessPoolExecutor(options.workers) as pool:
                list(pool.map(partial(read, ending), [part[:5] for part in parts]))  # start the workers
                began = time.perf_counter()
                busy = sum(pool.map(partial(read, ending), parts))
                wall = time.perf_counter() - began
            speed = (
                f"{options.reads / wall:6.0f} reads a second, {1000 * busy / options.reads:5.2f} ms of CPU each"
            )
            print(f"{ending}: {speed}, {size / 1000:5.1f} kB a file")


if __name__ == "__main__":
    main()
