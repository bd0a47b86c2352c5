"""What can go wrong for a user: every such error is a :class:`NacError` whose text is one line."""

from __future__ import annotations

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
"""What would help: see :class:`NacError`."""


class NacError(Exception):
    """An error that the user can cause and mend. Its message is one line, without the file's name.

    ``remedy``: what would help, if something would: the name of a function's argument ("force", "format",
    "weights"...), or of another function ("recover"). The command line says in its own words what to type.
    ``model``: the name of the one that it is about, where that matters for it.
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
        """The same error, with the name of the file that it is about."""
        return type(self)(f"{name}: {self}", remedy=self.remedy, model=self.model)


class ArgumentError(NacError, ValueError):
    """A value that a function does not take."""


class ArgumentTypeError(NacError, TypeError):
    """A value of a type that a function does not take."""


class FormatError(NacError):
    """Bytes that are not a .nac file, or that this version cannot read."""


class DamageError(FormatError):
    """A .nac file whose bytes are not those that were written."""

    remedy: Remedy = "recover"


class AudioError(NacError):
    """Audio that cannot be read or written."""


class ModelError(NacError):
    """A model that is unknown, or whose weights are absent, wrong, or not those a file was made with."""


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, (OSError, NacError)):
        return what(error)
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "not enough memory for it"
    package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package not in ("", "nac"):
        return f"needs {package}, which is not installed: pip install {package}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"an error in nac, please report it: {type(error).__name__}: {text}{where}"


def what(error: object) -> str:
    """What the system or another library says of its error, in one line."""
    # FFmpeg's errors have a text of their own, those of the system one besides the file's name.
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return next(iter(str(text).strip().rstrip(".").splitlines()), "") or type(error).__name__
