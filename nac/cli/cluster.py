"""Files at URLs, and `--engine ray`: options of commands that can run on a cluster, and running them."""

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
        help="ray: process one folder or URL (s3://, ...) with -r, or files in it, to another with -o.",
    ),
    click.option(
        "--address",
        help="Address of the Ray cluster; by default RAY_ADDRESS, otherwise Ray is started on this machine.",
    ),
    click.option(
        "--workers", "processes", type=click.IntRange(min=1), help="Number of Ray workers; by default one per CPU."
    ),
    click.option(
        "--worker-cpus", type=click.FloatRange(min=0), default=1, show_default=True, help="CPUs per worker."
    ),
    click.option(
        "--worker-gpus",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="GPUs per worker, or a fraction.",
    ),
)


@dataclass(frozen=True)
class Engine:
    """The options for where the work runs. ``processes``: number of Ray workers."""

    engine: str
    address: str | None
    processes: int | None
    worker_cpus: float
    worker_gpus: float

    @property
    def is_local(self) -> bool:
        return self.engine == "local"

    def takes_over(self, paths: Paths) -> bool:
        """Whether the engine does the work instead of the command itself, which handles only local paths.

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
    """The engine options, passed as ``engine``."""
    command = gathered("engine", Engine)(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Route:
    """Source and target, folders or URLs as given, and ``names`` of files in the source, by default all."""

    source: str
    target: str
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, paths: Paths, who: str) -> Route:
        """Source, target and names from the paths of a command. Raises UsageError if they make no sense."""
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
        # Each taken as a file, so that an object store is not asked about each.
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
    """Run an action on a cluster or over URLs, report each file, and exit with 1 if any failed.

    ``action``: makes the action from ``source``, ``target`` and ``names``.
    """
    from nac import cluster
    from nac.storage.places import place

    who = "a URL" if engine.is_local else "--engine ray"
    route = Route.of(paths, who)
    if settings.remove_source:
        raise click.UsageError(f"--remove-source is not for {who}; its manifest lists what is done")
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
            files = at_once(settings.workers)
            cluster.run_here(replace(work, shards={**work.shards, "workers": files}), files, NOTES, tell)
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
    """The outcome of one file or item, with paths as the folders were given."""
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
