"""Fuzz a target: python tests/fuzz/run.py TARGET [options of libFuzzer] [FOLDERS]. Needs atheris.

What is new goes into the first folder, so that a later run goes on from there. An input that crashes, takes more
than a second, or more than 512 MB, is written to a file in the current folder, and ends the run.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["nac"]):
    from targets import TARGETS, seeds

LIMITS = ["-timeout=60", "-rss_limit_mb=512", "-max_len=4096"]
SECOND = 1.0  # of the processor's time: the clock runs on while a busy machine does other things


def timed(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, with an error for an input that takes too long."""

    def run(data: bytes) -> None:
        began = time.process_time()
        target(data)
        if (took := time.process_time() - began) > SECOND:
            raise TimeoutError(f"{took:.1f} s")

    return run


def main() -> None:
    target, _ = TARGETS[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="nac-fuzz-") as folder:
        for number, seed in enumerate(seeds(sys.argv[1])):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[2:], folder], timed(target))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
