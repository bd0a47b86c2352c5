"""Shards told by what they begin with, and opened: see :mod:`nac.storage.records`."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

from nac.errors import NacError
from nac.storage.records import HEAD, Shard, Wanted

Kind = Literal["tar", "parquet"]
ENDINGS = (".tar", ".parquet")
"""Of the names of shards, where these are all that there is to go by."""


def kind_of(head: bytes) -> Kind | None:
    """What kind of shard a file is that begins with these ``HEAD`` bytes; None if it is none."""
    if head.startswith(b"PAR1"):
        return "parquet"
    with suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(head[:HEAD], "utf-8", "surrogateescape")  # which looks at its checksum
        return "tar"
    return None


def is_shard(path: Path) -> bool:
    """Whether a plain file at a path is one, by what it begins with."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return kind_of(file.read(HEAD)) is not None
    except OSError:
        return False


def open_shard(file: BinaryIO, wanted: Wanted, column: str | None = None) -> Shard:
    """Open a shard, a file that can seek. Raises NacError.

    ``column``: of Parquet, the one with the items; by default the only one that has some.
    """
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    kind = "tar" if head == bytes(HEAD) else kind_of(head)  # a tar file of nothing has only its end
    if kind == "tar":
        from nac.storage.tar import TarShard

        return TarShard(file, wanted)
    if kind == "parquet":
        from nac.storage.parquet import ParquetShard

        return ParquetShard(file, wanted, column)
    raise NacError("is not a tar file, nor Parquet")


def is_shard_of(path: Path, wanted: Wanted, column: str | None = None) -> bool:
    """Whether a plain file at a path is a shard, and has items."""
    if not is_shard(path):
        return False
    with path.open("rb") as file:
        return holds_items(file, wanted, column)


def holds_items(file: BinaryIO, wanted: Wanted, column: str | None = None) -> bool:
    """Whether a shard has items. Where that cannot be told, it is to be tried, as if it had."""
    try:
        return open_shard(file, wanted, column).holds_items()
    except (NacError, OSError):
        return True
