"""Playing a .nac file: the core of `nac play`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nac.audio.speaker import speaker
from nac.container.header import Header
from nac.files.decoding import Load, codec_of, trimmed
from nac.files.opening import opened, sample_range
from nac.storage.output import PathOrFile

Begun = Callable[[Header, float | None], None]
"""Called with the file's properties and its length in seconds, if known."""


def play(
    src: PathOrFile,
    *,
    start: float = 0.0,
    duration: float | None = None,
    device: str | None = None,
    load: Load,
    begun: Begun | None = None,
) -> None:
    """Play a .nac file (path or binary file object) while it is decoded.

    ``start`` and ``duration`` in seconds; ``device``: the loudspeaker, see :func:`nac.audio.speaker.speaker`;
    ``load``: a function from a model's name to its codec. Raises NacError.
    """
    with opened(src) as reader:
        header = reader.header
        rate = header.original_sample_rate
        low, high = sample_range(reader, start, duration)
        blocks = trimmed(reader, codec_of(header, load), header.stream_codebooks, low, high, rate)
        block = next(blocks, None)  # decode it before the loudspeaker is opened
        with speaker(rate, header.channels, device) as sound:
            if begun:
                begun(header, None if high is None else (high - low) / rate)
            while block is not None:
                # A gain below 1 prevents clipping, and stays.
                sound(block / np.float32(header.gain) if header.gain > 1 else block)
                block = next(blocks, None)
