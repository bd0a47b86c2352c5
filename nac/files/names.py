"""Names of outputs, derived from their inputs."""

from __future__ import annotations

from pathlib import PurePath

from nac.audio.writing import OUTPUT_FORMATS

ENDING = ".nac"


def nac_name(name: str, *, keep_ending: bool = False) -> str:
    """The name of the .nac file for an audio file.

    >>> nac_name("song.wav"), nac_name("song.wav", keep_ending=True)
    ('song.nac', 'song.wav.nac')
    """
    return (name if keep_ending else PurePath(name).stem) + ENDING


def audio_name(name: str, format: str | None = None) -> str:
    """The name of the audio file for a .nac file, in a format, by default WAV.

    If the name has an extension before .nac that nac can write, the output gets it, and with it its format.

    >>> audio_name("song.nac"), audio_name("song.nac", "flac")
    ('song.wav', 'song.flac')
    >>> audio_name("song.flac.nac"), audio_name("song.m4a.nac"), audio_name("song.flac.nac", "wav")
    ('song.flac', 'song.m4a.wav', 'song.flac.wav')
    """
    path = PurePath(name)
    kept = PurePath(path.stem).suffix.lower().lstrip(".") if path.suffix.lower() == ENDING else ""
    if kept in OUTPUT_FORMATS and format in (None, kept):
        return path.stem
    return f"{path.stem}.{format or 'wav'}"
