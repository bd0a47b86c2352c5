"""Many .nac files into few shards (`nac pack`)."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
_MOST = (1 << 31) - 1
"""Bytes of a file that Parquet can hold."""


@dataclass(frozen=True)
class Packed:
    """A shard that is whole, and what is in it, in order."""

    output: str
    files: tuple[Result, ...]
    bytes: int


@dataclass(frozen=True)
class LeftOut:
    """A file that is in no new shard: it is in an old one, cannot be read or is broken, or is no .nac file."""

    input: str
    status: Literal["skipped", "failed", "other"]
    error: str | None = None


@dataclass(frozen=True)
class _File:
    """A file that was read: its name as it is told, its bytes, and what is told of it."""

    input: str
    data: bytes
    told: dict[str, Any]
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
    """Pack all .nac files below folders into shards, which are read from front to back.

    Files come in order, folder by folder, each whole in one shard: shards-000000.tar (or .parquet) and so on.

    Parameters
    ----------
    folders : sequence of path or URL
        Where the .nac files are.
    out : path or URL
        The folder for the shards.
    format : {"tar", "parquet"}
        Tar as WebDataset has it, each .nac with a .json beside it; or Parquet, a row for each file.
    size : int
        The most bytes in a shard, unless a single file has more.
    force : bool
        Delete shards that are there, once the first new one is whole.
    skip_existing : bool
        Put what is not in shards that are there into new ones, as after a run that was killed.
    jobs : int
        Files that are read and checked at a time.
    tell : callable, optional
        Called with a :class:`Packed` for every shard that is whole and a :class:`LeftOut` for every file left out.
        Without it, a broken file is an error.

    Raises
    ------
    NacError
        If there already are shards in ``out``, a folder cannot be read, or a file is broken and ``tell`` is not
        given.

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
        raise NacError(f"{target.name} has shards already", remedy="skip_existing")
    known = _known(target, old) if skip_existing else set()
    writer = _Writer(target, format, size, [] if skip_existing else old, tell or (lambda item: None))
    if skip_existing and old:
        writer.shard = 1 + max(int(name.split(".")[0].rpartition("-")[2]) for name in old)
        writer.number = len(known)

    def look(item: tuple[Place, str, str] | LeftOut) -> _File | LeftOut:
        return item if isinstance(item, LeftOut) else _look(*item, known)

    with writer:
        for item in ahead(look, _listed(sources, target), jobs):
            if isinstance(item, _File):
                writer.add(item)
            elif tell:
                tell(item)
            elif item.status == "failed":
                raise NacError(f"{item.input}: {item.error}")


def _named(folders: list[str]) -> list[tuple[str, Place]]:
    """Places, and what stands before the paths of their files: the folder's name if there are several."""
    places = [place(folder) for folder in folders]
    if len(places) == 1:
        return [("", places[0])]
    names = [Path(where.name).resolve().name if isinstance(where, Local) else where.name for where in places]
    names = [as_text(name.rpartition("/")[2]) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise NacError(f"two folders are called {name}; their files would be, too")
    return [(f"{name}/", where) for name, where in zip(names, places, strict=True)]


def _listed(sources: list[tuple[str, Place]], target: Place) -> Iterator[tuple[Place, str, str] | LeftOut]:
    """Every file: its place, its path there, and the path that is told of it."""
    for before, source in sources:
        for folder, files in walk(source, {source.below(target)}):
            if isinstance(files, OSError):
                yield LeftOut(f"{source.name}/{folder}", "failed", f"cannot be listed: {reason(files)}")
                continue
            for name in files:
                path = f"{folder}/{name}".lstrip("/")
                yield source, path, as_text(before + path)


def _look(source: Place, path: str, told_path: str, known: set[str]) -> _File | LeftOut:
    """Read and check a file."""
    began, name = time.perf_counter(), f"{source.name}/{path}"
    if told_path in known:
        return LeftOut(name, "skipped")
    try:
        with source.open(path) as file:
            data = file.read(len(SIGNATURE))
            if data != SIGNATURE and not path.endswith(".nac"):
                return LeftOut(name, "other")
            data += file.read(_MOST)
        if len(data) > _MOST:
            raise NacError("is larger than a shard can hold, 2 GiB", remedy="cut")
        verify(io.BytesIO(data))
        return _File(name, data, shards.about(data, told_path), time.perf_counter() - began)
    except Exception as error:  # whatever is the matter with a file, the others go on
        return LeftOut(name, "failed", reason(error))


def _known(target: Place, names: Iterable[str]) -> set[str]:
    """The paths of the files in shards. Raises NacError."""
    known = set[str]()
    for name in names:
        try:
            with target.open(name) as file:
                known.update(shards.paths(file, name))
        except NacError as error:
            raise NacError(f"{target.name}/{name}: {error}") from None
    return known


class _Writer:
    """Shards in a place, one after the other; within its context. ``old``: those that the first one replaces."""

    def __init__(
        self,
        target: Place,
        format: shards.Format,
        size: int,
        old: list[str],
        tell: Callable[[Packed | LeftOut], None],
    ) -> None:
        self.shard = self.number = 0
        self._target, self._format, self._size, self._old, self._tell = target, format, size, old, tell
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
        if self._files and self._bytes + self._open.cost(file.data, file.told) > self._size:
            self._finish()
        if not self._files:
            self._begin()
        self._open.add(self.number, file.data, file.told)
        self._bytes += self._open.cost(file.data, file.told)
        self.number += 1
        told, count = file.told, len(file.data)
        self._files.append(
            Result(
                file.input,
                f"{self._target.name}/{self._name}",
                told["model"],
                told["kbps"],
                told["seconds"],
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
        """Close the shard that is open, if any, and tell of it."""
        if not self._files:
            return
        self._open.close()
        size = self._file.tell()
        self._stack.close()
        for name in self._old:
            if name != self._name:
                self._target.remove(name)
        self._old = []
        self._tell(Packed(f"{self._target.name}/{self._name}", tuple(self._files), size))
        self._files, self._bytes = [], 0
        self.shard += 1
