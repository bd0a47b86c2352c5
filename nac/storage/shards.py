"""Detection of shards by their first bytes, and opening them: see :mod:`nac.storage.records`."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

from nac.errors import NacError
from nac.storage.records import HEAD, Shard, Wanted

Kind = Literal["tar", "parquet"]
ENDINGS = (".tar", ".parquet")
"""Extensions of shards, used if only the name is known."""
_UNPACKERS = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}


def kind_of(head: bytes) -> Kind | None:
    """The format of a shard with these first ``HEAD`` bytes; None if it is not a shard."""
    if head.startswith(b"PAR1"):
        return "parquet"
    with suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(head[:HEAD], "utf-8", "surrogateescape")  # verifies its checksum
        return "tar"
    return None


def packed_up(head: bytes) -> str:
    """The error for a file with these first bytes that is compressed as a whole; empty if it is not."""
    program = next((name for start, name in _UNPACKERS.items() if head.startswith(start)), None)
    return f"is compressed as a whole: `{program}` it first, tar files too" if program else ""


def is_shard(path: Path) -> bool:
    """Whether a path is a plain file and a shard, by its first bytes."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD)
            return kind_of(head) is not None or (head == bytes(HEAD) and path.suffix == ".tar")  # an empty one
    except OSError:
        return False


def open_shard(file: BinaryIO, wanted: Wanted, column: str | None = None) -> Shard:
    """Open a shard from a seekable file. Raises NacError.

    ``column``: of Parquet, the one with the items; by default the only one that has some.
    """
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    kind = "tar" if head == bytes(HEAD) else kind_of(head)  # an empty tar file has only its end
    if kind == "tar":
        from nac.storage.tar import TarShard

        return TarShard(file, wanted)
    if kind == "parquet":
        from nac.storage.parquet import ParquetShard

        return ParquetShard(file, wanted, column)
    raise NacError("is neither a tar file nor Parquet")


def is_shard_of(path: Path, wanted: Wanted, column: str | None = None) -> bool:
    """Whether a path is a plain file and a shard with items."""
    if not is_shard(path):
        return False
    with path.open("rb") as file:
        return holds_items(file, wanted, column)


def holds_items(file: BinaryIO, wanted: Wanted, column: str | None = None) -> bool:
    """Whether a shard has items. Also True if unclear, so that reading it reports the error."""
    try:
        return open_shard(file, wanted, column).holds_items()
    except (NacError, OSError):
        return True
