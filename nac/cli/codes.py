"""`nac codes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nac.cli.batch import Job
from nac.cli.options import FORCE, JSON, QUIET, ModelName, gathered, output_path, path
from nac.cli.running import Settings, Told, run_one
from nac.cli.standard import source, target


@click.command()
@click.argument("file", type=path(allow_dash=True))
@click.option("-o", "--output", "out", required=True, type=output_path(), help="A file, or - for stdout.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["nac", "npz", "npy", "safetensors"]),
    help="Format of the output; by default from its extension.",
)
@click.option("-m", "--model", type=ModelName(), help="The model of the codes, if the file does not name it.")
@FORCE
@JSON
@QUIET
@gathered("settings", Settings)
def codes(settings: Settings, file: Path, out: str, form: str | None, model: str | None) -> None:
    """Write the codes of a .nac file as .npz, .npy or .safetensors, or the other way round.

    .npz and .safetensors have everything that is in a .nac file, so it can be restored; .npy has only the codes,
    and needs --model on the way back. Nothing is decoded, and no weights are needed.
    """

    def work(job: Job, progress: Told) -> Any:
        from nac.interop.arrays import convert_codes

        return convert_codes(source(job.input), target(job.output), format=form, model=model, force=settings.force)

    run_one(file, out, f".{form or 'npz'}", work, settings)
