"""Pack many .nac files into a few shards (`nac pack`)."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nac.codecs.parallel import ahead
from nac.container import verify
from nac.container.header import SIGNATURE
from nac.errors import NacError, reason
from nac.storage.output import Result, whole_file
from nac.storage.places import Local, Place, as_text, place, walk
from nac.training import shards

_SHARD = re.compile(r"shards-(\d{6,})\.(tar|parquet)")
_MAX_BYTES = (1 << 31) - 1
"""The most bytes of a value in Parquet."""


@dataclass(frozen=True)
class Packed:
    """A complete shard, and its files in order."""

    output: str
    files: tuple[Result, ...]
    bytes: int


@dataclass(frozen=True)
class LeftOut:
    """A file that was not packed: it is already in a shard, failed to be read, or is not a .nac file."""

    input: str
    status: Literal["skipped", "failed", "other"]
    error: str | None = None


@dataclass(frozen=True)
class _File:
    """A file that was read: its displayed name, its bytes, and its metadata."""

    input: str
    data: bytes
    metadata: dict[str, Any]
    wall_seconds: float


def pack(
    folders: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: shards.Format = "tar",
    size: int = 10**9,
    force: bool = False,
    skip_existing: bool = False,
    jobs: int = 1,
    tell: Callable[[Packed | LeftOut], None] | None = None,
) -> None:
    """Pack all .nac files of some folders into shards, for sequential reading.

    Files are packed in order, folder by folder, into shards-000000.tar (or .parquet) and so on. Each file is in
    one shard.

    Parameters
    ----------
    folders : sequence of path or URL
        The folders with .nac files.
    out : path or URL
        The folder for the shards.
    format : {"tar", "parquet"}
        Tar as used by WebDataset, a .nac and a .json for each file; or Parquet, a row for each file.
    size : int
        The largest size of a shard in bytes, unless a single file is larger.
    force : bool
        Delete existing shards, once the first new one is complete.
    skip_existing : bool
        Keep existing shards and pack only the files that are not in them, for example after a run was killed.
    jobs : int
        The number of files that are read and verified in parallel.
    tell : callable, optional
        Called with a :class:`Packed` for every complete shard, and with a :class:`LeftOut` for every file that was
        not packed. By default, a broken file raises an error.

    Raises
    ------
    NacError
        If ``out`` already contains shards, a folder cannot be read, or a file is broken and ``tell`` is missing.

    Examples
    --------
    >>> import nac, os
    >>> os.mkdir("archive")
    >>> _ = nac.peel("song.nac", "archive/song.nac", kbps=3)
    >>> nac.pack(["archive"], "shards")
    >>> os.listdir("shards")
    ['shards-000000.tar']
    """
    if format == "parquet":
        shards.require_pyarrow()
    sources = _named([os.fspath(folder) for folder in folders])
    target = place(os.fspath(out))
    old = [name for name in target.list("")[0] if _SHARD.fullmatch(name)]
    if old and not (force or skip_existing):
        raise NacError(f"{target.name} already contains shards", remedy="skip_existing")
    known = _known(target, old) if skip_existing else {}
    writer = _Writer(target, format, size, [] if skip_existing else old, tell or (lambda item: None))
    if skip_existing and old:
        writer.shard = 1 + max(int(name.split(".")[0].rpartition("-")[2]) for name in old)
        writer.number = 1 + max(known.values(), default=-1)  # not their count, since a shard may be missing

    def load(item: tuple[Place, str, str] | LeftOut) -> _File | LeftOut:
        return item if isinstance(item, LeftOut) else _load(*item, known)

    with writer:
        for item in ahead(load, _listed(sources, target), jobs):
            if isinstance(item, _File):
                writer.add(item)
            elif tell:
                tell(item)
            elif item.status == "failed":
                raise NacError(f"{item.input}: {item.error}")


def _named(folders: list[str]) -> list[tuple[str, Place]]:
    """Return the folders, each with the prefix for its files' paths: its name if there are several folders."""
    places = [place(folder) for folder in folders]
    if len(places) == 1:
        return [("", places[0])]
    names = [Path(where.name).resolve().name if isinstance(where, Local) else where.name for where in places]
    names = [as_text(name.rpartition("/")[2]) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise NacError(f"two folders are named {name}: rename one, so that their files have different paths")
    return [(f"{name}/", where) for name, where in zip(names, places, strict=True)]


def _listed(sources: list[tuple[str, Place]], target: Place) -> Iterator[tuple[Place, str, str] | LeftOut]:
    """Yield for every file its folder, its path in that folder, and its path in the shard's metadata."""
    for prefix, source in sources:
        for folder, files in walk(source, {source.below(target)}):
            if isinstance(files, OSError):
                yield LeftOut(f"{source.name}/{folder}", "failed", f"cannot be listed: {reason(files)}")
                continue
            for name in files:
                path = f"{folder}/{name}".lstrip("/")
                yield source, path, as_text(prefix + path)


def _load(source: Place, path: str, packed_path: str, known: Container[str]) -> _File | LeftOut:
    """Read and verify a file."""
    began, name = time.perf_counter(), f"{source.name}/{path}"
    if packed_path in known:
        return LeftOut(name, "skipped")
    try:
        with source.open(path) as file:
            data = file.read(len(SIGNATURE))
            if data != SIGNATURE and not path.endswith(".nac"):
                return LeftOut(name, "other")
            data += file.read(_MAX_BYTES)
        if len(data) > _MAX_BYTES:
            raise NacError("is larger than a shard can contain (2 GiB)", remedy="cut")
        verify(io.BytesIO(data))
        return _File(name, data, shards.metadata(data, packed_path), time.perf_counter() - began)
    except Exception as error:  # one bad file must not stop the others
        return LeftOut(name, "failed", reason(error))


def _known(target: Place, names: Iterable[str]) -> dict[str, int]:
    """Return the paths of the files in shards, with their numbers. Raises NacError."""
    known = dict[str, int]()
    for name in names:
        try:
            with target.open(name) as file:
                for path, number in shards.listed(file, name):
                    known[path] = max(number, known.get(path, -1))
        except NacError as error:
            raise NacError(f"{target.name}/{name}: {error}") from None
    return known


class _Writer:
    """Context manager that writes shards to a folder. ``old``: shards to delete once the first one is complete."""

    def __init__(
        self,
        target: Place,
        format: shards.Format,
        size: int,
        old: list[str],
        report: Callable[[Packed | LeftOut], None],
    ) -> None:
        self.shard = self.number = 0
        self._target, self._format, self._size, self._old, self._report = target, format, size, old, report
        self._files: list[Result] = []
        self._bytes = 0
        self._stack = ExitStack()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._finish()
        self._stack.__exit__(*error)

    def add(self, file: _File) -> None:
        if self._files and self._bytes + self._open.cost(file.data, file.metadata) > self._size:
            self._finish()
        if not self._files:
            self._begin()
        self._open.add(self.number, file.data, file.metadata)
        self._bytes += self._open.cost(file.data, file.metadata)
        self.number += 1
        metadata, count = file.metadata, len(file.data)
        self._files.append(
            Result(
                file.input,
                f"{self._target.name}/{self._name}",
                metadata["model"],
                metadata["kbps"],
                metadata["seconds"],
                count,
                count,
                file.wall_seconds,
            )
        )

    def _begin(self) -> None:
        self._name = f"shards-{self.shard:06}.{self._format}"
        path = self._stack.enter_context(self._target.written(self._name))
        self._file = self._stack.enter_context(whole_file(path, force=self._name in self._old))
        self._open = shards.FORMATS[self._format](self._file)

    def _finish(self) -> None:
        """Complete the open shard, if any, and report it."""
        if not self._files:
            return
        self._open.close()
        size = self._file.tell()
        self._stack.close()
        for name in self._old:
            if name != self._name:
                self._target.remove(name)
        self._old = []
        self._report(Packed(f"{self._target.name}/{self._name}", tuple(self._files), size))
        self._files, self._bytes = [], 0
        self.shard += 1
