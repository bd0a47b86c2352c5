"""Errors for users: each is a :class:`NacError` whose message is one line."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path
from typing import Literal

Remedy = Literal[
    "",
    "column",
    "compress",
    "decompress",
    "download",
    "download_again",
    "cut",
    "fast",
    "force",
    "force_model",
    "format",
    "keep_ending",
    "kbps",
    "lm",
    "model",
    "mono",
    "offline",
    "peel",
    "recover",
    "revision",
    "skip_existing",
    "terminal",
    "weights",
]
"""What would fix an error: see :class:`NacError`."""


class NacError(Exception):
    """An error that a user can cause and fix. Its message is one line, without the file's name.

    ``remedy``: what would fix it, if anything: the name of a function's argument ("force", "format", "weights"...)
    or of another function ("recover"). The command line translates it to what to type. ``model``: the name of the
    model concerned, if that matters.
    """

    remedy: Remedy = ""
    model: str = ""

    def __init__(self, message: str = "", *, remedy: Remedy | None = None, model: str = "") -> None:
        super().__init__(message)
        if model:
            self.model = model
        if remedy is not None:
            self.remedy = remedy

    def about(self, name: str) -> NacError:
        """The same error, with the name of the file."""
        made = type(self)(f"{name}: {self}", remedy=self.remedy, model=self.model)
        if isinstance(self, FileError) and isinstance(made, FileError):
            made.errno = self.errno
        return made


class ArgumentError(NacError, ValueError):
    """An invalid argument value."""


class ArgumentTypeError(NacError, TypeError):
    """An argument of the wrong type."""


class FileError(NacError, OSError):
    """A file that the system cannot read or write. ``errno``: the system's error number."""

    _usual: int | None = None

    def __init__(self, message: str = "", *, remedy: Remedy | None = None, model: str = "") -> None:
        super().__init__(message, remedy=remedy, model=model)
        self.errno = self._usual


class FileMissing(FileError, FileNotFoundError):
    """A file that does not exist."""

    _usual = errno.ENOENT


class FileForbidden(FileError, PermissionError):
    """A file that may not be read or written."""

    _usual = errno.EACCES


class FilePresent(FileError, FileExistsError):
    """A file that exists and must not be replaced."""

    _usual = errno.EEXIST


class FileIsFolder(FileError, IsADirectoryError):
    """A folder where a file is needed."""

    _usual = errno.EISDIR


def file_error(error: OSError, said: str) -> FileError:
    """Convert a system error about a file to a NacError that is also Python's own class for it."""
    kinds = (FileMissing, FileForbidden, FilePresent, FileIsFolder)
    kind = next((kind for kind in kinds if isinstance(error, kind.__bases__[1])), FileError)
    made = kind(f"{said}: {what(error)}")
    made.errno = error.errno
    return made


class FormatError(NacError):
    """Bytes that are not a .nac file, or that this version cannot read."""


class DamageError(FormatError):
    """A .nac file whose bytes have changed."""

    remedy: Remedy = "recover"


class AudioError(NacError):
    """Audio that cannot be read or written."""


class AudioMissing(AudioError, FileMissing):
    """A recording that does not exist."""


class ModelError(NacError):
    """A model that is unknown, or whose weights are absent, wrong, or not those of a file."""


class ModelChoiceError(ModelError, ArgumentError):
    """A model, bitrate, number of codebooks or device that does not exist."""


class WeightsMissing(ModelError, FileMissing):
    """Weights that are not on this machine."""


def reason(error: BaseException) -> str:
    """The error message, on one line."""
    if isinstance(error, (OSError, NacError)):
        return what(error)
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "not enough memory"
    package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package not in ("", "nac"):
        return f"needs {package}, which is not installed: pip install {package}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"an error in nac, please report it: {type(error).__name__}: {text}{where}"


def what(error: object) -> str:
    """The message of a system or library error, on one line."""
    # FFmpeg's errors have their own text; system errors have one besides the file's name.
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return next(iter(str(text).strip().rstrip(".").splitlines()), "") or type(error).__name__
