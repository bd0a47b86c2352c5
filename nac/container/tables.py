"""Probability tables: how likely each code of a model is, for range coding. They are in the package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from nac.errors import FormatError

FOLDER = Path(__file__).parent / "tables"  # copies of those in formats/tables, which a test compares
CURRENT: dict[str, str] = {
    "e86727a4bc29fbd2": "0c380da0",
    "8e801a4aba759eb6": "8faf6318",
}
"""The name of the tables that new files get, by the fingerprint of the model's weights."""


@dataclass(frozen=True, eq=False)
class ProbabilityTables:
    """Integer tables that give every code a weight in its surroundings; ``formats/nac-v1.md`` says how.

    For all L codebooks of A codes: ``order`` [L, A], in which codes split into H high symbols of A / H low ones;
    ``high_bias`` [L, H] and ``low_bias`` [L, A]; ``trust`` [L, 2]: how many counted symbols
    weigh as much as the tables; ``promising`` [L]: whether to expect that the codebook's layers become shorter.
    For the first K a network that looks at some ``frames`` [n] around a code: ``embedding`` [K, A, D],
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
    """The tables to code new files with, if there are any for these weights."""
    return find_tables(CURRENT[fingerprint]) if fingerprint in CURRENT else None


@lru_cache(maxsize=4)
def find_tables(name: str) -> ProbabilityTables | None:
    """The tables of that name (8 hexadecimal digits), or none. Raises FormatError where they are not at hand."""
    if name == NONE:
        return None
    path = FOLDER / f"{name}.safetensors"
    if not path.exists():
        raise FormatError(f"coded with tables {name}, which this version of nac does not have; a later one may")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:8] != name:
        raise FormatError(f"the tables {name} that belong to nac are damaged: install it again")
    return ProbabilityTables(name, **load(data))
