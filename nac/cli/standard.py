"""Standard input and output in place of files, and folders for outputs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from nac.cli.batch import STANDARD
from nac.errors import NacError
from nac.storage.records import HEAD
from nac.storage.shards import kind_of, packed_up


def source(path: Path) -> Any:
    """A path to read, or standard input. Raises NacError if that is a shard, or compressed as a whole."""
    if path != STANDARD:
        return path
    if sys.stdin is None:
        raise NacError("standard input is closed")
    stream: Any = sys.stdin.buffer
    head = stream.peek(HEAD)[:HEAD] if hasattr(stream, "peek") else b""
    if kind := kind_of(head):
        raise NacError(f"is a {kind} file: shards are read from files and URLs, not from standard input")
    if problem := packed_up(head):
        raise NacError(problem)
    return stream


@contextmanager
def seekable(path: Path) -> Iterator[Any]:
    """A path to read, or standard input; a pipe is copied to a temporary file."""
    file = source(path)
    if isinstance(file, Path) and not file.is_fifo():
        yield file
        return
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        if stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile(prefix="nac-") as spool:
            shutil.copyfileobj(stream, spool, 1 << 20)
            spool.seek(0)
            yield spool


def target(path: Path) -> Any:
    """A path to write in an existing folder, or standard output."""
    if path == STANDARD:
        if sys.stdout is None:
            raise NacError("standard output is closed")
        return sys.stdout.buffer
    make_folder(path.parent.absolute())
    return path


@cache
def make_folder(path: Path) -> None:
    """Make a folder, once per run: if its disk is unmounted, it is not made again at the mount point."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
