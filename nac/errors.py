"""What can go wrong for a user: every such error is a :class:`NacError` whose text is one line."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Literal

Remedy = Literal["", "compress", "decompress", "force", "format", "keep_ending", "terminal", "recover"]
"""What would help: see :class:`NacError`."""


class NacError(Exception):
    """An error that the user can cause and mend. Its message is one line, without the file's name.

    ``remedy``: what would help, if something would: the name of a function's argument ("force", "format",
    "weights"...), or of another function ("recover"). The command line says in its own words what to type.
    """

    remedy: Remedy = ""

    def __init__(self, message: str = "", *, remedy: Remedy | None = None) -> None:
        super().__init__(message)
        if remedy is not None:
            self.remedy = remedy

    def about(self, name: str) -> NacError:
        """The same error, with the name of the file that it is about."""
        return type(self)(f"{name}: {self}", remedy=self.remedy)


class FormatError(NacError):
    """Bytes that are not a .nac file, or that this version cannot read."""


class DamageError(FormatError):
    """A .nac file whose bytes are not those that were written."""

    remedy: Remedy = "recover"


class AudioError(NacError):
    """Audio that cannot be read or written."""


class ModelError(NacError):
    """A model that is unknown, or whose weights are absent, wrong, or not those a file was made with."""


def reason(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, NacError):
        return str(error)
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return "not enough memory for it"
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"an error in nac, please report it: {type(error).__name__}: {text} ({where})"
