"""Output files that appear whole or not at all, and what is told of them."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from nac.errors import NacError

PathOrFile = str | os.PathLike[str] | BinaryIO
SUFFIX = ".nac-part"
"""Ending of the temporary file, which lies beside the output."""


@contextmanager
def whole_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only once everything is written and synced.

    On any error nothing is left behind. An existing file is replaced with ``force`` only; a device or a named pipe
    is written to as it is. Raises NacError where the file exists or cannot be written.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise NacError(f"cannot write {path}: is a folder")
        with _reported(path), path.open("wb") as file:
            yield file
        return
    refuse_existing(path, force=force)
    # The name is cut so that it fits where the output's own name just does.
    part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        with _reported(path):
            with part.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            refuse_existing(path, force=force)
            part.replace(path)
    finally:
        with suppress(OSError):  # on a read-only file system it was never there
            part.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise NacError if a file is there and is not to be replaced."""
    if path.exists() and not force:
        raise NacError(f"{path} exists (-f replaces it)")


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
        self._file.write(data)
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
    path = Path(dst)
    if isinstance(src, (str, os.PathLike)) and path.exists() and path.samefile(src):
        raise NacError("would be written over by its own output")
    with whole_file(path, force=force) as file:
        yield file


def name_of(file: PathOrFile) -> str:
    """A path, or - for a file object."""
    return os.fspath(file) if isinstance(file, (str, os.PathLike)) else "-"


def size_of(file: PathOrFile) -> int | None:
    """Bytes of the file at a path."""
    return Path(file).stat().st_size if isinstance(file, (str, os.PathLike)) else None
