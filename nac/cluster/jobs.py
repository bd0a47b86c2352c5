"""What there is to do: the files below a folder or URL, listed a folder at a time, whatever their number.

Names are sorted on the disk, so that those of millions of files take no more memory than those of some thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Literal

from nac.audio.kinds import may_be_audio
from nac.cluster.manifest import Done, Row
from nac.container.header import SIGNATURE
from nac.errors import Remedy, reason
from nac.storage.places import MANIFEST, Place, below, place
from nac.storage.records import HEAD, Part
from nac.storage.shards import ENDINGS, kind_of
from nac.storage.sorting import Sorter

Status = Literal["done", "skipped", "failed", "other"]
"""What became of a file; "other": it is none that the action is for."""


@dataclass(frozen=True)
class Action:
    """What to do with every file: ``options`` are keyword arguments of that function of nac.files.conversion.

    ``load``: keyword arguments of :func:`nac.weights.models.load`, without the model's name; ``model``: the one
    that all files need, if that is known. ``source`` and ``target`` are folders or URLs; ``names``: of the files
    to take there, by default all below it. ``shards``: keyword arguments of :class:`nac.files.shards.Recoding`.
    """

    name: Literal["compress", "decompress"]
    source: str
    target: str
    rename: Callable[[str], str]
    options: Mapping[str, Any]
    load: Mapping[str, Any]
    shards: Mapping[str, Any]
    model: str | None = None
    force: bool = False
    names: tuple[str, ...] = ()

    def wants(self, head: bytes) -> bool:
        """Whether it is for a file that begins so, and is no shard."""
        return may_be_audio(head) if self.name == "compress" else head.startswith(SIGNATURE)


@dataclass(frozen=True)
class Job:
    """A file to be done, input and output as paths from the source and the target.

    ``shard``: by its name it holds many recordings; ``suspect``: a worker died that had it in hand. ``part``: only
    this part of the shard is to be done, and put aside; ``parts``: so many of them are there to be joined.
    """

    input: str
    output: str
    shard: bool = False
    suspect: bool = False
    part: Part | None = None
    parts: int = 0


@dataclass(frozen=True)
class Outcome:
    """``notes``: what there is to say besides, as of tags that are left out; ``remedy``: of an error."""

    status: Status
    row: Row
    notes: tuple[str, ...] = ()
    remedy: Remedy = ""


def jobs(action: Action, done: Done) -> Iterator[Job | Outcome]:
    """What there is to do, folder by folder, and what needs no doing."""
    source, target = place(action.source), place(action.target)
    left = [""]
    skip = {source.below(target), MANIFEST}
    while left:
        folder = left.pop()
        files = Sorter()
        try:
            folders = _listed(action, source, folder, files)
            there = _there(target, folder)
        except OSError as error:
            yield Outcome("failed", Row(folder, folder, error=f"cannot be listed: {reason(error)}"))
            continue
        left += reversed([path for path in sorted(below(folder, name) for name in folders) if path not in skip])
        for job in _in_folder(action, source, folder, iter(files)):
            if isinstance(job, Job) and not action.force and there.has(PurePosixPath(job.output).name):
                yield Outcome("skipped", Row(job.input, job.output)) if job.input in done else job
            else:
                yield job


def _listed(action: Action, source: Place, folder: str, files: Sorter) -> list[str]:
    """Gather the files of a folder, each after its output, and give the names of the folders in it."""
    if action.names:
        for name in action.names:
            files.add(_output(action, name), name)
        return []
    folders = []
    for name, is_folder in source.entries(folder):
        if is_folder:
            folders.append(name)
        else:
            files.add(_output(action, name), name)
    return folders


def _output(action: Action, name: str) -> str:
    """What an output is called. What is no shard for all its name, the worker gives another."""
    return name if name.endswith(ENDINGS) else action.rename(name)


class _There:
    """Names that are in a folder, to be asked for in order."""

    def __init__(self, names: Iterator[tuple[str, ...]]) -> None:
        self._names = names
        self._name = next(names, ("",))[0]

    def has(self, name: str) -> bool:
        while self._name and self._name < name:
            self._name = next(self._names, ("",))[0]
        return self._name == name


def _there(target: Place, folder: str) -> _There:
    names = Sorter()
    for name, is_folder in target.entries(folder):
        if not is_folder:
            names.add(name)
    return _There(iter(names))


def _in_folder(
    action: Action, source: Place, folder: str, files: Iterator[tuple[str, ...]]
) -> Iterator[Job | Outcome]:
    """The files of one folder. Of those that would write one output none is done."""
    for name, pairs in groupby(files, key=lambda pair: pair[0]):
        output, names = below(folder, name), [pair[1] for pair in pairs]
        rivals = names
        if len(names) > 1:
            rivals = [name for name in names if wanted(action, source, below(folder, name))]
        for name in names:
            path = below(folder, name)
            if name not in rivals:
                yield Outcome("other", Row(path, output))
            elif len(rivals) > 1:
                error = f"{' and '.join(rivals)} would both write {output}"
                yield Outcome("failed", Row(path, output, error=error), remedy="keep_ending")
            else:
                yield Job(path, output, shard=name.endswith(ENDINGS))


def wanted(action: Action, source: Place, path: str) -> bool:
    """Whether a file is one that the action is for."""
    try:
        with source.open(path) as file:
            head = file.read(HEAD)
            return kind_of(head) is not None or action.wants(head)
    except OSError:
        return True  # to be tried, and reported
