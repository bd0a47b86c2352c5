"""The manifest: the outcomes for files, and for recordings in shards, in Parquet files beside the outputs.

It records which inputs are done. Each run adds new Parquet files, so a killed run loses no earlier rows. If an
input has several rows, the last one counts.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cache
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from nac.storage.output import whole_file
from nac.storage.places import MANIFEST, Place, as_text

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, SECONDS = 10_000, 60.0
"""A Parquet file is written after this many rows or seconds."""


@dataclass(frozen=True)
class Row:
    """The outcome for one file; unknown values are None.

    ``input`` and ``output``: paths relative to source and target; ``fingerprint``: that of the weights; ``kbps``:
    bitrate of the codes in kbit/s; ``seconds``: duration of the audio; ``wall_seconds``: processing time. ``key``:
    name of the recording, if ``input`` is a shard; then the sizes are those of the recording.
    """

    input: str
    output: str
    model: str | None = None
    fingerprint: str | None = None
    kbps: float | None = None
    seconds: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    wall_seconds: float | None = None
    error: str | None = None
    key: str | None = None


_VALUES = attrgetter(*(field.name for field in fields(Row)))


class Done:
    """The set of inputs that are done according to the manifest, stored as hashes of eight bytes."""

    def __init__(self, names: Iterator[str]) -> None:
        self._hashes = np.unique(np.fromiter(map(_hash, names), np.uint64))

    def __contains__(self, name: str) -> bool:
        value = np.uint64(_hash(as_text(name)))
        index = np.searchsorted(self._hashes, value)
        return bool(index < len(self._hashes) and self._hashes[index] == value)


class Manifest:
    """The manifest of a folder. A context manager: on exit, the last rows are written."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._run = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._files = 0
        self._rows: list[tuple[object, ...]] = []
        self._began = time.monotonic()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def done(self) -> Done:
        """Return the inputs that earlier runs have done. Raises OSError."""
        return Done(self._done())

    def _done(self) -> Iterator[str]:
        from pyarrow.parquet import ParquetFile

        for name in self._place.list(MANIFEST)[0]:
            with self._place.fetched(f"{MANIFEST}/{name}") as path, path.open("rb") as file:
                for batch in ParquetFile(file).iter_batches(columns=["input", "error"]):
                    inputs, errors = (column.to_pylist() for column in batch.columns)
                    yield from (name for name, error in zip(inputs, errors, strict=True) if error is None)

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows. All rows of a shard must be added together, so that they are written to one file.

        Raises OSError or NacError if a Parquet file cannot be written.
        """
        now = datetime.now(timezone.utc)
        for row in rows:
            texts = (as_text(value) if isinstance(value, str) else value for value in _VALUES(row))
            self._rows.append((*texts, now))
        if len(self._rows) >= ROWS or time.monotonic() - self._began > SECONDS:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa
        from pyarrow.parquet import write_table

        if self._rows:
            arrays = [
                pa.array(column, kind.type)
                for column, kind in zip(zip(*self._rows, strict=True), _schema(), strict=True)
            ]
            name = f"{MANIFEST}/{self._run}-{self._files:05}.parquet"
            with self._place.written(name) as path, whole_file(path, force=False) as file:
                write_table(pa.table(arrays, schema=_schema()), file)
            self._files += 1
            self._rows = []
        self._began = time.monotonic()


@cache
def _schema() -> pa.Schema:
    """Return the schema: the fields of Row, and the time of writing."""
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    columns = [(field.name, kinds[str(field.type).split(" ")[0]]) for field in fields(Row)]
    return pa.schema([*columns, ("written", pa.timestamp("ms", tz="UTC"))])


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
