"""Files at URLs, and `--engine ray`: the options of commands that can hand their work over, and doing it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from nac.cli import report
from nac.cli.batch import Paths, is_folder
from nac.cli.hints import with_hint
from nac.cli.notes import NOTES
from nac.cli.options import gathered
from nac.cli.running import Settings, Stop, at_once, counted, folders
from nac.errors import NacError
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
        help="ray: one folder or URL (s3://, ...) with -r, or files of one, to another with -o, on a cluster.",
    ),
    click.option("--address", help="Of the Ray cluster; by default RAY_ADDRESS, else one is started here."),
    click.option("--workers", "processes", type=click.IntRange(min=1), help="Ray's; by default one for each CPU."),
    click.option(
        "--worker-cpus", type=click.FloatRange(min=0), default=1, show_default=True, help="CPUs for each."
    ),
    click.option(
        "--worker-gpus", type=click.FloatRange(min=0), default=0, show_default=True, help="GPUs, or parts of one."
    ),
)


@dataclass(frozen=True)
class Engine:
    """Where the work is done: the options of that name. ``processes``: number of Ray's workers."""

    engine: str
    address: str | None
    processes: int | None
    worker_cpus: float
    worker_gpus: float

    @property
    def is_local(self) -> bool:
        return self.engine == "local"

    def takes_over(self, paths: Paths) -> bool:
        """Whether it does the work and not the command itself, which has only paths of this machine.

        Raises UsageError for options of another engine.
        """
        from nac.storage.places import is_url

        context = click.get_current_context()
        names = [field.name for field in fields(self) if field.name != "engine"]
        given = [name for name in names if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
        if self.is_local and given:
            raise click.UsageError("--address, --workers, --worker-cpus and --worker-gpus are for --engine ray")
        urls = any(is_url(name) and not Path(name).exists() for name in (*paths.inputs, paths.out or ""))
        return urls or not self.is_local


def engine_options(command: F) -> F:
    """The options of an engine, gathered as ``engine``."""
    command = gathered("engine", Engine)(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Route:
    """From where to where: folders or URLs, as given, and ``names`` of files in the first, by default all."""

    source: str
    target: str
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, paths: Paths, who: str) -> Route:
        """What is meant by the paths of a command. Raises UsageError where that makes no sense."""
        from nac.storage.places import split

        wrong = click.UsageError(
            f"{who} takes -r, one folder or URL, and -o with another; or files of one folder, and -o"
        )
        if paths.out is None or "-" in (*paths.inputs, paths.out):
            raise wrong
        if len(paths.inputs) == 1 and paths.recursive and not _is_file(paths.inputs[0]):
            return cls(paths.inputs[0], paths.out)
        parts = [split(name) for name in paths.inputs]
        one_folder = len({folder for folder, _ in parts}) == 1
        # A file for all, so that an object store is not asked about each.
        if not one_folder or any(map(is_folder, map(Path, paths.inputs))) or not _is_file(paths.inputs[0]):
            raise wrong
        return cls(parts[0][0], paths.out, tuple(dict.fromkeys(name for _, name in parts)))

    def absolute(self) -> tuple[str, str]:
        """Source and target for processes with another working folder."""
        from nac.storage.places import is_url

        source, target = (
            name if is_url(name) else str(Path(name).absolute()) for name in (self.source, self.target)
        )
        return source, target


def _is_file(name: str) -> bool:
    from nac.storage.places import place, split

    folder, file = split(name)
    try:
        return place(folder).size(file) is not None
    except NacError as error:
        raise Stop.of(error) from None
    except OSError:
        return False


def hand_over(paths: Paths, settings: Settings, engine: Engine, action: Callable[..., Action]) -> None:
    """Do an action on a cluster or over URLs, tell of each file, and exit with 1 if any failed.

    ``action``: makes it of ``source``, ``target`` and ``names``.
    """
    from nac import cluster
    from nac.storage.places import place

    who = "a URL" if engine.is_local else "--engine ray"
    route = Route.of(paths, who)
    if settings.remove_source:
        raise click.UsageError(f"--remove-source is not for {who}; its manifest tells what is done")
    settings.check()
    folders([] if route.names else [route.source], route.target)
    names = tuple(place(name).name for name in (route.source, route.target))
    source, target = route.absolute()
    work = action(source=source, target=target, names=route.names)

    def tell(outcome: Outcome) -> None:
        counts[outcome.status] += 1
        if outcome.status != "other":
            _tell(outcome, names, settings)

    with counted(settings.quiet) as counts:
        if engine.is_local:
            cluster.run_here(work, at_once(settings.workers), NOTES, tell)
            return
        files = settings.workers or 1
        cluster.run_on_ray(
            replace(work, shards={**work.shards, "workers": files}),
            cluster.WorkerOptions(engine.processes, engine.worker_cpus, engine.worker_gpus, files),
            tell,
            address=engine.address,
            note=lambda line: None if settings.quiet else report.note(line),
        )


def _tell(outcome: Outcome, folders: tuple[str, ...], settings: Settings) -> None:
    """What became of one file or item; its paths with the names of the folders as they were given."""
    row, (source, target) = outcome.row, folders
    error = row.error and with_hint(row.error, outcome.remedy)
    path = row.input if source == "." else f"{source}/{row.input}"
    row = replace(row, input=path, output=f"{target}/{row.output}", error=error)
    name = row.input if row.key is None else f"{row.input}: {row.key}"
    for line in () if settings.quiet else outcome.notes:
        report.warning(name, line)
    if outcome.status == "failed":
        report.error(name, row.error)
    if settings.as_json:
        values = {key: value for key, value in vars(row).items() if key != "key" or value is not None}
        report.out(json.dumps({**values, "skipped": outcome.status == "skipped"}))
    elif outcome.status == "done" and not settings.quiet:
        values = {**asdict(row), "input": name}
        report.note(report.result_text(Result(**{key.name: values[key.name] for key in fields(Result)})))
