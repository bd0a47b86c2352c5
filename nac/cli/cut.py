"""`nac cut`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nac.cli.batch import Job
from nac.cli.options import DURATION, FORCE, JSON, QUIET, START, gathered, output_path, path
from nac.cli.running import Settings, Told, run_one
from nac.cli.standard import source, target


@click.command()
@click.argument("file", type=path(allow_dash=True))
@click.option("-o", "--output", "out", required=True, type=output_path(), help="A .nac file, or - for stdout.")
@START
@DURATION
@FORCE
@JSON
@QUIET
@gathered("settings", Settings)
def cut(settings: Settings, file: Path, out: str, start: float, duration: float | None) -> None:
    """Cut a part out of a .nac file.

    Nothing is decoded, and no model is needed. The part decodes to exactly the same samples as the whole file; for
    that, some codes around it are kept.
    """
    if not start and duration is None:
        raise click.UsageError("give --start or --duration")

    def work(job: Job, progress: Told) -> Any:
        from nac.files import cutting

        return cutting.cut(
            source(job.input), target(job.output), start=start, duration=duration, force=settings.force
        )

    run_one(file, out, ".nac", work, settings)
