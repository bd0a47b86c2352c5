"""Where chunks lie in time: their order, what is missing between them, how much sound they hold."""

from __future__ import annotations

from dataclasses import dataclass

from nac.container.chunk import Chunk
from nac.container.header import Header
from nac.errors import DamageError, FormatError


@dataclass(frozen=True)
class Lost:
    """Something that is missing from a file.

    ``first_byte`` to ``end_byte``: the damaged bytes; none if the file was written without the frames.
    ``first_frame`` to ``end_frame``: the frames missing; ``end_frame`` is None where it is not known how many
    followed. ``start`` and ``end``: the same in seconds of the output.
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
    """A time as people write it: ``0:40.0``, ``1:02:03.4``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


class Timeline:
    """The chunks of a file so far. ``next_frame`` is the one after the last, ``begun`` whether there were any."""

    def __init__(self, header: Header) -> None:
        self._header, self._spec = header, header.spec
        self._end = header.start * header.sample_rate // header.original_sample_rate  # in codec samples
        self.next_frame = self._spec.frame_at(self._end)
        self.begun = False

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk. Raises DamageError if it begins before the end of the last one."""
        if self.begun and chunk.first_frame < self.next_frame:
            raise DamageError(
                f"a chunk out of order: frame {chunk.first_frame} comes after frame {self.next_frame - 1}"
            )
        self.begun = True
        self.next_frame = chunk.first_frame + chunk.frames
        # The last frame of an overhang is the first of a segment that its number does not tell of.
        last = self.next_frame - (not chunk.overhang)
        self._end = self._spec.start(last) + self._header.frame_samples

    def gap(self, chunk: Chunk, position: int) -> Lost | None:
        """What is missing if ``chunk``, at byte ``position``, comes next in an undamaged file."""
        if self._spec.start(chunk.first_frame) <= self._end:
            return None
        return self.lost(position, position, chunk.first_frame)

    def lost(self, first_byte: int, end_byte: int, end_frame: int | None, samples: int | None = None) -> Lost:
        """What is missing from here to a frame, or to the end of ``samples``, or until nobody knows when."""
        start, end = self.seconds, None
        if end_frame is not None:
            end = max(self._seconds(self._spec.start(end_frame)), start)
        elif samples is not None:
            end = max(samples / self._header.original_sample_rate, start)
        return Lost(first_byte, end_byte, self.next_frame, end_frame, start, end)

    @property
    def samples(self) -> int:
        """Output samples up to the end of the last frame: those before it in time."""
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
    """A silent end, from ``next_frame`` on, for a recording whose last chunks are lost: so it keeps its length.

    Raises FormatError where no chunk can be at that place.
    """
    last = (header.start + samples - 1) * header.sample_rate // header.original_sample_rate
    unit, stride = header.segment or (1, header.frame_samples)
    segment, inner = divmod(last, stride)
    first, frames = segment * unit, 1 + inner // header.frame_samples
    if first < next_frame:  # that segment ends early: the next one begins where its rest would
        first, frames = first + unit, 1
    silent: tuple[tuple[bytes, ...], ...] = ((),) * len(header.stream_codebooks)
    chunk = Chunk(first, frames, silent, scales=((),) * len(silent) if header.has_scale else ())
    try:
        chunk.to_bytes(header)
    except ValueError as error:
        raise FormatError(f"a length of {samples} samples cannot be kept: {error}") from None
    return chunk
