"""Shards: many recordings in one file, with what else there is of each; tar as WebDataset has it, or Parquet.

What a shard is made of is a record: in tar all files of one stem that follow one another (0001.wav, 0001.json), in
Parquet a row. The recordings in it are its items; all else stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

Wanted = Callable[[str, bytes], "bool | None"]
"""Whether what has that name (may be empty) and begins with those bytes is an item; None where nothing says so."""
HEAD = 512
"""Bytes that tell whether a file is a shard."""
PEEK = 64
"""Records that are looked at to find out whether a shard has items, and where."""


@dataclass(frozen=True)
class Item:
    """A recording in a shard: what it is called there, its bytes, or the ``problem`` that there is with them."""

    key: str
    data: Any = b""
    problem: str = ""


class Record(Protocol):
    """What belongs together."""

    @property
    def items(self) -> Sequence[Item]: ...

    def taken(self, key: str) -> bool:
        """Whether something in it that is no item has this name."""
        ...


class Writer(Protocol):
    def add(self, record: Any, changed: Mapping[int, Item]) -> None:
        """Write a record; ``changed``: what stands in place of its items, by their number."""
        ...

    def close(self) -> None:
        """Write what is still to be written; the file stays open."""
        ...


class Shard(Protocol):
    """A shard that is open to read."""

    def holds_items(self) -> bool:
        """Whether there are items among its first records."""
        ...

    def records(self) -> Iterator[Any]:
        """All records (:class:`Record`), in order. Raises NacError where the shard is not whole."""
        ...

    def writer(self, out: BinaryIO) -> Writer:
        """Writes such records to a shard of the same kind."""
        ...
