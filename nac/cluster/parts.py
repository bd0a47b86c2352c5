"""Parts of shards that several workers do: kept beside the manifest until all of a shard are there to be joined.

A part is a file with a line of JSON for each record, then the bytes of its new items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, BinaryIO

from nac.files.shards import Done, Outcome
from nac.storage.output import Result
from nac.storage.places import AHEAD, MANIFEST, Place
from nac.storage.records import Item
from nac.streams import read_exactly, write_all

FOLDER = f"{MANIFEST}/_parts"  # programs that read a folder of Parquet files leave out names that begin so


def name(output: str, number: int) -> str:
    """The part with a number, of the shard that becomes ``output``."""
    return f"{FOLDER}/{output}/{number}"


@contextmanager
def kept(target: Place) -> Iterator[None]:
    """Delete the parts at the end, and before that those of a run that was killed."""
    target.remove_folder(FOLDER)
    try:
        yield
    finally:
        target.remove_folder(FOLDER)


def write(file: BinaryIO, records: Iterable[Done]) -> None:
    for done in records:
        items = [(number, item.key, len(item.data)) for number, item in done.items.items()]
        told = {"outcomes": [asdict(outcome) for outcome in done.outcomes], "items": items}
        write_all(file, json.dumps(told).encode() + b"\n")
        for item in done.items.values():
            write_all(file, item.data)


def joined(target: Place, output: str, count: int) -> Iterator[Done] | None:
    """What became of the records of a shard, from so many parts; None unless all are there."""
    names = [name(output, number) for number in range(count)]
    if not count or any(target.size(name) is None for name in names):
        return None
    return (done for name in names for done in _read(target, name))


def _read(target: Place, name: str) -> Iterator[Done]:
    with target.open(name, AHEAD) as file:
        while line := file.readline():
            told = json.loads(line)
            items = {number: Item(key, read_exactly(file, size)) for number, key, size in told["items"]}
            yield Done(items, tuple(map(_outcome, told["outcomes"])))


def _outcome(told: dict[str, Any]) -> Outcome:
    result = told["result"] and Result(**told["result"])
    return Outcome(**{**told, "result": result, "notes": tuple(told["notes"])})
