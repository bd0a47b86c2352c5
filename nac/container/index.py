"""The end record, and the index of chunks that it contains."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from nac.container.fields import Fields, varint
from nac.container.records import END, Record, RecordReader, frame
from nac.errors import DamageError, FormatError

_MIN_END = 11


class Entry(NamedTuple):
    """One chunk: the byte offset of its record in the file, and its first frame."""

    offset: int
    first_frame: int


class Index:
    """A sequence of :class:`Entry`, one per chunk, stored compactly."""

    def __init__(self) -> None:
        self._offsets, self._frames = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, chunk: int) -> Entry:
        return Entry(self._offsets[chunk], self._frames[chunk])

    def append(self, entry: Entry) -> None:
        self._offsets.append(entry.offset)
        self._frames.append(entry.first_frame)

    def find(self, frame: int) -> int:
        """Return the number of the chunk with ``frame``, else of the last chunk before it, else 0."""
        return max(bisect_right(self._frames, frame) - 1, 0)

    def to_bytes(self) -> bytes:
        """Return the distances from each chunk to the next, first in bytes, then in frames."""
        steps = bytearray()
        for i in range(1, len(self)):
            steps += varint(self._offsets[i] - self._offsets[i - 1])
            steps += varint(self._frames[i] - self._frames[i - 1])
        return bytes(steps)

    @classmethod
    def from_bytes(cls, first: Entry, steps: bytes) -> Index:
        """Parse what :meth:`to_bytes` returns, starting from the first chunk."""
        index, fields = cls(), Fields(steps, "index")
        offset, frame_number = first
        index.append(first)
        while fields.position < len(steps):
            step, frames = fields.varint(), fields.varint()
            offset, frame_number = offset + step, frame_number + frames
            if not step or not frames or offset >> 63 or frame_number >> 63:
                raise FormatError("index: a chunk is out of order or out of range")
            index.append(Entry(offset, frame_number))
        return index


@dataclass(frozen=True)
class End:
    """The last record: ``samples`` per channel, None if only the header has it, and the bytes of the index."""

    samples: int | None
    index: bytes

    def to_bytes(self) -> bytes:
        """Return the complete record."""
        body = varint(0 if self.samples is None else self.samples + 1) + self.index
        record = frame(END, body + bytes(4))
        return frame(END, body + struct.pack("<I", len(record)))

    @classmethod
    def from_record(cls, record: Record) -> End:
        fields = Fields(record.body, "end")
        samples = fields.varint() - 1
        index = fields.take(max(len(record.body) - fields.position - 4, 0))
        if fields.take(4) != struct.pack("<I", record.end - record.start):
            raise FormatError("end: its length field does not match its length")
        return cls(None if samples < 0 else samples, index)


def find_end(source: RecordReader, start: int) -> Record:
    """Read the end record of a seekable file. ``start``: the offset of the first record.

    Raises DamageError if the file does not end with an end record.
    """
    size = source.size()
    source.seek(max(size - 8, 0))
    distance = int.from_bytes(source.read(8)[:4], "little")
    if _MIN_END <= distance <= size - start:
        source.seek(size - distance)
        record = source.record()
        if record.type == END and record.end == size:
            return record
    raise DamageError("the end of the file is missing or damaged")
