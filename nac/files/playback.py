"""The samples of a .nac file from wherever one likes, decoded as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nac.audio.resample import Samples
from nac.codecs.base import Codec
from nac.container.reader import Reader
from nac.errors import FormatError
from nac.files.decoding import Load, codec_of, trimmed


class Playback:
    """Reads on from a position, which can be moved. What is read in parts is what is read at once.

    ``position``: of the next sample, per channel, from the start of the recording.
    """

    def __init__(self, reader: Reader, load: Load) -> None:
        self.reader, self._load = reader, load
        self._codec: Codec | None = None
        self._nothing: Samples = np.zeros((0, reader.header.channels), np.float32)
        self.position = 0
        self._begin()

    def _begin(self) -> None:
        self._blocks: Iterator[Samples] | None = None
        self._rest = self._nothing  # decoded, and not read yet
        self._damage: FormatError | None = None

    def seek(self, position: int) -> None:
        """Read on from there."""
        if position != self.position:
            self._begin()
            self.position = position

    def read(self, samples: int | None) -> Samples:
        """The next samples [n, channels]: so many, or all; fewer, and at last none, where the recording ends.

        Where the file is damaged, all before that comes first. Raises NacError.
        """
        parts, have = [self._nothing], 0
        while samples is None or have < samples:
            try:
                block = self._rest if len(self._rest) else next(self._decoded(), None)
            except FormatError as damage:
                self._damage = damage
                if not have:
                    raise
                break
            if block is None:
                break
            taken = len(block) if samples is None else min(len(block), samples - have)
            parts.append(block[:taken])
            self._rest = block[taken:]
            have += taken
        self._rest = self._rest.copy()  # which keeps nothing of what is read already
        self.position += have
        return np.concatenate(parts)

    def _decoded(self) -> Iterator[Samples]:
        """The blocks from here on."""
        if self._damage is not None:
            raise self._damage
        if self._blocks is None:
            reader, header = self.reader, self.reader.header
            self._codec = self._codec or codec_of(header, self._load)
            end, rate, counts = reader.samples, header.original_sample_rate, header.stream_codebooks
            blocks = trimmed(reader, self._codec, counts, self.position, end, rate)
            self._blocks = (block / np.float32(header.gain) for block in blocks)
        return self._blocks
