"""Read a .nac file: in order from any readable file, in any order from a seekable one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from nac.container.chunk import Chunk
from nac.container.fields import Fields
from nac.container.header import Header
from nac.container.index import End, Entry, Index, find_end
from nac.container.records import CHUNK, END, Record, RecordReader
from nac.container.timeline import Lost, Timeline, clock
from nac.errors import DamageError, FormatError


class Reader:
    """Reads a .nac file: the header at once, the rest on demand.

    ``gaps``: the audio that an undamaged file does not contain, as found by :meth:`chunks`. The constructor and
    all methods raise FormatError if it is not a .nac file or this version cannot read it, and DamageError if its
    bytes have changed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._source = RecordReader(file)
        try:
            self.header = Header.read(self._source)
        except DamageError as error:
            error.remedy = ""  # without the header, nothing can be recovered
            raise
        self.gaps: list[Lost] = []
        self._start = self._source.position
        self._samples: int | None = None
        self._complete = False
        self._index: Index | None = None
        self._damage: FormatError | None = None

    @property
    def seekable(self) -> bool:
        """Whether the file is seekable, so that chunks can be read in any order."""
        return self._source.seekable

    @property
    def size(self) -> int:
        """Bytes of a seekable file, from its initial position on; for others, the bytes read so far."""
        return self._source.size() if self.seekable else self._source.position

    @property
    def samples(self) -> int | None:
        """Samples per channel at the original rate; None until the header or the end has been read that has it."""
        if self.header.samples is not None:
            return self.header.samples
        self._load_index()
        return self._samples

    @property
    def complete(self) -> bool:
        """Whether the file has an undamaged end; for a file that is not seekable, whether it has been read."""
        self._load_index()
        return self._complete

    @property
    def damage(self) -> FormatError | None:
        """The error that ends the index of an incomplete file."""
        self._load_index()
        return self._damage

    @property
    def index(self) -> Index:
        """The index of all chunks, or, in an incomplete file, of those before the first damage.

        Raises OSError if the file is not seekable.
        """
        self._load_index()
        if self._index is None:
            raise OSError("the file is not seekable: its chunks can only be read in order")
        return self._index

    def chunks(self, first: int = 0) -> Iterator[Chunk]:
        """Yield the chunks in order, each after verifying its checksum.

        ``first``: number of the first chunk; must be 0 if the file is not seekable. After the last chunk, the end
        is compared with all that was read, so reading to the end without an error means that nothing is missing or
        changed. A file that is not seekable can be read only once.
        """
        if first:
            for number in range(first, len(self.index)):
                yield self.chunk(number)
            if self._damage is not None:
                raise self._damage
            return
        self.gaps = []
        for _, chunk, gap in self._walk():
            if gap:
                self.gaps.append(gap)
            yield chunk

    def chunk(self, number: int) -> Chunk:
        """Read chunk ``number`` of the index, in constant time. Raises OSError if the file is not seekable."""
        entry = self.index[number]
        self._source.seek(entry.offset)
        record = self._record(self.header.spec.start(entry.first_frame) / self.header.sample_rate)
        if record.type != CHUNK or (chunk := self._parse(record)).first_frame != entry.first_frame:
            raise DamageError(f"the index does not agree with the chunk at byte {entry.offset}")
        if number + 1 < len(self.index) and record.end > self.index[number + 1].offset:
            raise DamageError(f"the index lists a chunk within the chunk at byte {entry.offset}")
        return chunk

    def _walk(self) -> Iterator[tuple[Entry, Chunk, Lost | None]]:
        timeline, index, position = Timeline(self.header), Index(), self._start
        while True:
            self._source.seek(position)
            record = self._record(timeline.seconds)
            position = record.end
            if record.type == END:
                return self._finish(record, timeline, index)
            if record.type == CHUNK:
                chunk = self._parse(record)
                gap = timeline.gap(chunk, record.start)
                timeline.add(chunk)
                entry = Entry(record.start, chunk.first_frame)
                index.append(entry)
                yield entry, chunk, gap

    def _finish(self, record: Record, timeline: Timeline, index: Index) -> None:
        end = End.from_record(record)
        self._take_samples(end)
        if end.index != index.to_bytes():
            raise DamageError("the index at the end does not agree with the chunks: some are missing or added")
        if (self._samples or 0) > timeline.samples:
            raise DamageError(f"{self._samples} samples declared, but the frames have {timeline.samples}")
        if self._source.read(1):
            raise DamageError(f"extra bytes after the end, from byte {record.end} on")
        self._complete = True

    def _take_samples(self, end: End) -> None:
        known = self.header.samples
        if end.samples is None and known is None:
            raise FormatError("neither the header nor the end contains the number of samples")
        if end.samples is not None and known not in (None, end.samples):
            raise FormatError(f"{known} samples according to the header, {end.samples} according to the end")
        self._samples = end.samples if known is None else known

    def _load_index(self) -> None:
        """Load the index, once: from the end of the file or, if that is damaged, by reading all chunks."""
        if self._index is not None or not self._source.seekable:
            return
        try:
            self._index = self._stored_index()
            self._complete = True
        except FormatError as error:
            self._index, self._damage, self._complete = Index(), error, False
            try:
                for entry, _, _ in self._walk():
                    self._index.append(entry)
            except FormatError as damage:
                self._damage = damage

    def _stored_index(self) -> Index:
        end = End.from_record(find_end(self._source, self._start))
        self._source.seek(self._start)
        while (record := self._record(0.0)).type not in (CHUNK, END):
            pass
        index = Index()
        if record.type == CHUNK:
            first = Entry(record.start, Fields(record.body, "chunk").varint())
            index = Index.from_bytes(first, end.index)
        self._take_samples(end)
        return index

    def _record(self, seconds: float) -> Record:
        try:
            return self._source.record()
        except DamageError as error:
            raise DamageError(f"{error}, at {clock(seconds)}") from None

    def _parse(self, record: Record) -> Chunk:
        try:
            return Chunk.from_bytes(self.header, record.body)
        except FormatError as error:
            raise FormatError(f"{error} (at byte {record.start})") from None
