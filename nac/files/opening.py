"""Opening .nac files, and checking start and duration."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from nac.container.header import SIGNATURE
from nac.container.reader import Reader
from nac.errors import ArgumentError, NacError, file_error
from nac.storage.output import PathOrFile, check_file


def stream_of(file: PathOrFile) -> AbstractContextManager[BinaryIO]:
    """A file object for a path, or the given file object. Raises NacError if it cannot be opened."""
    if not isinstance(file, (str, os.PathLike)):
        check_file(file, "read")
        return nullcontext(file)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise file_error(error, "cannot be read") from None


def is_nac(path: Path) -> bool:
    """Whether a file begins like a .nac file."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return True  # let reading it report the error


@contextmanager
def opened(file: PathOrFile) -> Iterator[Reader]:
    """A reader for a path or a binary file object. Raises NacError if it cannot be read."""
    with stream_of(file) as stream:
        yield Reader(stream)


def check_stretch(start: float, duration: float | None) -> None:
    """Raise NacError unless start and duration (seconds) are valid; the duration may be infinite."""
    if not 0 <= start < math.inf or (duration is not None and not duration >= 0):
        raise ArgumentError(f"invalid part: start {start}, duration {duration}")


def sample_range(reader: Reader, start: float, duration: float | None) -> tuple[int, int | None]:
    """The first sample and one past the last (None: the end, still unknown), at the original rate.

    Raises NacError if the start is after the end.
    """
    rate = reader.header.original_sample_rate
    check_stretch(start, duration)
    if duration == math.inf:
        duration = None
    low = round(start * rate)
    high = None if duration is None else low + round(duration * rate)
    if reader.samples is not None:
        check_start(reader, low)
        high = reader.samples if high is None else min(high, reader.samples)
    return low, high


def check_start(reader: Reader, low: int) -> None:
    """Raise NacError if sample ``low``, at the original rate, is after the end, as far as that is known."""
    if reader.samples is not None and low > reader.samples:
        rate = reader.header.original_sample_rate
        raise ArgumentError(f"starts after the end: {low / rate:g} s of {reader.samples / rate:.3f} s")


def check_growth(grown: int, size: int) -> None:
    """Raise NacError if a file of ``size`` bytes would become implausibly large, as only silence can.

    Otherwise a hundred bytes could fill any disk.
    """
    if grown > max(_ALWAYS, _GROWTH * size):
        raise NacError(
            f"{size} bytes would become {grown / 1e9:.3g} GB, nearly all silence; give a duration to decode a part"
        )


_ALWAYS, _GROWTH = 1 << 26, 1_000_000  # bytes; a silent chunk of ten seconds, six channels at 96 kHz, takes 13
