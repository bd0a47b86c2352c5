"""Whole recordings to .nac files and back: what `nac compress` and `nac decompress` do with one file."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nac.audio.recordings import OUTPUT_FORMATS, OutputFormat, Source, open_sink, open_source
from nac.audio.resample import Samples
from nac.bitrate import allocate, at_most, total_kbps
from nac.codecs.base import Codec
from nac.codecs.registry import find
from nac.container.codebooks import Coding
from nac.container.header import Header
from nac.container.reader import Reader
from nac.container.writer import Writer
from nac.errors import AudioError, NacError
from nac.files.nacfile import check_growth, opened, sample_range
from nac.files.verify import read_back
from nac.storage.output import PathOrFile, Result, created, name_of, size_of, sync
from nac.weights import models

Load = Callable[[str], Codec]
Progress = Callable[[float, float | None], None]
"""Told how many more seconds of audio are done, and how many there are in all, if that is known."""


def compress(
    src: PathOrFile,
    dst: PathOrFile,
    *,
    model: str = "auto",
    kbps: float | None = None,
    codebooks: int | None = None,
    mono: bool = False,
    coding: Coding = "auto",
    device: str = "auto",
    weights: str | os.PathLike[str] | None = None,
    force: bool = False,
    verify: bool = False,
    load: Load | None = None,
    progress: Progress | None = None,
) -> Result:
    """Compress a recording, a path or a binary file object, to a .nac file.

    ``kbps``: at most so many kbit/s, all channels together; ``codebooks``: the count for every stream instead. By
    default 8 kbit/s or the next possible. ``mono``: mix down first. ``model``: a name, or "auto" for the best that
    is already on this machine. ``coding``: "auto" takes fewer bytes where the codes allow it, "packed" is faster,
    "range" tries harder. An existing ``dst`` is replaced only with ``force``. ``verify``: read ``dst`` back
    from the disk and check it before it takes its name. ``load`` replaces ``nac.load(name, weights=weights,
    device=device)``. Raises NacError.
    """
    began = time.perf_counter()
    load = load or (lambda name: models.load(name, weights=weights, device=device))
    with open_source(Path(src) if isinstance(src, (str, os.PathLike)) else src) as source:
        channels = 1 if mono else source.channels
        if model == "auto":
            model = models.choose(channels, kbps=kbps, codebooks=codebooks)
        # A bitrate that cannot be is told before anything is downloaded.
        counts = allocate(find(model).spec, channels, kbps=kbps, codebooks=codebooks)
        # What needs PyTorch comes only now, so that what is no audio is refused at once.
        from nac.files.pipeline import make_header

        codec = load(model)
        header = make_header(source, codec.spec, counts, mono=mono)
        with created(src, dst, force=force) as out:
            _check_readable(out, verify)
            samples, size = _write_nac(out, _watched(source, progress), codec, header, coding)
            if verify:
                read_back(out, header, samples)
    return Result(
        input=name_of(src),
        output=name_of(dst),
        model=model,
        kbps=total_kbps(codec.spec, counts),
        seconds=samples / source.sample_rate,
        bytes_in=size_of(src),
        bytes_out=size,
        wall_seconds=time.perf_counter() - began,
    )


def _check_readable(out: BinaryIO, verify: bool) -> None:
    if verify and not (out.readable() and out.seekable()):
        raise NacError("this output cannot be read back, and so not verified")


def _count_again(out: BinaryIO, samples: int) -> None:
    """Read audio that was just written, from the disk if possible. Raises NacError if any is missing."""
    sync(out)
    try:
        with open_source(out) as source:
            found = sum(map(len, source.blocks))
    except AudioError as error:
        raise NacError(f"the output did not come back as it was written: {error}") from None
    if found != samples:
        raise NacError(f"the output came back with {found} samples, not {samples}")
    out.seek(0, os.SEEK_END)


def _write_nac(out: BinaryIO, source: Source, codec: Codec, header: Header, coding: Coding) -> tuple[int, int]:
    """Samples per channel and bytes written."""
    from nac.files.pipeline import encode_chunks

    samples = 0

    def counted() -> Iterator[Samples]:
        nonlocal samples
        for block in source.blocks:
            samples += len(block)
            yield block

    writer = Writer(out, header)
    for chunk in encode_chunks(replace(source, blocks=counted()), codec, header, coding):
        writer.write(chunk)
        out.flush()
    if header.samples not in (None, samples):
        raise AudioError(f"holds {samples} samples, not the {header.samples} that it announces")
    writer.finish(samples)
    return samples, writer.bytes_written


def decompress(
    src: PathOrFile,
    dst: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    format: str | None = None,
    kbps: float | None = None,
    codebooks: int | None = None,
    device: str = "auto",
    weights: str | os.PathLike[str] | None = None,
    force: bool = False,
    force_model: bool = False,
    verify: bool = False,
    load: Load | None = None,
    progress: Progress | None = None,
) -> Result:
    """Decompress a .nac file, a path or a binary file object, to audio.

    ``start`` and ``duration`` in seconds. ``format``: wav, flac, ogg, opus or mp3; by default what the ending of
    ``dst`` says, else 16-bit WAV. ``kbps`` or ``codebooks``: decode no more than that. ``force_model``: decode
    with weights other than those the file was made with. ``verify``: read ``dst`` back and count its samples
    before it takes its name. The rest as for :func:`compress`. Raises NacError.
    """
    began = time.perf_counter()
    output = output_format(format, dst)
    load = load or (lambda name: models.load(name, weights=weights, device=device, download=False))
    with opened(src) as reader:
        header = reader.header
        counts = at_most(header, kbps=kbps, codebooks=codebooks)
        low, high = sample_range(reader, start, duration)
        codec = _codec(header, load, force=force_model)
        rate = output.sample_rate(header.original_sample_rate)
        blocks = _trimmed(reader, codec, counts, low, high, rate)
        samples = 0
        total = None if high is None else (high - low) / header.original_sample_rate
        known = None if high is None else _at_rate(high - low, header, rate)
        with created(src, dst, force=force) as out:
            _check_readable(out, verify)
            with open_sink(out, output, rate, header.channels, known, header.tags) as sink:
                for block in blocks:
                    # A gain below 1 was there so that nothing clips, and stays.
                    sink.write(block / np.float32(header.gain) if header.gain > 1 else block)
                    samples += len(block)
                    if progress:
                        progress(len(block) / rate, total)
            size = out.tell()
            if verify:
                _count_again(out, samples)
    return Result(
        input=name_of(src),
        output=name_of(dst),
        model=header.model,
        kbps=total_kbps(header.spec, counts),
        seconds=samples / rate,
        bytes_in=size_of(src),
        bytes_out=size,
        wall_seconds=time.perf_counter() - began,
    )


def read(
    path: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    device: str = "auto",
    weights: str | os.PathLike[str] | None = None,
    load: Load | None = None,
) -> tuple[Samples, int]:
    """The samples of a .nac file, float32 [n, channels], and their rate (Hz), like ``soundfile.read``.

    ``start`` and ``duration`` in seconds. Only what is needed is read and decoded. Samples may lie beyond -1 to 1
    where the original's did. Raises NacError.
    """
    load = load or (lambda name: models.load(name, weights=weights, device=device, download=False))
    with opened(path) as reader:
        header = reader.header
        low, high = sample_range(reader, start, duration)
        codec = _codec(header, load)
        rate = header.original_sample_rate
        parts = [np.zeros((0, header.channels), np.float32)]
        parts += _trimmed(reader, codec, header.stream_codebooks, low, high, rate)
    return np.concatenate(parts) / np.float32(header.gain), rate


def output_format(format: str | None, dst: PathOrFile) -> OutputFormat:
    """The format named, else the one that the ending of a path means. Raises NacError for others."""
    name = format.lower() if format else None
    if name is None and isinstance(dst, (str, os.PathLike)):
        name = Path(os.fsdecode(dst)).suffix.lower().lstrip(".")
    if not name:
        return OUTPUT_FORMATS["wav"]
    if name not in OUTPUT_FORMATS:
        raise NacError(f"cannot write {name!r}; the formats are {', '.join(OUTPUT_FORMATS)} (--format names one)")
    return OUTPUT_FORMATS[name]


def _codec(header: Header, load: Load, *, force: bool = False) -> Codec:
    """The codec that a file was made with. Only here, when the file is known to be good, PyTorch is imported."""
    from nac.files.pipeline import check_model

    codec = load(header.model)
    if header.segment and codec.spec.family == "dac":  # the windows of a .dac file
        from nac.codecs.segmented import Segmented

        codec = Segmented(codec, header.segment)
    check_model(header, codec.spec, force=force)
    return codec


def _at_rate(samples: int, header: Header, rate: int) -> int:
    """A number of samples at the original rate as one at ``rate``."""
    return -(-samples * rate // header.original_sample_rate)


def _trimmed(
    reader: Reader, codec: Codec, counts: tuple[int, ...], low: int, high: int | None, rate: int
) -> Iterator[Samples]:
    """The samples wanted, no more: where their end is only known at the end, a frame's worth is held back."""
    from nac.files.pipeline import decode_blocks

    header, spec = reader.header, codec.spec
    first = _at_rate(low + header.start, header, rate)
    left = None if high is None else _at_rate(high - low, header, rate)
    # Up to the end of the recording the file is read to its own end, so that this is checked too.
    stop = None if left is None or high == reader.samples else first + left
    if stop is None and left is not None and reader.seekable:
        check_growth(2 * left * header.channels, reader.size)
    blocks = decode_blocks(reader, codec, sample_rate=rate, start=first, stop=stop, codebooks=counts)
    if left is not None:
        for block in blocks:
            if left > 0:
                yield block[:left]
            left -= len(block)
        return
    margin = -(-spec.frame_samples * spec.frame_multiple * rate // spec.sample_rate) + 1
    held: deque[Samples] = deque()
    ready, given = 0, 0
    for block in blocks:
        held.append(block)
        ready += len(block)
        while ready - len(held[0]) >= margin:
            ready -= len(held[0])
            given += len(held[0])
            yield held.popleft()
    if reader.samples is not None:
        end = _at_rate(max(0, reader.samples - low), header, rate)
        for block in held:
            yield block[: max(0, end - given)]
            given += len(block)


def _watched(source: Source, progress: Progress | None) -> Source:
    if progress is None:
        return source
    total = None if source.samples is None else source.samples / source.sample_rate

    def blocks() -> Iterator[Samples]:
        for block in source.blocks:
            yield block
            progress(len(block) / source.sample_rate, total)

    return replace(source, blocks=blocks())
