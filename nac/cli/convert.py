"""`nac convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nac.cli import report
from nac.cli.batch import Job
from nac.cli.options import FORCE, JSON, QUIET, ModelName, gathered, output_path, path
from nac.cli.running import Settings, Told, run_one
from nac.cli.standard import source, target


@click.command()
@click.argument("file", metavar="IN", type=path(allow_dash=True))
@click.argument("out", type=output_path())
@click.option(
    "--format",
    "form",
    type=click.Choice(["nac", "ecdc", "dac", "lyra"]),
    help="Format of OUT; by default from its extension.",
)
@click.option("-m", "--model", type=ModelName(), help="The model of a .dac file, which does not name it.")
@click.option(
    "-k", "--kbps", type=float, help="The bitrate of a .lyra file, which does not contain it: 3.2, 6 or 9.2."
)
@click.option(
    "--lm", type=path(exists=True), help="Weights of EnCodec's language model, for .ecdc files coded with it."
)
@FORCE
@JSON
@QUIET
@gathered("settings", Settings)
def convert(
    settings: Settings,
    file: Path,
    out: str,
    form: str | None,
    model: str | None,
    kbps: float | None,
    lm: Path | None,
) -> None:
    """Convert EnCodec's .ecdc, Descript's .dac and Lyra's .lyra files to .nac, and .nac files to them.

    The codes stay the same: nothing is decoded, and no weights are needed. A line lists the properties that the
    other format cannot store.
    """

    def work(job: Job, progress: Told) -> Any:
        from nac.interop.convert import convert

        src, dst = source(job.input), target(job.output)
        result = convert(src, dst, format=form, model=model, kbps=kbps, lm=lm, force=settings.force)
        if result.notes and not settings.quiet:
            report.note(report.notes_text(result))
        return result

    run_one(file, out, f".{form or 'nac'}", work, settings)
