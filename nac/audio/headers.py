"""Headers of uncompressed formats (WAV, RF64, BW64, RIFX, Wave64, AIFF, AU, CAF, SPHERE).

A header declares a number of bytes. It may be wrong: the recorder was killed, or wrote to a pipe.
:func:`find` returns what is declared; :mod:`nac.audio.whole` decides what of it is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from nac.audio import layout
from nac.audio.kinds import Kind
from nac.audio.pcm import Coding, Number, coding
from nac.audio.tags import Tags, info_list, kept


class Seekable(Protocol):
    """A file, or the first bytes of a pipe."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, at: int, /) -> object: ...


@dataclass(frozen=True)
class Declared:
    """What a header declares about the samples.

    ``start``: the byte where they begin. ``size``: their number of bytes; None or 0 if unknown. ``width``: bytes
    of one sample of all channels, or of one block if compressed. ``coding``: None if the samples are compressed,
    or their channels are in an order that only FFmpeg knows. ``mask``: the channel layout, or 0. ``ends``: the
    byte where the file's outermost chunk ends, if there is one.
    """

    start: int
    size: int | None
    width: int
    sample_rate: int
    channels: int
    coding: Coding | None
    mask: int = 0
    ends: int | None = None
    tags: Tags = ()


@dataclass(frozen=True)
class Chunks:
    """Chunk syntax of a format: a ``head`` with name and size, a body padded to a multiple of ``unit`` bytes."""

    head: str
    unit: int


CHUNKS: dict[Kind, Chunks] = {
    "wav": Chunks("<4sI", 2),
    "aiff": Chunks(">4sI", 2),
    "w64": Chunks("<16sQ", 8),
    "caf": Chunks(">4sQ", 1),
}
_RIFX = Chunks(">4sI", 2)
_EXTENSIBLE = 0xFFFE
_WAV_NUMBERS: dict[int, Number] = {1: "int", 3: "float", 6: "alaw", 7: "ulaw"}
_AIFF_NUMBERS: dict[bytes, tuple[Number, str]] = {
    **dict.fromkeys((b"", b"NONE", b"twos", b"in24", b"in32"), ("int", ">")),
    **dict.fromkeys((b"sowt", b"42ni", b"42n1", b"23ni"), ("int", "<")),  # libsndfile writes 42n1
    **dict.fromkeys((b"fl32", b"FL32", b"fl64", b"FL64"), ("float", ">")),
    **dict.fromkeys((b"alaw", b"ALAW"), ("alaw", ">")),
    **dict.fromkeys((b"ulaw", b"ULAW"), ("ulaw", ">")),
    b"raw ": ("unsigned", ">"),
}
_AU_NUMBERS: dict[int, tuple[Number, int]] = {
    1: ("ulaw", 1),
    2: ("int", 1),
    3: ("int", 2),
    4: ("int", 3),
    5: ("int", 4),
    6: ("float", 4),
    7: ("float", 8),
    27: ("alaw", 1),
}
_SPHERE_NUMBERS: dict[str, Number] = {"pcm": "int", "ulaw": "ulaw", "mu-law": "ulaw", "alaw": "alaw"}


def find(file: Seekable, kind: Kind, end: int | None) -> Declared | None:
    """What a file of this kind declares about its samples; None if it is broken or of another kind.

    ``end``: the file's size in bytes; None for a pipe, which is not read beyond the first sample.
    """
    file.seek(0)
    head = file.read(40)
    if kind == "wav":
        return _wav(file, head, _RIFX if head.startswith(b"RIFX") else CHUNKS[kind], 12, end)
    if kind == "w64":
        return _wav(file, head, CHUNKS[kind], 40, end)
    if kind == "aiff":
        return _aiff(head, _chunks(file, CHUNKS[kind], 12, end))
    if kind == "caf":
        return _caf(_chunks(file, CHUNKS[kind], 8, end))
    if kind == "au":
        return _au(head)
    return _sphere(head + file.read(984)) if kind == "sphere" else None


@dataclass(frozen=True)
class _Chunk:
    """A chunk's name, the declared size of its body, and where the body begins."""

    name: bytes
    size: int
    start: int
    file: Seekable

    def body(self, most: int = 1 << 16) -> bytes:
        """The body, or at most that many bytes of it."""
        self.file.seek(self.start)
        return self.file.read(min(most, self.size))


def _chunks(file: Seekable, form: Chunks, start: int, end: int | None) -> Iterator[_Chunk]:
    own = struct.calcsize(form.head)
    while end is None or start + own <= end:
        file.seek(start)
        head = file.read(own)
        if len(head) < own:
            return
        name, size = struct.unpack(form.head, head)
        if len(name) == 16:  # Wave64 counts the whole chunk
            name, size = name[:4], max(0, size - own)
        yield _Chunk(name, size, start + own, file)
        start += own + size + -size % form.unit


def _wav(file: Seekable, head: bytes, syntax: Chunks, first: int, end: int | None) -> Declared | None:
    form, sizes, tags, order = b"", b"", Tags(), syntax.head[0]
    for chunk in _chunks(file, syntax, first, end):
        if chunk.name == b"fmt ":
            form = chunk.body()
        elif chunk.name == b"ds64":
            sizes = chunk.body()
        elif chunk.name == b"LIST":
            tags = kept(chain(tags, info_list(chunk.body())))
        elif chunk.name == b"data" and len(form) >= 16:
            break
    else:
        return None
    size, ends = chunk.size, int.from_bytes(head[4:8], "big" if order == ">" else "little") + 8
    if len(sizes) >= 16:
        ends = int.from_bytes(sizes[:8], "little") + 8
        size = int.from_bytes(sizes[8:16], "little") if size in (0, 0xFFFFFFFF) else size
    elif head.startswith(b"riff"):
        ends = int.from_bytes(head[16:24], "little")
    if size and end is not None:
        behind = _chunks(file, syntax, chunk.start + size + -size % syntax.unit, end)
        tags = kept(chain(tags, _listed(behind)))
    tag, channels, rate, _, width, bits = struct.unpack_from(order + "HHIIHH", form)
    mask = 0
    if tag == _EXTENSIBLE and len(form) >= 26:
        mask, tag = struct.unpack_from(order + "IH", form, 20)
    number, each = _WAV_NUMBERS.get(tag), _each(width, channels, bits)
    if number == "int" and each == 1:
        number = "unsigned"
    how, mask = coding(number, each, order), layout.of_mask(mask, channels)
    return Declared(chunk.start, size, width or 1, rate, channels, how, mask, ends, tags)


def _listed(found: Iterator[_Chunk]) -> Iterator[tuple[str, str]]:
    """The tags in the chunks behind the samples, up to what is no chunk."""
    for chunk in found:
        if not chunk.name.decode("latin-1").isprintable():
            return
        if chunk.name == b"LIST":
            yield from info_list(chunk.body())


def _each(width: int, channels: int, bits: int) -> int:
    """Bytes per sample of one channel; 0 if invalid."""
    each = width // channels if channels and width % channels == 0 else 0
    return each if each * 8 >= bits else 0


def _aiff(head: bytes, found: Iterator[_Chunk]) -> Declared | None:
    common, places, sound = b"", b"", None
    for chunk in found:
        if chunk.name == b"COMM":
            common = chunk.body()
        elif chunk.name == b"CHAN":
            places = chunk.body(4)
        elif chunk.name == b"SSND":
            sound = chunk
            if chunk.size < 8:  # unknown: samples up to the end of the file
                break
    if sound is None or len(common) < 18:
        return None
    channels, _, bits = struct.unpack_from(">HIH", common)
    number, order = _AIFF_NUMBERS.get(common[18:22].rstrip(b"\0"), (None, ">"))
    each = {b"fl32": 4, b"fl64": 8}.get(
        common[18:22].lower(), 1 if number in ("alaw", "ulaw") else (bits + 7) // 8
    )
    offset = int.from_bytes(sound.body(4), "big") if sound.size >= 8 else 0
    return Declared(
        sound.start + 8 + offset,
        max(0, sound.size - 8 - offset),
        channels * each or 1,
        _extended(common[8:18]),
        channels,
        None if _own_order(places, channels) else coding(number, each, order),
        ends=int.from_bytes(head[4:8], "big") + 8,
    )


def _extended(number: bytes) -> int:
    """A sample rate in Hz from an 80-bit extended float."""
    exponent, mantissa = struct.unpack(">HQ", number)
    shift = 16383 + 63 - (exponent & 0x7FFF)
    return int(mantissa >> shift) if 0 <= shift < 64 else 0


def _caf(found: Iterator[_Chunk]) -> Declared | None:
    form, places = b"", b""
    for chunk in found:
        if chunk.name == b"desc":
            form = chunk.body()
        elif chunk.name == b"chan":
            places = chunk.body(4)
        elif chunk.name == b"data" and len(form) >= 32:
            break
    else:
        return None
    rate, kind, flags, width, _, channels, bits = struct.unpack_from(">d4s5I", form)
    numbers: dict[bytes, Number] = {b"lpcm": "float" if flags & 1 else "int", b"alaw": "alaw", b"ulaw": "ulaw"}
    how = coding(numbers.get(kind), _each(width, channels, bits), "<" if flags & 2 else ">")
    return Declared(
        chunk.start + 4,  # after the edit count
        None if chunk.size > 1 << 62 else max(0, chunk.size - 4),
        width or 1,
        int(rate) if 0 < rate < 1 << 31 else 0,
        channels,
        None if _own_order(places, channels) else how,
    )


def _own_order(places: bytes, channels: int) -> bool:
    """Whether channels may be in an order of their own, by the number that a list of places begins with."""
    return bool(places) and (channels > 2 or places == bytes(4))  # 0: places are listed one by one


def _au(head: bytes) -> Declared | None:
    order = ">" if head.startswith(b".snd") else "<"
    start, size, number, rate, channels = struct.unpack(f"{order}5I", head[4:24].ljust(20, b"\0"))
    name, each = _AU_NUMBERS.get(number, (None, 1))
    return Declared(start, size, channels * each or 1, rate, channels, coding(name, each, order))


def _sphere(head: bytes) -> Declared | None:
    """A NIST SPHERE header: its size, then lines with name, type and value."""
    lines = [line.split(None, 2) for line in head.decode("latin-1").partition("end_head")[0].splitlines()]
    start = int(lines[1][0]) if len(lines) > 1 and lines[1] and lines[1][0].isdecimal() else 0
    said = {line[0]: line[2].strip() for line in lines[2:] if len(line) == 3}
    number = {name: int(value) for name, value in said.items() if value.isdecimal() and len(value) < 16}
    channels, each = number.get("channel_count", 1), number.get("sample_n_bytes", 0)
    order = "<" if said.get("sample_byte_format", "") in ("01", "012", "0123") else ">"
    how = coding(_SPHERE_NUMBERS.get(said.get("sample_coding", "pcm")), each, order)
    if not start or how is None:
        return None
    size = number["sample_count"] * channels * each if "sample_count" in number else None
    return Declared(start, size, channels * each or 1, number.get("sample_rate", 0), channels, how)
