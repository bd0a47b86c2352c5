"""One job on many machines (`--engine ray`): what is to do (jobs), who does it (worker, crew), what was done
(manifest).

The source and the target are folders or URLs; every machine has to reach them, and have the same nac and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

from nac.cluster.jobs import Action, Job, Outcome, jobs
from nac.cluster.manifest import Manifest
from nac.cluster.workers import Crew, Fleet, cluster
from nac.errors import NacError
from nac.storage.places import place

__all__ = ["Action", "Crew", "run"]


def run(
    action: Action,
    crew: Crew,
    tell: Callable[[Outcome], None],
    *,
    address: str | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> None:
    """Do to every file below the source what is not done yet, and ``tell`` of each.

    ``address``: of the Ray cluster; by default what RAY_ADDRESS says, else this machine alone. ``note`` is told
    what else people should know. Raises NacError or OSError where the job as a whole cannot go on; what is done by
    then stays, and the next run does the rest.
    """
    missing = [name for name in ("ray", "pyarrow") if find_spec(name) is None]
    if missing:
        raise NacError(f"a cluster needs {' and '.join(missing)}: pip install 'nac-audio[ray]'")
    with Manifest(place(action.target)) as manifest:
        done = manifest.done()

        def told(outcome: Outcome) -> None:
            if outcome.fate in ("done", "failed") or outcome.row.model:
                manifest.add(outcome.row)
            tell(outcome)

        def work() -> Iterator[Job]:
            for item in jobs(action, done):
                if isinstance(item, Job):
                    yield item
                else:
                    told(item)

        with cluster(address, crew):
            for outcome in Fleet(action, crew, note).run(work()):
                told(outcome)
