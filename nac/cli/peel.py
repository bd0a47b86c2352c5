"""`nac peel`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nac.cli import batch
from nac.cli.options import COUNT, FORCE, JSON, QUIET, RATE, one_of, path
from nac.cli.running import run_one, source, target


@click.command()
@click.argument("file", type=path(allow_dash=True))
@click.option(
    "-o", "--output", "out", required=True, type=path(allow_dash=True), help="A .nac file, or - for stdout."
)
@RATE
@COUNT
@FORCE
@JSON
@QUIET
def peel(file: Path, out: Path, kbps: float | None, codebooks: int | None, **options: Any) -> None:
    """Lower the bitrate of a .nac file by dropping codebooks.

    Nothing is decoded, and no model is needed; the result is what compressing at that bitrate gives.
    """
    one_of(kbps=kbps, codebooks=codebooks)
    if kbps is None and codebooks is None:
        raise click.UsageError("give --kbps or --codebooks")

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac.files import peeling

        force = options["force"]
        return peeling.peel(source(job.input), target(job.output), kbps=kbps, codebooks=codebooks, force=force)

    run_one(file, out, ".nac", work, **options)
