"""What to type after an error of the library."""

from __future__ import annotations

from nac.errors import NacError, Remedy, reason

HINTS: dict[Remedy, str] = {
    "column": "--column names one",
    "compress": "`nac compress` makes one from audio",
    "cut": "`nac cut` cuts parts out of it",
    "decompress": "`nac decompress` decodes it; -o names an output",
    "download": "`nac models download {model}` downloads them, --weights names others",
    "download_again": "`nac models download {model}` downloads it again",
    "fast": "without --fast it can be decoded",
    "force": "-f replaces it",
    "force_model": "--weights names others, --force-model decodes anyway",
    "format": "--format names one",
    "kbps": "-k gives it",
    "keep_ending": "--keep-ending gives each its own output: song.wav.nac, song.flac.nac",
    "lm": "--lm names them",
    "model": "-m names one",
    "mono": "--mono mixes down to one",
    "offline": "after copying them to this machine, use --weights or NAC_WEIGHTS",
    "peel": "`nac peel` drops codebooks",
    "recover": "`nac verify FILE --recover OUT` saves the intact part",
    "revision": "--revision chooses one",
    "skip_existing": "-f replaces them, --skip-existing packs what is not in them",
    "terminal": "-o FILE writes a file, -f writes here anyway",
    "weights": "--weights takes any file",
}


def message_of(error: Exception) -> str:
    """The error and, if something helps, what to type, on one line."""
    if isinstance(error, NacError):
        return with_hint(reason(error), error.remedy, error.model)
    return reason(error)


def with_hint(text: str, remedy: Remedy, model: str = "") -> str:
    """The same for an error text."""
    return f"{text} ({HINTS[remedy].format(model=model or 'NAME')})" if remedy else text
