"""The codes of many .nac files as a dataset for PyTorch."""

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
from nac.files.nacfile import SILENT, CodeArray, NacFile
from nac.files.opening import check_growth
from nac.spec import CodecSpec
from nac.storage import places
from nac.training import shards

T = TypeVar("T")
Codes = Tensor | list[Tensor]


class Dataset(torch.utils.data.Dataset[Any]):
    """Codes of all .nac files below a folder or in its shards, for PyTorch's DataLoader.

    Items are whole files, or crops of one length. Files give a dataset with a length and items by number, in the
    order of their paths (:class:`FolderDataset`); shards give one that is iterated (:class:`ShardDataset`).
    Nothing is kept open, and of a file only the chunks that are needed are read: a dataset can be pickled, and be
    used by any number of workers. Those of a URL have to be spawned (``multiprocessing_context="spawn"``): what
    reaches object stores does not survive a fork.

    An item is an int64 tensor [codebooks, frames], or, where a frame has another number of codes in each codebook
    (SNAC), a list with a tensor [frames * codes_per_frame] for each. -1 stands where the stream is silent and has
    no codes. ``spec`` says what made the codes.

    Parameters
    ----------
    source : path or URL
        A folder (s3://, ... too) with .nac files, or with shards that `nac pack` or WebDataset wrote.
    seconds, frames : float or int, optional
        The length of a crop, by either. Crops follow one another without overlap, and what is left at the end of a
        file is not used. Without both, an item is a whole file.
    codebooks : int, optional
        At most so many, coarse to fine.
    stream : int
        The stream to give: 0 is the only one, or of a stereo pair the one with most of the sound.
    transform : callable, optional
        Makes something else of an item, :func:`nac.flatten` for example.
    shuffle : int
        Of shards: read them in random order, and choose the next item among so many; 0 gives them in order. Files
        are shuffled by the DataLoader.
    seed : int
        Of shards: the same gives the same order.
    rank, world_size : int, optional
        Of shards: the part that this process gets, where several train together; by default what torch.distributed
        says, if it is initialised by now.

    Raises
    ------
    NacError
        If there are no .nac files, or they do not go together.

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
        """As with pathlib.Path, what is made depends on what is there."""
        if cls is Dataset:
            cls = ShardDataset if _holds_shards(os.fspath(source)) else FolderDataset
        return super().__new__(cls)

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        seconds: float | None = None,
        frames: int | None = None,
        codebooks: int | None = None,
        stream: int = 0,
        transform: Callable[[Codes], Any] | None = None,
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
        self._begin(shuffle, seed, rank, world_size)

    @abstractmethod
    def _begin(self, shuffle: int, seed: int, rank: int | None, world_size: int | None) -> None:
        """Look at what is there."""

    @property
    def _place(self) -> places.Place:
        return _place(self.source)

    def _look(self, name: str, file: NacFile) -> range:
        """The frames of a file. The first one sets what all must be like."""
        spec, counts = file.header.spec, file.header.stream_codebooks
        if "spec" not in vars(self):
            self.spec, self._first = spec, name
            if self._seconds is not None:
                self.frames = round(self._seconds * spec.sample_rate / spec.frame_samples)
            if self.frames is not None and self.frames < 1:
                raise ArgumentError(f"crops of {self.frames} frames cannot be")
        if (spec.name, spec.fingerprint, spec.codebooks) != (
            self.spec.name,
            self.spec.fingerprint,
            self.spec.codebooks,
        ):
            raise NacError(f"of {spec.name} {spec.fingerprint}, {self._first} is not")
        if self._stream >= len(counts) or counts[self._stream] < (self._codebooks or 1):
            raise NacError(f"has {' + '.join(map(str, counts))} codebooks")
        return file.frames

    def _crops(self, held: range) -> int:
        """Number of items in a file that holds these frames."""
        return 1 if self.frames is None else len(held) // self.frames

    def _crop(self, held: range, number: int) -> range:
        """The frames of an item."""
        if self.frames is None:
            return held
        start = held.start + number * self.frames
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
    """Of the files below a folder: it has a length, and items by number."""

    def _begin(self, shuffle: int, seed: int, rank: int | None, world_size: int | None) -> None:
        if shuffle or rank is not None or world_size is not None:
            known = "a DataLoader shuffles them, a DistributedSampler splits them"
            raise ArgumentError(f"of files, not shards: {known}")
        self._names = [name for name in _names(self.source) if name.endswith(".nac")]
        if not self._names:
            raise NacError(f"no .nac files in {self.source}")
        self.paths = [f"{self._place.name}/{name}" for name in self._names]
        ranges = []
        for number, path in enumerate(self.paths):
            with self._open(number) as file:
                ranges.append(self._look(path, file))
        self._starts = np.array([held.start for held in ranges])
        self._stops = np.array([held.stop for held in ranges])
        self._ends = np.cumsum([self._crops(held) for held in ranges])

    @contextmanager
    def _open(self, number: int) -> Iterator[NacFile]:
        with _told(self.paths[number]), self._place.open(self._names[number]) as stream, NacFile(stream) as file:
            yield file

    def __len__(self) -> int:
        """Number of crops, or of files."""
        return int(self._ends[-1])

    def where(self, index: int) -> tuple[str, range]:
        """The file of an item, and its frames there."""
        number, crop = self._find(index)
        return self.paths[number], crop

    def _find(self, index: int) -> tuple[int, range]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
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
    """Of the shards below a folder: it is iterated, by any number of workers on any number of machines.

    Together they give every item once in an epoch. Each reads shards of its own; where there are fewer shards than
    workers, some read the same one, and each gives its part. Some may give more items than others: machines that
    have to take the same number of steps should agree on one.
    """

    def _begin(self, shuffle: int, seed: int, rank: int | None, world_size: int | None) -> None:
        self._shuffle, self._seed = shuffle, seed
        self._rank, self._world_size = _node(rank, world_size)
        self._epoch = torch.zeros(1, dtype=torch.int64)
        # Shared, so that workers that outlive an epoch know of the next.
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        self.shards = [name for name in _names(self.source) if shards.is_shard(name)]
        if next(self._files(self.shards), None) is None:
            raise NacError(f"no .nac files in the shards of {self.source}")

    def set_epoch(self, epoch: int) -> None:
        """Have another random order, from the next iteration on."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        consumer, consumers = self._rank * workers + worker, self._world_size * workers
        order = list(self.shards)
        if self._shuffle:
            np.random.default_rng([self._seed, int(self._epoch)]).shuffle(order)
        if consumers <= len(order):
            mine, part, parts = order[consumer::consumers], 0, 1
        else:
            number, part = consumer % len(order), consumer // len(order)
            mine, parts = order[number : number + 1], len(range(number, consumers, len(order)))
        random = np.random.default_rng([self._seed, int(self._epoch), consumer])
        for arrays, frames in _mixed(self._parts(mine, part, parts, random), self._shuffle, random):
            yield self._item(arrays, frames)

    def _parts(
        self, names: list[str], part: int, parts: int, random: np.random.Generator
    ) -> Iterator[tuple[list[CodeArray], int]]:
        """Of the items in shards, every one in ``parts``: its codes and its frames."""
        before = 0
        for name, file, held in self._files(names):
            count = self._crops(held)
            numbers = np.arange((part - before) % parts, count, parts)
            before += count
            if self._shuffle:
                random.shuffle(numbers)
            for number in numbers.tolist():
                crop = self._crop(held, number)
                with _told(name):
                    arrays = self._read(file, crop)
                yield arrays, len(crop)

    def _files(self, names: list[str]) -> Iterator[tuple[str, NacFile, range]]:
        """The files in shards: their names, and their frames."""
        for name in names:
            shard = f"{self._place.name}/{name}"
            with _told(shard), self._place.open(name, places.AHEAD) as stream:
                for key, data in shards.read(stream):
                    with _told(key), NacFile(io.BytesIO(data)) as file:
                        whole = f"{shard}: {key}"
                        held = self._look(whole, file)
                        self._check_growth(file, held)
                        yield whole, file, held


def _mixed(items: Iterator[T], most: int, random: np.random.Generator) -> Iterator[T]:
    """Items, each chosen at random among so many."""
    waiting: list[T] = []
    for item in items:
        if len(waiting) < most:
            waiting.append(item)
            continue
        place = int(random.integers(most)) if most else 0
        if most:
            waiting[place], item = item, waiting[place]
        yield item
    for place in random.permutation(len(waiting)):
        yield waiting[place]


def _node(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Which of how many processes that train together this is."""
    if (rank is None) != (world_size is None):
        raise ArgumentError("rank and world_size go together")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        rank, world_size = distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise ArgumentError(f"there is no rank {rank} of {world_size}")
    return rank, world_size


def _place(source: str) -> places.Place:
    return _remote(source, os.getpid()) if places.is_url(source) else places.place(source)


@lru_cache
def _remote(source: str, process: int) -> places.Place:
    """A place elsewhere; connections are made anew in each process."""
    return places.place(source)


def _names(source: str) -> list[str]:
    """Every file below a folder or URL, in order. Raises NacError."""
    names = []
    with _told(source):
        for folder, files in places.walk(_place(source), {places.MANIFEST}):
            if isinstance(files, OSError):
                raise files
            names += [f"{folder}/{name}".lstrip("/") for name in files]
    return sorted(names, key=lambda name: name.split("/"))


def _holds_shards(source: str) -> bool:
    """Whether there are shards and not .nac files. Raises NacError where there are both."""
    kinds = {shards.is_shard(name) for name in _names(source) if shards.is_shard(name) or name.endswith(".nac")}
    if len(kinds) > 1:
        raise NacError(f"{source} has .nac files and shards; a dataset is of the ones or the others")
    return kinds == {True}


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Errors with the name of what they are about."""
    try:
        yield
    except (NacError, OSError) as error:
        raise (error.about(name) if isinstance(error, NacError) else file_error(error, name)) from None


def as_tensor(arrays: list[Any], frames: int, units: list[int]) -> Codes:
    """The codes of a stream as int64 tensors of exactly so many frames."""
    tensors = []
    for array, unit in zip(arrays, units, strict=False):
        missing = frames * unit - len(array)  # at the end of a file whose last frames are lost
        tensors.append(torch.from_numpy(np.pad(array.astype(np.int64), (0, missing), constant_values=SILENT)))
    return torch.stack(tensors) if len(set(units)) == 1 else tensors
