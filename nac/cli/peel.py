"""`nac peel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from nac.cli.batch import Job
from nac.cli.options import COUNT, FORCE, JSON, QUIET, RATE, gathered, one_of, output_path, path
from nac.cli.running import Settings, Told, run_one
from nac.cli.standard import source, target


@click.command()
@click.argument("file", type=path(allow_dash=True))
@click.option("-o", "--output", "out", required=True, type=output_path(), help="A .nac file, or - for stdout.")
@RATE
@COUNT
@click.option(
    "--coding",
    type=click.Choice(["auto", "packed", "range"]),
    help="Recode as `nac compress` does; packed codes can be read without probability tables.",
)
@FORCE
@JSON
@QUIET
@gathered("settings", Settings)
def peel(
    settings: Settings,
    file: Path,
    out: str,
    kbps: float | None,
    codebooks: int | None,
    coding: Literal["auto", "packed", "range"] | None,
) -> None:
    """Lower the bitrate of a .nac file by dropping codebooks.

    Nothing is decoded, and no model is needed. The result is the file that compressing at that bitrate gives.
    """
    one_of(kbps=kbps, codebooks=codebooks)
    if kbps is None and codebooks is None and coding is None:
        raise click.UsageError("give --kbps or --codebooks, or --coding")

    def work(job: Job, progress: Told) -> Any:
        from nac.files import peeling

        return peeling.peel(
            source(job.input),
            target(job.output),
            kbps=kbps,
            codebooks=codebooks,
            coding=coding,
            force=settings.force,
        )

    run_one(file, out, ".nac", work, settings)
