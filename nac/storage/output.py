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
from typing import Any, BinaryIO, Literal, cast

from nac.errors import ArgumentTypeError, FileIsFolder, FilePresent, NacError, file_error
from nac.streams import write_all

PathOrFile = str | os.PathLike[str] | BinaryIO
SUFFIX = ".nac-part"
"""Ending of the temporary file, which lies beside the output."""
_PART = re.compile(rf"\..*\.[0-9a-f]{{8}}{re.escape(SUFFIX)}", re.DOTALL)
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|(\d+)(?:/task/\d+)?))/fd/(\d+)")
STANDARD = Path("standard output")
"""What a file object is called that is written to."""
_LINKS = 40  # as many as the system follows


@contextmanager
def whole_file(path: Path, *, force: bool = False, like: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only once everything is written and synced.

    On any error nothing is left behind; what a killed run left in the folder is deleted. An existing file is
    replaced with ``force`` only, and the new one keeps its permission bits; where a link leads to it, the link
    stays. A device, a named pipe or an open file (/dev/stdout) is written to as it is, and never replaced.
    ``like``: the file that this one is made of, from which it has its time and, unless it replaces another, its
    permission bits. Raises NacError where the file exists or cannot be written.
    """
    if is_stream(path):
        with _reported(path), _open_stream(path) as file, _outgoing(file, path, force) as outgoing:
            yield outgoing
        return
    if path.is_dir():
        raise FileIsFolder(f"cannot write {path}: is a folder")
    refuse_existing(path, force=force)
    with _reported(path):
        attributes = Attributes.of(like, path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    sweep(path.parent.absolute())
    with _reported(path), _part_of(path, private=attributes.mode is not None) as file:
        yield file
        sync(file)
        if os.name == "nt":  # where an open file cannot be renamed, nor deleted by others
            file.close()
        attributes.give(Path(file.name))
        _take_name(Path(file.name), path, force=force)


def is_stream(path: Path) -> bool:
    """Whether a path leads to what is written to as it stands: a device, a named pipe, an open file."""
    if descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor(path: Path) -> int | None:
    """The number of the file, open in this process, that a path such as /dev/stdout or /dev/fd/63 leads to."""
    for _ in range(_LINKS):
        path = Path(os.path.realpath(path.absolute().parent), path.name)
        if found := _DESCRIPTOR.fullmatch(str(path)):
            return int(found[2]) if found[1] in (None, str(os.getpid())) else None
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _open_stream(path: Path) -> BinaryIO:
    number = descriptor(path)
    # Opened anew by its name, a plain file would lose what it holds already.
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


@dataclass(frozen=True)
class Attributes:
    """What a new file takes over of another: permission bits, owner (user, group), times (ns); None: the usual."""

    mode: int | None = None
    owner: tuple[int, int] | None = None
    times: tuple[int, int] | None = None

    @classmethod
    def of(cls, source: Path | None, replaced: Path) -> Attributes:
        """Times are those of the file it is made of; the rest those of the file it replaces, if there is one."""
        made_of, old = _plain(source), _plain(replaced)
        times = (made_of.st_atime_ns, made_of.st_mtime_ns) if made_of else None
        kept = old or made_of
        if kept is None:
            return cls(times=times)
        return cls(stat.S_IMODE(kept.st_mode) & 0o777, (kept.st_uid, kept.st_gid), times)

    def give(self, path: Path) -> None:
        """Set them, as far as the file system lets one."""
        mode = self.mode
        if mode is not None and self.owner is not None and hasattr(os, "chown"):
            with suppress(OSError):
                os.chown(path, self.owner[0], -1)
            try:
                os.chown(path, -1, self.owner[1])
            except OSError:
                mode &= ~0o070  # it was not for this group
        with suppress(OSError):
            if mode is not None:
                path.chmod(mode)
            if self.times is not None:
                os.utime(path, ns=self.times)


def _plain(file: PathOrFile | None) -> os.stat_result | None:
    """What the system says of a plain file, at a path or open; None of anything else."""
    try:
        if file is None:
            return None
        found = Path(file).stat() if isinstance(file, (str, os.PathLike)) else os.fstat(file.fileno())
    except (OSError, ValueError, AttributeError):  # not there, or none of the system's files
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def sync(file: BinaryIO) -> None:
    """Bring what was written to the disk, and have it read from there next, where the system lets one."""
    file.flush()
    if isinstance(file, io.BytesIO):
        return
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise NacError if a file is there and is not to be replaced."""
    if os.path.lexists(path) and not force:
        raise FilePresent(f"{path} exists", remedy="force")


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
def _part_of(path: Path, *, private: bool) -> Iterator[BinaryIO]:
    """A temporary file beside ``path``, locked as long as it is open, so that no :func:`sweep` takes it.

    ``private``: for nobody else to read, until it is known who may.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600 if private else 0o666)

    while True:
        # The name is cut so that it fits where the output's own name just does.
        part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}{SUFFIX}")
        try:
            with open(part, "x+b", opener=opener) as file:
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
            raise file_error(error, "cannot be read") from None
        if not stat.S_ISREG(seen.st_mode):
            raise NacError("is not a plain file, and nothing else is deleted")
        return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns

    def remove(self, output: Path) -> None:
        """Delete it, after the name of ``output`` is on the disk too. Raises NacError where it is not deleted."""
        try:
            if os.name != "nt":  # where folders cannot be opened
                folder = os.open(Path(os.path.realpath(output)).parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            if self._look() != self._stamp:
                raise NacError("has changed meanwhile: it is kept, and so is the output")
            self._path.unlink()
        except NacError:
            raise
        except OSError as error:
            raise NacError(f"cannot be deleted: {error.strerror or error}; the output is whole") from error


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Errors of the file system as NacError."""
    try:
        yield
    except (BrokenPipeError, NacError):
        raise
    except OSError as error:
        raise file_error(error, f"cannot write {path}") from error


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
        write_all(self._file, data)
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
def created(src: PathOrFile | None, dst: PathOrFile, *, force: bool) -> Iterator[BinaryIO]:
    """Where to write what is made of ``src``: a path as :func:`whole_file`, a file object as it comes.

    Without a ``src``, one to take time and permission bits from, these are the usual ones. What is still empty in
    memory is as good as a new file: what is written may be changed and read again.
    """
    check_file(dst, "write")
    if src is not None:
        refuse_same(src, dst)
    if isinstance(dst, io.BytesIO) and not dst.getbuffer().nbytes:
        yield dst
        return
    if not isinstance(dst, (str, os.PathLike)):
        with _reported(STANDARD), _outgoing(dst, STANDARD, force) as outgoing:
            yield outgoing
        return
    like = Path(src) if isinstance(src, (str, os.PathLike)) else None
    with whole_file(Path(dst), force=force, like=like) as file:
        yield file


@contextmanager
def _outgoing(file: BinaryIO, name: Path, force: bool) -> Iterator[BinaryIO]:
    """A file object to write to; to a terminal with ``force`` only."""
    _refuse_terminal(file, force, name)
    outgoing = Outgoing(file)
    yield cast(BinaryIO, outgoing)
    outgoing.flush()


def _refuse_terminal(file: BinaryIO, force: bool, name: Path = STANDARD) -> None:
    if not force and getattr(file, "isatty", bool)():
        raise NacError(f"{name} is a terminal, which shows nothing of use", remedy="terminal")


def check_output(src: PathOrFile | None, dst: PathOrFile, *, force: bool) -> None:
    """Raise NacError where :func:`created` would refuse, before any work is done."""
    check_file(dst, "write")
    if src is not None:
        refuse_same(src, dst)
    if not isinstance(dst, (str, os.PathLike)):
        _refuse_terminal(dst, force)
    elif not is_stream(Path(dst)):
        refuse_existing(Path(dst), force=force)


def check_file(file: PathOrFile, action: Literal["read", "write"]) -> None:
    """Raise ArgumentTypeError unless this is a path, or a file object for bytes that can be read or written."""
    if isinstance(file, (str, os.PathLike)):
        return
    if isinstance(file, io.TextIOBase) or not hasattr(file, action):
        raise ArgumentTypeError(f"a path or a binary file object is needed, not {type(file).__name__}")


def refuse_same(src: PathOrFile, dst: PathOrFile) -> None:
    """Raise NacError if both are the same plain file, be they paths to it or open."""
    source, target = _plain(src), _plain(dst)
    if source and target and os.path.samestat(source, target):
        raise NacError("would be written over by its own output")


def name_of(file: PathOrFile) -> str:
    """A path, or - for a file object."""
    return os.fspath(file) if isinstance(file, (str, os.PathLike)) else "-"


def size_of(file: PathOrFile) -> int | None:
    """Bytes of the file at a path."""
    return Path(file).stat().st_size if isinstance(file, (str, os.PathLike)) else None
