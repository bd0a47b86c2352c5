"""What is in a .nac file, without a model: its header, its codes, and where they lie in time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nac.bitrate import total_kbps
from nac.container.chunk import MAX_FRAME_NUMBER, Chunk
from nac.container.header import SIGNATURE, VERSION, Header
from nac.container.reader import Reader
from nac.container.timeline import Lost, Timeline
from nac.errors import FormatError, NacError
from nac.storage.output import PathOrFile, name_of

CodeArray = npt.NDArray[np.int32]
SILENT = -1
"""Stands for a code where a stream is silent and has none."""


def stream_of(file: PathOrFile) -> AbstractContextManager[BinaryIO]:
    """What is read from: a path opened, a file object as it is. Raises NacError where it cannot be opened."""
    if not isinstance(file, (str, os.PathLike)):
        return nullcontext(file)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise NacError(f"cannot be read: {error.strerror or error}") from None


@contextmanager
def opened(file: PathOrFile) -> Iterator[Reader]:
    """A reader for a path or a binary file object. Raises NacError where it cannot be read."""
    with stream_of(file) as stream:
        yield Reader(stream)


def check_stretch(start: float, duration: float | None) -> None:
    """Raise NacError unless these are a start and a duration, in seconds; the duration may be infinite."""
    if not 0 <= start < math.inf or (duration is not None and not duration >= 0):
        raise NacError(f"no stretch of time: start {start}, duration {duration}")


def sample_range(reader: Reader, start: float, duration: float | None) -> tuple[int, int | None]:
    """First sample wanted and the one after the last (None: the end, not known yet), at the original rate.

    Raises NacError where the start lies behind the end.
    """
    rate = reader.header.original_sample_rate
    check_stretch(start, duration)
    if duration == math.inf:
        duration = None
    low = round(start * rate)
    high = None if duration is None else low + round(duration * rate)
    if reader.samples is not None:
        if low > reader.samples:
            raise NacError(f"starts after the end: {start:g} s of {reader.samples / rate:.3f} s")
        high = reader.samples if high is None else min(high, reader.samples)
    return low, high


def check_growth(grown: int, size: int) -> None:
    """Raise NacError where so few bytes of a file, ``size``, would become so many: nothing but silence does.

    Without that, a hundred bytes could fill any disk.
    """
    if grown > max(_ALWAYS, _GROWTH * size):
        raise NacError(
            f"{size} bytes would become {grown / 1e9:.3g} GB, nearly all silent; a duration gives a part of it"
        )


_ALWAYS, _GROWTH = 1 << 26, 1_000_000  # bytes; a silent chunk of ten seconds, six channels at 96 kHz, takes 13


@dataclass(frozen=True)
class Info:
    """What a .nac file holds; the fields of `nac info --json`.

    ``sample_rate`` (Hz), ``channels`` and ``samples`` (per channel) are those of the recording. ``codebooks``: the
    count of each stream. ``kbps``: kbit/s of the codes, packed; ``actual_kbps``: of the file. ``coding``:
    "range" if any codes are range coded, else "packed"; ``saved``: the part of the codes' bytes that this saves.
    ``complete``: whether the file has its end; ``samples`` and ``seconds`` of one that has not are those of the
    chunks it has. ``damage``: what is wrong with its bytes, or nothing; ``lost``: the sound that a file which was
    recovered from a damaged one has no more, in words.
    """

    path: str
    version: int
    model: str
    fingerprint: str
    sample_rate: int
    channels: int
    samples: int
    seconds: float
    streams: int
    codebooks: list[int]
    kbps: float
    actual_kbps: float
    bytes: int
    chunks: int
    coding: str
    saved: float
    tags: dict[str, str]
    complete: bool
    damage: str
    lost: list[str]


class NacFile:
    """A .nac file open for reading, as :func:`nac.open` gives it. Close it, or use it in a `with` statement.

    It is given as a path, or as a binary file object that can seek, which stays open. ``header`` says what the
    file is. Codes are read where they lie: any part of a long file in the same time.
    """

    def __init__(self, file: PathOrFile) -> None:
        self.path = name_of(file)
        with ExitStack() as stack:
            self._file = stack.enter_context(stream_of(file))
            self._reader = Reader(self._file)
            self._open = stack.pop_all()
        self.header: Header = self._reader.header

    def __enter__(self) -> NacFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self._reader.index)

    def chunk(self, number: int) -> Chunk:
        """One chunk, checked. Raises DamageError."""
        return self._reader.chunk(number)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._reader.size

    @property
    def samples(self) -> int:
        """Samples per channel of the recording."""
        return self._reader.samples or 0

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.samples / self.header.original_sample_rate

    @property
    def complete(self) -> bool:
        """Whether the file has its end; one that was cut has not."""
        return self._reader.complete

    def codes(
        self, *, start: float = 0.0, duration: float | None = None, codebooks: int | None = None
    ) -> list[list[CodeArray]]:
        """Codes of the frames that hold a stretch of the recording, in seconds: int32 arrays [stream][codebook].

        All frames by default; at most ``codebooks`` codebooks of each stream. Where a stream is silent and has no
        codes, and where frames were lost, the value is -1.
        """
        check_stretch(start, duration)
        header, spec = self.header, self.header.spec
        low = spec.frame_at(round((start + self._offset) * header.sample_rate))
        high = None
        if duration is not None and duration < self.seconds:
            high = spec.frames(round((start + duration + self._offset) * header.sample_rate))
        return self.frame_codes(low, high, codebooks=codebooks)

    def frame_codes(
        self, low: int, high: int | None = None, *, codebooks: int | None = None
    ) -> list[list[CodeArray]]:
        """The same for the frames from number ``low`` up to ``high``, of those there are; numbers as in chunks."""
        if codebooks is not None:
            self.header.spec.check_codebooks(codebooks)
        header, index = self.header, self._reader.index
        end_frame = None
        # Only what reaches beyond its first frame needs the last chunk's end.
        if high is None or not len(index) or high > index[len(index) - 1].first_frame:
            end_frame = self._end_frame()
            high = end_frame if high is None else min(high, end_frame)
            if high == end_frame and self._reader.damage is not None:
                raise self._reader.damage
        low = min(low, high)
        counts = [min(count, codebooks or count) for count in header.stream_codebooks]
        codes = sum(book.codes_per_frame for count in counts for book in header.codebooks[:count])
        if high == end_frame:
            check_growth(4 * (high - low) * codes, self._reader.size)
        out = [
            [np.full((high - low) * book.codes_per_frame, SILENT, np.int32) for book in header.codebooks[:count]]
            for count in counts
        ]
        for chunk, codes_there in Chunk.unpacked(header, self._chunks(low, high), counts):
            self._copy(chunk, codes_there, out, low, high)
        return out

    def _chunks(self, low: int, high: int) -> Iterator[Chunk]:
        """Those with any of the frames ``low`` to ``high``, and perhaps one before them."""
        index = self._reader.index
        for number in range(index.find(low), len(index)):
            if index[number].first_frame >= high:
                return
            yield self.chunk(number)

    @property
    def frames(self) -> range:
        """The numbers of the frames that hold the recording."""
        header, spec = self.header, self.header.spec
        end = -(-(header.start + self.samples) * header.sample_rate // header.original_sample_rate)
        first = spec.frame_at(header.start * header.sample_rate // header.original_sample_rate)
        return range(first, min(spec.frames(end), MAX_FRAME_NUMBER))

    @property
    def _offset(self) -> float:
        """Seconds from the start of frame 0 to the start of the recording."""
        return self.header.start / self.header.original_sample_rate

    def _end_frame(self) -> int:
        if not len(self):
            return 0
        last = self.chunk(len(self) - 1)
        return last.first_frame + last.frames

    def _copy(
        self,
        chunk: Chunk,
        codes: list[list[npt.NDArray[np.uint16]]],
        out: list[list[CodeArray]],
        low: int,
        high: int,
    ) -> None:
        """Put a chunk's part of the frames ``low`` to ``high`` where it belongs."""
        first, last = max(low, chunk.first_frame), min(high, chunk.next_frame)
        if first >= last:  # what is wanted begins where frames are missing
            return
        for arrays, found in zip(out, codes, strict=True):
            for array, row, (_, unit) in zip(arrays, found, self.header.codebooks, strict=False):
                part = row[(first - chunk.first_frame) * unit : (last - chunk.first_frame) * unit]
                array[(first - low) * unit : (last - low) * unit] = part

    def info(self) -> Info:
        """The fields of `nac info --json`."""
        header, size, found = self.header, self._reader.size, self._survey()
        return Info(
            path=self.path,
            version=VERSION,
            model=header.model,
            fingerprint=header.fingerprint,
            sample_rate=header.original_sample_rate,
            channels=header.channels,
            samples=self.samples,
            seconds=self.seconds,
            streams=len(header.stream_codebooks),
            codebooks=list(header.stream_codebooks),
            kbps=round(total_kbps(header.spec, header.stream_codebooks), 6),
            actual_kbps=round(size * 8 / 1000 / self.seconds, 3) if self.samples else 0.0,
            bytes=size,
            chunks=len(self),
            coding="range" if found.coded < found.packed else "packed",
            saved=round(1 - found.coded / found.packed, 4) if found.packed else 0.0,
            tags=_joined(header.tags),
            complete=self.complete,
            damage=found.damage,
            lost=[str(gap) for gap in found.gaps],
        )

    def _survey(self) -> _Survey:
        """Look at every chunk."""
        found, timeline, whole = _Survey(), Timeline(self.header), True
        for number in range(len(self)):
            try:
                chunk = self.chunk(number)
            except FormatError as error:
                found.damage, whole = found.damage or str(error), False
                continue
            for now, before in chunk.sizes(self.header):
                found.coded, found.packed = found.coded + now, found.packed + before
            # What lies before is missing because it is damaged, if that is so.
            if whole and (gap := timeline.gap(chunk, self._reader.index[number].offset)):
                found.gaps.append(gap)
            timeline.add(chunk)
            whole = True
        if not found.damage and self._reader.damage is not None:
            found.damage = str(self._reader.damage)
        return found


@dataclass
class _Survey:
    """``coded`` and ``packed``: bytes of all codes, as they are and packed, in the chunks that are whole;
    ``gaps``: sound that the file was written without; ``damage``: what is wrong with it, as far as was seen.
    """

    coded: int = 0
    packed: int = 0
    gaps: list[Lost] = field(default_factory=list)
    damage: str = ""


def _joined(tags: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Tags by their keys; values of one key are joined."""
    found: dict[str, str] = {}
    for key, value in tags:
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found


def is_nac(path: Path) -> bool:
    """Whether a file begins like a .nac file."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return True  # to be tried, and reported


def info(file: PathOrFile) -> Info:
    """What a .nac file holds; needs no model.

    Parameters
    ----------
    file : path or binary file object
        A .nac file; a file object has to be able to seek.

    Returns
    -------
    Info
        The fields of `nac info --json`.

    Raises
    ------
    NacError
        If it is not a .nac file, or is damaged.

    Examples
    --------
    >>> import nac
    >>> nac.info("song.nac").model
    'nac_24khz'
    """
    with NacFile(file) as opened_file:
        return opened_file.info()


def read_codes(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    duration: float | None = None,
    codebooks: int | None = None,
) -> list[list[CodeArray]]:
    """The codes of a .nac file, or of a part of it; needs no model. See :meth:`NacFile.codes`.

    Parameters
    ----------
    path : path
        The .nac file to read.
    start : float
        Where to begin, in seconds; the frame that holds this is the first.
    duration : float, optional
        How much to read, in seconds; by default up to the end.
    codebooks : int, optional
        The most codebooks of each stream, coarse to fine; by default all.

    Returns
    -------
    list of list of int32 array [frames * codes_per_frame]
        By stream and codebook. -1 stands where a stream is silent and has no codes.

    Raises
    ------
    NacError
        If it is not a whole .nac file.

    Examples
    --------
    >>> import nac
    >>> codes = nac.read_codes("song.nac", start=1, duration=1)
    >>> len(codes), len(codes[0]), codes[0][0].shape
    (1, 8, (75,))
    """
    with NacFile(path) as file:
        return file.codes(start=start, duration=duration, codebooks=codebooks)
