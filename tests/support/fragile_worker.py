"""A worker that dies, or takes its time, over files with certain names: for tests of what happens then."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from nac.cluster.jobs import Job, Outcome
from nac.cluster.manifest import Row
from nac.cluster.worker import ProcessWorker


class FragileWorker(ProcessWorker):
    """Marks are left in the target's parent folder: NAME.PID for a file that is begun, NAME.PART.PID for a part.

    "poison" in a name kills the worker always, "once" the first time, "slow" takes until a file `go` is there.
    """

    def _one(self, job: Job) -> list[Outcome]:
        folder, name = Path(self._action.target).parent, Path(job.input).stem
        begun = list(folder.glob(f"{name}.*"))
        part = "" if job.part is None else f".{job.part.number}"
        (folder / f"{name}{part}.{os.getpid()}").touch()
        if "poison" in name or ("once" in name and not begun):
            os.kill(os.getpid(), signal.SIGKILL)
        while "slow" in name and not (folder / "go").exists():
            time.sleep(0.05)
        return super()._one(job)


class IdleWorker(ProcessWorker):
    """Does nothing with files; those with "once" in their names kill it the first time."""

    def _one(self, job: Job) -> list[Outcome]:
        mark = Path(self._action.target).parent / "killed"
        if "once" in job.input and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [Outcome("done", Row(job.input, job.output))]


class LonelyWorker(ProcessWorker):
    """Has weights that nobody else has, and does not get done before another is there."""

    def ready(self) -> tuple[str, ...]:
        return (*super().ready()[:-1], f"weights of {os.getpid()}")

    def _one(self, job: Job) -> list[Outcome]:
        time.sleep(200)  # it is killed once another has told its weights
        return super()._one(job)
