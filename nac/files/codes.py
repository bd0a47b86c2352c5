"""Codes of a .nac file, of the frames of any part of it; needs no model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nac.container.chunk import Chunk
from nac.container.header import Header
from nac.container.reader import Reader
from nac.files.opening import check_growth, opened, sample_range
from nac.storage.output import PathOrFile

CodeArray = npt.NDArray[np.int32]
SILENT = -1
"""Marks frames in which a silent stream has no code."""


def read_codes(
    path: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    codebooks: int | None = None,
) -> list[list[CodeArray]]:
    """The codes of a .nac file, or of a part of it; needs no model. See :meth:`nac.NacFile.codes`.

    Parameters
    ----------
    path : path or binary file object
        The .nac file to read. A file object must be seekable.
    start : float
        Start, in seconds; the first frame is the one with this time.
    duration : float, optional
        Length to read, in seconds; by default up to the end.
    codebooks : int, optional
        The number of codebooks of each stream, from coarse to fine; by default all.

    Returns
    -------
    list of list of int32 array [frames * codes_per_frame]
        By stream and codebook. The value is -1 where a silent stream has no codes.

    Raises
    ------
    NacError
        If it is not a complete .nac file, or the start is after its end.

    Examples
    --------
    >>> import nac
    >>> codes = nac.read_codes("song.nac", start=1, duration=1)
    >>> len(codes), len(codes[0]), codes[0][0].shape
    (1, 8, (75,))
    """
    with opened(path) as reader:
        return codes_between(reader, start, duration, codebooks)


def codes_between(
    reader: Reader, start: float, duration: float | None, codebooks: int | None
) -> list[list[CodeArray]]:
    """The codes of the frames of a part of the recording, given in seconds: see :meth:`nac.NacFile.codes`."""
    sample_range(reader, start, duration)  # refuses what every function does
    header, high = reader.header, None
    if duration is not None and duration < (reader.samples or 0) / header.original_sample_rate:
        high = header.spec.frames(round((start + duration + _offset(header)) * header.sample_rate))
    return frame_codes(reader, frame_at(header, start), high, codebooks=codebooks)


def frame_at(header: Header, seconds: float) -> int:
    """The number of the frame with a time of the recording."""
    return header.spec.frame_at(round((seconds + _offset(header)) * header.sample_rate))


def _offset(header: Header) -> float:
    """Seconds from the start of frame 0 to the start of the recording."""
    return header.start / header.original_sample_rate


def frame_codes(
    reader: Reader, low: int, high: int | None = None, *, codebooks: int | None = None
) -> list[list[CodeArray]]:
    """The codes of the existing frames from number ``low`` up to ``high``, numbered as in chunks."""
    if codebooks is not None:
        reader.header.spec.check_codebooks(codebooks)
    header, index = reader.header, reader.index
    end_frame = None
    # The last chunk's end is only needed beyond its first frame.
    if high is None or not len(index) or high > index[len(index) - 1].first_frame:
        end_frame = _end_frame(reader)
        high = end_frame if high is None else min(high, end_frame)
        if high == end_frame and reader.damage is not None:
            raise reader.damage
    low = min(low, high)
    counts = [min(count, codebooks or count) for count in header.stream_codebooks]
    codes = sum(book.codes_per_frame for count in counts for book in header.codebooks[:count])
    if high == end_frame:
        check_growth(4 * (high - low) * codes, reader.size)
    out = [
        [np.full((high - low) * book.codes_per_frame, SILENT, np.int32) for book in header.codebooks[:count]]
        for count in counts
    ]
    for chunk, codes_there in Chunk.unpacked(header, _chunks(reader, low, high), counts):
        _copy(header, chunk, codes_there, out, low, high)
    return out


def _chunks(reader: Reader, low: int, high: int) -> Iterator[Chunk]:
    """The chunks with any of the frames ``low`` to ``high``, and perhaps one before them."""
    index = reader.index
    for number in range(index.find(low), len(index)):
        if index[number].first_frame >= high:
            return
        yield reader.chunk(number)


def _end_frame(reader: Reader) -> int:
    if not len(reader.index):
        return 0
    last = reader.chunk(len(reader.index) - 1)
    return last.next_frame


def _copy(
    header: Header,
    chunk: Chunk,
    codes: list[list[npt.NDArray[np.uint16]]],
    out: list[list[CodeArray]],
    low: int,
    high: int,
) -> None:
    """Copy a chunk's part of the frames ``low`` to ``high`` to its position."""
    first, last = max(low, chunk.first_frame), min(high, chunk.next_frame)
    if first >= last:  # the part begins where frames are missing
        return
    for arrays, found in zip(out, codes, strict=True):
        for array, row, (_, unit) in zip(arrays, found, header.codebooks, strict=False):
            part = row[(first - chunk.first_frame) * unit : (last - chunk.first_frame) * unit]
            array[(first - low) * unit : (last - low) * unit] = part
