"""A worker that dies, or takes its time, over files with certain names: for tests of what happens then."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from nac.cluster.jobs import Job, Outcome
from nac.cluster.worker import Worker


class FragileWorker(Worker):
    """Marks are left in the target's parent folder: NAME.PID for a file that is begun.

    "poison" in a name kills the worker always, "once" the first time, "slow" takes until a file `go` is there.
    """

    def do(self, job: Job) -> Outcome:
        folder, name = Path(self._action.target).parent, Path(job.input).stem
        begun = list(folder.glob(f"{name}.*"))
        (folder / f"{name}.{os.getpid()}").touch()
        if "poison" in name or ("once" in name and not begun):
            os.kill(os.getpid(), signal.SIGKILL)
        while "slow" in name and not (folder / "go").exists():
            time.sleep(0.05)
        return super().do(job)
