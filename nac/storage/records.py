"""Shards: many recordings in one file, with other data of each; WebDataset tar or Parquet.

A shard consists of records: in tar, consecutive files with the same stem (0001.wav, 0001.json); in Parquet, a row.
The recordings in a record are its items; everything else stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

Wanted = Callable[[str, bytes], "bool | None"]
"""Whether data with this name (may be empty) and these first bytes is an item; None if unclear."""
HEAD = 512
"""How many bytes are needed to detect a shard."""
PEEK = 64
"""Records that are searched for items."""


@dataclass(frozen=True)
class Part:
    """The part with a ``number`` (from 0) of a shard that is cut into so many ``parts`` of about the same size."""

    number: int = 0
    parts: int = 1

    def of(self, size: int) -> range:
        """Of positions in a shard, those of this part. A record belongs to the part in which it begins."""
        return range(size * self.number // self.parts, size * (self.number + 1) // self.parts)


WHOLE = Part()


@dataclass(frozen=True)
class Item:
    """A recording in a shard: its name there, and its bytes or the ``problem`` with them."""

    key: str
    data: Any = b""
    problem: str = ""


class Record(Protocol):
    """Data that belongs together."""

    @property
    def items(self) -> Sequence[Item]: ...

    def taken(self, key: str) -> bool:
        """Whether something else than an item has this name."""
        ...


class Writer(Protocol):
    def add(self, record: Any, changed: Mapping[int, Item]) -> None:
        """Write a record; ``changed``: the new items, by their number."""
        ...

    def close(self) -> None:
        """Write the rest; the file stays open."""
        ...


class Shard(Protocol):
    """A shard open for reading."""

    def holds_items(self) -> bool:
        """Whether its first records have items."""
        ...

    def records(self, part: Part = WHOLE) -> Iterator[Any]:
        """The records of a part (:class:`Record`), in order. Raises NacError if it finds the shard incomplete.

        Only those of the whole shard can be written.
        """
        ...

    def writer(self, out: BinaryIO) -> Writer:
        """Writes records to a shard of the same format."""
        ...
