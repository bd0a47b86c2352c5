"""Encode a recording to a .nac file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from nac.audio.layout import tagged
from nac.audio.reading import Source
from nac.audio.resample import Samples
from nac.bitrate import allocate, check_bitrate, is_stereo_pair
from nac.codecs.base import Codec
from nac.codecs.registry import find
from nac.container.codebooks import Coding, check_coding
from nac.container.header import MAX_CHANNELS, MIN_RATE, Header
from nac.container.writer import Writer
from nac.errors import ArgumentError, AudioError
from nac.files.decoding import Load, check_codec
from nac.files.samples_to_chunks import encode_chunks
from nac.spec import CodecSpec
from nac.weights import models

LOUDEST = 1e30
"""The largest peak: the gain for larger ones cannot be stored in a file."""


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
        model = models.choose(channels, source.sample_rate, kbps=how.kbps, codebooks=how.codebooks)
    # Report an impossible bitrate before anything is downloaded.
    counts = allocate(find(model).spec, channels, kbps=how.kbps, codebooks=how.codebooks, alone=alone)
    codec = load(model)  # may import PyTorch, so only after the input was found to be audio
    return codec, make_header(source, codec.spec, counts, mono=how.mono)


def make_header(source: Source, spec: CodecSpec, counts: tuple[int, ...], *, mono: bool) -> Header:
    """The header of a file made from a source, with this number of codebooks in each stream.

    Raises AudioError if there are too many channels, too large samples or too low a rate for a file.
    """
    channels = 1 if mono else source.channels
    if channels > MAX_CHANNELS:
        raise AudioError(f"{channels} channels; at most {MAX_CHANNELS} are possible", remedy="mono")
    if source.sample_rate < MIN_RATE:
        raise AudioError(f"a sample rate of {source.sample_rate} Hz; {MIN_RATE} Hz is the lowest")
    if source.peak > LOUDEST:
        raise AudioError(f"a sample of {source.peak:.3g}, where 1 is full scale")
    return Header(
        model=spec.name,
        fingerprint=spec.fingerprint,
        sample_rate=spec.sample_rate,
        frame_samples=spec.frame_samples,
        codebooks=spec.codebooks,
        network_channels=spec.channels,
        stereo_pair=is_stereo_pair(spec, channels),
        stream_codebooks=counts,
        original_sample_rate=source.sample_rate,
        channels=channels,
        sample_format=source.sample_format,
        samples=source.samples,
        gain=float(np.nextafter(np.float32(1 / source.peak), np.float32(0))) if source.peak > 1 else 1.0,
        segment=spec.segment,
        has_scale=spec.has_scale,
        tags=tagged(source.tags, 0, channels) if mono else source.tags,
    )


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
