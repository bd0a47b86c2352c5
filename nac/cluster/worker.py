"""The worker: processes files and shards one after the other."""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from nac.cluster import parts
from nac.cluster.jobs import Action, Job, Outcome
from nac.cluster.manifest import Row
from nac.codecs.base import Codec
from nac.errors import NacError, reason
from nac.files import shards
from nac.files.info import Info, info
from nac.files.notes import Notes
from nac.files.opening import stream_of
from nac.storage.output import Result, lock, sweep, whole_file
from nac.storage.places import place
from nac.storage.records import HEAD, Part
from nac.storage.shards import holds_items, kind_of
from nac.version import __version__
from nac.weights import models

SCRATCH = "nac-worker-"


def scratch() -> tuple[str, BinaryIO]:
    """Make a folder for temporary files, with a file that stays locked while this process lives.

    Unlocked folders, which are those of killed workers, are deleted.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*/lock"):
        with suppress(OSError), old.open("r+b") as file:
            lock(file, wait=False)
            shutil.rmtree(old.parent)
    folder = tempfile.mkdtemp(prefix=SCRATCH)
    locked = Path(folder, "new").open("xb")  # noqa: SIM115 (to stay open)
    with suppress(OSError):  # on a file system without locks, nothing is deleted either
        lock(locked)
        Path(locked.name).rename(Path(folder, "lock"))  # only now, so that it is never found unlocked
    return folder, locked


class Worker:
    """Does jobs, and loads each model once. ``notes`` collects log messages."""

    def __init__(self, action: Action, notes: Notes) -> None:
        self._action, self._notes = action, notes
        self._source, self._target = place(action.source), place(action.target)
        self._lock, self._loaded = threading.Lock(), dict[str, Codec[Any]]()
        self._converting = threading.Lock()  # a shard, which all threads work on
        self._recoding = shards.recoding(action.how, self._load, action.rename, **action.shards)

    def ready(self) -> tuple[str, ...]:
        """Return what must be equal for all workers: nac's version, and the weights. Raises NacError."""
        model = self._action.model
        return (__version__, *([self._load(model).spec.fingerprint] if model else sorted(models.present())))

    def do(self, jobs: Iterable[Job]) -> list[Outcome]:
        """Process files and shards. Errors are in their outcomes."""
        return [outcome for job in jobs for outcome in self._one(job)]

    def _one(self, job: Job) -> list[Outcome]:
        row = Row(job.input, job.output)
        try:
            shard = self._is_shard(job.input)
            if shard is None:
                return [Outcome("other", row)]
            row = replace(row, output=self._output(job, shard))
            exists = not self._action.force and self._target.size(row.output) is not None
            if job.suspect:
                sweep.cache_clear()  # so that temporary files of the last worker are deleted
            if job.part:
                if shard and not exists:
                    self._write_part(row, job.part)
                return []
            if exists:
                return list(self._existing_items(row)) if shard else [Outcome("skipped", self._existing(row))]
            if shard:
                return self._recoded(row, job.parts)
            with self._notes.gathered() as notes:
                done = self._done(row)
            return [Outcome("done", done, tuple(dict.fromkeys(notes)))]  # without duplicates
        except Exception as error:  # one bad file must not stop the others
            remedy = error.remedy if isinstance(error, NacError) else ""
            return [Outcome("failed", replace(row, error=reason(error)), remedy=remedy)]

    def _is_shard(self, name: str) -> bool | None:
        """Return whether a file is a shard, by its first bytes; None if the action does not apply to it."""
        try:
            with self._source.open(name) as file:
                head = file.read(HEAD)
                if kind_of(head) is None:
                    return False if self._action.wants(head) else None
                return holds_items(file, self._recoding.wanted, self._recoding.column) or None
        except OSError:
            return False  # processing it will report the error

    def _output(self, job: Job, shard: bool) -> str:
        """Return the output's path, which for a shard is that of the input, whatever the input's name suggests."""
        if shard == job.shard:
            return job.output
        folder, slash, name = job.input.rpartition("/")
        return folder + slash + (name if shard else self._action.rename(name))

    def _done(self, row: Row) -> Row:
        how, force = self._action.how, self._action.force
        with self._source.fetched(row.input) as path, self._target.written(row.output) as out:
            result = how.run(path, out, self._load, force=force)
        return self._row(row, result)

    def _row(self, row: Row, result: Result, key: str | None = None) -> Row:
        return replace(
            row,
            model=result.model,
            fingerprint=self._load(result.model).spec.fingerprint,
            kbps=result.kbps,
            seconds=result.seconds,
            bytes_in=result.bytes_in,
            bytes_out=result.bytes_out,
            wall_seconds=result.wall_seconds,
            key=key,
        )

    def _recoded(self, row: Row, count: int) -> list[Outcome]:
        """Process a shard, or join ``count`` parts of it. Returns an outcome for each of its items."""
        force, gathered = self._action.force, self._notes.gathered
        done = parts.joined(self._target, row.output, count)
        with self._target.written(row.output) as out, self._converting, self._source.streamed(row.input) as src:
            recoded = shards.recode(src, out, self._recoding, force=force, gathered=gathered, done=done)
        return [self._outcome(row, outcome) for outcome in recoded.outcomes]

    def _write_part(self, row: Row, part: Part) -> None:
        """Process a part of a shard, and write it to a temporary file."""
        name, gathered = parts.name(row.output, part.number), self._notes.gathered
        with (
            self._target.written(name) as path,
            whole_file(path, force=True) as out,
            self._source.streamed(row.input) as src,
            stream_of(src) as file,
        ):
            parts.write(out, self._recoding.part(file, part, gathered))

    def _outcome(self, row: Row, item: shards.Outcome) -> Outcome:
        if item.result is None:
            return Outcome("failed", replace(row, key=item.key, error=item.error), item.notes, item.remedy)
        return Outcome("done", self._row(row, item.result, item.key), item.notes)

    def _existing(self, row: Row) -> Row:
        """Return the row of an existing output, for example if a run was killed before it wrote the row."""
        compressed = self._action.compresses
        try:
            with self._target.open(row.output) if compressed else self._source.open(row.input) as file:
                header = info(file)
        except NacError as error:
            about = f"{row.output} exists but is not complete: " if compressed else ""
            raise NacError(f"{about}{error}") from None
        sizes = self._source.size(row.input), self._target.size(row.output)
        return _described(row, header, *sizes)

    def _existing_items(self, row: Row) -> Iterator[Outcome]:
        """Yield an outcome for each item of an existing shard, and one error if items are missing."""
        column = self._recoding.column
        with ExitStack() as stack:
            source, target = (
                stack.enter_context(where.open(name))
                for where, name in ((self._source, row.input), (self._target, row.output))
            )
            packed, other = (target, source) if self._action.compresses else (source, target)
            count = 0
            for item in shards.items(packed, shards.is_packed, column):
                count += 1
                found = info(io.BytesIO(item.data))
                yield Outcome("skipped", _described(replace(row, key=item.key), found, None, None))
            missing = sum(1 for _ in shards.items(other, shards.is_recording, column)) - count
        if missing:
            error = f"{row.output} exists, but {abs(missing)} of the recordings are only in one of the shards"
            yield Outcome("failed", replace(row, error=error), remedy="force")

    def _load(self, name: str) -> Codec[Any]:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = models.load(name, **self._action.load)
            return self._loaded[name]


def _described(row: Row, found: Info, bytes_in: int | None, bytes_out: int | None) -> Row:
    return replace(
        row,
        model=found.model,
        fingerprint=found.fingerprint,
        kbps=found.kbps,
        seconds=found.seconds,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
    )


class ProcessWorker(Worker):
    """A worker in a process of its own: a Ray actor."""

    def __init__(self, action: Action) -> None:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as in nac.__main__, before PyTorch is loaded
        tempfile.tempdir, self._locked = scratch()
        notes = Notes()
        logging.getLogger("nac").addHandler(notes)
        super().__init__(action, notes)

    def leave(self) -> None:
        """Delete the temporary files."""
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)
