"""What outputs are called after their inputs."""

from __future__ import annotations

from pathlib import PurePath

from nac.audio.writing import OUTPUT_FORMATS

ENDING = ".nac"


def nac_name(name: str, *, keep_ending: bool = False) -> str:
    """The name of the .nac file made of an audio file.

    >>> nac_name("song.wav"), nac_name("song.wav", keep_ending=True)
    ('song.nac', 'song.wav.nac')
    """
    return (name if keep_ending else PurePath(name).stem) + ENDING


def audio_name(name: str, format: str | None = None) -> str:
    """The name of the audio file made of a .nac file, in a format, by default WAV.

    An ending that was kept in front of .nac is that of the output, and so its format, where nac can write that.

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
