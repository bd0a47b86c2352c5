"""Parts of shards, processed by several workers and stored beside the manifest until they are joined.

A part is a file with a line of JSON for each record, followed by the bytes of its new items.
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

FOLDER = f"{MANIFEST}/_parts"  # readers of a folder of Parquet files ignore names with this prefix


def name(output: str, number: int) -> str:
    """Return the path of a part of the shard whose output is ``output``."""
    return f"{FOLDER}/{output}/{number}"


@contextmanager
def kept(target: Place) -> Iterator[None]:
    """Delete all parts at the end, and at the start those of a run that was killed."""
    target.remove_folder(FOLDER)
    try:
        yield
    finally:
        target.remove_folder(FOLDER)


def write(file: BinaryIO, records: Iterable[Done]) -> None:
    """Write a part."""
    for done in records:
        items = [(number, item.key, len(item.data)) for number, item in done.items.items()]
        metadata = {"outcomes": [asdict(outcome) for outcome in done.outcomes], "items": items}
        write_all(file, json.dumps(metadata).encode() + b"\n")
        for item in done.items.values():
            write_all(file, item.data)


def joined(target: Place, output: str, count: int) -> Iterator[Done] | None:
    """Read the records of a shard from its ``count`` parts. Returns None unless all parts exist."""
    names = [name(output, number) for number in range(count)]
    if not count or any(target.size(name) is None for name in names):
        return None
    return (done for name in names for done in _read(target, name))


def _read(target: Place, name: str) -> Iterator[Done]:
    with target.open(name, AHEAD) as file:
        while line := file.readline():
            metadata = json.loads(line)
            items = {number: Item(key, read_exactly(file, size)) for number, key, size in metadata["items"]}
            yield Done(items, tuple(map(_outcome, metadata["outcomes"])))


def _outcome(metadata: dict[str, Any]) -> Outcome:
    result = metadata["result"] and Result(**metadata["result"])
    return Outcome(**{**metadata, "result": result, "notes": tuple(metadata["notes"])})
