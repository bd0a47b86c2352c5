"""Fuzz a target: python tests/fuzz/run.py TARGET [options of libFuzzer] [FOLDERS]. Needs atheris.

What is new goes into the first folder, so that a later run goes on from there. An input that crashes, takes more
than a second, or more than 512 MB, is written to a file in the current folder, and ends the run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["nac"]):
    from targets import TARGETS, seeds

LIMITS = ["-timeout=1", "-rss_limit_mb=512", "-max_len=4096"]


def main() -> None:
    target, _ = TARGETS[sys.argv[1]]
    with tempfile.TemporaryDirectory(prefix="nac-fuzz-") as folder:
        for number, seed in enumerate(seeds(sys.argv[1])):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *LIMITS, *sys.argv[2:], folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
