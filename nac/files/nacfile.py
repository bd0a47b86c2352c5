"""Access to a .nac file: header, codes and their time, and samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nac.audio.memory import Array, DType, as_array, as_dtype, check_channels, check_rate
from nac.bitrate import total_kbps
from nac.codecs.base import Codec
from nac.container.chunk import MAX_FRAME_NUMBER, Chunk
from nac.container.codebooks import Coding
from nac.container.header import SIGNATURE, VERSION, Header
from nac.container.reader import Reader
from nac.container.timeline import Lost, Timeline
from nac.errors import ArgumentError, FormatError
from nac.files.decoding import loader
from nac.files.encoding import Encoding
from nac.files.opening import check_growth, check_stretch, stream_of
from nac.files.playback import Playback
from nac.files.recorder import Recorder
from nac.storage.output import PathOrFile, name_of

if TYPE_CHECKING:
    import torch

CodeArray = npt.NDArray[np.int32]
SILENT = -1
"""Marks frames in which a silent stream has no code."""


@dataclass(frozen=True)
class Info:
    """Properties of a .nac file; the fields of `nac info --json`.

    ``sample_rate`` (Hz), ``channels`` and ``samples`` (per channel) are those of the recording. ``codebooks``: the
    number for each stream. ``kbps``: bitrate of the packed codes (kbit/s); ``actual_kbps``: of the file.
    ``coding``: "range" if any codes are range coded, else "packed"; ``saved``: the share of the codes' bytes that
    this saves. ``complete``: whether the file has its end record; without it, ``samples`` and ``seconds`` count
    the existing chunks. ``damage``: a description of damaged bytes, or empty; ``lost``: the parts that are missing
    in a file recovered from a damaged one, in words.
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


_NOT_WRITTEN = (None, None, None, None, None, "auto", "auto", False)
"""What :class:`NacFile` takes by default of a file to be written."""


class NacFile:
    """A .nac file open for reading or writing, similar to ``soundfile.SoundFile``. Also called :func:`nac.open`.

    Samples are read from a position that advances and can be moved; codes are read from anywhere. Access to any
    part of a long file takes the same time, and memory only for the result and some seconds more. A written file
    gets its final name when it is closed; if an exception ends the `with` statement, no file is left. Use it from
    one thread at a time.

    Parameters
    ----------
    file : path or binary file object
        For reading it must be seekable; for writing it need not be. A file object stays open, and chunks are
        written to it as soon as they are ready.
    mode : {"r", "w"}
        To read, or to write.
    sample_rate, channels : int
        For writing: in Hz, at least 1000, and 1 to 255.
    model, kbps, codebooks, coding, tags, force
        For writing: as for :func:`nac.write`.
    device, weights, codec
        As for :func:`nac.read` and :func:`nac.write`. Codes can be read without them.

    Raises
    ------
    NacError
        If the file cannot be opened or is not a .nac file.
    ValueError
        If the mode, model or bitrate does not exist, or ``sample_rate`` or ``channels`` is missing.

    Examples
    --------
    >>> import nac
    >>> with nac.open("song.nac") as file:
    ...     position = file.seek(-8000, 2)
    ...     last = file.read()
    ...     sizes = [len(block) for block in file.blocks(4000)]
    >>> last.shape, sizes
    ((8000, 1), [])
    >>> with nac.open("copy.nac", "w", sample_rate=16000, channels=1, model="nac_24khz", kbps=3) as copy:
    ...     with nac.open("song.nac") as file:
    ...         for block in file.blocks(4000):
    ...             copy.write(block)
    >>> nac.info("copy.nac").seconds == nac.info("song.nac").seconds
    True
    """

    def __init__(
        self,
        file: PathOrFile,
        mode: Literal["r", "w"] = "r",
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        model: str = "auto",
        kbps: float | None = None,
        codebooks: int | None = None,
        coding: Coding = "auto",
        tags: Mapping[str, str] | None = None,
        device: str | torch.device = "auto",
        weights: str | os.PathLike[str] | None = None,
        codec: Codec | None = None,
        force: bool = False,
    ) -> None:
        self.path, self.mode = name_of(file), mode
        self._player: Playback | None = None
        self._recorder: Recorder | None = None
        if mode == "w":
            if sample_rate is None or channels is None:
                raise ArgumentError("writing a file needs sample_rate and channels")
            how = Encoding(model, kbps, codebooks, coding=coding)
            rate, count = check_rate(sample_rate), check_channels(channels)
            load = loader(None, weights, device, download=True)
            self._recorder = Recorder(file, rate, count, how, load, codec, tags=tags, force=force)
        elif mode == "r":
            if (sample_rate, channels, kbps, codebooks, tags, model, coding, force) != _NOT_WRITTEN:
                raise ArgumentError("to read takes no sample_rate, channels, model, kbps... of what is written")
            with ExitStack() as stack:
                reader = Reader(stack.enter_context(stream_of(file)))
                self._player = Playback(reader, loader(codec, weights, device))
                self._open, self._closed = stack.pop_all(), False
        else:
            raise ArgumentError(f"the mode must be 'r' or 'w', not {mode!r}")

    def __enter__(self) -> NacFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is not None:
            self._discard()
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_recorder"):  # not if opening failed
            self._discard()

    def __repr__(self) -> str:
        state = "closed" if self.closed else repr(self.mode)
        return f"<nac.NacFile {self.path!r} {state} {self.sample_rate} Hz, {self.channels} channels>"

    def close(self) -> None:
        """Close it. A written file is completed and gets its final name. Raises NacError if that fails."""
        if self._recorder is not None:
            self._recorder.finish()
        else:
            self._closed = True
            self._open.close()

    def _discard(self) -> None:
        """Close a file opened for writing, and delete it."""
        if self._recorder is not None:
            self._recorder.abort()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed if self._recorder is None else self._recorder.closed

    @property
    def _playback(self) -> Playback:
        """The reader. Raises ArgumentError if the file is open for writing."""
        if self._player is None:
            raise ArgumentError("the file is open for writing, not reading")
        return self._player

    @property
    def _reader(self) -> Reader:
        return self._playback.reader

    def __len__(self) -> int:
        """Samples per channel of the recording, or written so far."""
        return self.samples

    @property
    def header(self) -> Header:
        """The file's header."""
        return self._reader.header if self._recorder is None else self._recorder.header

    @property
    def sample_rate(self) -> int:
        """Sample rate of the recording, in Hz."""
        return self.header.original_sample_rate

    @property
    def channels(self) -> int:
        """Number of channels of the recording."""
        return self.header.channels

    @property
    def tags(self) -> dict[str, str]:
        """Title, artist and so on, with the names of Vorbis comments."""
        return _joined(self.header.tags)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return len(self._reader.index)

    def chunk(self, number: int) -> Chunk:
        """One chunk, after its checksum was verified. Raises DamageError."""
        return self._reader.chunk(number)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self._reader.size

    @property
    def samples(self) -> int:
        """Samples per channel of the recording, or written so far."""
        return (self._reader.samples or 0) if self._recorder is None else self._recorder.samples

    @property
    def seconds(self) -> float:
        """Length of the recording in seconds."""
        return self.samples / self.sample_rate

    @property
    def complete(self) -> bool:
        """Whether the file has its end record; a file that was cut off has not."""
        return self._reader.complete

    # Samples, read and written in order

    def tell(self) -> int:
        """The number of the next sample per channel to be read or written."""
        self._check_open()
        return self._playback.position if self._recorder is None else self._recorder.samples

    def seekable(self) -> bool:
        """Whether the position can be moved."""
        return self._recorder is None and self._reader.seekable

    def seek(self, frames: int, whence: int = os.SEEK_SET) -> int:
        """Set the position.

        Parameters
        ----------
        frames : int
            Samples per channel (soundfile's name for them), relative to ``whence``.
        whence : int
            ``os.SEEK_SET`` (0: the start), ``os.SEEK_CUR`` (1: here) or ``os.SEEK_END`` (2).

        Returns
        -------
        int
            The new position, from the start.

        Raises
        ------
        ValueError
            If it is outside the recording.
        """
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: len(self)}
        if whence not in origins:
            raise ArgumentError(f"whence must be 0, 1 or 2, not {whence!r}")
        position = origins[whence] + index(frames)
        if not self.seekable():
            raise ArgumentError("this file cannot seek")
        if not 0 <= position <= len(self):
            raise ArgumentError(f"sample {position} is outside the recording of {len(self)}")
        self._playback.seek(position)
        return position

    def read(self, frames: int = -1, dtype: DType = "float32", *, always_2d: bool = True) -> Array:
        """The next samples.

        Parameters
        ----------
        frames : int
            Samples per channel; by default all that are left. At the end of the recording there may be fewer.
        dtype : {"float32", "float64", "int16", "int32"}
            As for :func:`nac.read`.
        always_2d : bool
            Return [n, 1] instead of [n] for one channel.

        Returns
        -------
        array [n, channels]
            Equal to the result of :func:`nac.read` there, however it is divided into reads.

        Raises
        ------
        NacError
            If the file is damaged (after all samples before that), or its model is not on this machine.
        """
        self._check_open()
        samples = self._playback.read(None if frames < 0 else frames)
        return as_dtype(samples if always_2d or samples.shape[1] > 1 else samples[:, 0], dtype)

    def blocks(
        self,
        blocksize: int = 1 << 16,
        overlap: int = 0,
        frames: int = -1,
        dtype: DType = "float32",
        *,
        always_2d: bool = True,
    ) -> Iterator[Array]:
        """The samples from the current position on, in blocks.

        Parameters
        ----------
        blocksize : int
            Samples per channel in each block; the last may have fewer.
        overlap : int
            The number of samples that each block shares with the end of the one before.
        frames : int
            Samples per channel in total; by default all that are left.
        dtype, always_2d
            As for :meth:`read`.

        Returns
        -------
        iterator of arrays [n, channels]

        Raises
        ------
        ValueError
            If ``blocksize`` is not greater than ``overlap``.
        """
        self._check_open()
        if not 0 <= overlap < blocksize:
            raise ArgumentError(f"blocks of {blocksize} samples cannot overlap by {overlap}")
        return self._blocks(blocksize, overlap, None if frames < 0 else frames, dtype, always_2d)

    def _blocks(self, size: int, overlap: int, left: int | None, dtype: DType, always_2d: bool) -> Iterator[Array]:
        block = self.read(0, dtype, always_2d=always_2d)
        while True:
            before = block[len(block) - min(overlap, len(block)) :]
            wanted = size - len(before)
            new = self.read(wanted if left is None else min(wanted, left), dtype, always_2d=always_2d)
            if not len(new):
                return
            left = left and left - len(new)
            block = np.concatenate([before, new])
            yield block

    def write(self, samples: Any) -> None:
        """Append samples. Chunks of about ten seconds are written as soon as they are ready.

        Parameters
        ----------
        samples : array or tensor, [n] or [n, channels]
            Any number, as for :func:`nac.write`. Floats beyond -1 to 1 are clipped, since the level of later
            samples is unknown.

        Raises
        ------
        NacError
            If they cannot be written; then no file is left.
        ValueError
            If the number of channels is wrong, or the file is open for reading.
        """
        self._check_open()
        if self._recorder is None:
            raise ArgumentError("the file is open for reading, not writing")
        self._recorder.write(as_array(samples))

    def _check_open(self) -> None:
        if self.closed:
            raise ArgumentError("the file is closed")

    # Codes, from any position

    def codes(
        self, *, start: float = 0.0, duration: float | None = None, codebooks: int | None = None
    ) -> list[list[CodeArray]]:
        """Codes of the frames of a part of the recording, given in seconds: int32 arrays [stream][codebook].

        By default all frames; at most ``codebooks`` codebooks of each stream. The value is -1 where a silent
        stream has no codes, and where frames were lost.
        """
        check_stretch(start, duration)
        header, spec = self.header, self.header.spec
        low = self._frame_at(start)
        high = None
        if duration is not None and duration < self.seconds:
            high = spec.frames(round((start + duration + self._offset) * header.sample_rate))
        return self.frame_codes(low, high, codebooks=codebooks)

    def _frame_at(self, seconds: float) -> int:
        return self.header.spec.frame_at(round((seconds + self._offset) * self.header.sample_rate))

    @property
    def first_frame(self) -> int:
        """The number of the first frame that :meth:`codes` returns by default."""
        return self._frame_at(0.0)

    def frame_codes(
        self, low: int, high: int | None = None, *, codebooks: int | None = None
    ) -> list[list[CodeArray]]:
        """The same for the existing frames from number ``low`` up to ``high``, numbered as in chunks."""
        if codebooks is not None:
            self.header.spec.check_codebooks(codebooks)
        header, index = self.header, self._reader.index
        end_frame = None
        # The last chunk's end is only needed beyond its first frame.
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
        """The chunks with any of the frames ``low`` to ``high``, and perhaps one before them."""
        index = self._reader.index
        for number in range(index.find(low), len(index)):
            if index[number].first_frame >= high:
                return
            yield self.chunk(number)

    @property
    def frames(self) -> range:
        """The frame numbers of the recording."""
        header, spec = self.header, self.header.spec
        end = -(-(header.start + self.samples) * header.sample_rate // header.original_sample_rate)
        first = spec.frame_at(header.start * header.sample_rate // header.original_sample_rate)
        return range(first, min(spec.frames(end), MAX_FRAME_NUMBER))

    @property
    def _offset(self) -> float:
        """Seconds from the start of frame 0 to the start of the recording."""
        return self.header.start / self.header.original_sample_rate

    def _end_frame(self) -> int:
        if not self.chunks:
            return 0
        last = self.chunk(self.chunks - 1)
        return last.first_frame + last.frames

    def _copy(
        self,
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
            chunks=self.chunks,
            coding="range" if found.coded < found.packed else "packed",
            saved=round(1 - found.coded / found.packed, 4) if found.packed else 0.0,
            tags=_joined(header.tags),
            complete=self.complete,
            damage=found.damage,
            lost=[str(gap) for gap in found.gaps],
        )

    def _survey(self) -> _Survey:
        """Read every chunk."""
        found, timeline, whole = _Survey(), Timeline(self.header), True
        for number in range(self.chunks):
            try:
                chunk = self.chunk(number)
            except FormatError as error:
                found.damage, whole = found.damage or str(error), False
                continue
            for now, before in chunk.sizes(self.header):
                found.coded, found.packed = found.coded + now, found.packed + before
            # A gap before it counts as damage if there was any.
            if whole and (gap := timeline.gap(chunk, self._reader.index[number].offset)):
                found.gaps.append(gap)
            timeline.add(chunk)
            whole = True
        if not found.damage and self._reader.damage is not None:
            found.damage = str(self._reader.damage)
        return found


@dataclass
class _Survey:
    """``coded`` and ``packed``: bytes of all codes, as stored and if packed, in the chunks that are whole;
    ``gaps``: missing parts that the file declares; ``damage``: the first damage that was found.
    """

    coded: int = 0
    packed: int = 0
    gaps: list[Lost] = field(default_factory=list)
    damage: str = ""


def _joined(tags: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Tags by key; values of the same key are joined."""
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
        return True  # let reading it report the error


def info(file: PathOrFile) -> Info:
    """Properties of a .nac file; needs no model.

    Parameters
    ----------
    file : path or binary file object
        A .nac file; a file object must be seekable.

    Returns
    -------
    Info
        The fields of `nac info --json`.

    Raises
    ------
    NacError
        If it is not a .nac file or is damaged.

    Examples
    --------
    >>> import nac
    >>> nac.info("song.nac").model
    'nac_24khz'
    """
    with NacFile(file) as opened_file:
        return opened_file.info()


def read_codes(
    path: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    codebooks: int | None = None,
) -> list[list[CodeArray]]:
    """The codes of a .nac file, or of a part of it; needs no model. See :meth:`NacFile.codes`.

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
        If it is not a complete .nac file.

    Examples
    --------
    >>> import nac
    >>> codes = nac.read_codes("song.nac", start=1, duration=1)
    >>> len(codes), len(codes[0]), codes[0][0].shape
    (1, 8, (75,))
    """
    with NacFile(path) as file:
        return file.codes(start=start, duration=duration, codebooks=codebooks)
