"""Decode the requested samples of a .nac file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nac.audio.resample import Samples
from nac.codecs.base import Codec
from nac.container.header import UNKNOWN_WEIGHTS, Header
from nac.container.reader import Reader
from nac.errors import ArgumentTypeError, ModelError
from nac.files.chunks_to_samples import decode_blocks
from nac.files.opening import check_growth, check_start
from nac.spec import CodecSpec
from nac.weights.loaded import loaded

if TYPE_CHECKING:
    import torch

Load = Callable[[str], Codec]


def loader(
    codec: Codec | None,
    weights: str | os.PathLike[str] | None,
    device: str | torch.device,
    *,
    download: bool = False,
    fast: bool = False,
) -> Load:
    """A function from a model's name to a codec: the given codec, or else one that stays loaded."""
    if codec is not None:
        check_codec(codec)
    return lambda name: codec or loaded(name, weights=weights, device=device, download=download, fast=fast)


def check_codec(codec: Codec) -> None:
    """Raises ArgumentTypeError for what is none, as its name."""
    if not isinstance(codec, Codec):
        raise ArgumentTypeError(f"a codec that nac.load gave is needed, not {codec!r}")


def codec_of(header: Header, load: Load, *, force: bool = False) -> Codec:
    """The codec of a file. PyTorch is imported only here, after the file was found valid."""
    codec = load(header.model)
    if header.segment and codec.spec.family == "dac":  # windows from a .dac file
        from nac.codecs.segmented import Segmented

        codec = Segmented(codec, header.segment)
    check_model(header, codec.spec, force=force)
    return codec


def check_model(header: Header, spec: CodecSpec, *, force: bool = False) -> None:
    """Raise ModelError unless the codec is the one that made a file; ``force`` allows other weights."""
    ours = (spec.sample_rate, spec.channels, spec.frame_samples, spec.codebooks, spec.segment, spec.has_scale)
    same = (header.sample_rate, header.network_channels, header.frame_samples, header.codebooks, header.segment)
    if header.model != spec.name or (*same, header.has_scale) != ours:
        raise ModelError(f"made with {header.model}, which the given {spec.name} cannot decode")
    if header.fingerprint not in (spec.fingerprint, spec.former, UNKNOWN_WEIGHTS) and not force:
        raise ModelError(
            f"made with {header.model} weights {header.fingerprint}, but the given ones are {spec.fingerprint}",
            remedy="force_model",
        )


def at_rate(samples: int, header: Header, rate: int) -> int:
    """Convert a number of samples from the original rate to ``rate``."""
    return -(-samples * rate // header.original_sample_rate)


def trimmed(
    reader: Reader, codec: Codec, counts: tuple[int, ...], low: int, high: int | None, rate: int
) -> Iterator[Samples]:
    """Exactly the requested samples. If the end is known late, one frame of samples is buffered.

    Raises NacError if ``low`` turns out to be after the end.
    """
    header, spec = reader.header, codec.spec
    first = at_rate(low + header.start, header, rate)
    left = None if high is None else at_rate(high - low, header, rate)
    # When decoding to the end of the recording, read to the end of the file, so that it is checked.
    stop = None if left is None or high == reader.samples else first + left
    if stop is None and left is not None and reader.seekable:
        check_growth(2 * left * header.channels, reader.size)
    blocks = decode_blocks(reader, codec, sample_rate=rate, start=first, stop=stop, codebooks=counts)
    if left is not None:
        for block in blocks:
            if left > 0:
                yield block[:left]
            left -= len(block)
        check_start(reader, low)
        return
    margin = -(-spec.frame_samples * spec.frame_multiple * rate // spec.sample_rate) + 1
    pending: deque[Samples] = deque()
    ready, given = 0, 0
    for block in blocks:
        pending.append(block)
        ready += len(block)
        while ready - len(pending[0]) >= margin:
            ready -= len(pending[0])
            given += len(pending[0])
            yield pending.popleft()
    if reader.samples is not None:
        check_start(reader, low)
        end = at_rate(reader.samples - low, header, rate)
        for block in pending:
            yield block[: max(0, end - given)]
            given += len(block)
