"""`nac cat`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nac.cli import batch
from nac.cli.options import FORCE, JSON, QUIET, path
from nac.cli.running import run, source, target


@click.command()
@click.argument("files", nargs=-1, required=True, type=path(allow_dash=True))
@click.option(
    "-o", "--output", "out", required=True, type=path(allow_dash=True), help="A .nac file, or - for stdout."
)
@FORCE
@JSON
@QUIET
def cat(files: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Join .nac files, one after the other.

    Nothing is decoded, and no model is needed. Parts of one recording join without a seam; other recordings follow
    one another within a frame. All must be of one model, bitrate, sample rate and number of channels.
    """
    if files.count(batch.STANDARD) > 1:
        raise click.UsageError("standard input can be given once")

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac.files import joining

        return joining.cat([source(file) for file in files], target(job.output), force=options["force"])

    run([batch.Job(files[0], out)], [], work, skip_existing=False, workers=1, **options)
