"""Text tags of audio files (title, artist and others), read and written with mutagen.

Tags are pairs of key and value. Keys are the names of Vorbis comments in lower case (title, artist, album, date,
comment), and may repeat. Pictures are left out, and so are tags about the file itself, such as its encoder.
Reading never fails: tags that cannot be read are left out with a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from nac.errors import ArgumentTypeError, AudioError

Tags = tuple[tuple[str, str], ...]
MOST = 256
"""Most tags that are kept."""
LONGEST = 1 << 16
"""Most bytes of all tags together."""
_READS = 1 << 16

log = logging.getLogger("nac")

_ID3 = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "albumartist": "TPE2",
    "date": "TDRC",
    "originaldate": "TDOR",
    "genre": "TCON",
    "tracknumber": "TRCK",
    "discnumber": "TPOS",
    "composer": "TCOM",
    "lyricist": "TEXT",
    "conductor": "TPE3",
    "copyright": "TCOP",
    "organization": "TPUB",
    "grouping": "TIT1",
    "subtitle": "TIT3",
    "language": "TLAN",
    "mood": "TMOO",
    "bpm": "TBPM",
    "isrc": "TSRC",
    "encodedby": "TENC",
}
_FROM_ID3 = {"COMM": "comment", "USLT": "lyrics"} | {frame: key for key, frame in _ID3.items()}
_MP4 = {
    "\xa9nam": "title",
    "\xa9ART": "artist",
    "\xa9alb": "album",
    "aART": "albumartist",
    "\xa9day": "date",
    "\xa9cmt": "comment",
    "\xa9gen": "genre",
    "\xa9wrt": "composer",
    "\xa9grp": "grouping",
    "\xa9lyr": "lyrics",
    "cprt": "copyright",
    "desc": "description",
    "trkn": "tracknumber",
    "disk": "discnumber",
    "tmpo": "bpm",
}
INFO = {
    b"INAM": "title",
    b"IART": "artist",
    b"IPRD": "album",
    b"ICRD": "date",
    b"ICMT": "comment",
    b"IGNR": "genre",
    b"ITRK": "tracknumber",
    b"ICOP": "copyright",
}
"""Keys of the chunks in a WAV file's INFO list."""
_APE = {"year": "date", "track": "tracknumber", "disc": "discnumber", "album artist": "albumartist"}
_WITH_APE = (b"wvpk", b"MAC ", b"MPCK", b"MP+", b"tBaK", b"TTA1")
_XIPH = (
    (b"\x7fFLAC", "OggFLAC"),
    (b"fLaC", "FLAC"),
    (b"OpusHead", "OggOpus"),
    (b"\x01vorbis", "OggVorbis"),
    (b"Speex   ", "OggSpeex"),
)
"""What is in the first bytes of a file with Vorbis comments, and mutagen's name for its kind."""
_OF_THE_FILE = {
    *("encoder", "software", "tsse", "tlen", "tflt", "coverart", "coverartmime", "metadata_block_picture"),
    *(
        "duration",
        "major_brand",
        "minor_version",
        "compatible_brands",
        "creation_time",
        "handler_name",
        "vendor_id",
    ),
}
_FREE = "----:com.apple.iTunes:"
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?")


def read_tags(file: Path | BinaryIO) -> Tags:
    """The tags of a seekable audio file; empty if there are none or they are broken."""
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            return kept(_read(_Measured(stream)))
    except Exception as error:  # mutagen raises errors of any type for broken tags
        name, why = file if isinstance(file, Path) else "-", str(error) or type(error).__name__
        log.warning("%s: its tags cannot be read: %s", name, why)
        return ()


class _Measured:
    """A file that limits the size and number of reads, whatever lengths the tags claim."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._reads = file, 0
        self._size = file.seek(0, 2)
        self.seek, self.tell = file.seek, file.tell
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        self._reads += 1
        if self._reads > _READS:
            raise AudioError("too many reads")
        return self._file.read(min(size, max(0, self._size - self._file.tell())))


def own(tags: Mapping[str, str] | None) -> Tags:
    """Tags that a program gives, as a .nac file keeps them. Raises ArgumentTypeError for what is no mapping."""
    if not isinstance(tags, Mapping | None):
        raise ArgumentTypeError(f"tags are texts by their names, such as {{'title': 'Song'}}, not {tags!r}")
    return kept((tags or {}).items())


def kept(pairs: Iterable[tuple[object, object]]) -> Tags:
    """The tags that a .nac file keeps: text, within the limits."""
    found: list[tuple[str, str]] = []
    size = 0
    for key, value in pairs:
        name = _clean(key).strip().lower()
        text = _clean(value)
        if not name or not text or name in _OF_THE_FILE or name.startswith("itun"):
            continue
        cost = len(name.encode()) + len(text.encode())
        if len(found) == MOST or size + cost > LONGEST:
            log.warning("the tag %.40s is left out: %d tags of %d bytes are kept at most", name, MOST, LONGEST)
            continue
        size += cost
        found.append((name, text))
    return tuple(found)


def info_list(body: bytes) -> Iterator[tuple[str, str]]:
    """The tags in a WAV file's LIST chunk."""
    position = 4 if body.startswith(b"INFO") else len(body)
    while position + 8 <= len(body):
        name, size = body[position : position + 4], int.from_bytes(body[position + 4 : position + 8], "little")
        if name in INFO:
            yield INFO[name], body[position + 8 : position + 8 + size].split(b"\0")[0].decode("utf-8", "replace")
        position += 8 + size + size % 2


def _clean(value: object) -> str:
    return str(value).replace("\0", " ").encode("utf-8", "replace").decode()


def _read(file: _Measured) -> Iterator[tuple[object, object]]:
    head = file.read(64)
    file.seek(0)
    kind = next((kind for mark, kind in _XIPH if mark in head), None)
    if head.startswith((b"fLaC", b"OggS")) and kind:
        comments = _open(kind, file).tags
        yield from comments or ()  # in file order, unlike keys()
    elif head[4:8] == b"ftyp":
        yield from _of_mp4(_open("MP4", file).tags or {})
    elif head[8:12] in (b"WAVE", b"AIFF", b"AIFC") and head.startswith((b"RIFF", b"FORM")):
        kind = "WAVE" if head.startswith(b"RIFF") else "AIFF"
        yield from _of_id3(_open(kind, file, known_frames=_text_frames()).tags or {})
    elif head.startswith(b"ID3") or head[:1] == b"\xff":
        from mutagen.id3 import ID3NoHeaderError

        found: list[tuple[object, object]] = []
        with suppress(ID3NoHeaderError):
            found += _of_id3(_open("ID3", file, known_frames=_text_frames()))
        yield from found
        known = {str(key).lower() for key, _ in found}
        yield from (pair for pair in _of_ape(file) if pair[0] not in known)
    elif head.startswith(_WITH_APE):
        yield from _of_ape(file)


_MODULES = {"MP3": "mp3", "FLAC": "flac", "MP4": "mp4", "WAVE": "wave", "AIFF": "aiff", "ID3": "id3"}


def _open(kind: str, file: _Measured | BinaryIO, **options: Any) -> Any:
    """The file opened with mutagen's class for its format."""
    return getattr(import_module(f"mutagen.{_MODULES.get(kind, kind.lower())}"), kind)(file, **options)


@cache
def _text_frames() -> dict[str, Any]:
    """Text frames of an ID3 tag, except compressed ones, which could expand to gigabytes."""
    from mutagen import id3

    def from_data(cls: Any, header: Any, flags: int, data: bytes) -> Any:
        compressed = id3.Frame.FLAG24_COMPRESS if header.version >= (2, 4, 0) else id3.Frame.FLAG23_COMPRESS
        if flags & compressed:
            raise NotImplementedError  # skips the frame
        return super(cls, cls)._fromData(header, flags, data)

    wanted = (id3.TextFrame, id3.COMM, id3.USLT)
    return {
        # Version 2.2 has no compression; the class of its frames gives their 2.4 name.
        **{name: frame for name, frame in id3.Frames_2_2.items() if issubclass(frame, wanted)},
        **{
            name: type(name, (frame,), {"_fromData": classmethod(from_data)})
            for name, frame in id3.Frames.items()
            if issubclass(frame, wanted)
        },
    }


def _of_id3(tags: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    comments = sum(frame.FrameID == "COMM" for frame in tags.values())
    for frame in tags.values():
        name = frame.FrameID
        if name == "COMM" and frame.desc == "ID3v1 Comment" and comments > 1:
            continue  # a truncated copy from the ID3v1 tag at the end
        key = frame.desc if name == "TXXX" else _FROM_ID3.get(name, name)
        if name == "USLT":
            yield key, frame.text
        elif name != "COMM" or not frame.desc.startswith("iTun"):
            yield from ((key, text) for text in (frame.genres if name == "TCON" else frame.text))


def _of_ape(file: _Measured) -> Iterator[tuple[str, object]]:
    """The items of an APEv2 tag, which follows the audio."""
    from mutagen.apev2 import APENoHeaderError, APETextValue

    with suppress(APENoHeaderError):
        for name, value in _open("APEv2", file).items():
            if isinstance(value, APETextValue):
                yield from ((_APE.get(name.lower(), name.lower()), text) for text in value)


def _of_mp4(tags: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, values in tags.items():
        key = name[len(_FREE) :] if name.startswith(_FREE) else _MP4.get(name)
        for value in values if key and isinstance(values, list) else ():
            if isinstance(value, tuple):  # number and total
                value = "/".join(str(number) for number in value if number)
            yield key or "", bytes(value).decode("utf-8", "replace") if isinstance(value, bytes) else value


def write_tags(file: BinaryIO, format: str, tags: Tags) -> None:
    """Add tags to an audio file just written: wav, flac, ogg, opus or mp3. It must be readable and seekable.

    Raises AudioError, or OSError, for example if the disk is full.
    """
    from mutagen import MutagenError

    file.seek(0)
    if file.read(4) == b"RF64":
        log.warning("tags are not written to a WAV of 4 GB or more")
        return
    file.seek(0)
    kinds = {"flac": "FLAC", "ogg": "OggVorbis", "opus": "OggOpus", "wav": "WAVE", "mp3": "MP3"}
    try:
        audio = _open(kinds[format], file)
        if format in ("flac", "ogg", "opus"):
            for key, values in _by_key(tags).items():
                if re.fullmatch(r"[ -<>-}]+", key):
                    audio[key] = values
        else:
            if audio.tags is None:
                audio.add_tags()
            for frame in _id3_frames(tags):
                audio.tags.add(frame)
        file.seek(0)
        audio.save(file)
    except MutagenError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise AudioError(f"its tags cannot be written: {error}") from None


def _by_key(tags: Tags) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for key, value in tags:
        values.setdefault(key, []).append(value)
    return values


def _id3_frames(tags: Tags) -> Iterator[Any]:
    id3: Any = import_module("mutagen.id3")
    for key, values in _by_key(tags).items():
        name = _ID3.get(key, "TXXX")
        if key == "comment":
            yield id3.COMM(encoding=3, lang="XXX", desc="", text=values)
        elif key == "lyrics":
            yield id3.USLT(encoding=3, lang="XXX", desc="", text="\n".join(values))
        elif name == "TXXX" or (name in ("TDRC", "TDOR") and not all(map(_DATE.fullmatch, values))):
            yield id3.TXXX(encoding=3, desc=key, text=values)
        else:
            yield id3.Frames[name](encoding=3, text=values)
