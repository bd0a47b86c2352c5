"""Process the files without a cluster, in threads of this process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nac.cluster import worker
from nac.cluster.jobs import Action, Job, Outcome
from nac.cluster.worker import Worker
from nac.codecs.parallel import ahead
from nac.files.notes import Notes


def run(action: Action, files: int, notes: Notes, work: Iterable[Job]) -> Iterator[list[Outcome]]:
    """Do jobs, ``files`` in parallel, and yield their outcomes in order. Raises NacError."""
    here = Worker(action, notes)
    here.ready()
    yield from ahead(lambda job: here.do([job]), work, files)


@contextmanager
def scratch() -> Iterator[None]:
    """Use a new folder for temporary files. Folders of earlier runs that were killed are deleted."""
    before = tempfile.tempdir
    folder, locked = worker.scratch()
    tempfile.tempdir = folder
    try:
        with locked:
            yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
