"""Parquet files as shards: a column of bytes, or of {bytes, path} as Hugging Face's `datasets` writes audio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any, BinaryIO

from nac.errors import NacError
from nac.storage.records import HEAD, PEEK, WHOLE, Item, Part, Wanted

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData, ParquetFile, ParquetWriter

BATCH = 16 << 20
"""About how many bytes of rows are read at a time, and written as one row group."""
_READ = 1 << 20
_MOST = 1024  # rows read at a time
_PAGE = 64
"""Rows after which a writer looks whether a page is full; a page is read as a whole."""
NAMES = ("path", "__key__", "key", "id")
"""Columns used as names of rows if the items have no path."""


@dataclass
class Batch:
    """Rows of one row group that were read together. ``first``: number of the first of them in the shard.

    ``rows``: those to be written, with their changes.
    """

    table: pa.RecordBatch
    group: int
    first: int
    rows: list[tuple[int, Item | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    batch: Batch
    number: int
    items: tuple[Item, ...]

    def taken(self, key: str) -> bool:
        return False


class ParquetShard:
    def __init__(self, file: BinaryIO, wanted: Wanted, column: str | None) -> None:
        require_pyarrow()
        from pyarrow.parquet import ParquetFile

        with _reported():
            # A column's bytes are read piece by piece, and not all those of a group of rows at once.
            self._file = ParquetFile(file, buffer_size=_READ, pre_buffer=False)
            self._wanted = wanted
            self.column = column if column is not None else self._found()
        if column is not None:
            self._check(column)

    def holds_items(self) -> bool:
        return self.column is not None

    def records(self, part: Part = WHOLE) -> Iterator[Row]:
        if self.column is None:
            raise NacError("has no column with such recordings", remedy="column")
        rows = part.of(self._file.metadata.num_rows)
        columns = None if part == WHOLE else [self.column, *NAMES]
        for batch in self._batches(columns, rows):
            paths = self._paths(batch.table)
            values = Values.of(batch.table.column(self.column))
            for number, path in enumerate(paths):
                if (row := batch.first + number) not in rows:
                    continue
                item = values.item(number, f"row {row + 1}", path)
                yield Row(batch, number, (item,) if item is not None and self._is_item(item) else ())

    def writer(self, out: BinaryIO) -> RowWriter:
        return RowWriter(out, self._file, self.column or "")

    def _is_item(self, item: Item) -> bool:
        """Whether a row has a recording; anything counts that is not clearly something else."""
        return bool(item.problem) or self._wanted(item.key, _head(item)) is not False

    def _batches(self, columns: Sequence[str] | None, rows: range | None = None) -> Iterator[Batch]:
        """What is read together: of groups that have some of the ``rows`` wanted."""
        first = 0
        with _reported():
            for group in range(self._file.num_row_groups):
                about = self._file.metadata.row_group(group)
                if rows is not None and not (first < rows.stop and rows.start < first + about.num_rows):
                    first += about.num_rows
                    continue
                size = max(1, min(_MOST, BATCH * about.num_rows // max(about.total_byte_size, 1)))
                for table in self._file.iter_batches(size, [group], columns, use_threads=False):
                    yield Batch(table, group, first)
                    first += len(table)

    def _paths(self, table: pa.RecordBatch) -> list[str | None]:
        """The names of the rows, from a column."""
        texts = {entry.name for entry in table.schema if str(entry.type) in ("string", "large_string")}
        name = next((name for name in NAMES if name in texts), None)
        return [None] * len(table) if name is None else table.column(name).to_pylist()

    def _candidates(self) -> list[str]:
        return [entry.name for entry in self._file.schema_arrow if _bytes_type(entry.type) is not None]

    def _check(self, column: str) -> None:
        if column not in self._file.schema_arrow.names:
            names = ", ".join(self._file.schema_arrow.names)
            raise NacError(f"has no column {column!r}; its columns are {names}")
        if column not in self._candidates():
            kind = self._file.schema_arrow.field(column).type
            raise NacError(f"the column {column!r} has type {kind}, not bytes or {{bytes, path}}")

    def _found(self) -> str | None:
        """The column with the items. Raises NacError if there are several."""
        found = [name for name in self._candidates() if self._has_items(name)]
        if len(found) > 1:
            raise NacError(f"has several columns of recordings: {', '.join(found)}", remedy="column")
        return found[0] if found else None

    def _has_items(self, column: str) -> bool:
        batches = (Values.of(batch.table.column(0)) for batch in self._batches([column]))
        items = chain.from_iterable(map(Values.items, batches))
        return any(self._wanted(item.key, _head(item)) for item in islice(items, PEEK))


def _head(item: Item) -> bytes:
    return bytes(memoryview(item.data)[:HEAD])


@dataclass(frozen=True)
class Values:
    """The bytes in a column, and their paths if it has any."""

    data: pa.Array
    paths: pa.Array | None

    @classmethod
    def of(cls, column: pa.Array) -> Values:
        import pyarrow as pa

        if not pa.types.is_struct(column.type):
            return cls(column, None)
        names = [entry.name for entry in column.type]
        parts = dict(zip(names, column.flatten(), strict=True))  # fields of a null struct are null
        return cls(parts["bytes"], parts.get("path"))

    def item(self, number: int, count: str, name: str | None) -> Item | None:
        """The item in a row; None for null."""
        data = self.data[number].as_buffer()
        path = None if self.paths is None else self.paths[number].as_py()
        if data is None and path is None:
            return None
        key = path or name or count
        return Item(key, problem="has a path but no bytes") if data is None else Item(key, data)

    def items(self) -> Iterator[Item]:
        for number in range(len(self.data)):
            item = self.item(number, "", None)
            if item is not None and not item.problem:
                yield item


class RowWriter:
    """Writes rows with new items and everything else unchanged: columns, schema, row groups, compression."""

    def __init__(self, out: BinaryIO, file: ParquetFile, column: str) -> None:
        from pyarrow.parquet import ParquetWriter

        self._column = column
        self._schema = file.schema_arrow
        self._writer: ParquetWriter = ParquetWriter(out, self._schema, **_settings(file.metadata, column))
        self._batch: Batch | None = None
        self._done: list[pa.RecordBatch] = []
        self._bytes = self._changed = 0

    def add(self, record: Row, changed: Mapping[int, Item]) -> None:
        batch, item = record.batch, changed.get(0)
        if self._batch is not None and (batch is not self._batch or self._changed >= BATCH):
            self._finish(self._batch)
            if batch.group != self._batch.group or self._bytes >= BATCH:
                self._write()
        self._batch = batch
        self._changed += 0 if item is None else len(item.data)
        batch.rows.append((record.number, item))

    def close(self) -> None:
        if self._batch is not None:
            self._finish(self._batch)
        self._write()
        self._writer.close()

    def _finish(self, batch: Batch) -> None:
        """Convert the rows of a batch to a table, which frees their sources."""
        import pyarrow as pa

        table, numbers = batch.table, [number for number, _ in batch.rows]
        if len(numbers) < len(table):
            table = _rows(table, numbers)
        index = table.schema.get_field_index(self._column)
        columns = list(table.columns)
        columns[index] = _changed(columns[index], [item for _, item in batch.rows])
        batch.rows, self._changed = [], 0
        done = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        self._done.append(done)
        self._bytes += done.nbytes

    def _write(self) -> None:
        import pyarrow as pa

        if self._done:
            table = pa.Table.from_batches(self._done, self._schema)
            self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._done, self._bytes = [], 0


def _rows(table: pa.RecordBatch, numbers: Sequence[int]) -> pa.RecordBatch:
    """Some rows of a table, at least one, in order. Sliced, as `take` does not know all types of columns."""
    import pyarrow as pa

    runs = (list(run) for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]))
    return pa.concat_batches([table.slice(run[0][1], len(run)) for run in runs])


def _changed(column: pa.Array, items: Sequence[Item | None]) -> pa.Array:
    """A column with new items; rows without one keep their value."""
    import pyarrow as pa

    values = Values.of(column)
    data = [values.data[number].as_py() if item is None else bytes(item.data) for number, item in enumerate(items)]
    if not pa.types.is_struct(column.type):
        return pa.array(data, column.type)
    parts = dict(zip((entry.name for entry in column.type), column.flatten(), strict=True))
    parts["bytes"] = pa.array(data, parts["bytes"].type)
    if values.paths is not None:
        both = zip(values.paths.to_pylist(), items, strict=True)
        paths = [path if item is None or path is None else item.key for path, item in both]
        parts["path"] = pa.array(paths, values.paths.type)
    return pa.StructArray.from_arrays(list(parts.values()), fields=list(column.type), mask=column.is_null())


def _bytes_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of the bytes in a column; None if it has none."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        inner = {entry.name: entry.type for entry in kind}
        return _bytes_type(inner["bytes"]) if "bytes" in inner else None
    tests = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view
    return kind if any(test(kind) for test in tests) else None


def _settings(about: FileMetaData, recordings: str) -> dict[str, Any]:
    """How a Parquet file was written, as a writer takes it; but without what is of no use for ``recordings``.

    In that column none is there twice and none is the smallest, and dictionaries are held as a whole in memory.
    """
    if not about.num_row_groups:
        return {"write_batch_size": _PAGE}
    group = about.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    others = [c for c in columns if c.path_in_schema not in (recordings, f"{recordings}.bytes")]
    compression = {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE") for c in columns}
    return {
        "compression": compression,
        "use_dictionary": [c.path_in_schema for c in others if c.has_dictionary_page] or False,
        "write_statistics": [c.path_in_schema for c in others if c.is_stats_set] or False,
        "write_batch_size": _PAGE,
    }


def require_pyarrow() -> None:
    """Raise NacError if pyarrow is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise NacError("Parquet needs pyarrow: pip install pyarrow") from None


@contextmanager
def _reported() -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise NacError(f"not a complete Parquet file: {str(error).splitlines()[0]}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise NacError(f"not a complete Parquet file: {str(error).splitlines()[0]}") from None
