"""Output files that appear whole or not at all, and what is told of them."""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from nac.errors import NacError

PathOrFile = str | os.PathLike[str] | BinaryIO
SUFFIX = ".nac-part"
"""Ending of the temporary file, which lies beside the output."""
_PART = re.compile(rf"\..*\.[0-9a-f]{{8}}{re.escape(SUFFIX)}", re.DOTALL)


@contextmanager
def whole_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only once everything is written and synced.

    On any error nothing is left behind; what a killed run left in the folder is deleted. An existing file is
    replaced with ``force`` only; a device or a named pipe is written to as it is. Raises NacError where the file
    exists or cannot be written.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise NacError(f"cannot write {path}: is a folder")
        with _reported(path), path.open("wb") as file:
            yield file
        return
    refuse_existing(path, force=force)
    sweep(path.parent.absolute())
    with _reported(path), _part_of(path) as file:
        yield file
        sync(file)
        if os.name == "nt":  # where an open file cannot be renamed, nor deleted by others
            file.close()
        _take_name(Path(file.name), path, force=force)


def sync(file: BinaryIO) -> None:
    """Bring what was written to the disk, and have it read from there next, where the system lets one."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise NacError if a file is there and is not to be replaced."""
    if os.path.lexists(path) and not force:
        raise NacError(f"{path} exists (-f replaces it)")


def _take_name(part: Path, path: Path, *, force: bool) -> None:
    """Rename, but never over a file that has come to be there in the meantime without ``force``."""
    if not force:
        try:
            path.hardlink_to(part)  # unlike a rename, this fails where there is something
        except FileExistsError:
            refuse_existing(path, force=False)
        except OSError:
            refuse_existing(path, force=False)  # a file system without links
        else:
            return
    part.replace(path)


@contextmanager
def _part_of(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside ``path``, locked as long as it is open, so that no :func:`sweep` takes it."""
    while True:
        # The name is cut so that it fits where the output's own name just does.
        part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}{SUFFIX}")
        try:
            with part.open("x+b") as file:
                with suppress(OSError):  # a file system without locks: nothing is swept there either
                    lock(file)
                if os.name == "nt" or os.fstat(file.fileno()).st_nlink:
                    yield file
                    return
        finally:
            with suppress(OSError):  # on a read-only file system it was never there
                part.unlink(missing_ok=True)


@cache
def sweep(folder: Path) -> None:
    """Delete the temporary files in a folder that nobody holds: their processes were killed. Once a run."""
    with suppress(OSError):
        for part in sorted(folder.iterdir()):
            if _PART.fullmatch(part.name) and part.is_file() and not part.is_symlink():
                with suppress(OSError), part.open("r+b") as file:
                    lock(file, wait=False)
                    part.unlink()


def lock(file: BinaryIO, *, wait: bool = True) -> None:
    """Keep other processes from locking a file. Raises OSError where one has, or where there are no locks."""
    if os.name != "nt":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


class Spent:
    """An input that is to be deleted once its output is safe. Raises NacError where that would be unwise."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()

    def _look(self) -> tuple[int, ...]:
        try:
            seen = self._path.lstat()
        except OSError as error:
            raise NacError(f"cannot be read: {error.strerror or error}") from None
        if not stat.S_ISREG(seen.st_mode):
            raise NacError("is not a plain file, and --remove-source deletes nothing else")
        return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns

    def remove(self, output: Path) -> None:
        """Delete it, after the name of ``output`` is on the disk too. Raises NacError where it is not deleted."""
        try:
            if os.name != "nt":  # where folders cannot be opened
                folder = os.open(output.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            if self._look() != self._stamp:
                raise NacError("has changed meanwhile: it is kept, and so is the output")
            self._path.unlink()
        except OSError as error:
            raise NacError(f"cannot be deleted: {error.strerror or error}; the output is whole") from error


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Errors of the file system as NacError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NacError(f"cannot write {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Result:
    """What was done. ``kbps``: bitrate of the codes (kbit/s); ``seconds``: of audio."""

    input: str
    output: str
    model: str
    kbps: float
    seconds: float
    bytes_in: int | None
    bytes_out: int
    wall_seconds: float


class Outgoing(io.RawIOBase):
    """A file object that is only written to, in order: what it holds before, and where it stands, is not ours."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._written = file, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            if written is None and isinstance(self._file, io.RawIOBase):
                raise BlockingIOError("the output takes no more bytes now, and nac does not wait for it")
            # Unbuffered files take a part at times; objects that are not quite files often return nothing.
            left = left[len(left) if written is None else written :]
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        if not self.closed:
            self._file.flush()

    def close(self) -> None:
        """Leaves the file open: it is its owner's."""


@contextmanager
def created(src: PathOrFile, dst: PathOrFile, *, force: bool) -> Iterator[BinaryIO]:
    """Where to write what is made of ``src``: a path as :func:`whole_file`, a file object as it comes."""
    if not isinstance(dst, (str, os.PathLike)):
        with _reported(Path("standard output")):
            outgoing = Outgoing(dst)
            yield cast(BinaryIO, outgoing)
            outgoing.flush()
        return
    refuse_same(src, dst)
    with whole_file(Path(dst), force=force) as file:
        yield file


def refuse_same(src: PathOrFile, dst: PathOrFile) -> None:
    """Raise NacError if both are paths to the same file."""
    paths = [Path(file) for file in (src, dst) if isinstance(file, (str, os.PathLike))]
    if len(paths) == 2 and all(path.exists() for path in paths) and paths[0].samefile(paths[1]):
        raise NacError("would be written over by its own output")


def name_of(file: PathOrFile) -> str:
    """A path, or - for a file object."""
    return os.fspath(file) if isinstance(file, (str, os.PathLike)) else "-"


def size_of(file: PathOrFile) -> int | None:
    """Bytes of the file at a path."""
    return Path(file).stat().st_size if isinstance(file, (str, os.PathLike)) else None
