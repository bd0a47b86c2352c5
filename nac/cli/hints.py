"""What to type where the library says only what is wrong."""

from __future__ import annotations

from nac.errors import NacError, Remedy, reason

HINTS: dict[Remedy, str] = {
    "compress": "`nac compress` makes one of audio",
    "decompress": "`nac decompress` brings back its sound; -o names an output",
    "force": "-f replaces it",
    "format": "--format names one",
    "keep_ending": "--keep-ending gives each an output of its own: song.wav.nac, song.flac.nac",
    "terminal": "-o FILE writes a file, -f writes here all the same",
    "recover": "`nac verify FILE --recover OUT` saves what is whole",
}


def told(error: Exception) -> str:
    """What went wrong and, where something would help, what to type; one line."""
    return with_hint(reason(error), error.remedy if isinstance(error, NacError) else "")


def with_hint(text: str, remedy: Remedy) -> str:
    """What went wrong, as :func:`told`, by its text."""
    return f"{text} ({HINTS[remedy]})" if remedy else text
