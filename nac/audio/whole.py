"""Complete or refused: either nac reads all audio of a file, or it reports what is missing.

A file declares its length in several ways, and any of them may be wrong. Only this module decides what is
believed:

- Samples that are declared but absent are missing. So is the rest of a page, box or frame that the end of the file
  cuts off.
- A size of 0, or a placeholder that programs write while the size is unknown, means: up to the end. So does a size
  that is too large in a file whose outermost size is right.
- Bytes after the declared samples are classified: chunks, tags and zeros are not audio. Any others may be audio,
  and the file is refused.
- A reader always goes on to the last byte, and its number of samples is compared with the declared one.
- A file that has bytes of audio but yields no samples is an error.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from nac.audio.headers import CHUNKS, Declared
from nac.audio.kinds import Kind
from nac.errors import AudioError
from nac.streams import Readable, read_exactly

REMEDY = "`ffmpeg -i IN OUT.wav` saves the rest"
_STAND_INS = ((0x7F000000, 0x7F000040), (0x7FFFE000, 0x80000040), (0xFFFFE000, 0x100000000), (1 << 62, 1 << 64))
"""Placeholders for an unknown size that programs write, sometimes minus a header or rounded."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
_CHUNK_NAMES = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"JUNK", b"afsp")
_SOUND_NAMES = (b"data", b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"SSND", b"riff")
_BEGINNING = re.compile(
    rb"(?s)(?:RIFF|RIFX|RF64|BW64)....WAVE|FORM....AIF[FC]|caff\x00\x01\x00\x00desc|\.snd\x00\x00|riff\x2e\x91\xcf"
)
_PIECE = 1 << 16


def cut_off(missing: int) -> AudioError:
    """The error for a file that lacks this many bytes."""
    return AudioError(f"cut off: {missing} bytes are missing that its header declares ({REMEDY})")


def damaged(what: str) -> AudioError:
    """The error for a file whose bytes have changed."""
    return AudioError(f"damaged: {what} ({REMEDY})")


def several() -> AudioError:
    """The error for a file with several recordings."""
    return AudioError("has several recordings, one after the other; nac reads only files with one")


def check_count(samples: int, declared: int | None, size: int) -> None:
    """Raise AudioError if not the declared number of samples was read, or none from ``size`` bytes of audio."""
    if declared is not None and samples < declared:
        raise damaged(f"{declared - samples} of {declared} samples are lost")
    if declared is not None and samples > declared:
        raise AudioError(f"has {samples} samples but declares {declared}: several recordings in one file?")
    if samples == 0 and size:
        raise AudioError(f"its {size} bytes of audio give no samples")


def is_known(size: int | None) -> bool:
    """Whether a size is real, not a placeholder for "unknown"."""
    return bool(size) and not any(low <= (size or 0) < high for low, high in _STAND_INS)


def bytes_of_sound(file: BinaryIO, kind: Kind, said: Declared, end: int) -> int:
    """Bytes of samples in a file of ``end`` bytes. Raises AudioError if some may be missing."""
    there, size = end - said.start, said.size or 0
    if there < 0:
        raise AudioError("cut off: it ends within its header")
    file.seek(said.start)
    if (size == 0 and not is_chunk(file.read(4))) or (size > there and not is_known(size)):
        return there
    missing = size // said.width - there // said.width
    if missing > 0:
        if _is_wrong(size, said.ends, end):
            return there
        raise cut_off(missing * said.width)
    file.seek(said.start + size)
    check_rest(file, kind, size)
    return size


def _is_wrong(size: int, ends: int | None, end: int) -> bool:
    """Whether a size is too large although the file is complete by its outermost size."""
    counts_header = size in (end, end - 8)
    if ends is None or not is_known(ends) or not is_known(ends - 8):  # most count from byte 8
        return counts_header
    return end - 1 <= ends <= end or (ends == end + 8 and counts_header)


def is_chunk(name: bytes) -> bool:
    """Whether bytes in the place of samples are a WAV chunk."""
    return name in _CHUNK_NAMES


def check_rest(file: Readable, kind: Kind, size: int) -> None:
    """Read everything after ``size`` bytes of samples. Raises AudioError if it may be audio."""
    form = CHUNKS.get(kind)
    own = struct.calcsize(form.head) if form else 16
    head = read_exactly(file, own)
    if form and (padding := -size % form.unit) and not head[:padding].strip(b"\0"):
        head = head[padding:] + read_exactly(file, padding)
    while head:
        if head.startswith(_TAGS):
            if _holds_recording(file):
                raise several()
            return
        if not head.strip(b"\0"):
            if unknown := _behind_zeros(file):
                raise _unknown(unknown)
            return
        name, length = struct.unpack(form.head, head) if form and len(head) == own else (b"", 0)
        if name[:4] in _SOUND_NAMES:
            raise several()
        if len(name) == 16:  # Wave64 counts the whole chunk
            length = max(0, length - own)
        if not name or not name[:4].decode("latin-1").isprintable():
            raise _unknown(len(head) + drop(file))
        if drop(file, length) < length and not is_chunk(name[:4]):
            raise _unknown(length)
        if form:
            drop(file, -length % form.unit)
        head = read_exactly(file, own)


def _holds_recording(file: Readable) -> bool:
    """Whether a recording begins in the bytes up to the end, which are read."""
    found, tail = False, b""
    while piece := file.read(_PIECE):
        found = found or _BEGINNING.search(tail + piece) is not None
        tail = piece[-16:]
    return found


def _behind_zeros(file: Readable) -> int:
    """The number of bytes from the first non-zero one to the end."""
    while piece := file.read(_PIECE):
        if rest := piece.lstrip(b"\0"):
            return len(rest) + drop(file)
    return 0


def _unknown(count: int) -> AudioError:
    what = "1 byte after the samples is neither a chunk nor a tag"
    if count > 1:
        what = f"{count} bytes after the samples are neither chunks nor tags"
    return AudioError(
        f"{what}, and may be audio that its header does not declare "
        "(`ffmpeg -i IN OUT.wav` saves what it declares)"
    )


def drop(file: Readable, size: int | None = None) -> int:
    """Skip this many bytes, or all that are left; returns their number."""
    dropped = 0
    while (size is None or dropped < size) and (
        piece := file.read(_PIECE if size is None else min(_PIECE, size - dropped))
    ):
        dropped += len(piece)
    return dropped
