"""What a fleet is to do: the files below a folder or URL, listed a folder at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from nac.audio.kinds import HEAD, may_be_audio
from nac.cluster.manifest import FOLDER, Done, Row
from nac.container.header import SIGNATURE
from nac.errors import Remedy, reason
from nac.storage.places import Place, place, walk

Fate = Literal["done", "skipped", "failed", "other"]
"""What became of a file; "other": it is none that the action is for."""


@dataclass(frozen=True)
class Action:
    """What to do with every file: ``options`` are keyword arguments of that function of nac.files.conversion.

    ``load``: keyword arguments of :func:`nac.weights.models.load`, without the model's name; ``model``: the one
    that all files need, if that is known. ``source`` and ``target`` are folders or URLs, ``suffix`` the outputs'
    ending.
    """

    name: Literal["compress", "decompress"]
    source: str
    target: str
    rename: Callable[[str], str]
    options: Mapping[str, Any]
    load: Mapping[str, Any]
    model: str | None = None
    force: bool = False

    def wants(self, head: bytes) -> bool:
        """Whether it is for a file that begins so."""
        return may_be_audio(head) if self.name == "compress" else head.startswith(SIGNATURE)


@dataclass(frozen=True)
class Job:
    """A file to be done, input and output as paths from the source and the target, that broke a worker or not."""

    input: str
    output: str
    suspect: bool = False


@dataclass(frozen=True)
class Outcome:
    """``notes``: what there is to say besides, as of tags that are left out; ``remedy``: of an error."""

    fate: Fate
    row: Row
    notes: tuple[str, ...] = ()
    remedy: Remedy = ""


def jobs(action: Action, done: Done) -> Iterator[Job | Outcome]:
    """What there is to do, folder by folder, and what needs no doing; one folder's names at a time are held."""
    source, target = place(action.source), place(action.target)
    for folder, files in walk(source, {source.below(target), FOLDER}):
        try:
            if isinstance(files, OSError):
                raise files
            there = set(target.list(folder)[0])
        except OSError as error:
            yield Outcome("failed", Row(folder, folder, error=f"cannot be listed: {reason(error)}"))
            continue
        for job in _in_folder(action, source, folder, files):
            if isinstance(job, Job) and not action.force:
                name = PurePosixPath(job.output).name
                if name in there and job.input in done:
                    yield Outcome("skipped", Row(job.input, job.output))
                    continue
            yield job


def _in_folder(action: Action, source: Place, folder: str, files: list[str]) -> Iterator[Job | Outcome]:
    """The files of one folder. Of those that would write one output none is done."""
    outputs = {name: str(PurePosixPath(folder, action.rename(name))) for name in files}
    count = Counter(outputs.values())
    for name, output in outputs.items():
        path = f"{folder}/{name}".lstrip("/")
        if count[output] > 1:
            rivals = [f for f in files if outputs[f] == output and wanted(action, source, f"{folder}/{f}")]
            if name not in rivals:
                yield Outcome("other", Row(path, output))
                continue
            if len(rivals) > 1:
                error = f"{' and '.join(rivals)} would both write {output}"
                remedy: Remedy = "keep_ending" if action.name == "compress" else ""
                yield Outcome("failed", Row(path, output, error=error), remedy=remedy)
                continue
        yield Job(path, output)


def wanted(action: Action, source: Place, path: str) -> bool:
    """Whether a file is one that the action is for."""
    try:
        with source.open(path) as file:
            return action.wants(file.read(HEAD))
    except OSError:
        return True  # to be tried, and reported
