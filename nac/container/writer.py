"""Write a .nac file in one pass."""

from __future__ import annotations

from typing import BinaryIO

from nac.container.chunk import Chunk
from nac.container.header import Header
from nac.container.index import End, Entry, Index
from nac.container.records import CHUNK, frame
from nac.container.timeline import Timeline, silent_end
from nac.errors import DamageError
from nac.streams import write_all


class Writer:
    """Writes the header at once, then chunks in order, then the end. The file needs neither seek nor read.

    ``bytes_written`` includes the header. A failed write (a full disk) raises OSError.
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file, self._header = file, header
        self._timeline, self._index = Timeline(header), Index()
        self.bytes_written = 0
        self._write(header.to_bytes())

    @property
    def samples(self) -> int:
        """Samples per channel, at the original rate, up to the end of the last frame written."""
        return self._timeline.samples

    def write(self, chunk: Chunk) -> None:
        """Write a chunk; frames between it and the last one count as lost.

        Raises ValueError if it does not fit the header or starts before the end of the last chunk, FormatError if
        it is too long.
        """
        record = frame(CHUNK, chunk.to_bytes(self._header))
        try:
            self._timeline.add(chunk)
        except DamageError as error:
            raise ValueError(str(error)) from None
        self._index.append(Entry(self.bytes_written, chunk.first_frame))
        self._write(record)

    def extend(self, samples: int) -> None:
        """Add a silent chunk if the frames have fewer than ``samples`` samples because the last chunks are lost.

        Raises FormatError if no chunk can have this position.
        """
        if self.samples < samples:
            self.write(silent_end(self._header, samples, self._timeline.next_frame))

    def finish(self, samples: int) -> None:
        """Write the end; the file stays open. ``samples``: per channel, at the original rate.

        Raises ValueError if it differs from the header, or if the frames have fewer samples.
        """
        known = self._header.samples
        if known not in (None, samples):
            raise ValueError(f"{samples} samples, but the header has {known}")
        if not 0 <= samples <= self.samples:
            raise ValueError(f"{samples} samples, but the frames have {self.samples}")
        self._write(End(samples if known is None else None, self._index.to_bytes()).to_bytes())

    def _write(self, data: bytes) -> None:
        self.bytes_written += len(data)
        write_all(self._file, data)
