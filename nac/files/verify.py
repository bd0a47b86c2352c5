"""Checking .nac files, and recovering intact chunks of damaged ones: `nac verify`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from nac.container import Chunk, Header, Reader, Recovery, Writer, verify
from nac.container.timeline import Lost, Timeline
from nac.errors import FormatError, NacError, Remedy, file_error
from nac.files.opening import stream_of
from nac.storage.output import PathOrFile, created, name_of, sync

log = logging.getLogger("nac")


@dataclass(frozen=True)
class Checked:
    """Result of a check. ``error`` is empty for an intact file. ``lost``: the missing parts, in words.

    ``seconds`` and ``chunks`` count the intact ones; 0 if the check stopped at the first damage. ``output``: the
    recovered file, if one was made. ``remedy``: as in :class:`nac.errors.NacError`.
    """

    path: str
    ok: bool
    seconds: float
    chunks: int
    lost: list[str]
    output: str
    error: str
    remedy: Remedy = ""


def check(src: PathOrFile) -> Checked:
    """Read a whole file, a path or a binary file object, and check every byte of it."""
    name = name_of(src)
    try:
        with stream_of(src) as file:
            found = verify(file)
    except NacError as error:
        return replace(_failed(name, str(error)), remedy=error.remedy)
    except OSError as error:
        return _failed(name, str(file_error(error, "cannot be read")))
    seconds = found.samples / found.header.original_sample_rate
    return Checked(name, True, seconds, found.chunks, [str(gap) for gap in found.gaps], "", "")


def check_stretch_bytes(reader: Reader, low: int, high: int | None) -> list[Lost] | None:
    """Read the chunks with the samples ``low`` up to ``high`` (None: the end), and check every byte.

    Reading takes far less time than decoding, so damage is reported at once. Returns the missing parts between
    them; None if the file cannot seek, and is therefore checked while it is decoded. Raises FormatError.
    """
    if not reader.seekable:
        return None
    if low == 0 and high in (None, reader.samples):
        for _ in reader.chunks():
            pass
        return reader.gaps
    header, gaps = reader.header, list[Lost]()
    timeline = Timeline(header)
    end = low + 1 if high is None else high
    first, last = (
        header.spec.frame_at((header.start + sample) * header.sample_rate // header.original_sample_rate)
        for sample in (low, max(low, end - 1))
    )
    index = reader.index
    stop = len(index) if high in (None, reader.samples) else min(index.find(last) + 1, len(index))
    for number in range(index.find(first), stop):
        chunk = reader.chunk(number)
        # Of what precedes the first chunk that was read, only the start of the file is known.
        gap = timeline.gap(chunk, index[number].offset) if timeline.begun or not number else None
        if gap and chunk.first_frame > first:
            gaps.append(gap)
        timeline.add(chunk)
    if timeline.next_frame <= last:
        if stop < len(index):
            gaps.append(timeline.lost(index[stop].offset, index[stop].offset, index[stop].first_frame))
        elif reader.damage is not None:
            raise reader.damage
    return gaps


def tell_gaps(gaps: Iterable[Lost]) -> None:
    """Log the missing parts, which are decoded as silence."""
    for gap in gaps:
        if gap.start != gap.end:
            log.warning("%s before this file was written, and silent now", gap)


def read_back(file: BinaryIO, header: Header, samples: int) -> None:
    """Read an output that was just written, from the disk if possible, and check every byte.

    Raises NacError unless it is intact, with this header and this many ``samples`` per channel.
    """
    sync(file)
    file.seek(0)
    try:
        found = verify(file)
    except FormatError as error:
        raise NacError(f"reading the output back failed: {error}") from None
    if (found.header, found.samples) != (header, samples):
        raise NacError("reading the output back gave another file")


def recover(src: PathOrFile, out: Path, *, force: bool = False) -> Checked:
    """Write every intact chunk of a damaged file to a new one; lost parts become silence.

    Raises NacError if nothing can be recovered or ``out`` cannot be written.
    """
    try:
        with stream_of(src) as file:
            recovery = Recovery(file)
            with created(src, out, force=force) as target:
                chunks, lost = save(recovery, target)
    except NacError:
        raise
    except OSError as error:
        raise file_error(error, "cannot be read") from None
    seconds = recovery.samples / recovery.header.original_sample_rate
    return Checked(name_of(src), not lost, seconds, chunks, lost, os.fspath(out), "; ".join(lost))


def save(recovery: Recovery, file: BinaryIO) -> tuple[int, list[str]]:
    """Write every intact chunk of a damaged file. Returns their number, and the lost parts in words.

    Raises NacError if there are none.
    """
    chunks, lost = 0, list[str]()
    writer = Writer(file, replace(recovery.header, samples=None))
    for item in recovery:
        if isinstance(item, Chunk):
            writer.write(item)
            chunks += 1
        else:
            lost.append(str(item))
    if not chunks:
        raise NacError("only its header is intact")
    samples = max(recovery.samples, recovery.header.samples or 0)
    writer.extend(samples)
    writer.finish(samples)
    return chunks, lost


def _failed(name: str, error: str) -> Checked:
    return Checked(name, False, 0.0, 0, [], "", error)
