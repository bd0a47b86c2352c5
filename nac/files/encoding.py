"""Encode a recording to a .nac file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from nac.audio.reading import Source
from nac.audio.resample import Samples
from nac.bitrate import allocate, check_bitrate
from nac.codecs.base import Codec
from nac.codecs.registry import find
from nac.container.codebooks import Coding, check_coding
from nac.container.header import Header
from nac.container.writer import Writer
from nac.errors import ArgumentError, AudioError
from nac.files.decoding import Load, check_codec
from nac.files.pipeline import encode_chunks, make_header
from nac.weights import models


@dataclass(frozen=True)
class Encoding:
    """Coding options of a recording: see :func:`nac.compress`."""

    model: str = "auto"
    kbps: float | None = None
    codebooks: int | None = None
    mono: bool = False
    coding: Coding = "auto"

    def __post_init__(self) -> None:
        """Raises NacError for what no recording can be coded with."""
        check_coding(self.coding)
        check_bitrate(self.kbps, self.codebooks)


def prepare(source: Source, how: Encoding, load: Load, codec: Codec | None = None) -> tuple[Codec, Header]:
    """The codec for a recording (or the given one), and the header of its file. Raises NacError."""
    channels = 1 if how.mono else source.channels
    alone = not how.mono and source.angle is not None
    if codec is not None:
        check_codec(codec)
        if how.model not in ("auto", codec.spec.name):
            raise ArgumentError(f"the model {how.model!r} with a codec that is {codec.spec.name}")
        counts = allocate(codec.spec, channels, kbps=how.kbps, codebooks=how.codebooks, alone=alone)
        return codec, make_header(source, codec.spec, counts, mono=how.mono)
    model = how.model
    if model == "auto":
        model = models.choose(channels, kbps=how.kbps, codebooks=how.codebooks)
    # Report an impossible bitrate before anything is downloaded.
    counts = allocate(find(model).spec, channels, kbps=how.kbps, codebooks=how.codebooks, alone=alone)
    codec = load(model)  # may import PyTorch, so only after the input was found to be audio
    return codec, make_header(source, codec.spec, counts, mono=how.mono)


def write_nac(out: BinaryIO, source: Source, codec: Codec, header: Header, coding: Coding) -> tuple[int, int]:
    """Samples per channel and bytes written."""
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
        raise AudioError(f"has {samples} samples, not the {header.samples} that it declares")
    writer.finish(samples)
    return samples, writer.bytes_written
