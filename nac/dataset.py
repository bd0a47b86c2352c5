"""The codes in a folder of .nac files as a dataset for PyTorch."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nac.errors import NacError
from nac.nacfile import SILENT, NacFile, check_growth

Codes = Tensor | list[Tensor]


class Dataset(torch.utils.data.Dataset[Any]):
    """Codes of all .nac files below a folder: whole files, or crops of one length.

    ``seconds`` or ``frames``: the length of a crop; crops follow one another without overlap, and what is left at
    the end of a file is not used. Without either, an item is a whole file. ``codebooks``: at most so many, coarse
    to fine. ``stream``: the one to give (0: the only one, or of a stereo pair the one with most of the sound).
    ``transform`` makes something else of an item, :func:`nac.flatten` for example.

    An item is an int64 tensor [codebooks, frames], or, where a frame has another number of codes in each codebook
    (SNAC), a list with a tensor [frames * codes_per_frame] for each. -1 stands where the stream is silent and has
    no codes.

    Files are opened when they are read and not kept open, and only the chunks that are needed are read: a dataset
    can be pickled, and be used by any number of workers. Raises NacError where files do not go together.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        seconds: float | None = None,
        frames: int | None = None,
        codebooks: int | None = None,
        stream: int = 0,
        transform: Callable[[Codes], Any] | None = None,
    ) -> None:
        if seconds is not None and frames is not None:
            raise NacError("give seconds or frames, not both")
        self.paths = [os.fspath(path) for path in sorted(Path(folder).rglob("*.nac")) if path.is_file()]
        if not self.paths:
            raise NacError(f"no .nac files in {folder}")
        self._codebooks, self._stream, self._transform = codebooks, stream, transform
        ranges = [self._look(path) for path in self.paths]
        if seconds is not None:
            frames = round(seconds * self.spec.sample_rate / self.spec.frame_samples)
        if frames is not None and frames < 1:
            raise NacError(f"crops of {frames} frames cannot be")
        self.frames = frames
        self._starts = np.array([held.start for held in ranges])
        self._stops = np.array([held.stop for held in ranges])
        counts = np.ones(len(ranges), np.int64) if frames is None else (self._stops - self._starts) // frames
        self._ends = np.cumsum(counts)

    def _look(self, path: str) -> range:
        """The frames of a file. The first one sets what all must be like."""
        try:
            with NacFile(path) as file:
                spec, counts, held = file.header.spec, file.header.stream_codebooks, file.frames
        except NacError as error:
            raise NacError(f"{path}: {error}") from None
        if path == self.paths[0]:
            self.spec = spec
        if (spec.name, spec.fingerprint, spec.codebooks) != (
            self.spec.name,
            self.spec.fingerprint,
            self.spec.codebooks,
        ):
            raise NacError(f"{path}: of {spec.name} {spec.fingerprint}, {self.paths[0]} is not")
        if self._stream >= len(counts) or counts[self._stream] < (self._codebooks or 1):
            raise NacError(f"{path}: has {' + '.join(map(str, counts))} codebooks")
        return held

    def __len__(self) -> int:
        """Number of crops, or of files."""
        return int(self._ends[-1])

    def where(self, index: int) -> tuple[str, range]:
        """The file of an item, and its frames there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        number = bisect_right(self._ends, index)
        start, stop = int(self._starts[number]), int(self._stops[number])
        if self.frames is not None:
            start += (index - int(self._ends[number - 1] if number else 0)) * self.frames
            stop = start + self.frames
        return self.paths[number], range(start, stop)

    def __getitem__(self, index: int) -> Any:
        path, held = self.where(index)
        try:
            with NacFile(path) as file:
                check_growth(
                    8 * len(held) * sum(unit for _, unit in self.spec.codebooks), Path(path).stat().st_size
                )
                arrays = file.frame_codes(held.start, held.stop, codebooks=self._codebooks)[self._stream]
        except NacError as error:
            raise NacError(f"{path}: {error}") from None
        codes = as_tensor(arrays, len(held), [unit for _, unit in self.spec.codebooks])
        return codes if self._transform is None else self._transform(codes)


def as_tensor(arrays: list[Any], frames: int, units: list[int]) -> Codes:
    """The codes of a stream as int64 tensors of exactly so many frames."""
    tensors = []
    for array, unit in zip(arrays, units, strict=False):
        missing = frames * unit - len(array)  # at the end of a file whose last frames are lost
        tensors.append(torch.from_numpy(np.pad(array.astype(np.int64), (0, missing), constant_values=SILENT)))
    return torch.stack(tensors) if len(set(units)) == 1 else tensors
