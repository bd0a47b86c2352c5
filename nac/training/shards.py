"""Shards: many .nac files in one file, for sequential reading; tar as used by WebDataset, or Parquet.

Tar (https://github.com/webdataset/webdataset): plain ustar; file number N is stored unchanged as N.nac, and its
metadata as N.json: the fields of :class:`nac.files.info.Info`, and its path in the folder. Parquet: a row for
each file, with its bytes in the column `nac`, and a column for each of those fields. The output is deterministic.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from nac.errors import NacError
from nac.files.info import Info, info
from nac.files.shards import is_packed, items

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["tar", "parquet"]
GROUP = 16 << 20
"""Bytes of files in one row group, which a reader of Parquet loads at once."""


def metadata(data: bytes, path: str) -> dict[str, Any]:
    """Return the metadata of a file, given its bytes. Raises NacError."""
    return {**asdict(info(io.BytesIO(data))), "path": path}


class Shard(Protocol):
    """A shard that is being written."""

    def cost(self, data: bytes, metadata: Mapping[str, Any]) -> int:
        """Return the approximate number of bytes that one more file needs."""
        ...

    def add(self, number: int, data: bytes, metadata: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Write all buffered data; the file stays open."""
        ...


class TarShard:
    def __init__(self, file: BinaryIO) -> None:
        self._tar: Any = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def cost(self, data: bytes, metadata: Mapping[str, Any]) -> int:
        return sum(tarfile.BLOCKSIZE * (1 - -len(part) // tarfile.BLOCKSIZE) for part in (data, _json(metadata)))

    def add(self, number: int, data: bytes, metadata: Mapping[str, Any]) -> None:
        for ending, part in (("json", _json(metadata)), ("nac", data)):
            member = tarfile.TarInfo(f"{number:09}.{ending}")
            member.size = len(part)
            self._tar.addfile(member, io.BytesIO(part))
        self._tar.members.clear()  # otherwise it grows with every file

    def close(self) -> None:
        self._tar.close()


class ParquetShard:
    def __init__(self, file: BinaryIO) -> None:
        from pyarrow.parquet import ParquetWriter

        names = ["model", "fingerprint", "coding"]
        self._writer = ParquetWriter(file, _schema(), compression="none", use_dictionary=names)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def cost(self, data: bytes, metadata: Mapping[str, Any]) -> int:
        return len(data) + len(_json(metadata))

    def add(self, number: int, data: bytes, metadata: Mapping[str, Any]) -> None:
        self._rows.append({**metadata, "tags": list(metadata["tags"].items()), "nac": data})
        self._bytes += len(data)
        if self._bytes >= GROUP:
            self._write()

    def close(self) -> None:
        self._write()
        self._writer.close()

    def _write(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_schema()))
        self._rows, self._bytes = [], 0


FORMATS: Mapping[Format, Callable[[BinaryIO], Shard]] = {"tar": TarShard, "parquet": ParquetShard}


def is_shard(name: str) -> bool:
    """Return whether a file's name is that of a shard."""
    return name.endswith((".tar", ".parquet"))


def read(file: BinaryIO, column: str | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each .nac file in a shard, in order. Raises NacError.

    ``column``: the Parquet column with the .nac files, if there are several.
    """
    for item in items(file, is_packed, column):
        yield item.key, bytes(item.data)


def listed(file: BinaryIO, name: str) -> Iterator[tuple[str, int]]:
    """Yield the original paths of the files in a shard written by `nac pack`, and their numbers. Raises NacError.

    The number is -1 in Parquet, where files have none.
    """
    if name.endswith(".tar"):
        for key, data in _members(file, ".json"):
            try:
                yield json.loads(data)["path"], int(key) if key.isdecimal() else -1
            except (ValueError, KeyError, TypeError):
                raise NacError(f"{key}.json does not contain the file's path: not written by `nac pack`") from None
    else:
        for row in _rows(file, "path"):
            yield row["path"], -1


def _members(file: BinaryIO, ending: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            members: list[Any] = vars(tar)["members"]
            while member := tar.next():
                part = tar.extractfile(member) if member.name.endswith(ending) else None
                if part is not None:
                    yield member.name.removesuffix(ending), part.read()
                members.clear()  # otherwise it grows with every file
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile does not report this
                raise NacError("not a complete tar file: its end is missing")
    except tarfile.TarError as error:
        raise NacError(f"not a complete tar file: {error}") from None


def _rows(file: BinaryIO, *columns: str) -> Iterator[dict[str, Any]]:
    require_pyarrow()
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        opened = ParquetFile(file)
        missing = set(columns) - set(opened.schema_arrow.names)
        if missing:
            raise NacError(f"has no column {' or '.join(sorted(missing))}: not written by `nac pack`")
        for batch in opened.iter_batches(batch_size=64, columns=list(columns)):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise NacError(f"not a complete Parquet file: {str(error).splitlines()[0]}") from None


def require_pyarrow() -> None:
    """Raise NacError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise NacError("Parquet needs pyarrow: pip install pyarrow") from None


def _json(metadata: Mapping[str, Any]) -> bytes:
    return json.dumps(metadata, ensure_ascii=False).encode()


@cache
def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "list[int]": pa.list_(pa.int64()),
        "list[str]": pa.list_(pa.string()),
        "dict[str, str]": pa.map_(pa.string(), pa.string()),
    }
    columns = [(field.name, kinds[str(field.type)]) for field in fields(Info)]
    return pa.schema([*columns, ("nac", pa.binary())])
