"""What to type where the library says only what is wrong."""

from __future__ import annotations

from nac.errors import NacError, Remedy, reason

HINTS: dict[Remedy, str] = {
    "force": "-f replaces it",
    "terminal": "-o FILE writes a file, -f writes here all the same",
    "recover": "`nac verify FILE --recover OUT` saves what is whole",
}


def told(error: Exception) -> str:
    """What went wrong and, where something would help, what to type; one line."""
    hint = HINTS.get(error.remedy) if isinstance(error, NacError) else None
    return f"{reason(error)} ({hint})" if hint else reason(error)
