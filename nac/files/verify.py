"""Checking .nac files, and saving what is whole of damaged ones: `nac verify`."""

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
    """What a check found. ``error`` is empty for a whole file. ``lost``: what is missing, in words.

    ``seconds`` and ``chunks`` are those that are whole; 0 where the check stopped at the first damage.
    ``output`` is the recovered file, if one was made. ``remedy``: as of a :class:`nac.errors.NacError`.
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
    """Read the chunks that hold the samples ``low`` up to ``high`` (None: the end), and check every byte of them.

    Reading takes far less time than decoding, so that damage is told at once. Returns the sound that is missing
    between them; None where the file cannot seek, and so is checked as it is decoded. Raises FormatError.
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
    stop = len(reader.index) if high in (None, reader.samples) else reader.index.find(last) + 1
    for number in range(reader.index.find(first), min(stop, len(reader.index))):
        chunk = reader.chunk(number)
        if timeline.begun and (gap := timeline.gap(chunk, reader.index[number].offset)):
            gaps.append(gap)
        timeline.add(chunk)
    if reader.damage is not None and timeline.next_frame <= last:
        raise reader.damage
    return gaps


def tell_gaps(gaps: Iterable[Lost]) -> None:
    """Log what is silent for want of sound."""
    for gap in gaps:
        if gap.start != gap.end:
            log.warning("%s before this file was written, and silent now", gap)


def read_back(file: BinaryIO, header: Header, samples: int) -> None:
    """Read what was just written to an output, from the disk where that can be told, and check every byte of it.

    Raises NacError unless it is whole and holds so many ``samples`` per channel.
    """
    sync(file)
    file.seek(0)
    try:
        found = verify(file)
    except FormatError as error:
        raise NacError(f"the output did not come back as it was written: {error}") from None
    if (found.header, found.samples) != (header, samples):
        raise NacError(f"the output came back with {found.samples} samples, not {samples}")


def recover(src: PathOrFile, out: Path, *, force: bool = False) -> Checked:
    """Write every whole chunk of a damaged file to a new one, where what is lost is silent.

    Raises NacError where nothing can be saved, or ``out`` cannot be written.
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
    """Write every whole chunk of a damaged file: how many there are, and what is lost, in words.

    Raises NacError where there are none.
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
        raise NacError("nothing of it is whole but the header")
    samples = max(recovery.samples, recovery.header.samples or 0)
    writer.extend(samples)
    writer.finish(samples)
    return chunks, lost


def _failed(name: str, error: str) -> Checked:
    return Checked(name, False, 0.0, 0, [], "", error)
