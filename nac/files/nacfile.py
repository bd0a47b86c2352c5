"""Access to a .nac file: header, codes and their time, and samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from operator import index
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nac.audio.memory import Array, DType, as_array, as_dtype, check_channels, check_rate
from nac.codecs.base import Codec
from nac.container.chunk import Chunk
from nac.container.chunk_head import MAX_FRAME_NUMBER
from nac.container.codebooks import Coding
from nac.container.header import Header
from nac.container.reader import Reader
from nac.errors import ArgumentError
from nac.files.codes import CodeArray, codes_between, frame_at, frame_codes
from nac.files.decoding import loader
from nac.files.encoding import Encoding
from nac.files.info import Info, info_of, joined_tags
from nac.files.opening import stream_of
from nac.files.playback import Playback
from nac.files.recorder import Recorder
from nac.storage.output import PathOrFile, name_of

if TYPE_CHECKING:
    import torch

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
        return joined_tags(self.header.tags)

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
        stream has no codes, and where frames were lost. Raises ValueError if the start is after the end.
        """
        return codes_between(self._reader, start, duration, codebooks)

    @property
    def first_frame(self) -> int:
        """The number of the first frame that :meth:`codes` returns by default."""
        return frame_at(self.header, 0.0)

    def frame_codes(
        self, low: int, high: int | None = None, *, codebooks: int | None = None
    ) -> list[list[CodeArray]]:
        """The same for the existing frames from number ``low`` up to ``high``, numbered as in chunks."""
        return frame_codes(self._reader, low, high, codebooks=codebooks)

    @property
    def frames(self) -> range:
        """The frame numbers of the recording."""
        header, spec = self.header, self.header.spec
        end = -(-(header.start + self.samples) * header.sample_rate // header.original_sample_rate)
        first = spec.frame_at(header.start * header.sample_rate // header.original_sample_rate)
        return range(first, min(spec.frames(end), MAX_FRAME_NUMBER))

    def info(self) -> Info:
        """The fields of `nac info --json`."""
        return info_of(self._reader, self.path)
