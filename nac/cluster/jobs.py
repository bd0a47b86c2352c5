"""List the files to process in a folder or URL, one folder at a time.

Names are sorted on disk, so memory does not grow with the number of files.
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
from nac.files.conversion import Compression, Decompression
from nac.storage.places import MANIFEST, Place, below, place
from nac.storage.records import HEAD, Part
from nac.storage.shards import ENDINGS, kind_of
from nac.storage.sorting import Sorter

Status = Literal["done", "skipped", "failed", "other"]
"""The outcome for a file; "other": the action does not apply to it."""


@dataclass(frozen=True)
class Action:
    """What to do with every file.

    ``source`` and ``target`` are folders or URLs; ``names``: the files in the source to process, by default all,
    also in its subfolders. ``load``: keyword arguments of :func:`nac.weights.models.load`, without the model's
    name; ``model``: the model that all files need, if known. ``shards``: keyword arguments of
    :class:`nac.files.shards.Recoding`.
    """

    how: Compression | Decompression
    source: str
    target: str
    rename: Callable[[str], str]
    load: Mapping[str, Any]
    shards: Mapping[str, Any]
    model: str | None = None
    force: bool = False
    names: tuple[str, ...] = ()

    @property
    def compresses(self) -> bool:
        """Whether outputs are .nac files; otherwise inputs are."""
        return isinstance(self.how, Compression)

    def wants(self, head: bytes) -> bool:
        """Return whether the action applies to a file, not a shard, with these first bytes."""
        return may_be_audio(head) if self.compresses else head.startswith(SIGNATURE)


@dataclass(frozen=True)
class Job:
    """A file to process. ``input`` and ``output``: paths relative to source and target.

    ``shard``: its name is that of a shard; ``suspect``: a worker died while it was processing this file. ``part``:
    process only this part of the shard, to a temporary file; ``parts``: join this many parts that are done.
    """

    input: str
    output: str
    shard: bool = False
    suspect: bool = False
    part: Part | None = None
    parts: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job. ``notes``: warnings, for example about tags left out; ``remedy``: for the error."""

    status: Status
    row: Row
    notes: tuple[str, ...] = ()
    remedy: Remedy = ""


def jobs(action: Action, done: Done) -> Iterator[Job | Outcome]:
    """Yield the files to process, folder by folder, and the outcomes of those that need no processing."""
    source, target = place(action.source), place(action.target)
    remaining = [""]
    skip = {source.below(target), MANIFEST}
    while remaining:
        folder = remaining.pop()
        files = Sorter()
        try:
            folders = _listed(action, source, folder, files)
            existing = _existing(target, folder)
        except OSError as error:
            yield Outcome("failed", Row(folder, folder, error=f"cannot be listed: {reason(error)}"))
            continue
        paths = sorted(below(folder, name) for name in folders)
        remaining += reversed([path for path in paths if path not in skip])
        for job in _in_folder(action, source, folder, iter(files)):
            if isinstance(job, Job) and not action.force and existing.has(PurePosixPath(job.output).name):
                yield Outcome("skipped", Row(job.input, job.output)) if job.input in done else job
            else:
                yield job


def _listed(action: Action, source: Place, folder: str, files: Sorter) -> list[str]:
    """Add the files of a folder, as (output, input), to ``files``. Returns the names of its subfolders."""
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
    """Return the name of the output. The worker changes it if the input has a shard's name but is none."""
    return name if name.endswith(ENDINGS) else action.rename(name)


class _Existing:
    """The sorted names of files in a folder; queries must be in the same order."""

    def __init__(self, names: Iterator[tuple[str, ...]]) -> None:
        self._names = names
        self._name = next(names, ("",))[0]

    def has(self, name: str) -> bool:
        while self._name and self._name < name:
            self._name = next(self._names, ("",))[0]
        return self._name == name


def _existing(target: Place, folder: str) -> _Existing:
    names = Sorter()
    for name, is_folder in target.entries(folder):
        if not is_folder:
            names.add(name)
    return _Existing(iter(names))


def _in_folder(
    action: Action, source: Place, folder: str, files: Iterator[tuple[str, ...]]
) -> Iterator[Job | Outcome]:
    """Yield the files of a folder. Files with the same output fail."""
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
                error = f"{' and '.join(rivals)} have the same output {output}"
                yield Outcome("failed", Row(path, output, error=error), remedy="keep_ending")
            else:
                yield Job(path, output, shard=name.endswith(ENDINGS))


def wanted(action: Action, source: Place, path: str) -> bool:
    """Return whether the action applies to a file."""
    try:
        with source.open(path) as file:
            head = file.read(HEAD)
            return kind_of(head) is not None or action.wants(head)
    except OSError:
        return True  # processing it will report the error
