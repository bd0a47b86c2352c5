"""Audio files and pipes in and out, in blocks.

Reading: WAV of any length from any stream, everything libsndfile knows from files, and the rest (m4a, mp4, webm
and more) through PyAV where it is installed. Other formats on a pipe are first copied to a temporary file.
Writing: 16-bit WAV to anything, FLAC, Ogg Vorbis, Opus and MP3 through libsndfile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np

from nac.audio.declared import cut_off, damaged, missing_bytes
from nac.audio.resample import Samples
from nac.audio.tags import Tags, kept, read_tags, write_tags
from nac.audio.wav import WavInput, WavOutput, WavUnsupported, to_int16
from nac.container.header import SampleFormat
from nac.errors import AudioError

BLOCK = 1 << 15  # samples per channel read at a time
HEAD = 12  # bytes that tell what may be audio
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Audio to be read: ``samples`` per channel (None: not known before the end), ``blocks`` of them.

    ``peak``: the largest absolute sample, where it can lie above full scale and could be found beforehand.
    ``live``: it comes through a pipe, so that what is there should be used before the next arrives.
    ``tags``: title, artist and so on.
    """

    sample_rate: int
    channels: int
    samples: int | None
    sample_format: SampleFormat
    blocks: Iterator[Samples]
    peak: float = 1.0
    live: bool = False
    tags: Tags = ()


class Blocks(Protocol):
    """What reads one kind of file."""

    sample_rate: int
    channels: int
    samples: int | None
    sample_format: SampleFormat
    tags: Tags
    """What it finds of them by itself."""

    def read(self) -> Samples:
        """The next block [n, channels]; n = 0 at the end."""
        ...

    def close(self) -> None: ...


class SoundFileInput:
    """A file that libsndfile reads. Raises AudioError if it does not."""

    def __init__(self, file: Path | BinaryIO) -> None:
        import soundfile

        try:
            # As bytes, since a name need not be UTF-8.
            self._file = soundfile.SoundFile(os.fsencode(file) if isinstance(file, Path) else file)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise AudioError(f"not audio that libsndfile reads ({_reason(error)})") from None
        self.sample_rate, self.channels = self._file.samplerate, self._file.channels
        self.sample_format = _FORMATS.get(self._file.subtype, SampleFormat.LOSSY)
        # Of an MP3 that is often no more than an estimate.
        self.samples: int | None = self._file.frames if self._file.format != "MP3" else None
        self.tags = kept(self._file.copy_metadata().items())

    def read(self) -> Samples:
        import soundfile

        try:
            block: Samples = self._file.read(BLOCK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"broken audio ({_reason(error)})") from None
        return block

    def close(self) -> None:
        self._file.close()


class FFmpegInput:
    """A file that FFmpeg reads, through PyAV. Raises AudioError if it does not."""

    sample_format = SampleFormat.LOSSY
    samples: int | None = None

    def __init__(self, file: Path | BinaryIO) -> None:
        import av

        try:
            self._container = av.open(file if not isinstance(file, Path) else str(file), "r")
            if not self._container.streams.audio:
                raise AudioError("holds no audio")
            stream = self._container.streams.audio[0]
            if stream.codec_context is None:
                raise AudioError("audio of a kind that FFmpeg does not know")
            self.sample_rate, self.channels = int(stream.rate or 0), int(stream.channels or 0)
            if not self.sample_rate or not self.channels:
                raise AudioError("audio without a sample rate or channels")
            self.tags = kept(self._container.metadata.items())
            self._frames = self._container.decode(stream)
            self._resampler = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"not audio that FFmpeg reads ({_reason(error)})") from None
        self._ended = False

    def read(self) -> Samples:
        import av

        parts: list[Samples] = []
        try:
            while not self._ended and sum(map(len, parts)) < BLOCK:
                frame = next(self._frames, None)
                self._ended = frame is None
                for piece in self._resampler.resample(frame):
                    parts.append(piece.to_ndarray().astype(np.float32).reshape(-1, self.channels))
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"broken audio ({_reason(error)})") from None
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), np.float32)

    def close(self) -> None:
        self._container.close()


@contextmanager
def open_source(file: Path | BinaryIO) -> Iterator[Source]:
    """Open a file, a pipe or a file-like object for reading. Raises AudioError if it is not audio."""
    with ExitStack() as stack:
        if isinstance(file, Path) and (file.is_fifo() or file.is_char_device()):
            file = stack.enter_context(file.open("rb"))
        if not isinstance(file, Path) and not _seekable(file):
            try:
                blocks: Blocks = WavInput(file)
            except WavUnsupported as other:
                file = stack.enter_context(_spooled(other.taken, file))
            else:
                yield replace(_source(blocks), live=True)
                return
        blocks = _open(file)
        stack.callback(lambda: blocks.close())
        source = _source(blocks)
        if source.sample_format in (SampleFormat.F32, SampleFormat.F64, SampleFormat.LOSSY):
            # Such samples may lie above full scale, and their number need not be announced: look first.
            samples, peak = _scan(source.blocks)
            if samples < (source.samples or 0):
                raise damaged(f"{(source.samples or 0) - samples} of {source.samples} samples are lost")
            blocks.close()
            blocks = _open(file)
            source = replace(source, samples=samples, peak=peak, blocks=_source(blocks).blocks)
        with _left_in_place(file):
            tags = read_tags(file)
        yield replace(source, tags=tags or source.tags)


@contextmanager
def _left_in_place(file: Path | BinaryIO) -> Iterator[None]:
    """A file object stands afterwards where it stood before."""
    place = None if isinstance(file, Path) else file.tell()
    yield
    if place is not None and not isinstance(file, Path):
        file.seek(place)


def _open(file: Path | BinaryIO) -> Blocks:
    """A seekable file, with whatever reads it."""
    if not isinstance(file, Path):
        file.seek(0)
    elif not file.is_file():
        raise AudioError("no such file" if not file.exists() else "not a file")
    elif not file.stat().st_size:
        raise AudioError("an empty file")
    _refuse_cut_off(file)
    try:
        return SoundFileInput(file)
    except AudioError as error:
        refusal = error
    try:
        if not isinstance(file, Path):
            file.seek(0)
        return FFmpegInput(file)
    except ImportError:
        raise AudioError(f"{refusal}; m4a, mp4, webm and more need: pip install 'nac-audio[ffmpeg]'") from None


def _refuse_cut_off(file: Path | BinaryIO) -> None:
    """Raise AudioError for a file that ends before its header says so, which libsndfile reads without a word."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        place = stream.tell()
        if missing := missing_bytes(stream):
            raise cut_off(missing)
        stream.seek(place)


def is_audio(path: Path) -> bool:
    """Whether a file is audio, or may hold some, told by its first bytes."""
    try:
        with path.open("rb") as file:
            return may_be_audio(file.read(HEAD))
    except OSError:
        return True  # to be tried, and reported


def may_be_audio(head: bytes) -> bool:
    """Whether a file that begins with these ``HEAD`` bytes is audio, or may hold some."""
    mp3 = head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0 and head[1] & 6 in (2, 4)
    return mp3 or head.startswith(_SIGNATURES) or head[4:8] == b"ftyp"


_SIGNATURES = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd", b"\x1a\x45\xdf\xa3")


def _source(blocks: Blocks) -> Source:
    return Source(
        blocks.sample_rate,
        blocks.channels,
        blocks.samples,
        blocks.sample_format,
        _finite(blocks),
        tags=blocks.tags,
    )


def _finite(blocks: Blocks) -> Iterator[Samples]:
    """The blocks of a file, with samples that are no numbers as zeros."""
    while len(block := blocks.read()):
        if blocks.sample_format in (SampleFormat.F32, SampleFormat.F64) and not np.isfinite(block).all():
            block = np.nan_to_num(block, nan=0, posinf=0, neginf=0)
        yield block


def _scan(blocks: Iterator[Samples]) -> tuple[int, float]:
    """Number of samples per channel and their peak."""
    samples, peak = 0, 0.0
    for block in blocks:
        samples += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0)))
    return samples, peak


@contextmanager
def _spooled(head: bytes, file: BinaryIO) -> Iterator[BinaryIO]:
    """The rest of a pipe, after the bytes already taken, as a temporary file."""
    with tempfile.TemporaryFile(prefix="nac-") as spool:
        spool.write(head)
        shutil.copyfileobj(file, spool, 1 << 20)
        if spool.tell() == 0:
            raise AudioError("empty input")
        yield spool


def _seekable(file: BinaryIO) -> bool:
    try:
        return file.seekable()
    except (AttributeError, OSError):
        return False


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".").splitlines()[0] if str(text).strip() else type(error).__name__


_FORMATS = {
    "PCM_U8": SampleFormat.U8,
    "PCM_S8": SampleFormat.U8,
    "PCM_16": SampleFormat.S16,
    "PCM_24": SampleFormat.S24,
    "PCM_32": SampleFormat.S32,
    "FLOAT": SampleFormat.F32,
    "DOUBLE": SampleFormat.F64,
    "ULAW": SampleFormat.S16,
    "ALAW": SampleFormat.S16,
    "ALAC_16": SampleFormat.S16,
    "ALAC_20": SampleFormat.S24,
    "ALAC_24": SampleFormat.S24,
    "ALAC_32": SampleFormat.S32,
}


@dataclass(frozen=True)
class OutputFormat:
    """An audio format to write: libsndfile's names, and the sample rates (Hz) it takes, all up to ``highest``.

    ``may_be_empty``: libsndfile writes a file without samples that can be read back.
    """

    name: str
    format: str
    subtype: str
    rates: tuple[int, ...] = ()
    highest: int = 655350
    may_be_empty: bool = False

    def sample_rate(self, rate: int) -> int:
        """The rate to write audio of ``rate`` Hz at: the same, or the lowest that holds it, or the highest."""
        if not self.rates or rate in self.rates:
            return min(rate, self.highest)
        return min((r for r in self.rates if r >= rate), default=max(self.rates))


OUTPUT_FORMATS = {
    output.name: output
    for output in (
        OutputFormat("wav", "WAV", "PCM_16"),
        OutputFormat("flac", "FLAC", "PCM_16"),
        OutputFormat("ogg", "OGG", "VORBIS", highest=192000, may_be_empty=True),
        OutputFormat("opus", "OGG", "OPUS", (8000, 12000, 16000, 24000, 48000)),
        OutputFormat(
            "mp3", "MP3", "MPEG_LAYER_III", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
        ),
    )
}


class Sink(Protocol):
    """Audio being written."""

    def write(self, block: Samples) -> None:
        """Append samples [n, channels]; what lies beyond full scale is set to it."""
        ...

    def close(self) -> None: ...


class SoundFileOutput:
    """A file that libsndfile writes. Needs a file that can seek."""

    def __init__(self, file: BinaryIO, output: OutputFormat, sample_rate: int, channels: int) -> None:
        import soundfile

        self._integer = output.subtype.startswith("PCM")
        self._name, self._guard, self._empty = output.name, Guard(file), not output.may_be_empty
        try:
            self._file = soundfile.SoundFile(
                self._guard, "w", sample_rate, channels, format=output.format, subtype=output.subtype
            )
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            raise AudioError(
                f"cannot write {output.name} with {channels} channels at {sample_rate} Hz ({_reason(error)})"
            ) from None

    def write(self, block: Samples) -> None:
        self._file.write(to_int16(block) if self._integer else np.clip(block, -1, 1))
        self._empty = self._empty and not len(block)
        self._guard.check()

    def close(self) -> None:
        self._file.close()
        self._guard.check()
        if self._empty:
            raise AudioError(f"{self._name} cannot hold a recording without samples; wav can")


class Guard:
    """A file for libsndfile, whose callbacks cannot raise: the first error is kept until :meth:`check`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        self._try(lambda: self._file.write(data))
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> None:
        self._try(lambda: self._file.seek(offset, whence))  # which writes what is still to be written

    def tell(self) -> int:
        return self._try(self._file.tell) or 0

    def read(self, count: int) -> bytes:
        return self._try(lambda: self._file.read(count)) or b""

    def _try(self, action: Callable[[], T]) -> T | None:
        if self._error is None:
            try:
                return action()
            except OSError as error:
                self._error = error
        return None

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error


@contextmanager
def open_sink(
    file: BinaryIO, output: OutputFormat, sample_rate: int, channels: int, samples: int | None, tags: Tags = ()
) -> Iterator[Sink]:
    """Write audio to a file, a pipe or a file-like object; ``samples`` per channel, if known beforehand.

    ``tags`` are left out where WAV goes to a pipe, since there they come last and need its beginning changed.
    """
    if output.format == "WAV":
        wav = WavOutput(file, sample_rate, channels, samples)
        yield wav
        wav.close()
        if tags and file.readable() and _seekable(file):
            write_tags(file, output.name, tags)
            file.seek(0, os.SEEK_END)
        return
    with ExitStack() as stack:
        target = file if _seekable(file) else stack.enter_context(tempfile.TemporaryFile(prefix="nac-"))
        sink = SoundFileOutput(target, output, sample_rate, channels)
        try:
            yield sink
        finally:
            sink.close()
        if tags and target.readable():
            write_tags(target, output.name, tags)
        if target is file:
            target.seek(0, os.SEEK_END)  # libsndfile leaves it where it last mended the header
        else:
            target.seek(0)
            shutil.copyfileobj(target, file, 1 << 20)
