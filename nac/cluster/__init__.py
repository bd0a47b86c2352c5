"""Process the files of a local folder or a URL: a list of files (jobs), a worker, and a manifest of the outcomes.

Work runs on this machine (local), or on many (`--engine ray`: workers). Every machine needs access to source and
target, and the same version of nac and of the weights.
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
"""Does jobs and yields their outcomes."""


def run_on_ray(
    action: Action,
    options: WorkerOptions,
    report: Callable[[Outcome], None],
    *,
    address: str | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> None:
    """Process every file of the source that is not done yet, and ``report`` the outcome of each.

    ``address``: of the Ray cluster; by default that in RAY_ADDRESS, else this machine alone. ``note`` is called
    with other messages for the user. Raises NacError or OSError if the run cannot continue; finished files are
    kept, and the next run does the rest.
    """
    missing = [name for name in ("ray", "pyarrow") if find_spec(name) is None]
    if missing:
        raise NacError(f"a cluster needs {' and '.join(missing)}: pip install 'nac-audio[ray]'")

    @contextmanager
    def context() -> Iterator[None]:
        with cluster(address, options), parts.kept(place(action.target)):
            yield

    _run(action, Workers(action, options, note).run, report, context)


def run_here(action: Action, files: int, notes: Notes, report: Callable[[Outcome], None]) -> None:
    """Do the same in this process, ``files`` in parallel. ``notes`` collects log messages."""
    if find_spec("pyarrow") is None:
        raise NacError("URLs need pyarrow: pip install 'nac-audio[ray]'")
    _run(action, lambda work: local.run(action, files, notes, work), report, local.scratch)


def _run(
    action: Action,
    do: Done,
    report: Callable[[Outcome], None],
    context: Callable[[], AbstractContextManager[None]],
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
                report(outcome)

        def work() -> Iterator[Job]:
            for item in jobs(action, done):
                if isinstance(item, Job):
                    yield item
                else:
                    add([item])

        with context():
            for outcomes in do(work()):
                add(outcomes)
