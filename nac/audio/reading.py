"""Reading recordings in blocks, from a path, a file object or a pipe.

Uncompressed samples are read here (:mod:`nac.audio.plain`), everything else by libsndfile or FFmpeg
(:mod:`nac.audio.ogg`, :mod:`nac.audio.ffmpeg`). WAV of integers is read from a pipe as it arrives; other formats
are first copied from the pipe to a temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from nac.audio import layout, ogg
from nac.audio.containers import check_announced
from nac.audio.ffmpeg import FFmpegInput
from nac.audio.headers import find
from nac.audio.kinds import HEAD, id3_size, kind_of
from nac.audio.levels import measure, tamed
from nac.audio.plain import Pipe, PlainInput
from nac.audio.resample import Samples
from nac.audio.stereo import CommonAngle
from nac.audio.tags import Tags, read_tags
from nac.audio.view import View
from nac.audio.whole import bytes_of_sound, several
from nac.container.header import SIGNATURE, SampleFormat
from nac.errors import AudioError, AudioMissing, file_error

BLOCK = 1 << 15  # samples per channel read at a time
_MOST_TAGS = 16
_LOUD = (SampleFormat.F32, SampleFormat.F64, SampleFormat.LOSSY)


@dataclass(frozen=True)
class Source:
    """A recording to be read: ``samples`` per channel (None: unknown before the end), and their ``blocks``.

    ``peak``: the largest absolute sample, if the format can exceed full scale and the file could be scanned first.
    ``live``: it comes through a pipe, so samples should be used as soon as they arrive.
    ``tags``: title, artist and so on, and the layout of channels (:mod:`nac.audio.layout`).
    ``notes``: remarks for the user. ``has_video``: the file has video, too.
    ``angle``: if both channels have the same sound up to a factor, and the file could be scanned first: see
    :class:`nac.audio.stereo.CommonAngle`.
    """

    sample_rate: int
    channels: int
    samples: int | None
    sample_format: SampleFormat
    blocks: Iterator[Samples]
    peak: float = 1.0
    live: bool = False
    tags: Tags = ()
    notes: tuple[str, ...] = ()
    angle: int | None = None
    has_video: bool = False


class Blocks(Protocol):
    """A reader of one file format."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def samples(self) -> int | None: ...
    @property
    def sample_format(self) -> SampleFormat: ...
    @property
    def mask(self) -> int: ...
    @property
    def tags(self) -> Tags:
        """Tags that the reader itself finds."""
        ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def read(self, size: int) -> Samples:
        """About ``size`` samples [n, channels]; n = 0 at the end."""
        ...

    def close(self) -> None: ...


@contextmanager
def open_source(file: Path | BinaryIO) -> Iterator[Source]:
    """Open a file, a pipe or a file-like object for reading.

    Raises AudioError if it is not audio, or cannot be read completely.
    """
    with ExitStack() as stack:
        if isinstance(file, Path):
            file = stack.enter_context(_opened(file))
        if not seekable(file):
            pipe = Pipe(file)
            kind = kind_of(pipe.read(HEAD))
            said = find(pipe, kind, None) if kind == "wav" else None
            if said and said.coding and said.coding.format not in _LOUD:
                pipe.seek(said.start)
                pipe.let_go()
                yield _source(PlainInput(pipe, "wav", said, None), live=True)
                return
            file = stack.enter_context(_spooled(pipe))
        blocks = _open(file)
        stack.callback(lambda: blocks.close())
        common, levels = CommonAngle(blocks.channels), None
        if blocks.samples is None or blocks.sample_format in _LOUD:
            # Such samples may exceed full scale, and their number may be undeclared: scan all of them first.
            levels = measure(common.through(_each(blocks)))
            levels = replace(levels, notes=(*blocks.notes, *levels.notes))
        else:
            common.scan(_each(blocks))
        if levels or blocks.channels == 2:
            blocks.close()
            blocks = _open(file)
        source = _source(blocks, levels.peak if levels else 1.0)
        if levels:
            source = replace(source, samples=levels.samples, notes=levels.notes)
        tags = read_tags(file) or source.tags
        mask = blocks.mask or layout.of_tags(tags, blocks.channels)
        yield replace(source, angle=common.angle, tags=layout.tagged(tags, mask, blocks.channels))


def _opened(path: Path) -> BinaryIO:
    """A file, a named pipe or a device."""
    if not path.exists():
        raise AudioMissing("no such file")
    if not (path.is_file() or path.is_fifo() or path.is_char_device()):
        raise AudioError("not a file")
    try:
        return path.open("rb")
    except OSError as error:
        raise file_error(error, "cannot be read") from None


def _behind_tags(file: BinaryIO, head: bytes, end: int) -> int:
    """The byte after the ID3 tags that a file begins with: more than a few are not read."""
    start = 0
    for _ in range(_MOST_TAGS):
        size = id3_size(head)
        if not size or start + size > end:
            break
        start += size
        file.seek(start)
        head = file.read(HEAD)
    return start


def _open(file: BinaryIO) -> Blocks:
    """A seekable file and its reader. Raises AudioError if it is visibly incomplete."""
    end = file.seek(0, 2)
    file.seek(0)
    head = file.read(HEAD)
    if head.startswith(SIGNATURE):
        raise AudioError("is already a .nac file", remedy="decompress")
    kind = kind_of(head)
    if kind == "id3":
        start = _behind_tags(file, head, end)
        file.seek(start)
        if kind_of(file.read(HEAD)) not in (None, "mp3", "id3"):  # MP3 has a way to deal with them
            return _open(cast(BinaryIO, View(file, start, end)))
    if kind is None:
        raise AudioError("not in an audio format that nac reads" if end else "an empty file")
    said = find(file, kind, end)
    if said and said.coding:
        return PlainInput(file, kind, said, end)
    if said:
        bytes_of_sound(file, kind, said, end)
    check_announced(file, kind, end)
    if kind != "ogg":
        return FFmpegInput(file, kind, 0, end)
    first, *others = [_of_link(file, link) for link in ogg.links(file)]
    return Links(first, others) if others else first


def _of_link(file: BinaryIO, link: ogg.Link) -> Blocks:
    return ogg.OggInput(file, link) if link.is_plain else FFmpegInput(file, "ogg", link.start, link.end)


class Links:
    """Several recordings of one format, one after the other in a file."""

    def __init__(self, first: Blocks, others: Sequence[Blocks]) -> None:
        self.sample_rate, self.channels, self.mask = first.sample_rate, first.channels, first.mask
        self.sample_format, self.samples, self.tags = first.sample_format, None, first.tags
        self._left, self._all = [first, *others], [first, *others]
        for other in others:
            if (other.sample_rate, other.channels) != (first.sample_rate, first.channels):
                raise several()

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note for one in self._all for note in one.notes)

    def read(self, size: int) -> Samples:
        """About ``size`` samples [n, channels]; n = 0 at the end of the last."""
        block = self._left[0].read(size)
        while not len(block) and len(self._left) > 1:
            del self._left[0]
            block = self._left[0].read(size)
        return block

    def close(self) -> None:
        for one in self._all:
            one.close()


def _source(blocks: Blocks, peak: float = 1.0, *, live: bool = False) -> Source:
    loud = blocks.sample_format in _LOUD
    return Source(
        blocks.sample_rate,
        blocks.channels,
        blocks.samples,
        blocks.sample_format,
        (tamed(block, peak) for block in _each(blocks)) if loud else _each(blocks),
        max(1.0, peak),
        live,
        layout.tagged(blocks.tags, blocks.mask, blocks.channels),
        has_video=isinstance(blocks, FFmpegInput) and blocks.has_video,
    )


def _each(blocks: Blocks) -> Iterator[Samples]:
    while len(block := blocks.read(BLOCK)):
        yield block


@contextmanager
def _spooled(pipe: Pipe) -> Iterator[BinaryIO]:
    """A pipe's content as a temporary file."""
    with tempfile.TemporaryFile(prefix="nac-") as spool:
        pipe.copy(spool)
        if spool.tell() == 0:
            raise AudioError("empty input")
        yield spool


def seekable(file: BinaryIO) -> bool:
    """Whether a file object can seek."""
    try:
        return file.seekable()
    except (AttributeError, OSError):
        return False
