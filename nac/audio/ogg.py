"""Ogg files with Vorbis or Opus; every page has a sequence number and a checksum.

libsndfile decodes them, because it returns exactly the encoder's input samples; FFmpeg returns a few more or fewer
at the ends. libsndfile is not trusted with chained recordings or with the rate: it gets one recording at a time,
and an Opus header that says 48 kHz.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np

from nac.audio import layout
from nac.audio.kinds import kind_of
from nac.audio.resample import Samples
from nac.audio.tags import Tags, kept
from nac.audio.view import View, reason
from nac.audio.whole import REMEDY, check_count, damaged, several
from nac.container.header import SampleFormat
from nac.errors import AudioError

_NAME = b"OggS"  # capture pattern of a page
_NOT_ENDED = "its last page is not marked as the end, as in a broadcast or a file that was cut off"
_VORBIS, _OPUS = b"\x01vorbis", b"OpusHead"


class Page(NamedTuple):
    """A page (RFC 3533, section 6): its byte range, whether it begins or ends a stream, and which one."""

    start: int
    end: int
    begins: bool
    ends: bool
    stream: bytes
    number: int
    position: int
    body: bytes


def pages(file: BinaryIO) -> Iterator[Page]:
    """The pages of an Ogg file. Raises AudioError if one is damaged or cut off, or if bytes lie outside pages.

    A page is 27 bytes, the last of which counts the segment sizes that follow, then the segments.
    """
    at = 0
    while True:
        file.seek(at)
        head = file.read(27)
        if not head or not head.startswith(_NAME[: len(head)]):
            break
        sizes = file.read(head.ljust(27, b"\0")[26])
        body = file.read(sum(sizes))
        if lacking := 27 - len(head) or head[26] - len(sizes) + sum(sizes) - len(body):
            raise AudioError(f"cut off: {lacking} bytes are missing of its last page ({REMEDY})")
        end = at + len(head) + len(sizes) + len(body)
        if _checksum(head, sizes + body) != head[22:26]:
            raise damaged(f"the page that ends at byte {end} has a wrong checksum")
        number, position = int.from_bytes(head[18:22], "little"), int.from_bytes(head[6:14], "little", signed=True)
        yield Page(at, end, bool(head[5] & 2), bool(head[5] & 4), head[14:18], number, position, body)
        at = end
    _check_no_page(file, at)


def _check_no_page(file: BinaryIO, at: int) -> None:
    """Raise AudioError if the bytes after the last page may be audio."""
    file.seek(at)
    tail, piece = b"", file.read(1 << 16)
    if kind_of(piece) not in (None, "id3"):
        raise several()
    while piece:
        if (found := (tail + piece).find(_NAME)) >= 0:
            raise damaged(f"{file.tell() - len(tail + piece) + found - at} bytes from {at} on belong to no page")
        tail, piece = piece[-3:], file.read(1 << 16)


def _checksum(head: bytes, rest: bytes) -> bytes:
    """A page's CRC-32: zlib's with reversed bits, initial value 0 and no final inversion."""
    page = head[:22] + bytes(4) + head[26:] + rest
    crc = zlib.crc32(page.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(_TURNED)


_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class Link:
    """One recording of a chain: its byte range, the first packet of each stream, and whether its end is marked."""

    start: int
    end: int
    streams: tuple[bytes, ...]
    ended: bool

    @property
    def is_plain(self) -> bool:
        """Whether it is a single stream of Vorbis or Opus."""
        return len(self.streams) == 1 and self.streams[0].startswith((_VORBIS, _OPUS))


def links(file: BinaryIO) -> list[Link]:
    """The recordings chained in an Ogg file. Raises AudioError where pages are missing."""
    found: list[Link] = []
    last: dict[bytes, Page] = {}
    opening = False  # in the pages that begin multiplexed streams
    for page in pages(file):
        if page.begins and not opening:
            found.append(Link(page.start, page.end, (), page.ends))
            last = {}
        opening = page.begins
        if not found:
            raise damaged("its first pages are lost")
        streams = found[-1].streams + ((page.body,) if page.begins else ())
        found[-1] = Link(found[-1].start, page.end, streams, page.ends)
        before = last.get(page.stream)
        # A recorded broadcast lacks pages after the headers, whose position is 0.
        if before and page.number != before.number + 1 and before.position != 0:
            lost = page.number - before.number - 1
            raise damaged(f"{lost if lost > 0 else 'some'} pages are lost before byte {page.start}")
        last[page.stream] = page
    if not found:
        raise AudioError("an Ogg file without pages")
    return found


class OggInput:
    """One recording of Vorbis or Opus in an Ogg file. Raises AudioError if it cannot be read."""

    sample_format = SampleFormat.LOSSY

    def __init__(self, file: BinaryIO, link: Link) -> None:
        import soundfile

        self.notes: tuple[str, ...] = () if link.ended else (_NOT_ENDED,)
        head = link.streams[0]
        view = View(file, link.start, link.end, _at_48_khz(file, link) if head.startswith(_OPUS) else b"")
        try:
            self._file = soundfile.SoundFile(view)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise AudioError(f"libsndfile cannot read it as audio ({reason(error)})") from None
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.samples: int | None = self._file.frames
        self._size, self._count = link.end - link.start, 0
        self.tags: Tags = kept(self._file.copy_metadata().items())
        # Opus channel mapping families 0 and 1 define loudspeakers (RFC 7845, section 5.1.1).
        known = not head.startswith(_OPUS) or head[18:19] in (b"\0", b"\1")
        self.mask = layout.USUAL.get(self.channels, 0) if known else 0
        order = layout.coded_order(self.mask, self.channels) or list(range(self.channels))
        self._order = sorted(range(self.channels), key=order.__getitem__)

    def read(self, size: int) -> Samples:
        """The next ``size`` samples, or all that are left, [n, channels]; n = 0 at the end."""
        import soundfile

        try:
            block = self._file.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"broken audio ({reason(error)}; {REMEDY})") from None
        self._count += len(block)
        if not len(block):
            check_count(self._count, self.samples, self._size if self.notes else 0)
        return np.ascontiguousarray(block[:, self._order])

    def close(self) -> None:
        self._file.close()


def _at_48_khz(file: BinaryIO, link: Link) -> bytes:
    """The first Opus page with an input rate of 48 kHz, from which libsndfile chooses its output rate."""
    file.seek(link.start)
    head = bytearray(file.read(27))
    rest = bytearray(file.read(head[26] + len(link.streams[0])))
    rest[head[26] + 12 : head[26] + 16] = (48000).to_bytes(4, "little")
    head[22:26] = _checksum(bytes(head), bytes(rest))
    return bytes(head + rest)
