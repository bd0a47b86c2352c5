"""`nac codes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nac.cli.batch import Job
from nac.cli.options import FORCE, JSON, QUIET, ModelName, gathered, path
from nac.cli.running import Settings, Told, run_one
from nac.cli.standard import source, target


@click.command()
@click.argument("file", type=path(allow_dash=True))
@click.option("-o", "--output", "out", required=True, type=path(allow_dash=True), help="A file, or - for stdout.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["nac", "npz", "npy", "safetensors"]),
    help="Of the output; else its ending tells.",
)
@click.option("-m", "--model", type=ModelName(), help="Whose codes an array is that does not say.")
@FORCE
@JSON
@QUIET
@gathered("settings", Settings)
def codes(settings: Settings, file: Path, out: Path, form: str | None, model: str | None) -> None:
    """Write the codes of a .nac file as .npz, .npy or .safetensors, or make .nac of these.

    .npz and .safetensors hold all that is in a .nac file, and give it back; .npy has the codes alone, and takes
    --model on the way back. Nothing is decoded, and no model is needed.
    """

    def work(job: Job, progress: Told) -> Any:
        from nac.interop.arrays import convert_codes

        return convert_codes(source(job.input), target(job.output), format=form, model=model, force=settings.force)

    run_one(file, out, f".{form or 'npz'}", work, settings)
