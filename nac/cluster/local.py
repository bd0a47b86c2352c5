"""The same job without a cluster: threads of this process are the workers."""

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
    """Do jobs, so many at a time, and give what became of each, in order. Raises NacError."""
    here = Worker(action, notes)
    here.ready()
    yield from ahead(lambda job: here.do([job]), work, files)


@contextmanager
def scratch() -> Iterator[None]:
    """Temporary files go to a folder of their own within; that of an earlier run that was killed is deleted."""
    before = tempfile.tempdir
    folder, held = worker.scratch()
    tempfile.tempdir = folder
    try:
        with held:
            yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
