"""Writing recordings in blocks: WAV to any stream; FLAC, Ogg Vorbis, Opus and MP3 with libsndfile."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol, TypeVar

import numpy as np

from nac.audio import layout
from nac.audio.reading import seekable
from nac.audio.resample import Samples
from nac.audio.tags import Tags, write_tags
from nac.audio.view import reason
from nac.audio.wav import Bits, WavOutput, to_int16, to_int32
from nac.container.header import MAX_RATE
from nac.errors import AudioError

T = TypeVar("T")
log = logging.getLogger("nac")
_PIECE = 1 << 15  # samples given to libsndfile at a time; its Vorbis encoder crashes the process at two million


@dataclass(frozen=True)
class OutputFormat:
    """An output format: libsndfile's names, and its sample rates (Hz), or any rate up to ``highest``.

    ``may_be_empty``: a file without samples can be read back. ``bits``: the sample format, where it can be chosen
    from ``choices``.
    """

    name: str
    format: str
    subtype: str
    rates: tuple[int, ...] = ()
    highest: int = 655350
    may_be_empty: bool = False
    bits: Bits = "16"
    choices: tuple[Bits, ...] = ()

    def with_bits(self, bits: Bits | None) -> OutputFormat:
        """The format with another sample format; None: unchanged. Raises AudioError if it is not supported."""
        if bits is None:
            return self
        if not self.choices:
            raise AudioError(f"{self.name} is lossy, and has no bits per sample")
        if bits not in self.choices:
            raise AudioError(f"{self.name} has samples of {' or '.join(self.choices)} bits, not {bits}")
        return replace(self, bits=bits, subtype={"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}[bits])

    def sample_rate(self, rate: int) -> int:
        """The output rate for audio of ``rate`` Hz: the same, or the next higher one, or the highest."""
        if not self.rates or rate in self.rates:
            return min(rate, self.highest)
        return min((r for r in self.rates if r >= rate), default=max(self.rates))


OUTPUT_FORMATS = {
    output.name: output
    for output in (
        OutputFormat("wav", "WAV", "PCM_16", highest=MAX_RATE, choices=("16", "24", "float")),
        OutputFormat("flac", "FLAC", "PCM_16", choices=("16", "24")),
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
        """Append samples [n, channels]; clipped to full scale."""
        ...

    def close(self) -> None: ...


class SoundFileOutput:
    """A writer through libsndfile. The file must be seekable."""

    def __init__(
        self, file: BinaryIO, output: OutputFormat, sample_rate: int, channels: int, mask: int = 0
    ) -> None:
        import soundfile

        numbers: dict[str, Callable[[Samples], Any]] = {"PCM_16": to_int16, "PCM_24": to_int32}
        self._numbers: Callable[[Samples], Any] = numbers.get(output.subtype, lambda block: np.clip(block, -1, 1))
        self._order: list[int] | None = None
        if output.format == "OGG" and channels > 2:
            self._order = layout.coded_order(mask, channels)
            if self._order is None:
                log.warning("%s cannot store the layout %s: read as another", output.name, layout.name(mask))
                self._order = layout.coded_order(0, channels)
        self._name, self._guard, self._empty = output.name, Guard(file), not output.may_be_empty
        try:
            self._file = soundfile.SoundFile(
                self._guard, "w", sample_rate, channels, format=output.format, subtype=output.subtype
            )
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            raise AudioError(
                f"cannot write {output.name} with {channels} channels at {sample_rate} Hz ({reason(error)})"
            ) from None

    def write(self, block: Samples) -> None:
        ordered = block if self._order is None else np.ascontiguousarray(block[:, self._order])
        for start in range(0, len(ordered), _PIECE):
            self._file.write(self._numbers(ordered[start : start + _PIECE]))
        self._empty = self._empty and not len(block)
        self._guard.check()

    def close(self) -> None:
        self._file.close()
        self._guard.check()

    def check_not_empty(self) -> None:
        """Raise AudioError if no samples were written to a format that needs some."""
        if self._empty:
            raise AudioError(f"{self._name} cannot hold a recording without samples; wav can")


class Guard:
    """A file for libsndfile, whose callbacks cannot raise: :meth:`check` raises the first error later."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        self._try(lambda: self._file.write(data))
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> None:
        self._try(lambda: self._file.seek(offset, whence))  # flushes first

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
        """Raise the first error, if any."""
        if self._error is not None:
            raise self._error


@contextmanager
def open_sink(
    file: BinaryIO, output: OutputFormat, sample_rate: int, channels: int, samples: int | None, tags: Tags = ()
) -> Iterator[Sink]:
    """Write audio to a file, a pipe or a file-like object; ``samples`` per channel, if known in advance.

    ``tags`` are left out if WAV goes to a pipe: they come last, and would need a change at the beginning. The
    channel layout among them is stored as the format defines it; only MP3 cannot.
    """
    mask = layout.of_tags(tags, channels)
    tags = layout.tagged(tags, mask if output.name == "flac" else 0, channels)
    if output.format == "WAV":
        wav = WavOutput(file, sample_rate, channels, samples, bits=output.bits, mask=mask)
        yield wav
        wav.close()
        if tags and file.readable() and seekable(file):
            write_tags(file, output.name, tags)
            file.seek(0, os.SEEK_END)
        return
    with ExitStack() as stack:
        target = file if seekable(file) else stack.enter_context(tempfile.TemporaryFile(prefix="nac-"))
        sink = SoundFileOutput(target, output, sample_rate, channels, mask)
        try:
            yield sink
        finally:
            sink.close()
        sink.check_not_empty()
        if tags and target.readable():
            write_tags(target, output.name, tags)
        if target is file:
            target.seek(0, os.SEEK_END)  # libsndfile leaves the position at the header
        else:
            target.seek(0)
            shutil.copyfileobj(target, file, 1 << 20)
