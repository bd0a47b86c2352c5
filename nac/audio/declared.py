"""How many bytes the header of an audio file announces, and the file lacks: it was cut off then.

libsndfile reads the rest of such files without a word.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from nac.errors import AudioError

_HEAD = 40
_UNKNOWN = 0x7F000000  # writers that cannot seek announce a length from here up, or 0
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # of its other chunks only the first four bytes differ

_REMEDY = "`ffmpeg -i IN OUT.wav` saves the rest"

_OGG = b"OggS"  # what a page begins with


class _Samples(NamedTuple):
    """Where samples begin, how many bytes of them are announced, and how many make one of all channels."""

    start: int
    size: int
    width: int


def missing_bytes(file: BinaryIO) -> int:
    """Bytes of whole samples that are announced and not there; 0 for formats that do not announce any.

    WAV, RF64, Wave64, AIFF, AU and CAF do, many MP3 do, and Ogg does so for each of its pages. The file is left
    anywhere. Raises AudioError for an Ogg file that has a damaged page, or was made of several files.
    """
    end = file.seek(0, 2)
    file.seek(0)
    head = file.read(_HEAD)
    if head.startswith(_OGG):
        return _ogg(file)
    if head.startswith(b"ID3") or head[:1] == b"\xff":
        return _mp3(file, head, end)
    found = _find(file, head, end)
    if found is None:
        return 0
    return max(0, found.size // found.width - max(0, end - found.start) // found.width) * found.width


def cut_off(missing: int) -> AudioError:
    """What is said of a file that lacks so many bytes."""
    return AudioError(f"cut off: {missing} bytes are missing that its header announces ({_REMEDY})")


def damaged(what: str) -> AudioError:
    """What is said of a file whose bytes are not those that were written."""
    return AudioError(f"damaged: {what} ({_REMEDY})")


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


def _mp3(file: BinaryIO, head: bytes, end: int) -> int:
    """Bytes that an MP3 lacks of those that its first frame tells of, if it is one that tells (Xing, Info)."""
    start = 0
    if head.startswith(b"ID3"):  # its length has seven bits a byte
        start = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    file.seek(start)
    frame = file.read(60)
    for at in (13, 21, 36):  # behind what MPEG-1 and 2 say of one and two channels
        if frame[at : at + 4] in (b"Xing", b"Info") and len(frame) == 60 and frame[at + 7] & 2:
            size = int.from_bytes(frame[at + 8 + 4 * (frame[at + 7] & 1) :][:4], "big")
            return max(0, size - (end - start))
    return 0


def _ogg(file: BinaryIO) -> int:
    """Bytes that the last page of an Ogg file lacks, once all before it are found to be whole.

    A page is 27 bytes, of which the last is a number of sizes, these sizes, and so many bytes (RFC 3533).
    """
    file.seek(0)
    opening = True  # with the pages that begin streams side by side
    while head := file.read(27):
        if not head.startswith(_OGG[: len(head)]):  # what follows the last page is none
            break
        sizes = file.read(head.ljust(27, b"\0")[26])
        body = file.read(sum(sizes))
        if lacking := 27 - len(head) or head[26] - len(sizes) + sum(sizes) - len(body):
            return lacking
        if _ogg_checksum(head[:22] + bytes(4) + head[26:] + sizes + body) != head[22:26]:
            raise damaged(f"the page that ends at byte {file.tell()} has another checksum")
        if head[5] & 2 and not opening:
            raise AudioError("several recordings, one after the other (`ffmpeg -i IN OUT.wav` makes them one)")
        opening = bool(head[5] & 2)
    return 0


def _ogg_checksum(page: bytes) -> bytes:
    """A page's CRC-32: zlib's with all bits the other way round, from 0 on, and not inverted."""
    crc = zlib.crc32(page.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_TURNED)


_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _known(start: int, size: int, width: int, unknown: int) -> _Samples | None:
    return _Samples(start, size, width) if 0 < size < unknown else None
