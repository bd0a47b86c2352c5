"""Output files that appear complete or not at all, and their results."""

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
"""Extension of the temporary file beside the output."""
_PART = re.compile(rf"\..*\.[0-9a-f]{{8}}{re.escape(SUFFIX)}", re.DOTALL)
_DESCRIPTOR = re.compile(r"/(?:dev|proc/(?:self|thread-self|(\d+)(?:/task/\d+)?))/fd/(\d+)")
STANDARD = Path("standard output")
"""The name of an output that is a file object."""
_LINKS = 40  # as many links as the system follows


@contextmanager
def whole_file(path: Path, *, force: bool, like: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only after everything is written and synced.

    On any error nothing is left behind; temporary files of killed processes in the folder are deleted. An existing
    file is replaced only with ``force``, and the new one keeps its permission bits; a symbolic link is followed
    and stays. A device, a named pipe or an open file (/dev/stdout) is written to directly, and never replaced.
    ``like``: the input file, from which the output gets its time and, unless it replaces another file, its
    permission bits. Raises NacError if the file exists or cannot be written.
    """
    if is_stream(path):
        with _reported(path), _open_stream(path) as file, _outgoing(file, path, force) as outgoing:
            yield outgoing
        return
    if path.is_dir():
        raise FileIsFolder(f"cannot write {path}: it is a folder")
    refuse_existing(path, force=force)
    with _reported(path):
        attributes = Attributes.of(like, path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    sweep(path.parent.absolute())
    with _reported(path), _part_of(path, private=attributes.mode is not None) as file:
        yield file
        sync(file)
        if os.name == "nt":  # where open files cannot be renamed or deleted
            file.close()
        attributes.give(Path(file.name))
        _take_name(Path(file.name), path, force=force)


def is_stream(path: Path) -> bool:
    """Whether a path is written to directly: a device, a named pipe or an open file."""
    if descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def descriptor(path: Path) -> int | None:
    """The file descriptor, open in this process, that a path such as /dev/stdout or /dev/fd/63 leads to."""
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
    # Opening a plain file again by its name would truncate it.
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


@dataclass(frozen=True)
class Attributes:
    """Metadata that a new file copies: permission bits, owner (user, group), times (ns); None: defaults."""

    mode: int | None = None
    owner: tuple[int, int] | None = None
    times: tuple[int, int] | None = None

    @classmethod
    def of(cls, source: Path | None, replaced: Path) -> Attributes:
        """Times from the input file; the rest from the replaced file, if there is one."""
        made_of, old = _plain(source), _plain(replaced)
        times = (made_of.st_atime_ns, made_of.st_mtime_ns) if made_of else None
        kept = old or made_of
        if kept is None:
            return cls(times=times)
        return cls(stat.S_IMODE(kept.st_mode) & 0o777, (kept.st_uid, kept.st_gid), times)

    def give(self, path: Path) -> None:
        """Set them as far as the file system allows."""
        mode = self.mode
        if mode is not None and self.owner is not None and hasattr(os, "chown"):
            with suppress(OSError):
                os.chown(path, self.owner[0], -1)
            try:
                os.chown(path, -1, self.owner[1])
            except OSError:
                mode &= ~0o070  # the old file's group had no access through this group
        with suppress(OSError):
            if mode is not None:
                path.chmod(mode)
            if self.times is not None:
                os.utime(path, ns=self.times)


def _plain(file: PathOrFile | None) -> os.stat_result | None:
    """``os.stat`` of a plain file, by path or open; None for anything else."""
    try:
        if file is None:
            return None
        found = Path(file).stat() if isinstance(file, (str, os.PathLike)) else os.fstat(file.fileno())
    except (OSError, ValueError, AttributeError):  # missing, or not a file of the system
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def sync(file: BinaryIO) -> None:
    """Sync a file to the disk and drop it from the page cache, if the system allows."""
    file.flush()
    if isinstance(file, io.BytesIO):
        return
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise NacError if a file exists and must not be replaced."""
    if os.path.lexists(path) and not force:
        raise FilePresent(f"{path} exists", remedy="force")


def _take_name(part: Path, path: Path, *, force: bool) -> None:
    """Rename; without ``force`` never over a file that was created in the meantime."""
    if not force:
        try:
            path.hardlink_to(part)  # unlike a rename, this fails if the target exists
        except FileExistsError:
            refuse_existing(path, force=False)
        except OSError:
            refuse_existing(path, force=False)  # a file system without links
        else:
            return
    part.replace(path)


@contextmanager
def _part_of(path: Path, *, private: bool) -> Iterator[BinaryIO]:
    """A temporary file beside ``path``, locked while open, so that :func:`sweep` does not delete it.

    ``private``: not readable by others until the permissions are set.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600 if private else 0o666)

    while True:
        # The name is shortened to fit the limit that the output's own name fits.
        part = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}{SUFFIX}")
        try:
            with open(part, "x+b", opener=opener) as file:
                with suppress(OSError):  # without file locks :func:`sweep` deletes nothing either
                    lock(file)
                if os.name == "nt" or os.fstat(file.fileno()).st_nlink:
                    yield file
                    return
        finally:
            with suppress(OSError):  # on a read-only file system it was never created
                part.unlink(missing_ok=True)


@cache
def sweep(folder: Path) -> None:
    """Delete unlocked temporary files in a folder: their processes were killed. Once per run."""
    with suppress(OSError):
        for part in sorted(folder.iterdir()):
            if _PART.fullmatch(part.name) and part.is_file() and not part.is_symlink():
                with suppress(OSError), part.open("r+b") as file:
                    lock(file, wait=False)
                    part.unlink()


def lock(file: BinaryIO, *, wait: bool = True) -> None:
    """Keep other processes from locking a file. Raises OSError if that is impossible."""
    if os.name != "nt":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


class Spent:
    """An input to be deleted once its output is safe. Raises NacError if it is not a plain file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()

    def _look(self) -> tuple[int, ...]:
        try:
            seen = self._path.lstat()
        except OSError as error:
            raise file_error(error, "cannot be read") from None
        if not stat.S_ISREG(seen.st_mode):
            raise NacError("is not a plain file, and only those are deleted")
        return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns

    def remove(self, output: Path) -> None:
        """Delete it after the name of ``output`` is synced too. Raises NacError if it is not deleted."""
        try:
            if os.name != "nt":  # where folders cannot be opened to sync them
                folder = os.open(Path(os.path.realpath(output)).parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
            if self._look() != self._stamp:
                raise NacError("has changed in the meantime: both it and the output are kept")
            self._path.unlink()
        except NacError:
            raise
        except OSError as error:
            raise NacError(f"cannot be deleted: {error.strerror or error}; the output is complete") from error


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Convert file system errors to NacError."""
    try:
        yield
    except (BrokenPipeError, NacError):
        raise
    except OSError as error:
        raise file_error(error, f"cannot write {path}") from error


@dataclass(frozen=True)
class Result:
    """Result of a conversion. ``kbps``: bitrate of the codes (kbit/s); ``seconds``: of audio."""

    input: str
    output: str
    model: str
    kbps: float
    seconds: float
    bytes_in: int | None
    bytes_out: int
    wall_seconds: float


class Outgoing(io.RawIOBase):
    """A write-only file object, whose earlier content and position are not used."""

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
        """Leaves the file open, since the caller owns it."""


@contextmanager
def created(src: PathOrFile | None, dst: PathOrFile, *, force: bool) -> Iterator[BinaryIO]:
    """The output for ``src``: a path through :func:`whole_file`, a file object directly.

    Without ``src``, times and permission bits are the defaults. An empty file in memory counts as a new file: what
    is written may be changed and read back.
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
        raise NacError(f"{name} is a terminal, which cannot show binary data", remedy="terminal")


def check_output(src: PathOrFile | None, dst: PathOrFile, *, force: bool) -> None:
    """Raise NacError if :func:`created` would, before any work is done."""
    check_file(dst, "write")
    if src is not None:
        refuse_same(src, dst)
    if not isinstance(dst, (str, os.PathLike)):
        _refuse_terminal(dst, force)
    elif not is_stream(Path(dst)):
        refuse_existing(Path(dst), force=force)


def check_file(file: PathOrFile, action: Literal["read", "write"]) -> None:
    """Raise ArgumentTypeError unless this is a path or a binary file object."""
    if isinstance(file, (str, os.PathLike)):
        return
    if isinstance(file, io.TextIOBase) or not hasattr(file, action):
        raise ArgumentTypeError(f"a path or a binary file object is needed, not {type(file).__name__}")


def refuse_same(src: PathOrFile, dst: PathOrFile) -> None:
    """Raise NacError if both are the same plain file, by path or open."""
    source, target = _plain(src), _plain(dst)
    if source and target and os.path.samestat(source, target):
        raise NacError("would be overwritten by its own output")


def name_of(file: PathOrFile) -> str:
    """The path, or - for a file object."""
    return os.fspath(file) if isinstance(file, (str, os.PathLike)) else "-"


def size_of(file: PathOrFile) -> int | None:
    """Size of a file in bytes."""
    return Path(file).stat().st_size if isinstance(file, (str, os.PathLike)) else None
