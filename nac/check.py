"""Checking .nac files, and saving what is whole of damaged ones: `nac verify`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from nac.container import Chunk, Header, Recovery, Writer, verify
from nac.errors import NacError
from nac.output import created


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


def check(path: Path) -> Checked:
    """Read a whole file and check every byte of it."""
    try:
        with path.open("rb") as file:
            found = verify(file)
    except OSError as error:
        return _failed(path, f"cannot be read: {error.strerror or error}")
    except NacError as error:
        return _failed(path, str(error))
    seconds = found.samples / found.header.original_sample_rate
    return Checked(os.fspath(path), True, seconds, found.chunks, [str(gap) for gap in found.gaps], "", "")


def recover(path: Path, out: Path, *, force: bool = False) -> Checked:
    """Write every whole chunk of a damaged file to a new one, where what is lost is silent.

    Raises NacError where nothing can be saved, or ``out`` cannot be written.
    """
    lost: list[str] = []
    chunks = 0
    try:
        with path.open("rb") as file:
            recovery = Recovery(file)
            with created(path, out, force=force) as target:
                writer = Writer(target, replace(recovery.header, samples=None))
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
                    writer.write(_last_frame(recovery.header, samples))
                writer.finish(samples)
    except OSError as error:
        raise NacError(f"cannot be read: {error.strerror or error}") from None
    seconds = recovery.samples / recovery.header.original_sample_rate
    return Checked(os.fspath(path), not lost, seconds, chunks, lost, os.fspath(out), "; ".join(lost))


def _last_frame(header: Header, samples: int) -> Chunk:
    """A silent end for a recording whose last chunks are lost, so that it keeps its length."""
    spec = header.spec
    end = spec.frames(-(-(header.start + samples) * header.sample_rate // header.original_sample_rate))
    first = end - 1
    if header.segment is not None:
        first = first // header.segment.frames * header.segment.frames
    silent: tuple[tuple[bytes, ...], ...] = ((),) * len(header.stream_codebooks)
    return Chunk(first, end - first, silent, scales=((),) * len(silent) if header.has_scale else ())


def _failed(path: Path, error: str) -> Checked:
    return Checked(os.fspath(path), False, 0.0, 0, [], "", error)
