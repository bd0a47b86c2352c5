"""Whole or refused: nac has read all the sound that a file holds, or it says what is missing.

A file says in many ways how much it holds, and any of them may be wrong. This is the one place that decides what
is believed:

- Samples that are announced and not there are missing, and so is the rest of a page, a box or a frame that the
  file's end cuts off.
- A number of bytes that is 0, or one that programs write which do not know it yet, stands for all up to the end.
  So does one that is too large in a file whose outermost size says that nothing is missing.
- Bytes behind what is announced are accounted for: chunks, tags and zeros are no sound. Others may be some, and
  then the file is refused.
- Whatever the number of samples that is announced: a reader goes on to the last byte, and the two are compared.
- A file that holds bytes of sound and gives no samples is an error.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from nac.audio.headers import CHUNKS, Announced
from nac.audio.kinds import Kind
from nac.errors import AudioError
from nac.streams import Readable, read_exactly

REMEDY = "`ffmpeg -i IN OUT.wav` saves the rest"
_STAND_INS = ((0x7F000000, 0x7F000040), (0x7FFFE000, 0x80000040), (0xFFFFE000, 0x100000000), (1 << 62, 1 << 64))
"""Sizes that stand for one not known: those that programs write, more or less by a header or a rounding."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
_CHUNK_NAMES = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"JUNK", b"afsp")
_SOUND_NAMES = (b"data", b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"SSND", b"riff")
_PIECE = 1 << 16


def cut_off(missing: int) -> AudioError:
    """What is said of a file that lacks so many bytes."""
    return AudioError(f"cut off: {missing} bytes are missing that its header announces ({REMEDY})")


def damaged(what: str) -> AudioError:
    """What is said of a file whose bytes are not those that were written."""
    return AudioError(f"damaged: {what} ({REMEDY})")


def several() -> AudioError:
    """What is said of a file that holds more recordings than the first."""
    return AudioError("several recordings, one after the other; only a file of one is taken, so that none is lost")


def check_count(samples: int, announced: int | None, size: int) -> None:
    """Raise AudioError where other samples were read than announced, or none of ``size`` bytes of sound."""
    if announced is not None and samples < announced:
        raise damaged(f"{announced - samples} of {announced} samples are lost")
    if announced is not None and samples > announced:
        raise AudioError(f"holds {samples} samples and announces {announced}: several recordings in one file?")
    if samples == 0 and size:
        raise AudioError(f"no samples come of its {size} bytes of sound")


def is_known(size: int | None) -> bool:
    """Whether a size is one, and does not stand for one that was not known."""
    return bool(size) and not any(low <= (size or 0) < high for low, high in _STAND_INS)


def bytes_of_sound(file: BinaryIO, kind: Kind, said: Announced, end: int) -> int:
    """How many bytes of samples a file of ``end`` bytes holds. Raises AudioError if some may be missing."""
    there, size = max(0, end - said.start), said.size or 0
    file.seek(min(end, said.start))
    if (size == 0 and not is_chunk(file.read(4))) or (size > there and not is_known(size)):
        return there
    missing = size // said.width - there // said.width
    if missing > 0:
        if _is_wrong(size, said.ends, end):
            return there
        raise cut_off(missing * said.width)
    file.seek(min(end, said.start + size))
    check_rest(file, kind, size)
    return size


def _is_wrong(size: int, ends: int | None, end: int) -> bool:
    """Whether a size is too large in a file that is as long as it ever was."""
    counts_header = size in (end, end - 8)
    if ends is None or not is_known(ends):
        return counts_header
    return end - 1 <= ends <= end or (ends == end + 8 and counts_header)


def is_chunk(name: bytes) -> bool:
    """Whether bytes where samples should be are a chunk of a WAV instead."""
    return name in _CHUNK_NAMES


def check_rest(file: Readable, kind: Kind, size: int) -> None:
    """Read to the end what follows ``size`` bytes of samples. Raises AudioError if it may be sound."""
    form = CHUNKS.get(kind)
    own = struct.calcsize(form.head) if form else 16
    head = read_exactly(file, own)
    if form and (padding := -size % form.unit) and not head[:padding].strip(b"\0"):
        head = head[padding:] + read_exactly(file, padding)
    while head:
        if head.startswith(_TAGS):
            drop(file)
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


def _behind_zeros(file: Readable) -> int:
    """How many bytes follow from the first on that is not zero."""
    while piece := file.read(_PIECE):
        if rest := piece.lstrip(b"\0"):
            return len(rest) + drop(file)
    return 0


def _unknown(count: int) -> AudioError:
    return AudioError(
        f"{count} bytes follow the samples that are neither chunks nor tags, and may be sound that its header "
        "does not announce (`ffmpeg -i IN OUT.wav` saves what it does)"
    )


def drop(file: Readable, size: int | None = None) -> int:
    """Read past so many bytes, or all that are left; give their number."""
    dropped = 0
    while (size is None or dropped < size) and (
        piece := file.read(_PIECE if size is None else min(_PIECE, size - dropped))
    ):
        dropped += len(piece)
    return dropped
