"""Samples of a .nac file from any position, decoded on demand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nac.audio.resample import Samples
from nac.codecs.base import Codec
from nac.container.reader import Reader
from nac.errors import FormatError
from nac.files.decoding import Load, codec_of, trimmed


class Playback:
    """Reads from a position that can be moved. Reading in parts gives the same samples as reading at once.

    ``position``: number of the next sample per channel, from the start of the recording.
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
        """Set the position."""
        if position != self.position:
            self._begin()
            self.position = position

    def read(self, samples: int | None) -> Samples:
        """The next samples [n, channels]; fewer or none at the end of the recording.

        If the file is damaged, all samples before that come first. Raises NacError.
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
        self._rest = self._rest.copy()  # frees what was read already
        self.position += have
        return np.concatenate(parts)

    def _decoded(self) -> Iterator[Samples]:
        """The blocks from the position on."""
        if self._damage is not None:
            raise self._damage
        if self._blocks is None:
            reader, header = self.reader, self.reader.header
            self._codec = self._codec or codec_of(header, self._load)
            end, rate, counts = reader.samples, header.original_sample_rate, header.stream_codebooks
            blocks = trimmed(reader, self._codec, counts, self.position, end, rate)
            self._blocks = (block / np.float32(header.gain) for block in blocks)
        return self._blocks
