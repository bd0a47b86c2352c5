"""Folders, local or on any file system that pyarrow or fsspec supports by URL (s3://, gs://, hdfs://, ...).

A file's name is its path from the folder, with slashes. Reading and writing goes through local paths: the files
themselves, or temporary copies.
"""

from __future__ import annotations

import io
import os
import random
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar, cast

from nac.errors import NacError
from nac.storage.output import SUFFIX

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")
OBJECT_STORES = ("s3", "gcs", "abfs")
"""pyarrow's names of object stores: a file appears when its upload ends, and cannot be renamed."""
BUFFER, AHEAD = 1 << 16, 8 << 20
"""Bytes per request: by default, and for sequential reading."""
MANIFEST = "nac-manifest"
"""The folder in an output folder where a large job keeps the status of each file."""
PAUSES = (0.5, 2.0, 8.0, 30.0)
"""Approximate seconds before a failed transfer is retried."""
HOPELESS = re.compile(r"AWS Error (NO_SUCH_BUCKET|ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)\b")
"""S3 errors for which a retry is useless."""


class Place(Protocol):
    """A folder and its content. ``name``: for messages. Methods raise OSError."""

    name: str

    def is_there(self) -> bool:
        """Whether the folder exists."""
        ...

    def takes_files(self) -> bool:
        """Whether the folder exists or can be created: no file has its name, and its bucket exists."""
        ...

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Entries of a folder, in any order, with whether each is a folder. Empty if the folder is missing."""
        ...

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the files and folders in a folder, sorted; empty if the folder is missing."""
        ...

    def size(self, file: str) -> int | None:
        """Size of a file in bytes; None if it is missing."""
        ...

    def open(self, file: str, buffering: int = -1) -> BinaryIO:
        """A seekable file for reading. ``block``: bytes per request, instead of the default."""
        ...

    def streamed(self, file: str) -> AbstractContextManager[Path | BinaryIO]:
        """A stream for reading a file once and in order, without a local copy."""
        ...

    def fetched(self, file: str) -> AbstractContextManager[Path]:
        """A context with a local path of the file for reading."""
        ...

    def written(self, file: str) -> AbstractContextManager[Path]:
        """A context with a local path for writing; the file appears if the context ends without an error."""
        ...

    def remove(self, file: str) -> None:
        """Delete a file."""
        ...

    def remove_folder(self, folder: str) -> None:
        """Delete a folder, if it is there, and all that is in it."""
        ...

    def below(self, other: Place) -> str | None:
        """The relative path to a folder inside this one; None if it is not inside."""
        ...


def place(name: str) -> Place:
    """The folder at a path or URL. Raises NacError if no installed package supports the URL."""
    return Remote(name) if is_url(name) else Local(name)


def is_url(name: str) -> bool:
    return re.match(r"[A-Za-z][\w+.-]+://", name) is not None


def below(folder: str, name: str) -> str:
    """The path of an entry of a folder."""
    return f"{folder}/{name}" if folder else name


def split(name: str) -> tuple[str, str]:
    """The folder of the file at a path or URL, and the file's name there."""
    path, mark, options = name.partition("?") if is_url(name) else (name, "", "")
    folder, slash, last = path.rstrip("/").rpartition("/")
    return (folder or slash or ".") + mark + options, last


def walk(place: Place, skip: Collection[str | None] = ()) -> Iterator[tuple[str, list[str] | OSError]]:
    """Every folder below a place, in order, with the names of its files, or the error of listing it.

    Keeps the names of one folder at a time in memory. ``skip``: folders to leave out.
    """
    left = [""]
    while left:
        folder = left.pop()
        try:
            files, folders = place.list(folder)
        except OSError as error:
            yield folder, error
            continue
        paths = [below(folder, name) for name in folders]
        left += reversed([path for path in paths if path not in skip])
        yield folder, files


def _in_order(entries: Iterator[tuple[str, bool]]) -> tuple[list[str], list[str]]:
    """Names of files and folders."""
    names: tuple[list[str], list[str]] = [], []
    for name, is_folder in entries:
        names[is_folder].append(name)
    return sorted(names[False]), sorted(names[True])


class Local:
    """A local folder, or one that all machines mount under the same path."""

    def __init__(self, name: str) -> None:
        self.name, self.root = name.rstrip("/") or "/", Path(name).absolute()

    def is_there(self) -> bool:
        return self.root.is_dir()

    def takes_files(self) -> bool:
        return self.is_there() or not self.root.exists()

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        with suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                # Links to folders are not followed, because they may form cycles.
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name, True
                elif entry.is_file() and not entry.name.endswith(SUFFIX):
                    yield entry.name, False

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        return _in_order(self.entries(folder))

    def size(self, file: str) -> int | None:
        path = self.root / file
        return path.stat().st_size if path.is_file() else None

    def open(self, file: str, buffering: int = -1) -> BinaryIO:
        return (self.root / file).open("rb", buffering)

    @contextmanager
    def streamed(self, file: str) -> Iterator[Path | BinaryIO]:
        yield self.root / file

    @contextmanager
    def fetched(self, file: str) -> Iterator[Path]:
        yield self.root / file

    @contextmanager
    def written(self, file: str) -> Iterator[Path]:
        """The caller must write atomically, as with :func:`nac.storage.output.whole_file`."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    def remove(self, file: str) -> None:
        (self.root / file).unlink()

    def remove_folder(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root / folder)

    def below(self, other: Place) -> str | None:
        if not isinstance(other, Local):
            return None
        mine, its = Path(os.path.realpath(self.root)), Path(os.path.realpath(other.root))
        return its.relative_to(mine).as_posix() if mine in its.parents else None


class Remote:
    """A folder at a URL. Failed transfers are retried, since servers throttle."""

    def __init__(self, name: str) -> None:
        self._system, root = _file_system(name)
        self._root = root.rstrip("/")
        # Messages do not show the options and secrets in a URL.
        self.name = re.sub(r"(?<=://)[^/@]*@", "", name.split("?")[0]).rstrip("/")

    def is_there(self) -> bool:
        return self._exists(self._root)

    def takes_files(self) -> bool:
        return self._system.type_name not in OBJECT_STORES or self._exists(self._root.split("/")[0])

    def _exists(self, path: str) -> bool:
        from pyarrow.fs import FileType

        (found,) = _patiently(lambda: self._system.get_file_info([path]))
        return bool(found.type != FileType.NotFound)

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        from pyarrow.fs import FileSelector, FileType

        # All at once, some hundred bytes each: pyarrow cannot list in parts.
        selector = FileSelector(self._path(folder), allow_not_found=True)
        for found in _patiently(lambda: self._system.get_file_info(selector)):
            if found.type == FileType.Directory:
                yield found.base_name, True
            elif found.type == FileType.File and not found.base_name.endswith(SUFFIX):
                yield found.base_name, False

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        return _in_order(self.entries(folder))

    def size(self, file: str) -> int | None:
        from pyarrow.fs import FileType

        (found,) = _patiently(lambda: self._system.get_file_info([self._path(file)]))
        return cast("int | None", found.size) if found.type == FileType.File else None

    def open(self, file: str, buffering: int = -1) -> BinaryIO:
        return io.BufferedReader(_Patient(self._system, self._path(file)), BUFFER if buffering < 0 else buffering)

    @contextmanager
    def streamed(self, file: str) -> Iterator[Path | BinaryIO]:
        with self.open(file, AHEAD) as stream:
            yield stream

    @contextmanager
    def fetched(self, file: str) -> Iterator[Path]:
        with _scratch(file) as path:
            _patiently(lambda: self._download(file, path))
            yield path

    @contextmanager
    def written(self, file: str) -> Iterator[Path]:
        with _scratch(file) as path:
            yield path
            _patiently(lambda: self._upload(path, file))

    def remove(self, file: str) -> None:
        _patiently(lambda: self._system.delete_file(self._path(file)))

    def remove_folder(self, folder: str) -> None:
        if self._exists(self._path(folder)):
            _patiently(lambda: self._system.delete_dir(self._path(folder)))

    def below(self, other: Place) -> str | None:
        if not isinstance(other, Remote) or other._system != self._system:
            return None
        inside = other._root.startswith(self._root + "/")
        return other._root[len(self._root) + 1 :] if inside else None

    def _path(self, file: str) -> str:
        return f"{self._root}/{file}".rstrip("/")

    def _download(self, file: str, path: Path) -> None:
        with self._system.open_input_stream(self._path(file)) as source, path.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)

    def _upload(self, path: Path, file: str) -> None:
        target = self._path(file)
        if self._system.type_name in OBJECT_STORES:
            self._put(path, target)
            return
        folder, _, name = target.rpartition("/")
        self._system.create_dir(folder, recursive=True)
        part = f"{folder}/.{name[:80]}.{secrets.token_hex(4)}{SUFFIX}"
        try:
            self._put(path, part)
            self._system.move(part, target)
        except BaseException:
            with suppress(OSError):
                self._system.delete_file(part)
            raise

    def _put(self, path: Path, target: str) -> None:
        with path.open("rb") as source, self._system.open_output_stream(target) as out:
            shutil.copyfileobj(source, out, 8 << 20)


class _Patient(io.RawIOBase):
    """A remote file for reading; failed reads are retried."""

    def __init__(self, system: FileSystem, path: str) -> None:
        self._file = _patiently(lambda: system.open_input_file(path))
        self._size, self._at = self._file.size(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = _patiently(lambda: self._file.read_at(max(0, min(len(buffer), self._size - self._at)), self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _file_system(url: str) -> tuple[FileSystem, str]:
    """pyarrow's file system for a URL, else fsspec's, and the path there."""
    try:
        from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem
    except ImportError:
        raise NacError("URLs need pyarrow: pip install 'nac-audio[ray]'") from None
    # Without this, pyarrow uploads even small files in parts, with two more requests.
    lazily = f"{'&' if '?' in url else '?'}allow_delayed_open=true" if url.startswith("s3://") else ""
    try:
        return cast("tuple[FileSystem, str]", FileSystem.from_uri(url + lazily))
    except (ValueError, NotImplementedError):  # pyarrow.ArrowInvalid is a ValueError
        pass
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise NacError(f"{url.split('?')[0]}: {error}") from None
    return PyFileSystem(FSSpecHandler(system)), path


def as_text(name: str) -> str:
    """A file name as valid UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def _scratch(file: str) -> Iterator[Path]:
    """A path for a local copy of a file, deleted at the end of the context."""
    with tempfile.TemporaryDirectory(prefix="nac-") as folder:
        yield Path(folder) / file.rpartition("/")[2]


def _patiently(action: Callable[[], T]) -> T:
    """Call it, and retry with growing pauses if the server fails."""
    for pause in PAUSES:
        try:
            return action()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise
        except OSError as error:
            if HOPELESS.search(str(error)):
                raise
            time.sleep(pause * random.uniform(0.5, 1.5))
    return action()
