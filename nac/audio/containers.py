"""Length checks for containers of compressed audio: finds files that are shorter than they declare.

FFmpeg and libsndfile read the rest of such files without an error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO, Literal

from nac.audio.kinds import Kind, id3_size
from nac.audio.whole import REMEDY, is_known, several
from nac.errors import AudioError
from nac.streams import read_exactly

_MOVIE = 64 << 20  # most bytes of a movie header that are searched
_BEHIND = 1 << 20  # bytes behind a recording in which another is looked for
_REFERENCES = (b"url ", b"urn ", b"alis", b"rsrc")
_SEGMENT = bytes.fromhex("18538067")
_FLV_TAGS = (b"\x08", b"\x09", b"\x12")  # audio, video, data
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def check_announced(file: BinaryIO, kind: Kind, end: int) -> None:
    """Raise AudioError if a file of ``end`` bytes is shorter than it declares or has several recordings."""
    file.seek(0)
    head = file.read(64)
    missing = 0
    if kind in _ENDS:
        declared = _ENDS[kind](file, end)
        file.seek(declared)
        if declared and head[:4] in file.read(_BEHIND):  # behind tags, say
            raise several()
        missing = declared - end
    elif kind in ("mp3", "id3"):
        missing = _xing_end(file, head) - end
    elif kind == "mp4":
        missing = _boxes_end(file, end) - end
    elif kind == "matroska":
        missing = _segment_end(file, end) - end
    elif kind == "sox":
        order: Literal["little", "big"] = "little" if head.startswith(b".SoX") else "big"
        missing = 4 + int.from_bytes(head[4:8], order) + 4 * int.from_bytes(head[8:16], order) - end
    elif kind in ("avi", "iff"):
        size = int.from_bytes(head[4:8], "little" if kind == "avi" else "big")
        missing = size + 8 - end if is_known(size) else 0
    elif kind == "mpegts":
        missing = -end % _packet_bytes(file)
    elif kind == "dsf":
        missing = int.from_bytes(head[12:20], "little") - end
    if missing > 0:
        raise AudioError(f"cut off: {missing} bytes are missing that it declares ({REMEDY})")


def _xing_end(file: BinaryIO, head: bytes) -> int:
    """The byte where an MP3 ends according to its first frame (Xing or Info header); 0 if it does not say."""
    start = id3_size(head)
    file.seek(start)
    frame = file.read(60)
    for at in (13, 21, 36):  # after the side information of MPEG-1 or 2, mono or stereo
        if frame[at : at + 4] in (b"Xing", b"Info") and len(frame) == 60 and frame[at + 7] & 2:
            return start + int.from_bytes(frame[at + 8 + 4 * (frame[at + 7] & 1) :][:4], "big")
    return 0


def _packet_bytes(file: BinaryIO) -> int:
    """Bytes of a packet of an MPEG transport stream; those of M2TS have a time stamp before them."""
    file.seek(0)
    return 188 if file.read(189)[::188] == b"\x47\x47" else 192


def _boxes_end(file: BinaryIO, end: int) -> int:
    """The byte after the last box of an MP4."""
    at, films = 0, 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, name = int.from_bytes(head[:4], "big"), head[4:8]
        if not size and not name.strip(b"\0"):  # padding
            file.seek(at)
            if b"ftyp" in file.read(_BEHIND):
                raise several()
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif not size:  # up to the end
            size = end - at
        films += name == b"moov"
        if name == b"moov" and _is_elsewhere(at + min(size, _MOVIE) - file.tell(), file):
            raise AudioError("its audio is in another file, and nac reads only this one")
        if films > 1:
            raise several()
        if size < 8:
            return end
        at += size
    return at


def _is_elsewhere(size: int, file: BinaryIO) -> bool:
    """Whether a data reference of a movie points to another file (ISO/IEC 14496-12, section 8.7.2)."""
    movie = read_exactly(file, max(0, size))
    at = movie.find(b"dref")
    while at >= 0:
        entry = at + 12
        while movie[entry + 4 : entry + 8] in _REFERENCES:
            if not movie[entry + 11 : entry + 12] or not movie[entry + 11] & 1:
                return True
            entry += max(12, int.from_bytes(movie[entry : entry + 4], "big"))
        at = movie.find(b"dref", at + 4)
    return False


def _segment_end(file: BinaryIO, end: int) -> int:
    """The byte after the last segment of a Matroska or WebM file."""
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(16)
        length = 9 - head[4].bit_length() if len(head) == 16 else 9
        if length == 9 or head[:4] not in (b"\x1a\x45\xdf\xa3", _SEGMENT):
            break
        if head[:4] != _SEGMENT and at:
            raise several()
        size = int.from_bytes(head[4 : 4 + length], "big") & ((1 << 7 * length) - 1)
        if size == (1 << 7 * length) - 1:  # unknown
            return end
        at += 4 + length + size
    return at


def _asf_end(file: BinaryIO, end: int) -> int:
    """The byte after the last of an ASF file (WMA), by its file properties; 0 if it was broadcast."""
    file.seek(0)
    head = read_exactly(file, 1 << 16)
    at = head.find(_ASF_FILE)
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:
        return 0
    return int.from_bytes(head[at + 40 : at + 48], "little")


def _tta_end(file: BinaryIO, end: int) -> int:
    """The byte after the last frame of a TTA file, by its table of frames; 0 if that is not there."""
    file.seek(0)
    rate, samples = struct.unpack_from("<II", file.read(18).ljust(18, b"\0"), 10)
    frames = -(-samples // max(1, rate * 256 // 245))
    file.seek(22)
    table = read_exactly(file, 4 * frames)
    if len(table) < 4 * frames:
        return 0
    sizes: tuple[int, ...] = struct.unpack(f"<{frames}I", table)
    return 22 + len(table) + 4 + sum(sizes)


def _voc_end(file: BinaryIO, end: int) -> int:
    """The byte after the last block of a Creative voice file."""
    file.seek(20)
    at = int.from_bytes(file.read(2), "little")
    while at < end:
        file.seek(at)
        head = file.read(4)
        if not head.strip(b"\0") or head[0] == 0:  # the end has no size
            return at
        at += 4 + int.from_bytes(head[1:], "little")
    return at


def _flv_end(file: BinaryIO, end: int) -> int:
    """The byte after the last tag of a Flash video."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4  # after each tag its size is repeated
    while at < end:
        file.seek(at)
        head = file.read(4)
        if head[:1] not in _FLV_TAGS:
            return at
        at += 11 + int.from_bytes(head[1:], "big") + 4
    return at


_ENDS: dict[Kind, Callable[[BinaryIO, int], int]] = {
    "asf": _asf_end,
    "tta": _tta_end,
    "voc": _voc_end,
    "flv": _flv_end,
}
"""Formats in which FFmpeg stops at the end that they declare, or passes over whatever follows."""
