"""How many bytes of samples the header of an audio file announces, and the file lacks: it was cut off then.

libsndfile reads the rest of such files without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nac.errors import AudioError

_HEAD = 40
_UNKNOWN = 0x7F000000  # writers that cannot seek announce a length from here up, or 0
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # of its other chunks only the first four bytes differ

_OGG, _OGG_PAGE = b"OggS", 27 + 255 + 255 * 255  # what a page begins with, and the longest there is (RFC 3533)


class _Samples(NamedTuple):
    """Where samples begin, how many bytes of them are announced, and how many make one of all channels."""

    start: int
    size: int
    width: int


def missing_bytes(file: BinaryIO) -> int:
    """Bytes of whole samples that are announced and not there; 0 for formats that do not announce any.

    WAV, RF64, Wave64, AIFF, AU and CAF do, and Ogg does so for each of its pages. The file is left anywhere.
    """
    end = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD)
    if head.startswith(_OGG):
        file.seek(max(0, end - _OGG_PAGE))
        return _ogg(file.read(_OGG_PAGE))
    found = _find(file, head, end)
    if found is None:
        return 0
    return max(0, found.size // found.width - max(0, end - found.start) // found.width) * found.width


def cut_off(missing: int) -> AudioError:
    """What is said of a file that lacks so many bytes."""
    return AudioError(
        f"cut off: {missing} bytes are missing that its header announces (`ffmpeg -i IN OUT.wav` saves the rest)"
    )


def _find(file: BinaryIO, head: bytes, end: int) -> _Samples | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return _wav(file, _chunks(file, end, "<4sI", 12, 2))
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, _chunks(file, end, ">4sI", 12, 2))
    if head.startswith(_W64):
        return _wav64(file, _chunks(file, end, "<16sQ", 40, 8))
    if head.startswith(b"caff"):
        return _caf(file, _chunks(file, end, ">4sQ", 8, 1))
    if head.startswith(b".snd"):
        return _au(head)
    return None


def _chunks(file: BinaryIO, end: int, form: str, start: int, unit: int) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a file: name, announced size, where the body begins; the file stands there."""
    own = struct.calcsize(form)
    while start + own <= end:
        file.seek(start)
        name, size = struct.unpack(form, file.read(own))
        if len(name) == 16:  # Wave64 counts the whole chunk
            name, size = name[:4], size - own
        yield name, size, start + own
        start += own + max(0, size) + -size % unit


def _wav(file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]]) -> _Samples | None:
    width, long_size = 1, 0
    for name, size, start in chunks:
        if name == b"fmt " and size >= 14:
            width = int.from_bytes(file.read(14)[12:], "little") or 1
        elif name == b"ds64" and size >= 16:
            long_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data" and size == 0xFFFFFFFF:
            return _Samples(start, long_size, width)
        elif name == b"data":
            return _known(start, size, width, 0x7FFFF000)
    return None


def _wav64(file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]]) -> _Samples | None:
    width = 1
    for name, size, start in chunks:
        if name == b"fmt " and size >= 14:
            width = int.from_bytes(file.read(14)[12:], "little") or 1
        elif name == b"data":
            return _known(start, size, width, 1 << 62)
    return None


def _aiff(file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]]) -> _Samples | None:
    width, samples = 1, None
    for name, size, start in chunks:
        if name == b"COMM" and size >= 8:
            channels, _, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
            width = channels * ((bits + 7) // 8) or 1
        elif name == b"SSND":
            samples = _known(start + 8, size - 8, 1, _UNKNOWN)
    return samples and samples._replace(width=width)


def _caf(file: BinaryIO, chunks: Iterator[tuple[bytes, int, int]]) -> _Samples | None:
    width = 1
    for name, size, start in chunks:
        if name == b"desc" and size >= 20:
            width = int.from_bytes(file.read(20)[16:], "big") or 1
        elif name == b"data":
            return _known(start + 4, size - 4, width, 1 << 62)  # first comes a number of edits
    return None


def _au(head: bytes) -> _Samples | None:
    start, size, coding, _, channels = struct.unpack(">5I", head[4:24].ljust(20, b"\0"))
    return _known(start, size, channels * _AU_BYTES.get(coding, 1) or 1, _UNKNOWN)


_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}  # of a sample of one channel


def _ogg(tail: bytes) -> int:
    """Bytes that the last page of an Ogg file lacks: its sizes, a byte each, follow its header of 27 bytes."""
    at = tail.rfind(_OGG + b"\0")
    if at < 0:  # what follows the last page is none
        return 0
    page = tail[at:].ljust(27, b"\0")
    lacking = 27 + page[26] + sum(page[27 : 27 + page[26]]) - (len(tail) - at)
    ends_in_name = any(-lacking == size and page.endswith(_OGG[:size]) for size in (1, 2, 3, 4))
    return max(lacking, int(ends_in_name))


def _known(start: int, size: int, width: int, unknown: int) -> _Samples | None:
    return _Samples(start, size, width) if 0 < size < unknown else None
