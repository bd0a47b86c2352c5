"""`--engine ray`: the options of commands that can hand their work to a cluster, and handing it over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from nac.cli import report
from nac.cli.batch import Paths
from nac.cli.hints import with_hint
from nac.cli.options import gathered
from nac.cli.running import Settings, fates_of_files, folders
from nac.storage.output import Result

if TYPE_CHECKING:
    from nac.cluster import Action
    from nac.cluster.jobs import Outcome

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="ray: one folder or URL (s3://, ...) with -r to another with -o, on a cluster.",
    ),
    click.option("--address", help="Of the Ray cluster; by default RAY_ADDRESS, else one is started here."),
    click.option("--workers", "crew", type=click.IntRange(min=1), help="Ray's; by default one for each CPU."),
    click.option(
        "--worker-cpus", type=click.FloatRange(min=0), default=1, show_default=True, help="CPUs for each."
    ),
    click.option(
        "--worker-gpus", type=click.FloatRange(min=0), default=0, show_default=True, help="GPUs, or parts of one."
    ),
)


@dataclass(frozen=True)
class Engine:
    """Where the work is done: the options of that name. ``crew``: number of Ray's workers."""

    engine: str
    address: str | None
    crew: int | None
    worker_cpus: float
    worker_gpus: float

    @property
    def is_local(self) -> bool:
        return self.engine == "local"

    def check_local(self, paths: Paths) -> None:
        """Raise UsageError for the options of another engine, and for URLs, which only others take."""
        from nac.storage.places import is_url

        context = click.get_current_context()
        names = [field.name for field in fields(self) if field.name != "engine"]
        if any(context.get_parameter_source(name) == ParameterSource.COMMANDLINE for name in names):
            raise click.UsageError("--address, --workers, --worker-cpus and --worker-gpus are for --engine ray")
        for name in (*paths.inputs, paths.out or ""):
            if is_url(name) and not Path(name).exists():
                raise click.UsageError(f"{name} is a URL: --engine ray takes those, with -r and -o")


def engine_options(command: F) -> F:
    """The options of an engine, gathered as ``engine``."""
    command = gathered("engine", Engine)(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def hand_over(paths: Paths, settings: Settings, engine: Engine, action: Callable[[str, str], Action]) -> None:
    """Do an action on a cluster, tell of each file, and exit with 1 if any failed.

    ``action``: what to do, from one folder or URL to another.
    """
    from nac import cluster
    from nac.storage.places import is_url

    if len(paths.inputs) != 1 or not paths.recursive or paths.out is None or "-" in (*paths.inputs, paths.out):
        raise click.UsageError("--engine ray takes -r, one folder or URL, and -o with another")
    if settings.remove_source:
        raise click.UsageError("--remove-source is not for --engine ray; its manifest tells what is done")
    settings.check()
    names = (paths.inputs[0], paths.out)
    told = tuple(where.name for where in folders(names[:1], names[1]))
    source, target = (name if is_url(name) else str(Path(name).absolute()) for name in names)

    def tell(outcome: Outcome) -> None:
        fates[outcome.fate] += 1
        if outcome.fate != "other":
            _tell(outcome, told, settings)

    with fates_of_files(settings.quiet) as fates:
        cluster.run(
            action(source, target),
            cluster.Crew(engine.crew, engine.worker_cpus, engine.worker_gpus, files=settings.workers or 1),
            tell,
            address=engine.address,
            note=lambda line: None if settings.quiet else report.note(line),
        )


def _tell(outcome: Outcome, folders: tuple[str, ...], settings: Settings) -> None:
    """What became of one file; its paths with the names of the folders as they were given."""
    row, (source, target) = outcome.row, folders
    error = row.error and with_hint(row.error, outcome.remedy)
    row = replace(row, input=f"{source}/{row.input}", output=f"{target}/{row.output}", error=error)
    for line in () if settings.quiet else outcome.notes:
        report.warning(row.input, line)
    if outcome.fate == "failed":
        report.error(row.input, row.error)
    if settings.as_json:
        report.out(json.dumps({**asdict(row), "skipped": outcome.fate == "skipped"}))
    elif outcome.fate == "done" and not settings.quiet:
        values = asdict(row)
        report.note(report.result_text(Result(**{key.name: values[key.name] for key in fields(Result)})))
