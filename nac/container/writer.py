"""Writing a .nac file in one pass."""

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
    """Writes the header at once, then chunks in order, then the end. The file is only ever written to.

    ``bytes_written`` counts from the header on. Writing in vain (a full disk) raises OSError as usual.
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
        """Add a chunk; frames left out since the last one count as lost.

        Raises ValueError if it does not fit the header or comes before the end of the last chunk, FormatError if
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
        """Add a silent chunk where the frames hold fewer samples, as they do where the last chunks are lost.

        Raises FormatError where no chunk can be at that place.
        """
        if self.samples < samples:
            self.write(silent_end(self._header, samples, self._timeline.next_frame))

    def finish(self, samples: int) -> None:
        """End the file; it stays open. ``samples``: per channel, at the original rate.

        Raises ValueError if that is not what the header says, or more than the frames hold.
        """
        known = self._header.samples
        if known not in (None, samples):
            raise ValueError(f"{samples} samples where the header says {known}")
        if not 0 <= samples <= self.samples:
            raise ValueError(f"{samples} samples where the frames hold {self.samples}")
        self._write(End(samples if known is None else None, self._index.to_bytes()).to_bytes())

    def _write(self, data: bytes) -> None:
        self.bytes_written += len(data)
        write_all(self._file, data)
