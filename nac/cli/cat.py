"""`nac cat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nac.cli.batch import STANDARD, Job, Plan
from nac.cli.options import FORCE, JSON, QUIET, file_path, gathered, path
from nac.cli.running import Settings, Told, run
from nac.cli.standard import source, target


@click.command()
@click.argument("files", nargs=-1, required=True, type=path(allow_dash=True))
@click.option(
    "-o", "--output", "out", required=True, type=file_path(allow_dash=True), help="A .nac file, or - for stdout."
)
@FORCE
@JSON
@QUIET
@gathered("settings", Settings)
def cat(settings: Settings, files: tuple[Path, ...], out: Path) -> None:
    """Join .nac files, one after another.

    Nothing is decoded, and no model is needed. Parts of one recording join without a seam; other recordings follow
    with up to one frame in between. All must have the same model, bitrate, sample rate and number of channels.
    """
    if files.count(STANDARD) > 1:
        raise click.UsageError("standard input can be given only once")

    def work(job: Job, progress: Told) -> Any:
        from nac.files import joining

        return joining.cat([source(file) for file in files], target(job.output), force=settings.force)

    run(Plan([Job(files[0], out)], []), work, settings)
