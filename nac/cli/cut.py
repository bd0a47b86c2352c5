"""`nac cut`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nac.cli import batch
from nac.cli.options import DURATION, FORCE, JSON, QUIET, START, path
from nac.cli.running import run_one, source, target


@click.command()
@click.argument("file", type=path(allow_dash=True))
@click.option(
    "-o", "--output", "out", required=True, type=path(allow_dash=True), help="A .nac file, or - for stdout."
)
@START
@DURATION
@FORCE
@JSON
@QUIET
def cut(file: Path, out: Path, start: float, duration: float | None, **options: Any) -> None:
    """Cut a part out of a .nac file.

    Nothing is decoded, and no model is needed. The result decodes to exactly the samples that the whole has there;
    for that, some codes around the part are kept with it.
    """
    if not start and duration is None:
        raise click.UsageError("give --start or --duration")

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac.files import cutting

        force = options["force"]
        return cutting.cut(source(job.input), target(job.output), start=start, duration=duration, force=force)

    run_one(file, out, ".nac", work, **options)
