"""Everything whole that a damaged file still has."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from nac.container.chunk import Chunk, head_bytes, plausible
from nac.container.fields import Fields
from nac.container.header import Header
from nac.container.index import End, find_end
from nac.container.records import CHUNK, END, MAX_BODY, Record, Source
from nac.container.sums import Sums
from nac.container.timeline import Lost, Timeline
from nac.errors import DamageError, FormatError

_FIRST, _BLOCK = 1 << 12, 1 << 20  # bytes that are searched at a time, more and more
_SHORT = 1 << 16  # bytes that are summed in the time that it takes to find the sum of more
_SUM = 1 << 12  # bytes that could be read in the time that a sum takes
_LOOK = 16  # bytes that could be read in the time that a field takes
# What a chunk begins with: type, length, first frame, frames, form. The lookahead finds those that overlap, too.
_BEGINNING = re.compile(
    rb"(?=C[\x80-\xff]{0,3}[\x00-\x7f][\x80-\xff]{0,5}[\x00-\x7f][\x80-\xff]{0,2}[\x00-\x7f][\x00-\x3f])"
)


class Recovery:
    """Goes through a seekable file once, giving each whole chunk and, between them, what is lost.

    To write what is left, use the header without its ``samples`` and, at the end, ``samples`` from here. Raises
    FormatError or DamageError if the header cannot be read, without which the rest means nothing; FormatError
    while iterating where a whole chunk says what this version does not know.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._source = Source(file)
        if not self._source.seekable:
            raise OSError("this file cannot seek: save it to disk to recover it")
        self.header = Header.read(self._source)
        self._start = self._source.position
        self._size = self._source.size()
        self._sums = Sums(self._source)
        self._timeline = Timeline(self.header)
        self._announced = self.header.samples
        # A file made to look like nothing but beginnings of chunks must not take for ever.
        self._patience = 16 * self._size + MAX_BODY

    @property
    def samples(self) -> int:
        """Samples per channel, at the original rate, up to the end of the last chunk given."""
        held = self._timeline.samples
        return held if self._announced is None else min(held, self._announced)

    def __iter__(self) -> Iterator[Chunk | Lost]:
        end = self._find_end()
        stop, whole = end.start if end else self._size, self._start  # whole: the end of the last good record
        for record in self._records(stop):
            if record.type == END:
                end = record
                break
            if record.type == CHUNK:
                chunk = Chunk.from_bytes(self.header, record.body)
                if self._timeline.begun and chunk.first_frame < self._timeline.next_frame:
                    continue  # it was here already
                if whole < record.start:
                    yield self._timeline.lost(whole, record.start, chunk.first_frame)
                elif gap := self._timeline.gap(chunk, record.start):
                    yield gap
                self._timeline.add(chunk)
                yield chunk
            whole = record.end
        yield from self._tail(whole, end)

    def _tail(self, whole: int, end: Record | None) -> Iterator[Lost]:
        """What is lost behind the last chunk."""
        if end is None:
            yield self._timeline.lost(whole, self._size, None, self._announced)
            return
        if self._announced is None:
            self._announced = End.from_record(end).samples
        if whole < end.start or self.samples != self._announced:
            yield self._timeline.lost(whole, end.start, None, self._announced)
        if end.end < self._size:
            yield self._timeline.lost(end.end, self._size, self._timeline.next_frame)

    def _find_end(self) -> Record | None:
        try:
            return find_end(self._source, self._start)
        except DamageError:
            return None

    def _records(self, stop: int) -> Iterator[Record]:
        position = self._start
        while position < stop:
            record = self._whole(position, stop) or self._scan(position + 1, stop)
            if record is None:
                return
            yield record
            position = record.end

    def _whole(self, position: int, stop: int) -> Record | None:
        self._source.seek(position)
        try:
            record = self._source.record()
        except DamageError:
            return None
        return record if record.end <= stop else None

    def _scan(self, position: int, stop: int) -> Record | None:
        """The next chunk from ``position`` on: what looks like one, has its length and its checksum."""
        head, size = head_bytes(self.header), _FIRST
        while position < stop:
            self._source.seek(position)
            block = self._source.read(size + head)
            self._patience -= head
            for match in _BEGINNING.finditer(block):
                if (at := match.start()) >= size:
                    break
                length = self._chunk_length(block, at, at + head)
                if length and position + at + length + 4 <= stop:
                    self._patience -= min(length, _SUM)
                    if self._may_be_whole(position + at, length) and (record := self._whole(position + at, stop)):
                        return record
                if self._patience < 0:
                    return None
            position, size = position + size, min(2 * size, _BLOCK)
        return None

    def _chunk_length(self, block: bytes, start: int, stop: int) -> int:
        """Bytes up to the checksum of the chunk that seems to begin at ``start``, 0 if it cannot be one.

        Of the block, what lies before ``stop`` decides.
        """
        fields = Fields(block[start + 1 : start + 11], "chunk")
        try:
            length = fields.varint()
        except FormatError:
            return 0
        body = start + 1 + fields.position
        fields = Fields(block[body : min(body + length, stop)], "chunk")
        fits = length <= MAX_BODY and plausible(self.header, fields, length)
        # Looking takes time for each stream and for each byte that may say what is range coded.
        self._patience -= _LOOK * (len(self.header.stream_codebooks) + fields.position)
        return body + length - start if fits else 0

    def _may_be_whole(self, start: int, length: int) -> bool:
        """Whether a long record that seems to begin at ``start`` has its checksum; a short one is simply read.

        Each byte is summed once, though every few bytes a record may seem to begin.
        """
        if length <= _SHORT:
            return True
        found = self._sums.stretch(start, start + length)
        self._source.seek(start + length)
        return self._source.read(4) == struct.pack("<I", found)
