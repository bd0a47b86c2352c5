"""What to type where the library says only what is wrong."""

from __future__ import annotations

from nac.errors import NacError, Remedy, reason

HINTS: dict[Remedy, str] = {
    "column": "--column names one",
    "compress": "`nac compress` makes one of audio",
    "cut": "`nac cut` makes parts of it",
    "decompress": "`nac decompress` brings back its sound; -o names an output",
    "download": "`nac models download {model}` fetches them where there is internet, --weights names others",
    "download_again": "`nac models download {model}` fetches it again",
    "force": "-f replaces it",
    "force_model": "--weights names others, --force-model decodes all the same",
    "format": "--format names one",
    "kbps": "-k gives it",
    "keep_ending": "--keep-ending gives each an output of its own: song.wav.nac, song.flac.nac",
    "lm": "--lm names them",
    "model": "-m names one",
    "mono": "--mono mixes them down",
    "offline": "brought here by other means, --weights or NAC_WEIGHTS takes them",
    "peel": "`nac peel` leaves some out",
    "recover": "`nac verify FILE --recover OUT` saves what is whole",
    "revision": "--revision chooses one",
    "skip_existing": "-f replaces them, --skip-existing packs what is not in them",
    "terminal": "-o FILE writes a file, -f writes here all the same",
    "weights": "--weights takes any",
}


def told(error: Exception) -> str:
    """What went wrong and, where something would help, what to type; one line."""
    if isinstance(error, NacError):
        return with_hint(reason(error), error.remedy, error.model)
    return reason(error)


def with_hint(text: str, remedy: Remedy, model: str = "") -> str:
    """What went wrong, as :func:`told`, by its text."""
    return f"{text} ({HINTS[remedy].format(model=model or 'NAME')})" if remedy else text
