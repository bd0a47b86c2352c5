"""What a fleet's processes do with one file after the other."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from nac.cluster.jobs import Action, Job, Outcome, wanted
from nac.cluster.manifest import Row
from nac.codecs.base import Codec
from nac.errors import NacError, reason
from nac.files.nacfile import info
from nac.files.notes import Notes
from nac.storage.output import lock, sweep
from nac.storage.places import place
from nac.version import __version__
from nac.weights import models

SCRATCH = "nac-worker-"


def scratch() -> tuple[str, BinaryIO]:
    """A folder for temporary files, and a file in it that is locked as long as this process lives.

    Those of workers that were killed, by whom and whenever that was, are deleted.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*/held"):
        with suppress(OSError), left.open("r+b") as file:
            lock(file, wait=False)
            shutil.rmtree(left.parent)
    folder = tempfile.mkdtemp(prefix=SCRATCH)
    held = Path(folder, "taken").open("xb")  # noqa: SIM115 (to stay open)
    with suppress(OSError):  # a file system without locks: nothing is deleted there either
        lock(held)
        Path(held.name).rename(Path(folder, "held"))  # so that nobody finds it before it is locked
    return folder, held


class Worker:
    """An actor of Ray: a process that loads a model once, and is given names of files."""

    def __init__(self, action: Action) -> None:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command does, before PyTorch is loaded
        tempfile.tempdir, self._held = scratch()
        self._action = action
        self._source, self._target = place(action.source), place(action.target)
        self._notes = Notes()
        logging.getLogger("nac").addHandler(self._notes)
        self._lock, self._loaded = threading.Lock(), dict[str, Codec[Any]]()

    def ready(self) -> tuple[str, ...]:
        """What has to be the same for all workers: nac's version, and the weights. Raises NacError."""
        model = self._action.model
        return (__version__, *([self._load(model).spec.fingerprint] if model else sorted(models.present())))

    def leave(self) -> None:
        """Clean up."""
        shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)

    def do(self, job: Job) -> Outcome:
        """Do one file; what is wrong with it is in the row."""
        row = Row(job.input, job.output)
        try:
            if not wanted(self._action, self._source, job.input):
                return Outcome("other", row)
            if not self._action.force and self._target.size(job.output) is not None:
                return Outcome("skipped", self._found(row))
            if job.suspect:
                sweep.cache_clear()  # so that what the last worker left is swept up
            with self._notes.gathered() as notes:
                done = self._done(row)
            return Outcome("done", done, tuple(dict.fromkeys(notes)))  # each once
        except Exception as error:  # whatever is the matter with a file, the others go on
            remedy = error.remedy if isinstance(error, NacError) else ""
            return Outcome("failed", replace(row, error=reason(error)), remedy=remedy)

    def _done(self, row: Row) -> Row:
        from nac.files import conversion as files

        function = getattr(files, self._action.name)
        force = self._action.force
        with self._source.fetched(row.input) as path, self._target.written(row.output) as out:
            result = function(path, out, force=force, load=self._load, **self._action.options)
        return replace(
            row,
            model=result.model,
            fingerprint=self._load(result.model).spec.fingerprint,
            kbps=result.kbps,
            seconds=result.seconds,
            bytes_in=result.bytes_in,
            bytes_out=result.bytes_out,
            wall_seconds=result.wall_seconds,
        )

    def _found(self, row: Row) -> Row:
        """The row of an output that is there already, as after a run that was killed before it told of it."""
        compressed = self._action.name == "compress"
        try:
            with self._target.open(row.output) if compressed else self._source.open(row.input) as file:
                header = info(file)
        except NacError as error:
            whose = f"{row.output} is there already, and is not whole: " if compressed else ""
            raise NacError(f"{whose}{error}") from None
        return replace(
            row,
            model=header.model,
            fingerprint=header.fingerprint,
            kbps=header.kbps,
            seconds=header.seconds,
            bytes_in=self._source.size(row.input),
            bytes_out=self._target.size(row.output),
        )

    def _load(self, name: str) -> Codec[Any]:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = models.load(name, **self._action.load)
            return self._loaded[name]
