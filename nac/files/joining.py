"""Join .nac files without decoding. Needs no model and no PyTorch.

Parts of one recording, as :func:`nac.cut` makes them, join without a seam: the result decodes to the samples of
the recording. Other recordings follow at the next frame that the codec can begin at, so up to one frame of
surrounding sound is heard in between. The network's state and the stereo rotation continue across the join, as
within one recording.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from math import floor
from typing import BinaryIO

from nac.container import Chunk, Header, Reader, SampleFormat, Writer
from nac.errors import NacError, Remedy, file_error
from nac.files.cutting import layout_of
from nac.files.opening import opened
from nac.files.results import Stopwatch
from nac.storage.output import PathOrFile, Result, created, name_of, refuse_same, size_of


def cat(srcs: Sequence[PathOrFile], dst: PathOrFile, *, force: bool = False) -> Result:
    """Write several .nac files to another, one after the other, without decoding.

    Parts that were cut from one recording join without a seam. Tags that all files have are kept. Works on pipes.
    Other recordings decode as if they had been one: what came before is heard for a few frames, or for seconds
    with encodec_24khz and mimi, which remember for longer.

    Parameters
    ----------
    srcs : sequence of path or binary file object
        The files, in order, with the same model, weights, codebooks, sample rate, channels and level.
    dst : path or binary file object
        The .nac file to write.
    force : bool
        Replace an existing ``dst``.

    Returns
    -------
    Result
        Names, model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If files do not fit together or are not complete .nac files (the message names the file), or ``dst``
        exists.

    Examples
    --------
    >>> import nac
    >>> _ = nac.cut("song.nac", "a.nac", duration=1), nac.cut("song.nac", "b.nac", start=1)
    >>> nac.cat(["a.nac", "b.nac"], "whole.nac").seconds == nac.info("song.nac").seconds
    True
    """
    watch = Stopwatch()
    if not srcs:
        raise NacError("nothing to join")
    for src in srcs:
        refuse_same(src, dst)
    readers: list[str | os.PathLike[str] | Reader] = []
    headers: list[Header] = []
    for src in srcs:
        with _named(src):
            readers.append(src if isinstance(src, (str, os.PathLike)) else Reader(src))  # cannot be opened twice
            headers.append(_header(readers[-1]))
            _check_alike(headers[0], headers[-1])
    header = headers[0]
    with created(None, dst, force=force) as out:
        joiner = Joiner(out, _common(headers))
        for src, reader in zip(srcs, readers, strict=True):
            with _named(src), _reading(reader) as open_reader, _of_known_length(open_reader) as whole:
                joiner.add(whole)
        samples, size = joiner.finish()
    sizes = [size for size in map(size_of, srcs) if size is not None]
    return watch.result(
        srcs[0],
        dst,
        header,
        seconds=samples / header.original_sample_rate,
        size=size,
        input=" + ".join(map(name_of, srcs)),
        bytes_in=sum(sizes) if len(sizes) == len(srcs) else None,
    )


_MUST_AGREE = {
    "model": "model",
    "fingerprint": "weights",
    "original_sample_rate": "sample rate (Hz)",
    "channels": "number of channels",
    "stream_codebooks": "codebooks",
    "gain": "level",
}


def _check_alike(first: Header, other: Header) -> None:
    for field, what in _MUST_AGREE.items():
        ours, theirs = getattr(first, field), getattr(other, field)
        if ours != theirs:
            remedy: Remedy = "peel" if field == "stream_codebooks" else ""
            raise NacError(f"cannot follow: its {what}: {_said(theirs)}, not {_said(ours)}", remedy=remedy)
    if first.spec != other.spec or first.stereo_pair != other.stereo_pair:
        raise NacError(f"cannot follow: its {other.model} is a different network")


def _said(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _common(headers: list[Header]) -> Header:
    """The first header, reduced to what all files share. The length is written at the end."""
    first = headers[0]
    formats = {header.sample_format for header in headers}
    return replace(
        first,
        samples=None,
        sample_format=first.sample_format if len(formats) == 1 else SampleFormat.UNKNOWN,
        tags=tuple(tag for tag in first.tags if all(tag in header.tags for header in headers)),
    )


class Joiner:
    """Writes recordings one after another.

    The frames of each from the one with its last sample on are buffered until it is known what follows.
    """

    def __init__(self, out: BinaryIO, header: Header) -> None:
        self._out, self._header, self._layout = out, header, layout_of(header)
        self._writer = Writer(out, header)
        self._pending: list[Chunk] = []
        self._shift = 0  # of the last recording: from frame numbers in its file to those written
        self._last = self._next = 0  # of the last recording: its last frame; the next possible first frame
        self._end: int | None = None  # of the last recording, on the timeline of its file

    def add(self, reader: Reader) -> None:
        """Append a recording whose length is known."""
        chunks = reader.chunks()
        assert reader.samples is not None
        if not reader.samples and self._end is not None:
            return
        start, end, begin = reader.header.start, reader.header.start + reader.samples, 0
        if self._end is not None:
            begin, chunks = self._join(start, iter(chunks))
        self._end = end
        self._next = self._frames(end)
        self._last = min(self._frame_at(max(end - 1, start)), self._next)
        for chunk in chunks:
            self._write(chunk, begin, self._last)
            if pending := chunk.part(self._header, max(begin, self._last)):
                self._pending.append(pending)

    def finish(self) -> tuple[int, int]:
        """End the file; the samples in it and the bytes written."""
        for chunk in self._pending:
            self._write(chunk)
        header = self._header
        shift = Fraction(self._shift * header.frame_samples * header.original_sample_rate, header.sample_rate)
        samples = floor(shift + (self._end or 0)) - header.start
        self._writer.finish(samples)
        return samples, self._writer.bytes_written

    def _join(self, start: int, chunks: Iterator[Chunk]) -> tuple[int, Iterator[Chunk]]:
        """The first frame to use of the next recording's ``chunks``, and these chunks."""
        pending, self._pending = self._pending, []
        head: list[Chunk] = []
        while pending and (not head or head[-1].next_frame < pending[-1].next_frame):
            if (chunk := next(chunks, None)) is None:
                break
            head.append(chunk)
        chunks = chain(head, chunks)
        if start == self._end and self._same(pending, head):
            return self._last, chunks
        if self._header.segment is not None:
            raise NacError(
                f"cannot follow: {self._header.model} codes overlapping segments: only parts of one recording join"
            )
        for chunk in pending:
            self._write(chunk, stop=self._next)
        begin = self._frame_at(start)
        self._shift += self._next - begin
        return begin, chunks

    def _same(self, pending: list[Chunk], head: list[Chunk]) -> bool:
        """Whether both have the same codes in their common frames, from the one with the last sample on."""
        stop = min(chunks[-1].next_frame if chunks else 0 for chunks in (pending, head))
        return stop > self._last and self._content(pending, stop) == self._content(head, stop)

    def _content(self, chunks: list[Chunk], stop: int) -> list[object]:
        parts = filter(None, (chunk.part(self._header, self._last, stop) for chunk in chunks))
        return [
            (
                part.first_frame,
                part.angle,
                part.scales,
                [[a.tolist() for a in part.codes(self._header, stream)] for stream in range(len(part.layers))],
            )
            for part in parts
        ]

    def _write(self, chunk: Chunk, start: int = 0, stop: int | None = None) -> None:
        """Write the frames of a chunk from ``start`` up to ``stop``, if there are any."""
        if part := chunk.part(self._header, start, stop):
            self._writer.write(replace(part, first_frame=part.first_frame + self._shift))
            self._out.flush()

    def _frame_at(self, sample: int) -> int:
        """The last possible first frame of a recording at or before a sample of the original rate."""
        position = sample * self._header.sample_rate // self._header.original_sample_rate
        return self._layout.spec.frame_at(position) // self._layout.unit * self._layout.unit

    def _frames(self, samples: int) -> int:
        """The next possible first frame of a recording after this many samples."""
        end = -(-samples * self._header.sample_rate // self._header.original_sample_rate)
        return self._layout.spec.frames(end)


def _header(src: str | os.PathLike[str] | Reader) -> Header:
    with _reading(src) as reader:
        return reader.header


@contextmanager
def _reading(src: str | os.PathLike[str] | Reader) -> Iterator[Reader]:
    if isinstance(src, Reader):
        yield src
    else:
        with opened(src) as reader:
            yield reader


@contextmanager
def _of_known_length(reader: Reader) -> Iterator[Reader]:
    """The same recording; from a temporary file if it is a pipe whose length comes at the end."""
    if reader.samples is not None:
        yield reader
        return
    # Without a buffer: otherwise an error of writing its rest at the end would hide the first one.
    with tempfile.TemporaryFile(prefix="nac-", buffering=0) as spool:
        with _spooling():
            writer = Writer(spool, reader.header)
        for chunk in reader.chunks():
            with _spooling():
                writer.write(chunk)
        assert reader.samples is not None
        with _spooling():
            writer.finish(reader.samples)
            spool.seek(0)
        yield Reader(io.BufferedReader(spool))


@contextmanager
def _spooling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise file_error(error, f"no room for it in {tempfile.gettempdir()}") from None


@contextmanager
def _named(src: PathOrFile) -> Iterator[None]:
    """Add the name of the file to errors."""
    try:
        yield
    except NacError as error:
        raise error.about(name_of(src)) from None
