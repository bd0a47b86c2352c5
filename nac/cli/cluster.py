"""`--engine ray`: the options of commands that can hand their work to a cluster, and handing it over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.core import ParameterSource

from nac.cli import report
from nac.cli.running import fates_of_files, folders, not_both
from nac.storage.output import Result

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


def engine_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def only_local(options: dict[str, Any]) -> dict[str, Any]:
    """The options without those of an engine. They must not have been given, nor URLs, which only engines take."""
    from nac.storage.places import is_url

    names = ("address", "crew", "worker_cpus", "worker_gpus")
    context = click.get_current_context()
    if any(context.get_parameter_source(name) == ParameterSource.COMMANDLINE for name in names):
        raise click.UsageError("--address, --workers, --worker-cpus and --worker-gpus are for --engine ray")
    for name in (*context.params["inputs"], context.params["out"] or ""):
        if is_url(name) and not Path(name).exists():
            raise click.UsageError(f"{name} is a URL: --engine ray takes those, with -r and -o")
    return {key: value for key, value in options.items() if key not in (*names, "engine")}


def hand_over(
    name: Literal["compress", "decompress"],
    inputs: tuple[str, ...],
    out: str | None,
    suffix: str,
    settings: dict[str, Any],
    load: dict[str, Any],
    *,
    model: str | None,
    engine: str,
    recursive: bool,
    force: bool,
    skip_existing: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    remove_source: bool,
    address: str | None,
    crew: int | None,
    worker_cpus: float,
    worker_gpus: float,
) -> None:
    """Run compress or decompress on a cluster, report each file, and exit with 1 if any failed."""
    from nac import cluster
    from nac.cluster.jobs import Outcome
    from nac.storage.places import is_url

    if len(inputs) != 1 or not recursive or out is None or "-" in (inputs[0], out):
        raise click.UsageError("--engine ray takes -r, one folder or URL, and -o with another")
    if remove_source:
        raise click.UsageError("--remove-source is not for --engine ray; its manifest tells what is done")
    not_both(force=force, skip_existing=skip_existing)
    told_source, told_target = (where.name for where in folders(inputs, out))
    source, target = (name if is_url(name) else str(Path(name).absolute()) for name in (inputs[0], out))
    action = cluster.Action(
        name=name,
        source=source,
        target=target,
        suffix=suffix,
        options=settings,
        load=load,
        model=model,
        force=force,
    )

    def tell(outcome: Outcome) -> None:
        fates[outcome.fate] += 1
        if outcome.fate == "other":
            return
        row = replace(
            outcome.row, input=f"{told_source}/{outcome.row.input}", output=f"{told_target}/{outcome.row.output}"
        )
        for line in () if quiet else outcome.notes:
            report.error(row.input, line)
        if outcome.fate == "failed":
            report.error(row.input, row.error)
        if as_json:
            report.out(json.dumps({**asdict(row), "skipped": outcome.fate == "skipped"}))
        elif outcome.fate == "done" and not quiet:
            told = asdict(row)
            report.note(report.result_text(Result(**{key.name: told[key.name] for key in fields(Result)})))

    with fates_of_files(quiet) as fates:
        cluster.run(
            action,
            cluster.Crew(workers=crew, cpus=worker_cpus, gpus=worker_gpus, files=workers or 1),
            tell,
            address=address,
            note=lambda line: None if quiet else report.note(line),
        )
