"""Probability tables for range coding, trained for a model. They are part of the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from nac.errors import FormatError

FOLDER = Path(__file__).parent / "tables"  # copies of those in formats/tables; a test compares them
CURRENT: dict[str, str] = {
    "e86727a4bc29fbd2": "0c380da0",
    "8e801a4aba759eb6": "8faf6318",
    "67c745383d4ada8f": "883069c0",
}
"""The name of the tables that new files use, by the fingerprint of the model's weights."""


@dataclass(frozen=True, eq=False)
class ProbabilityTables:
    """Integer tables that assign each code a weight, given its neighbours; ``formats/nac-v1.md`` defines them.

    For all L codebooks of A codes: ``order`` [L, A], in which codes split into H high symbols of A / H low ones;
    ``high_bias`` [L, H] and ``low_bias`` [L, A]; ``trust`` [L, 2]: how many counted symbols have as much weight as
    the tables; ``promising`` [L]: whether range coding is likely to shorten the codebook's layers. For the first K
    codebooks, a network whose inputs are the ``frames`` [n] around a code: ``embedding`` [K, A, D],
    ``mix`` [K, n * D, R], ``mix_bias`` and ``scale`` [K, R], ``high`` [K, H, R], ``low`` [K, A, R].
    """

    id: str
    order: NDArray[np.int16]
    high_bias: NDArray[np.int16]
    low_bias: NDArray[np.int16]
    trust: NDArray[np.int16]
    promising: NDArray[np.bool_]
    frames: NDArray[np.int8]
    embedding: NDArray[np.int8]
    mix: NDArray[np.int8]
    mix_bias: NDArray[np.int32]
    scale: NDArray[np.int32]
    high: NDArray[np.int8]
    low: NDArray[np.int8]


NONE = "00000000"


def tables_for(fingerprint: str) -> ProbabilityTables | None:
    """Return the tables for new files, or None if there are none for these weights."""
    return find_tables(CURRENT[fingerprint]) if fingerprint in CURRENT else None


@lru_cache(maxsize=4)
def find_tables(name: str) -> ProbabilityTables | None:
    """Load tables by name (8 hexadecimal digits), None for NONE. Raises FormatError if they are missing."""
    if name == NONE:
        return None
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        raise FormatError(f"range coded with tables {name}, which this version of nac lacks: try a later version")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:8] != name:
        raise FormatError(f"nac's probability tables {name} are damaged: reinstall nac")
    return ProbabilityTables(name, **load(data))
