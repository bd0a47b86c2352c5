"""Checking .nac files, and saving what is whole of damaged ones: `nac verify`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from nac.container import Chunk, Header, Recovery, Writer, silent_end, verify
from nac.errors import FormatError, NacError
from nac.files.nacfile import stream_of
from nac.storage.output import PathOrFile, created, name_of, sync


@dataclass(frozen=True)
class Checked:
    """What a check found. ``error`` is empty for a whole file. ``lost``: what is missing, in words.

    ``seconds`` and ``chunks`` are those that are whole; 0 where the check stopped at the first damage.
    ``output`` is the recovered file, if one was made.
    """

    path: str
    ok: bool
    seconds: float
    chunks: int
    lost: list[str]
    output: str
    error: str


def check(src: PathOrFile) -> Checked:
    """Read a whole file, a path or a binary file object, and check every byte of it."""
    name = name_of(src)
    try:
        with stream_of(src) as file:
            found = verify(file)
    except OSError as error:
        return _failed(name, f"cannot be read: {error.strerror or error}")
    except NacError as error:
        return _failed(name, str(error))
    seconds = found.samples / found.header.original_sample_rate
    return Checked(name, True, seconds, found.chunks, [str(gap) for gap in found.gaps], "", "")


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
    except OSError as error:
        raise NacError(f"cannot be read: {error.strerror or error}") from None
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
    samples = recovery.samples
    if recovery.header.samples is not None and samples < recovery.header.samples:
        samples = recovery.header.samples
        writer.write(silent_end(recovery.header, samples))
    writer.finish(samples)
    return chunks, lost


def _failed(name: str, error: str) -> Checked:
    return Checked(name, False, 0.0, 0, [], "", error)
