"""The time positions of chunks: their order, the gaps between them, and their length in samples."""

from __future__ import annotations

from dataclasses import dataclass

from nac.container.chunk import Chunk
from nac.container.header import Header
from nac.errors import DamageError, FormatError


@dataclass(frozen=True)
class Lost:
    """A part that is missing from a file.

    ``first_byte`` to ``end_byte``: the damaged bytes; none if the file was written without these frames.
    ``first_frame`` to ``end_frame``: the missing frames; ``end_frame`` is None if it is unknown how many followed.
    ``start`` and ``end``: the same in seconds of the output.
    """

    first_byte: int
    end_byte: int
    first_frame: int
    end_frame: int | None
    start: float
    end: float | None

    def __str__(self) -> str:
        until = "the end" if self.end is None else clock(self.end)
        time = "no sound lost" if self.start == self.end else f"{clock(self.start)}-{until} lost"
        return time + (
            f" (bytes {self.first_byte} to {self.end_byte - 1})" if self.end_byte > self.first_byte else ""
        )


def clock(seconds: float) -> str:
    """Format a time as ``0:40.0`` or ``1:02:03.4``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


class Timeline:
    """The chunks added so far. ``next_frame``: the frame after the last; ``begun``: whether there were any."""

    def __init__(self, header: Header) -> None:
        self._header, self._spec = header, header.spec
        self._end = header.start * header.sample_rate // header.original_sample_rate  # in codec samples
        self.next_frame = self._spec.frame_at(self._end)
        self.begun = False

    def add(self, chunk: Chunk) -> None:
        """Add the next chunk. Raises DamageError if it starts before the end of the last one."""
        if self.begun and chunk.first_frame < self.next_frame:
            raise DamageError(
                f"a chunk is out of order: frame {chunk.first_frame} comes after frame {self.next_frame - 1}"
            )
        self.begun = True
        self.next_frame = chunk.first_frame + chunk.frames
        self._end = self._spec.end(self.next_frame, overhang=chunk.overhang)

    def gap(self, chunk: Chunk, position: int) -> Lost | None:
        """Return what is missing before ``chunk``, at byte ``position`` of an undamaged file, or None."""
        if self._spec.start(chunk.first_frame) <= self._end:
            return None
        return self.lost(position, position, chunk.first_frame)

    def lost(self, first_byte: int, end_byte: int, end_frame: int | None, samples: int | None = None) -> Lost:
        """Describe what is missing from here up to ``end_frame``, else to the end of ``samples`` if known."""
        start, end = self.seconds, None
        if end_frame is not None:
            end = max(self._seconds(self._spec.start(end_frame)), start)
        elif samples is not None:
            end = max(samples / self._header.original_sample_rate, start)
        return Lost(first_byte, end_byte, self.next_frame, end_frame, start, end)

    @property
    def samples(self) -> int:
        """Output samples per channel up to the end of the last frame."""
        header = self._header
        reached = -(-self._end * header.original_sample_rate // header.sample_rate) - header.start
        return max(reached, 0) * self.begun

    @property
    def seconds(self) -> float:
        """Time of the output at the end of the last frame."""
        return self._seconds(self._end)

    def _seconds(self, sample: int) -> float:
        return max(sample / self._header.sample_rate - self._header.start / self._header.original_sample_rate, 0)


def silent_end(header: Header, samples: int, next_frame: int) -> Chunk:
    """Make a silent last chunk, from ``next_frame`` on, so that a recording keeps its length of ``samples``.

    It is needed if the last chunks are lost. Raises FormatError if no chunk can have this position.
    """
    last = (header.start + samples - 1) * header.sample_rate // header.original_sample_rate
    unit, stride = header.segment or (1, header.frame_samples)
    segment, inner = divmod(last, stride)
    first, frames = segment * unit, 1 + inner // header.frame_samples
    if first < next_frame:  # this segment is cut short: use the next one, which starts within it
        first, frames = first + unit, 1
    silent: tuple[tuple[bytes, ...], ...] = ((),) * len(header.stream_codebooks)
    chunk = Chunk(first, frames, silent, scales=((),) * len(silent) if header.has_scale else ())
    try:
        chunk.to_bytes(header)
    except ValueError as error:
        raise FormatError(f"cannot keep the length of {samples} samples: {error}") from None
    return chunk
