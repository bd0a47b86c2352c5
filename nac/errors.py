"""What can go wrong for a user: every such error is a :class:`NacError` whose text is one line."""

from __future__ import annotations

import traceback
from pathlib import Path


class NacError(Exception):
    """An error that the user can cause and mend. Its message is one line, without the file's name."""


class FormatError(NacError):
    """Bytes that are not a .nac file, or that this version cannot read."""


class DamageError(FormatError):
    """A .nac file whose bytes are not those that were written."""


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
