"""Folders of files, here or on any file system that pyarrow or fsspec reaches by URL (s3://, gs://, hdfs://, ...).

Files are named by their path from the folder, with slashes. Reading and writing goes through local paths: those of
the files themselves, or of temporary copies.
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
"""What pyarrow calls them. There a file appears with the end of its upload, and cannot be renamed."""
BUFFER, AHEAD = 1 << 16, 8 << 20
"""Bytes that are fetched at a time: usually, and of what is read from front to back."""
MANIFEST = "nac-manifest"
"""The folder in a place where a large job keeps what became of each file."""
PAUSES = (0.5, 2.0, 8.0, 30.0)
"""Seconds, more or less, before a transfer that failed is tried again."""
HOPELESS = re.compile(r"AWS Error (NO_SUCH_BUCKET|ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH)\b")
"""What pyarrow says of errors of S3 that would only come again."""


class Place(Protocol):
    """A folder and what is below it. ``name``: as it is told. Methods raise OSError."""

    name: str

    def is_there(self) -> bool:
        """Whether the folder is there."""
        ...

    def takes_files(self) -> bool:
        """Whether it is a folder or can become one: no file has its name, and its bucket is there."""
        ...

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """What is in a folder, in any order: names, and whether it is a folder. Nothing if there is no folder."""
        ...

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the files and of the folders in a folder, in order; none where there is no such folder."""
        ...

    def size(self, file: str) -> int | None:
        """Bytes of a file; None where there is none."""
        ...

    def open(self, file: str, buffering: int = -1) -> BinaryIO:
        """A file to read, which can seek; so many bytes are fetched at a time, or what is usual."""
        ...

    def streamed(self, file: str) -> AbstractContextManager[Path | BinaryIO]:
        """What to read a file from, once and from front to back, without a copy of it here."""
        ...

    def fetched(self, file: str) -> AbstractContextManager[Path]:
        """A context with a local path to read a file from."""
        ...

    def written(self, file: str) -> AbstractContextManager[Path]:
        """A context with a local path to write a file to, whole or not at all; it is there when that ends well."""
        ...

    def remove(self, file: str) -> None:
        """Delete a file."""
        ...

    def below(self, other: Place) -> str | None:
        """The path from here to another place below this one; None for one that is not below."""
        ...


def place(name: str) -> Place:
    """The folder at a path or URL. Raises NacError where there is nothing that reads such URLs."""
    return Remote(name) if is_url(name) else Local(name)


def is_url(name: str) -> bool:
    return re.match(r"[A-Za-z][\w+.-]+://", name) is not None


def below(folder: str, name: str) -> str:
    """The path of what is called so in a folder."""
    return f"{folder}/{name}" if folder else name


def split(name: str) -> tuple[str, str]:
    """The folder of the file at a path or URL, and the file's name there."""
    path, mark, options = name.partition("?") if is_url(name) else (name, "", "")
    folder, slash, last = path.rstrip("/").rpartition("/")
    return (folder or slash or ".") + mark + options, last


def walk(place: Place, skip: Collection[str | None] = ()) -> Iterator[tuple[str, list[str] | OSError]]:
    """Every folder of a place, in order, and the names of its files, or the error where it cannot be listed.

    One folder's names at a time are held. ``skip``: folders to leave out.
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
    """Names of files and of folders."""
    names: tuple[list[str], list[str]] = [], []
    for name, is_folder in entries:
        names[is_folder].append(name)
    return sorted(names[False]), sorted(names[True])


class Local:
    """A folder of this machine, or one that machines share under the same path."""

    def __init__(self, name: str) -> None:
        self.name, self.root = name.rstrip("/") or "/", Path(name).absolute()

    def is_there(self) -> bool:
        return self.root.is_dir()

    def takes_files(self) -> bool:
        return self.is_there() or not self.root.exists()

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        with suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                # Links to folders are not followed: they may lead in circles.
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
        """What is written there must itself appear whole, as with :func:`nac.storage.output.whole_file`."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    def remove(self, file: str) -> None:
        (self.root / file).unlink()

    def below(self, other: Place) -> str | None:
        if not isinstance(other, Local):
            return None
        mine, its = Path(os.path.realpath(self.root)), Path(os.path.realpath(other.root))
        return its.relative_to(mine).as_posix() if mine in its.parents else None


class Remote:
    """A folder at a URL. What a transfer does is tried again where it fails, as under throttling it will."""

    def __init__(self, name: str) -> None:
        self._system, root = _file_system(name)
        self._root = root.rstrip("/")
        # Options and secrets in the URL are not told.
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

        # All at once, some hundred bytes each: pyarrow has no other way.
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
    """A file of a file system to read; what fails is tried again."""

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
    # Without this, pyarrow sends even a small file in parts, with a request to begin and one to end.
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
    """A file name that need not be UTF-8 as text that is."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def _scratch(file: str) -> Iterator[Path]:
    """A path for a local copy of a file, which goes with the context."""
    with tempfile.TemporaryDirectory(prefix="nac-") as folder:
        yield Path(folder) / file.rpartition("/")[2]


def _patiently(action: Callable[[], T]) -> T:
    """Do it, again and again after longer and longer pauses where the other side fails."""
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
