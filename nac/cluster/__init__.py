"""One job over a folder here or at a URL: what to do (jobs), what does it (worker), what was done (manifest).

On this machine (local), or on many (`--engine ray`: workers). Every machine has to reach the source and the
target, and have the same nac and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec

from nac.cluster import local, parts
from nac.cluster.jobs import Action, Job, Outcome, jobs
from nac.cluster.manifest import Manifest
from nac.cluster.workers import WorkerOptions, Workers, cluster
from nac.errors import NacError
from nac.files.notes import Notes
from nac.storage.places import place

__all__ = ["Action", "WorkerOptions", "run_here", "run_on_ray"]
Done = Callable[[Iterable[Job]], Iterator[list[Outcome]]]
"""Does jobs, and gives what became of each."""


def run_on_ray(
    action: Action,
    options: WorkerOptions,
    tell: Callable[[Outcome], None],
    *,
    address: str | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> None:
    """Do to every file of the source what is not done yet, and ``tell`` of each.

    ``address``: of the Ray cluster; by default what RAY_ADDRESS says, else this machine alone. ``note`` is given
    what else people should know. Raises NacError or OSError where the job as a whole cannot go on; what is done by
    then stays, and the next run does the rest.
    """
    missing = [name for name in ("ray", "pyarrow") if find_spec(name) is None]
    if missing:
        raise NacError(f"a cluster needs {' and '.join(missing)}: pip install 'nac-audio[ray]'")

    @contextmanager
    def within() -> Iterator[None]:
        with cluster(address, options), parts.kept(place(action.target)):
            yield

    _run(action, Workers(action, options, note).run, tell, within)


def run_here(action: Action, files: int, notes: Notes, tell: Callable[[Outcome], None]) -> None:
    """The same in this process, ``files`` at a time. ``notes``: where to gather what is logged."""
    if find_spec("pyarrow") is None:
        raise NacError("URLs need pyarrow: pip install 'nac-audio[ray]'")
    _run(action, lambda work: local.run(action, files, notes, work), tell, local.scratch)


def _run(
    action: Action,
    do: Done,
    tell: Callable[[Outcome], None],
    within: Callable[[], AbstractContextManager[None]],
) -> None:
    with Manifest(place(action.target)) as manifest:
        done = manifest.done()

        def add(outcomes: list[Outcome]) -> None:
            manifest.add(
                outcome.row
                for outcome in outcomes
                if outcome.status in ("done", "failed") or outcome.row.model is not None
            )
            for outcome in outcomes:
                tell(outcome)

        def work() -> Iterator[Job]:
            for item in jobs(action, done):
                if isinstance(item, Job):
                    yield item
                else:
                    add([item])

        with within():
            for outcomes in do(work()):
                add(outcomes)
