"""Conversion of shards of recordings to shards of .nac files and back, item by item.

Items go through :mod:`nac.files.conversion` one by one, and become the same bytes as files would. The readers and
writers of Ray Data and `datasets` are not used: they would rewrite text, numbers and tables, rename shards, and
fail as a whole over one broken item.
"""

from __future__ import annotations

import hashlib
import io
import mimetypes
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from nac.audio.kinds import ENDINGS, may_be_audio
from nac.codecs.base import Codec
from nac.codecs.parallel import ahead
from nac.container.header import SIGNATURE
from nac.errors import NacError, Remedy, reason
from nac.files.conversion import Compression, Decompression
from nac.files.names import ENDING
from nac.files.opening import stream_of
from nac.storage.output import PathOrFile, Result, check_output, created, name_of, size_of, sync
from nac.storage.records import WHOLE, Item, Part, Record, Shard, Wanted
from nac.storage.shards import open_shard
from nac.streams import write_all

Progress = Callable[[float, float | None], None]
"""See :mod:`nac.files.conversion`."""
Convert = Callable[[BinaryIO, BinaryIO, str], Result]
"""Compresses or decompresses an item; also gets the name of the output."""
Gathered = Callable[[], AbstractContextManager[list[str]]]
"""A context that collects the lines that the thread logs."""
_TYPES = mimetypes.MimeTypes()
_OTHERS = ("text/", "image/", "application/json")


def is_recording(name: str, head: bytes) -> bool | None:
    """Whether an entry of a shard is audio by its first bytes, or was meant to be by its extension.

    Text and pictures are recognised by their extensions, since text can begin with any bytes.
    """
    if _packed(name, head):
        return False
    if _ending(name) in ENDINGS:
        return True
    kind = str(_TYPES.guess_type(name)[0])
    return True if not kind.startswith(_OTHERS) and may_be_audio(head) else None


def is_packed(name: str, head: bytes) -> bool | None:
    """Whether an entry of a shard is a .nac file by its first bytes, or was meant to be by its extension."""
    if _packed(name, head):
        return True
    return False if is_recording(name, head) else None


def _packed(name: str, head: bytes) -> bool:
    return head.startswith(SIGNATURE) or name.lower().endswith(ENDING)


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


@dataclass(frozen=True)
class Outcome:
    """The outcome of an item. ``key``: its name in the shard; ``result``: None if it failed.

    ``error`` and ``remedy``: why it failed; ``notes``: other remarks.
    """

    key: str
    result: Result | None = None
    error: str = ""
    remedy: Remedy = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What became of a record: its new ``items`` by their numbers, and the outcome of each item."""

    items: Mapping[int, Item]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Recoding:
    """How to convert a shard to another.

    ``convert``: what to do with an item; ``rename``: the name of its output; ``wanted``: what counts as an item;
    ``column``: of Parquet, the one with the items, if ambiguous; ``keep_failed``: keep failed items unchanged
    (otherwise their record is left out); ``verify``: read the shard back and compare; ``workers``: items in
    parallel; ``fatal``: errors that are not about one item.
    """

    convert: Convert
    rename: Callable[[str], str]
    wanted: Wanted
    column: str | None = None
    keep_failed: bool = False
    verify: bool = False
    workers: int = 1
    fatal: tuple[type[Exception], ...] = ()

    def run(
        self,
        src: BinaryIO,
        out: BinaryIO,
        tell: Callable[[Outcome], None],
        gathered: Gathered,
        done: Iterable[Done] | None = None,
    ) -> None:
        """Write a shard and tell the outcome of each item, in order. Raises NacError if there are no items.

        The outcomes are valid only after the last one, when the output is complete. ``done``: what became of its
        records, as :meth:`part` gives it for all parts in order; otherwise they are converted now.
        """
        shard = open_shard(src, self.wanted, self.column)
        count = 0
        with _Summed(out) as summed:
            writer = shard.writer(cast(BinaryIO, summed))
            for record, each in self._converted_now(shard, gathered) if done is None else _matched(shard, done):
                count += len(each.outcomes)
                for outcome in each.outcomes:
                    tell(outcome)
                if self.keep_failed or not any(outcome.error for outcome in each.outcomes):
                    writer.add(record, each.items)
            if not count:
                raise NacError("has no such recordings")
            writer.close()
            if self.verify:
                summed.read_back()

    def part(self, src: BinaryIO, part: Part, gathered: Gathered) -> Iterator[Done]:
        """Convert the items of a part of a shard. Raises NacError if it finds the shard incomplete."""
        for _, done in self._converted_now(open_shard(src, self.wanted, self.column), gathered, part):
            yield done

    def _converted_now(
        self, shard: Shard, gathered: Gathered, part: Part = WHOLE
    ) -> Iterator[tuple[Record, Done]]:
        return ahead(lambda record: (record, self._done(gathered, record)), shard.records(part), self.workers)

    def _done(self, gathered: Gathered, record: Record) -> Done:
        names = [self._renamed(item.key) for item in record.items]
        count = Counter(names)
        items, outcomes = dict[int, Item](), list[Outcome]()
        for number, (item, name) in enumerate(zip(record.items, names, strict=True)):
            with gathered() as notes:
                try:
                    if item.problem:
                        raise NacError(item.problem)
                    if count[name] > 1 or record.taken(name):
                        rival = f"would become {name}, as would another file beside it"
                        raise NacError(rival, remedy="keep_ending")
                    data, result = self._result(item, name)
                    items[number] = Item(name, data)
                    outcome = Outcome(item.key, result)
                except self.fatal:
                    raise
                except Exception as error:  # an error in one item must not stop the others
                    remedy = error.remedy if isinstance(error, NacError) else ""
                    outcome = Outcome(item.key, None, reason(error), remedy)
            outcomes.append(replace(outcome, notes=tuple(dict.fromkeys(notes))))
        return Done(items, tuple(outcomes))

    def _result(self, item: Item, name: str) -> tuple[bytes, Result]:
        out = io.BytesIO()
        result = self.convert(io.BytesIO(item.data), out, name)
        return out.getvalue(), replace(result, input=item.key, output=name, bytes_in=len(item.data))

    def _renamed(self, key: str) -> str:
        folder, slash, name = key.rpartition("/")
        return folder + slash + self.rename(name)


def _matched(shard: Shard, done: Iterable[Done]) -> Iterator[tuple[Record, Done]]:
    """The records of a shard with what became of them. Raises NacError if that is of another shard."""
    for record, each in zip_longest(shard.records(), done):
        keys = None if record is None else [item.key for item in record.items]
        if each is None or keys != [outcome.key for outcome in each.outcomes]:
            raise NacError("has changed in the meantime")
        yield record, each


def recoding(
    how: Compression | Decompression,
    load: Callable[[str], Codec],
    rename: Callable[[str], str],
    **more: Any,
) -> Recoding:
    """Compress or decompress the items of shards. ``more``: other fields of :class:`Recoding`."""

    def convert(src: BinaryIO, out: BinaryIO, name: str) -> Result:
        as_named = how if isinstance(how, Compression) else replace(how, format=PurePath(name).suffix[1:])
        return as_named.run(src, out, load)

    return Recoding(convert, rename, is_recording if isinstance(how, Compression) else is_packed, **more)


class _Summed(io.RawIOBase):
    """A file written in order, with a checksum of the written bytes.

    What is written after the end of the context is dropped: pyarrow ends a Parquet file that was given up.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sum, self._bytes, self._ended = file, hashlib.blake2b(), 0, False

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Leaves the file open, since the caller owns it."""
        self._ended = True

    def write(self, data: Any) -> int:
        if self._ended:
            return len(data)
        write_all(self._file, data)
        self._sum.update(data)
        self._bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self._bytes

    def read_back(self) -> None:
        """Read it back, from the disk if possible. Raises NacError unless it is what was written."""
        sync(self._file)
        self._file.seek(0)
        found = hashlib.blake2b()
        while piece := self._file.read(1 << 20):
            found.update(piece)
        self._file.seek(0, os.SEEK_END)
        if found.digest() != self._sum.digest():
            raise NacError("reading the output back gave other bytes")


def items(file: BinaryIO, wanted: Wanted, column: str | None = None) -> Iterator[Item]:
    """The recordings in a shard, in order. Raises NacError if it is incomplete, or one has no bytes."""
    for record in open_shard(file, wanted, column).records():
        for item in record.items:
            if item.problem:
                raise NacError(f"{item.key}: {item.problem}")
            yield item


@dataclass(frozen=True)
class Recoded:
    """A converted shard, and the outcomes of its items, in order."""

    input: str
    output: str
    outcomes: tuple[Outcome, ...]
    bytes_in: int | None
    bytes_out: int
    wall_seconds: float

    @property
    def failed(self) -> int:
        """Number of items that failed."""
        return sum(bool(outcome.error) for outcome in self.outcomes)


def recode(
    src: PathOrFile,
    dst: PathOrFile,
    how: Recoding,
    *,
    force: bool = False,
    gathered: Gathered = lambda: nullcontext([]),
    progress: Progress | None = None,
    done: Iterable[Done] | None = None,
) -> Recoded:
    """Convert a shard; the output appears complete or not at all. Failed items are listed in the outcomes.

    ``gathered``: collects the lines that are logged about an item; ``progress``: as in :func:`nac.compress`;
    ``done``: see :meth:`Recoding.run`.
    Raises NacError if the shard as a whole cannot be read or written.
    """
    began = time.perf_counter()
    check_output(src, dst, force=force)
    outcomes = list[Outcome]()
    with stream_of(src) as file:
        size = file.seek(0, os.SEEK_END)

        def tell(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if progress and outcome.result and outcome.result.bytes_in:
                seconds = outcome.result.seconds
                progress(seconds, seconds * size / outcome.result.bytes_in)

        with created(src, dst, force=force) as out:
            how.run(file, out, tell, gathered, done)
            written = out.tell()
    wall = time.perf_counter() - began
    return Recoded(name_of(src), name_of(dst), tuple(outcomes), size_of(src), written, wall)
