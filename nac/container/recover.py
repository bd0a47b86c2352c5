"""Recover the undamaged chunks of a damaged file."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from nac.container.checksums import Checksums
from nac.container.chunk import Chunk
from nac.container.chunk_head import head_bytes, plausible
from nac.container.fields import Fields
from nac.container.header import Header
from nac.container.index import End, find_end
from nac.container.records import CHUNK, END, MAX_BODY, Record, RecordReader
from nac.container.timeline import Lost, Timeline
from nac.errors import DamageError, FormatError

_FIRST_BLOCK, _MAX_BLOCK = 1 << 12, 1 << 20  # bytes that are searched at a time; the block size doubles
_SHORT = 1 << 16  # up to this many bytes, reading a record is faster than the combined checksums
# The cost of an operation, as the number of bytes that could be read in the same time:
_CHECKSUM_COST = 1 << 12
_FIELD_COST = 16
# The start of a chunk: type, length, first frame, frames, form. The lookahead also finds overlapping matches.
_CHUNK_START = re.compile(
    rb"(?=C[\x80-\xff]{0,3}[\x00-\x7f][\x80-\xff]{0,5}[\x00-\x7f][\x80-\xff]{0,2}[\x00-\x7f][\x00-\x3f])"
)


class Recovery:
    """Iterates over the undamaged chunks of a seekable file and, between them, over what is lost.

    To write a new file, use the header without its ``samples`` and, at the end, the ``samples`` of this object.
    The constructor raises FormatError or DamageError if the header cannot be read: without it, nothing can be
    decoded. Iterating raises FormatError if an undamaged chunk is of a kind that this version does not know.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._source = RecordReader(file)
        if not self._source.seekable:
            raise OSError("the file is not seekable: save it to disk to recover it")
        self.header = Header.read(self._source)
        self._start = self._source.position
        self._size = self._source.size()
        self._checksums = Checksums(self._source)
        self._timeline = Timeline(self.header)
        self._declared_samples = self.header.samples
        # Limits the time for a file that was made to look like starts of chunks everywhere.
        self._budget = 16 * self._size + MAX_BODY

    @property
    def samples(self) -> int:
        """Samples per channel, at the original rate, up to the end of the last chunk yielded."""
        samples = self._timeline.samples
        return samples if self._declared_samples is None else min(samples, self._declared_samples)

    def __iter__(self) -> Iterator[Chunk | Lost]:
        end = self._find_end()
        stop, intact_end = end.start if end else self._size, self._start  # intact_end: of the last intact record
        for record in self._records(stop):
            if record.type == END:
                end = record
                break
            if record.type == CHUNK:
                chunk = Chunk.from_bytes(self.header, record.body)
                if self._timeline.begun and chunk.first_frame < self._timeline.next_frame:
                    continue  # a duplicate
                if intact_end < record.start:
                    yield self._timeline.lost(intact_end, record.start, chunk.first_frame)
                elif gap := self._timeline.gap(chunk, record.start):
                    yield gap
                self._timeline.add(chunk)
                yield chunk
            intact_end = record.end
        yield from self._tail(intact_end, end)

    def _tail(self, intact_end: int, end: Record | None) -> Iterator[Lost]:
        """Yield what is lost after the last chunk."""
        if end is None:
            yield self._timeline.lost(intact_end, self._size, None, self._declared_samples)
            return
        if self._declared_samples is None:
            self._declared_samples = End.from_record(end).samples
        if intact_end < end.start or self.samples != self._declared_samples:
            yield self._timeline.lost(intact_end, end.start, None, self._declared_samples)
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
            record = self._intact(position, stop) or self._scan(position + 1, stop)
            if record is None:
                return
            yield record
            position = record.end

    def _intact(self, position: int, stop: int) -> Record | None:
        """Return the record at ``position``, or None if it is damaged or ends after ``stop``."""
        self._source.seek(position)
        try:
            record = self._source.record()
        except DamageError:
            return None
        return record if record.end <= stop else None

    def _scan(self, position: int, stop: int) -> Record | None:
        """Search for the next chunk from ``position`` on: plausible fields, and a correct checksum."""
        head, size = head_bytes(self.header), _FIRST_BLOCK
        while position < stop:
            self._source.seek(position)
            block = self._source.read(size + head)
            self._budget -= head
            for match in _CHUNK_START.finditer(block):
                if (at := match.start()) >= size:
                    break
                length = self._chunk_length(block, at, at + head)
                if length and position + at + length + 4 <= stop:
                    self._budget -= min(length, _CHECKSUM_COST)
                    if self._may_be_intact(position + at, length):
                        record = self._intact(position + at, stop)
                        if record:
                            return record
                if self._budget < 0:
                    return None
            position, size = position + size, min(2 * size, _MAX_BLOCK)
        return None

    def _chunk_length(self, block: bytes, start: int, stop: int) -> int:
        """Return the length, without checksum, of a possible chunk at ``start``, or 0 if there cannot be one.

        Only the bytes of the block before ``stop`` are considered.
        """
        fields = Fields(block[start + 1 : start + 11], "chunk")
        try:
            length = fields.varint()
        except FormatError:
            return 0
        body = start + 1 + fields.position
        fields = Fields(block[body : min(body + length, stop)], "chunk")
        fits = length <= MAX_BODY and plausible(self.header, fields, length)
        # The time depends on the number of streams and on the length of the list of range-coded layers.
        self._budget -= _FIELD_COST * (len(self.header.stream_codebooks) + fields.position)
        return body + length - start if fits else 0

    def _may_be_intact(self, start: int, length: int) -> bool:
        """Return whether a possible long record at ``start`` has the right checksum; True for a short one.

        Checksums of byte ranges are combined, so each byte is read once even if there are many possible records.
        """
        if length <= _SHORT:
            return True
        found = self._checksums.between(start, start + length)
        self._source.seek(start + length)
        return self._source.read(4) == struct.pack("<I", found)
