"""A PyTorch dataset of the codes of many .nac files."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nac.errors import ArgumentError, NacError, file_error
from nac.files.codes import SILENT, CodeArray
from nac.files.nacfile import NacFile
from nac.files.opening import check_growth
from nac.spec import CodecSpec
from nac.storage import places
from nac.training import shards

T = TypeVar("T")
CodeTensors = Tensor | list[Tensor]


class Dataset(torch.utils.data.Dataset[Any]):
    """A dataset of the codes of all .nac files in a folder or its shards, for PyTorch's DataLoader.

    Items are whole files, or crops of one length. A folder of files becomes a dataset with a length and random
    access, sorted by path (:class:`FolderDataset`); a folder of shards becomes an iterable one
    (:class:`ShardDataset`). No file stays open, and only the necessary chunks are read, so a dataset can be
    pickled and used by any number of workers. For a URL, the workers must be spawned
    (``multiprocessing_context="spawn"``), because clients of object stores do not survive a fork.

    An item is an int64 tensor [codebooks, frames], or, if the codebooks have different numbers of codes per frame
    (SNAC), a list with one tensor [frames * codes_per_frame] per codebook. The code is -1 where the stream is
    silent and has no codes. ``spec`` describes the codec that made the codes.

    Parameters
    ----------
    source : path or URL
        A folder, or a URL such as s3://..., with .nac files or with shards written by `nac pack` or WebDataset.
    seconds, frames : float or int, optional
        The length of a crop, in seconds or in frames. Crops do not overlap; the rest at the end of a file is not
        used. By default, an item is a whole file.
    codebooks : int, optional
        The number of codebooks to return, from the coarsest on; by default all.
    stream : int
        The stream to return: 0 is the only one or, for a stereo pair, the one with most of the signal.
    transform : callable, optional
        A function applied to each item, for example :func:`nac.flatten`.
    column : str, optional
        For Parquet shards: the column with the .nac files, needed only if there are several.
    shuffle : int
        For shards: read them in random order, and draw items from a buffer of this many; 0 keeps the order. Files
        are shuffled by the DataLoader.
    seed : int
        For shards: the seed of the random order.
    rank, world_size : int, optional
        For shards: the number of this process and the count of processes that train together. By default those of
        torch.distributed, if it is initialised.

    Raises
    ------
    NacError
        If there are no .nac files, or they were made with different codecs.

    Examples
    --------
    >>> import nac, os, shutil
    >>> os.makedirs("speech", exist_ok=True)
    >>> _ = shutil.copy("song.nac", "speech")
    >>> dataset = nac.Dataset("speech", seconds=1, codebooks=4)
    >>> dataset[0].shape
    torch.Size([4, 75])
    """

    spec: CodecSpec

    def __new__(cls, source: str | os.PathLike[str] = "", *arguments: Any, **options: Any) -> Dataset:
        """Make a FolderDataset or a ShardDataset, depending on the files in ``source``."""
        if cls is Dataset:
            cls = ShardDataset if _has_shards(os.fspath(source)) else FolderDataset
        return super().__new__(cls)

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        seconds: float | None = None,
        frames: int | None = None,
        codebooks: int | None = None,
        stream: int = 0,
        transform: Callable[[CodeTensors], Any] | None = None,
        column: str | None = None,
        shuffle: int = 0,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if seconds is not None and frames is not None:
            raise ArgumentError("give seconds or frames, not both")
        self.source = os.fspath(source)
        self.frames = frames
        self._seconds, self._codebooks, self._stream, self._transform = seconds, codebooks, stream, transform
        self._column = column
        self._begin(shuffle, seed, rank, world_size)

    @abstractmethod
    def _begin(self, shuffle: int, seed: int, rank: int | None, world_size: int | None) -> None:
        """Scan the source."""

    @property
    def _place(self) -> places.Place:
        return _place(self.source)

    def _frames_of(self, name: str, file: NacFile) -> range:
        """Return the frames of a file. Raises NacError unless its codec is that of the first file."""
        spec, counts = file.header.spec, file.header.stream_codebooks
        if "spec" not in vars(self):
            self.spec, self._first = spec, name
            if self._seconds is not None:
                self.frames = round(self._seconds * spec.sample_rate / spec.frame_samples)
            if self.frames is not None and self.frames < 1:
                raise ArgumentError(f"a crop needs at least 1 frame, not {self.frames}: choose a longer one")
        if (spec.name, spec.fingerprint, spec.codebooks) != (
            self.spec.name,
            self.spec.fingerprint,
            self.spec.codebooks,
        ):
            made_with = f"made with {spec.name} {spec.fingerprint}"
            raise NacError(f"{made_with}, but {self._first} with {self.spec.name} {self.spec.fingerprint}")
        if self._stream >= len(counts) or counts[self._stream] < (self._codebooks or 1):
            wanted = f"{self._codebooks or 1} of stream {self._stream} are wanted"
            raise NacError(f"its streams have {' + '.join(map(str, counts))} codebooks; {wanted}")
        return file.frames

    def _crops(self, span: range) -> int:
        """Return the number of items in a file with these frames."""
        return 1 if self.frames is None else len(span) // self.frames

    def _crop(self, span: range, number: int) -> range:
        """Return the frames of an item."""
        if self.frames is None:
            return span
        start = span.start + number * self.frames
        return range(start, start + self.frames)

    def _read(self, file: NacFile, crop: range) -> list[CodeArray]:
        self._check_growth(file, crop)
        return file.frame_codes(crop.start, crop.stop, codebooks=self._codebooks)[self._stream]

    def _check_growth(self, file: NacFile, frames: range) -> None:
        check_growth(8 * len(frames) * sum(unit for _, unit in self.spec.codebooks), file.size)

    def _item(self, arrays: list[CodeArray], frames: int) -> Any:
        codes = as_tensor(arrays, frames, [unit for _, unit in self.spec.codebooks])
        return codes if self._transform is None else self._transform(codes)


class FolderDataset(Dataset):
    """A dataset of the files in a folder, with a length and random access."""

    def _begin(self, shuffle: int, seed: int, rank: int | None, world_size: int | None) -> None:
        if shuffle or rank is not None or world_size is not None:
            instead = "shuffle files with a DataLoader, split them with a DistributedSampler"
            raise ArgumentError(f"shuffle, rank and world_size are for shards: {instead}")
        if self._column is not None:
            raise ArgumentError("column is for Parquet shards, and here are .nac files")
        self._names = [name for name in _names(self.source) if name.endswith(".nac")]
        if not self._names:
            raise NacError(f"no .nac files in {self.source}")
        self.paths = [f"{self._place.name}/{name}" for name in self._names]
        ranges = []
        for number, path in enumerate(self.paths):
            with self._open(number) as file:
                ranges.append(self._frames_of(path, file))
        self._starts = np.array([span.start for span in ranges])
        self._stops = np.array([span.stop for span in ranges])
        self._ends = np.cumsum([self._crops(span) for span in ranges])

    @contextmanager
    def _open(self, number: int) -> Iterator[NacFile]:
        with (
            _named_errors(self.paths[number]),
            self._place.open(self._names[number]) as stream,
            NacFile(stream) as file,
        ):
            yield file

    def __len__(self) -> int:
        """Return the number of crops, or of files."""
        return int(self._ends[-1])

    def where(self, index: int) -> tuple[str, range]:
        """Return the file of an item, and its frames in that file."""
        number, crop = self._find(index)
        return self.paths[number], crop

    def _find(self, index: int) -> tuple[int, range]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} is out of range: there are {len(self)}")
        index %= len(self)
        number = bisect_right(self._ends, index)
        before = int(self._ends[number - 1] if number else 0)
        return number, self._crop(range(int(self._starts[number]), int(self._stops[number])), index - before)

    def __getitem__(self, index: int) -> Any:
        number, crop = self._find(index)
        with self._open(number) as file:
            arrays = self._read(file, crop)
        return self._item(arrays, len(crop))


class ShardDataset(Dataset, torch.utils.data.IterableDataset[Any]):
    """An iterable dataset of the shards in a folder, for any number of workers on any number of machines.

    Together, the workers yield every item once per epoch. Each worker reads different shards; if there are fewer
    shards than workers, several read the same one and each yields a part of its items. The number of items can
    differ between workers: processes that need the same number of steps must set a limit.
    """

    def _begin(self, shuffle: int, seed: int, rank: int | None, world_size: int | None) -> None:
        self._shuffle, self._seed = shuffle, seed
        self._rank, self._world_size = _node(rank, world_size)
        self._epoch = torch.zeros(1, dtype=torch.int64)
        # In shared memory, so that persistent workers see a new epoch.
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self.shards = [name for name in _names(self.source) if shards.is_shard(name)]
        if next(self._files(self.shards), None) is None:
            raise NacError(f"no .nac files in the shards of {self.source}")

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which changes the random order of the next iteration."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        consumer, consumers = self._rank * workers + worker, self._world_size * workers
        order = list(self.shards)
        if self._shuffle:
            np.random.default_rng([self._seed, int(self._epoch)]).shuffle(order)
        if consumers <= len(order):
            names, part, parts = order[consumer::consumers], 0, 1
        else:
            number, part = consumer % len(order), consumer // len(order)
            names, parts = order[number : number + 1], len(range(number, consumers, len(order)))
        random = np.random.default_rng([self._seed, int(self._epoch), consumer])
        for arrays, frames in _shuffled(self._parts(names, part, parts, random), self._shuffle, random):
            yield self._item(arrays, frames)

    def _parts(
        self, names: list[str], part: int, parts: int, random: np.random.Generator
    ) -> Iterator[tuple[list[CodeArray], int]]:
        """Yield every ``parts``-th item of shards, from ``part`` on: its codes, and its number of frames."""
        before = 0
        for name, file, span in self._files(names):
            count = self._crops(span)
            numbers = np.arange((part - before) % parts, count, parts)
            before += count
            if self._shuffle:
                random.shuffle(numbers)
            for number in numbers.tolist():
                crop = self._crop(span, number)
                with _named_errors(name):
                    arrays = self._read(file, crop)
                yield arrays, len(crop)

    def _files(self, names: list[str]) -> Iterator[tuple[str, NacFile, range]]:
        """Yield the files in shards, with their names and frames."""
        for name in names:
            shard = f"{self._place.name}/{name}"
            with _named_errors(shard), self._place.open(name, places.AHEAD) as stream:
                for key, data in shards.read(stream, self._column):
                    with _named_errors(key), NacFile(io.BytesIO(data)) as file:
                        full_name = f"{shard}: {key}"
                        span = self._frames_of(full_name, file)
                        self._check_growth(file, span)
                        yield full_name, file, span


def _shuffled(items: Iterator[T], size: int, random: np.random.Generator) -> Iterator[T]:
    """Yield items in random order, drawn from a buffer of ``size``; 0 keeps the order."""
    buffer: list[T] = []
    for item in items:
        if len(buffer) < size:
            buffer.append(item)
            continue
        index = int(random.integers(size)) if size else 0
        if size:
            buffer[index], item = item, buffer[index]
        yield item
    for index in random.permutation(len(buffer)):
        yield buffer[index]


def _node(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size, by default those of torch.distributed."""
    if (rank is None) != (world_size is None):
        raise ArgumentError("give both rank and world_size, or neither")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise ArgumentError(f"rank {rank} is out of range for a world_size of {world_size}")
    return rank, world_size


def _place(source: str) -> places.Place:
    return _remote(source, os.getpid()) if places.is_url(source) else places.place(source)


@lru_cache
def _remote(source: str, process: int) -> places.Place:
    """Open a remote folder; each process makes its own connection."""
    return places.place(source)


def _names(source: str) -> list[str]:
    """Return the paths of all files in a folder or URL, sorted. Raises NacError."""
    names = []
    with _named_errors(source):
        for folder, files in places.walk(_place(source), {places.MANIFEST}):
            if isinstance(files, OSError):
                raise files
            names += [f"{folder}/{name}".lstrip("/") for name in files]
    return sorted(names, key=lambda name: name.split("/"))


def _has_shards(source: str) -> bool:
    """Return whether there are shards and no .nac files. Raises NacError if there are both."""
    kinds = {shards.is_shard(name) for name in _names(source) if shards.is_shard(name) or name.endswith(".nac")}
    if len(kinds) > 1:
        raise NacError(f"{source} has both .nac files and shards: move one kind to another folder")
    return kinds == {True}


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Add the name of the file concerned to errors."""
    try:
        yield
    except (NacError, OSError) as error:
        raise (error.about(name) if isinstance(error, NacError) else file_error(error, name)) from None


def as_tensor(arrays: list[Any], frames: int, units: list[int]) -> CodeTensors:
    """Convert the codes of a stream to int64 tensors of exactly this many frames."""
    tensors = []
    for array, unit in zip(arrays, units, strict=False):
        missing = frames * unit - len(array)  # at the end of a file whose last frames are lost
        tensors.append(torch.from_numpy(np.pad(array.astype(np.int64), (0, missing), constant_values=SILENT)))
    return torch.stack(tensors) if len(set(units)) == 1 else tensors
