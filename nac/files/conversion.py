"""Compression and decompression of one recording: the core of `nac compress` and `nac decompress`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from nac.audio.levels import decibels
from nac.audio.memory import Array, DType, as_dtype
from nac.audio.reading import Source, open_source
from nac.audio.resample import Samples
from nac.audio.wav import Bits
from nac.audio.writing import OUTPUT_FORMATS, OutputFormat, open_sink
from nac.bitrate import at_most
from nac.codecs.base import Codec
from nac.container.codebooks import Coding
from nac.container.header import Header
from nac.errors import ArgumentError, AudioError, NacError
from nac.files.decoding import Load, at_rate, codec_of, loader, trimmed
from nac.files.encoding import Encoding, prepare, write_nac
from nac.files.opening import opened, sample_range
from nac.files.results import Stopwatch
from nac.files.verify import check_stretch_bytes, read_back, tell_gaps
from nac.storage.output import PathOrFile, Result, check_file, check_output, created, sync

if TYPE_CHECKING:
    import torch

log = logging.getLogger("nac")
_AUDIBLE = 1.0
"""The user is warned if an output is quieter by more than this many dB."""
Progress = Callable[[float, float | None], None]
"""Called with the seconds of audio done since the last call, and the total (None if unknown)."""


def compress(
    src: PathOrFile,
    dst: PathOrFile,
    *,
    model: str = "auto",
    kbps: float | None = None,
    codebooks: int | None = None,
    mono: bool = False,
    coding: Coding = "auto",
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
    force: bool = False,
    verify: bool = False,
    sound_only: bool = False,
    load: Load | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compress a recording to a .nac file.

    Parameters
    ----------
    src, dst : path or binary file object
        The recording to read, in any format that nac knows, and the .nac file to write.
    model : str
        A name, or "auto" for the best model whose weights are already on this machine.
    kbps : float, optional
        Upper limit for the bitrate, in kbit/s, all channels together. By default 8, or 4 for each channel of more
        than two, or the next possible above.
    codebooks : int, optional
        The number of codebooks of each stream, instead of ``kbps``.
    mono : bool
        Mix down to one channel.
    coding : {"auto", "packed", "range"}
        "auto" uses range coding where it saves bytes, "packed" is faster, "range" searches longer for fewer bytes.
    device : str or torch.device
        "auto" (CUDA if available), "cpu", "cuda", "cuda:N" or "mps".
    weights : path, optional
        Your own checkpoint instead of the official weights.
    force : bool
        Replace an existing ``dst``.
    verify : bool
        Read ``dst`` back from the disk and check it before it gets its final name.
    sound_only : bool
        Refuse a file that has video too; useful if ``src`` is to be deleted.
    load : callable, optional
        Called with the model's name instead of :func:`nac.load`, to load a model once for many calls.
    progress : callable, optional
        Called with the seconds of audio done since the last call, and the total or None.

    Returns
    -------
    Result
        Names, model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If ``src`` is not audio or is incomplete, the model or bitrate is not available, or ``dst`` exists.

    Examples
    --------
    >>> import nac
    >>> nac.compress("song.flac", "small.nac", model="nac_24khz", kbps=3).kbps
    3.0
    """
    how = Compression(Encoding(model, kbps, codebooks, mono, coding), verify, sound_only)
    load = load or loader(None, weights, device, download=True)
    return how.run(src, dst, load, force=force, progress=progress)


def decompress(
    src: PathOrFile,
    dst: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    format: str | None = None,
    bits: Bits | None = None,
    kbps: float | None = None,
    codebooks: int | None = None,
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
    fast: bool = False,
    force: bool = False,
    force_model: bool = False,
    verify: bool = False,
    load: Load | None = None,
    progress: Progress | None = None,
) -> Result:
    """Decompress a .nac file to audio.

    Parameters
    ----------
    src, dst : path or binary file object
        The .nac file to read, and the audio file to write.
    start : float
        Start, in seconds.
    duration : float, optional
        Length to decode, in seconds; by default up to the end.
    format : str, optional
        "wav", "flac", "ogg", "opus" or "mp3"; by default from the extension of ``dst``, or "wav".
    bits : {"16", "24", "float"}, optional
        Sample format of WAV and FLAC (FLAC has no floats); by default 16. Only floats can exceed full scale:
        with the others, a recording that does becomes quieter as a whole, which is logged.
    kbps : float, optional
        Decode at most this bitrate, in kbit/s, by leaving out the finest codebooks.
    codebooks : int, optional
        The number of codebooks to decode of each stream, instead of ``kbps``.
    device : str or torch.device
        "auto" (CUDA if available), "cpu", "cuda", "cuda:N" or "mps".
    weights : path, optional
        Your own checkpoint instead of the official weights.
    fast : bool
        Decode in half precision, close to the exact samples, where that is faster: EnCodec, DAC, SNAC and Mimi on
        a GPU, DAC on a CPU with AMX. Elsewhere the samples are exact, which is logged.
    force : bool
        Replace an existing ``dst``.
    force_model : bool
        Decode even if the file was made with other weights.
    verify : bool
        Read ``dst`` back and count its samples before it gets its final name.
    load : callable, optional
        Called with the model's name instead of :func:`nac.load`, to load a model once for many calls.
    progress : callable, optional
        Called with the seconds of audio done since the last call, and the total or None.

    Returns
    -------
    Result
        Names, model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If ``src`` is not a complete .nac file, its model or weights are not on this machine, or ``dst`` exists.

    Examples
    --------
    >>> import nac
    >>> nac.decompress("song.nac", "part.wav", start=1, duration=2).seconds
    2.0
    """
    how = Decompression(start, duration, format, bits, kbps, codebooks, force_model, verify)
    load = load or loader(None, weights, device, fast=fast)
    return how.run(src, dst, load, force=force, progress=progress)


def read(
    path: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    dtype: DType = "float32",
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
    fast: bool = False,
    codec: Codec | None = None,
    load: Load | None = None,
) -> tuple[Array, int]:
    """Decode a .nac file, or a part of it, to samples; similar to ``soundfile.read``.

    Only the necessary chunks are read and decoded.

    Parameters
    ----------
    path : path or binary file object
        The .nac file to read.
    start : float
        Start, in seconds.
    duration : float, optional
        Length to decode, in seconds; by default up to the end.
    dtype : {"float32", "float64", "int16", "int32"}
        Type of the samples. Floats exceed -1 to 1 where the original did; integers are rounded, and clipped to
        full scale.
    device : str or torch.device
        "auto" (CUDA if available), "cpu", "cuda", "cuda:N" or "mps".
    weights : path, optional
        Your own checkpoint instead of the official weights. Nothing is downloaded.
    fast : bool
        Decode in half precision where that is faster: see :func:`nac.decompress`.
    codec : Codec, optional
        The result of :func:`nac.load`. Without it, the two codecs used last stay loaded for the next call.
    load : callable, optional
        Called with the model's name to get a codec, instead of the four parameters above.

    Returns
    -------
    samples : array [n, channels]
        At the recording's sample rate, of type ``dtype``.
    sample_rate : int
        In Hz.

    Raises
    ------
    NacError
        If it is not a complete .nac file, or its model or weights are not on this machine.

    Examples
    --------
    >>> import nac
    >>> samples, sample_rate = nac.read("song.nac", start=1, duration=0.5)
    >>> samples.shape, sample_rate
    ((8000, 1), 16000)
    """
    load = load or loader(codec, weights, device, fast=fast)
    with opened(path) as reader:
        header = reader.header
        low, high = sample_range(reader, start, duration)
        check_stretch_bytes(reader, low, high)
        network = codec_of(header, load)
        rate = header.original_sample_rate
        parts = [np.zeros((0, header.channels), np.float32)]
        parts += trimmed(reader, network, header.stream_codebooks, low, high, rate)
    return as_dtype(np.concatenate(parts) / np.float32(header.gain), dtype), rate


@dataclass(frozen=True)
class Compression:
    """Options of :func:`nac.compress`, except those for the network and the output."""

    encoding: Encoding
    verify: bool = False
    sound_only: bool = False

    def run(
        self,
        src: PathOrFile,
        dst: PathOrFile,
        load: Load,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Result:
        """Compress a recording. The other options and the errors are those of :func:`nac.compress`."""
        watch = Stopwatch()
        check_file(src, "read")
        check_output(src, dst, force=force)
        with open_source(Path(src) if isinstance(src, (str, os.PathLike)) else src) as source:
            if self.sound_only and source.has_video:
                raise AudioError("has video besides audio, and is not removed: a .nac file keeps only the audio")
            codec, header = prepare(source, self.encoding, load)
            with created(src, dst, force=force) as out:
                _check_readable(out, self.verify)
                watched = _watched(source, progress)
                samples, size = write_nac(out, watched, codec, header, self.encoding.coding)
                if self.verify:
                    read_back(out, header, samples)
            _tell(source)
        return watch.result(src, dst, header, seconds=samples / source.sample_rate, size=size)


@dataclass(frozen=True)
class Decompression:
    """Options of :func:`nac.decompress`, except those for the network and the output."""

    start: float = 0.0
    duration: float | None = None
    format: str | None = None
    bits: Bits | None = None
    kbps: float | None = None
    codebooks: int | None = None
    force_model: bool = False
    verify: bool = False

    def run(
        self,
        src: PathOrFile,
        dst: PathOrFile,
        load: Load,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Result:
        """Decompress a .nac file. The other options and the errors are those of :func:`nac.decompress`."""
        watch = Stopwatch()
        check_output(src, dst, force=force)
        output = output_format(self.format, dst).with_bits(self.bits)
        with opened(src) as reader:
            header = reader.header
            counts = at_most(header, kbps=self.kbps, codebooks=self.codebooks)
            low, high = sample_range(reader, self.start, self.duration)
            gaps = check_stretch_bytes(reader, low, high)
            codec = codec_of(header, load, force=self.force_model)
            rate = output.sample_rate(header.original_sample_rate)
            total = None if high is None else at_rate(high - low, header, rate)
            blocks = _at_level(trimmed(reader, codec, counts, low, high, rate), header, output)
            with created(src, dst, force=force) as out:
                _check_readable(out, self.verify)
                samples = 0
                with open_sink(out, output, rate, header.channels, total, header.tags) as sink:
                    out.flush()
                    for block in blocks:
                        sink.write(block)
                        out.flush()  # the next one may take long to come through a pipe
                        samples += len(block)
                        if progress:
                            progress(len(block) / rate, None if total is None else total / rate)
                size = out.tell()
                if self.verify:
                    _count_again(out, samples, rate)
            _tell_level(header, output)
            tell_gaps(gaps if gaps is not None else reader.gaps)
        return watch.result(src, dst, header, seconds=samples / rate, size=size, codebooks=counts)


def _at_level(blocks: Iterable[Samples], header: Header, output: OutputFormat) -> Iterator[Samples]:
    """Samples at the recording's level: a gain below 1 prevents clipping, and stays in formats that would clip."""
    for block in blocks:
        yield block / np.float32(header.gain) if header.gain > 1 or output.bits == "float" else block


def _tell_level(header: Header, output: OutputFormat) -> None:
    """Log that an output is quieter than the recording."""
    if output.bits != "float" and decibels(1 / header.gain) >= _AUDIBLE:
        log.warning(
            "the recording's peak is %.1f dB above full scale, and this output is quieter by that much: "
            "WAV with float samples would keep its level",
            decibels(1 / header.gain),
        )


def _tell(source: Source) -> None:
    """Log remarks about a recording that was compressed."""
    for note in source.notes:
        log.warning("%s", note)
    if decibels(source.peak) >= _AUDIBLE:
        log.warning(
            "its peak is %.1f dB above full scale: integer formats will be quieter by that much, floats will not",
            decibels(source.peak),
        )


def _check_readable(out: BinaryIO, verify: bool) -> None:
    if verify and not (out.readable() and out.seekable()):
        raise NacError("this output cannot be verified, because it cannot be read back")


def _count_again(out: BinaryIO, samples: int, rate: int) -> None:
    """Read audio that was just written, from the disk if possible. Raises NacError if it is incomplete.

    ``samples`` at ``rate``; Opus decodes at another rate.
    """
    sync(out)
    try:
        with open_source(out) as source:
            found = sum(map(len, source.blocks)) * rate // source.sample_rate
    except AudioError as error:
        raise NacError(f"reading the output back failed: {error}") from None
    if found != samples:
        raise NacError(f"reading the output back gave {found} samples, not {samples}")
    out.seek(0, os.SEEK_END)


def output_format(format: str | None, dst: PathOrFile) -> OutputFormat:
    """The named format, or else the one of the path's extension. Raises NacError for unknown formats."""
    name = format.lower() if format else None
    if name is None and isinstance(dst, (str, os.PathLike)):
        name = Path(os.fsdecode(dst)).suffix.lower().lstrip(".")
    if not name:
        return OUTPUT_FORMATS["wav"]
    if name not in OUTPUT_FORMATS:
        raise ArgumentError(f"cannot write {name!r}; the formats are {', '.join(OUTPUT_FORMATS)}", remedy="format")
    return OUTPUT_FORMATS[name]


def _watched(source: Source, progress: Progress | None) -> Source:
    if progress is None:
        return source
    total = None if source.samples is None else source.samples / source.sample_rate

    def blocks() -> Iterator[Samples]:
        for block in source.blocks:
            yield block
            progress(len(block) / source.sample_rate, total)

    return replace(source, blocks=blocks())
