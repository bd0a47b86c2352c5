"""`nac info`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli import report
from nac.cli.options import FILES, FORCE, JSON, path
from nac.cli.running import each, seekable

if TYPE_CHECKING:
    from nac.files.nacfile import NacFile


@click.command()
@FILES
@click.option(
    "--plot", type=path(), help="Draw how FILE uses its codebooks, and its bits over time, to this .svg file."
)
@FORCE
@JSON
def info(files: tuple[Path, ...], plot: Path | None, force: bool, as_json: bool) -> None:
    """Show what .nac files hold. Needs no model."""
    from nac.files import nacfile

    if plot is not None and len(files) > 1:
        raise click.UsageError("--plot takes one FILE")

    def show(path: Path) -> None:
        with seekable(path) as file, nacfile.NacFile(file) as opened:
            found = opened.info()
            if plot is not None:
                draw(opened, plot, force)
        report.out(json.dumps(asdict(found)) if as_json else report.info_text(found))

    each(files, show, as_json)


def draw(opened: NacFile, plot: Path, force: bool) -> None:
    from nac.evaluate.usage import svg, usage
    from nac.storage.output import whole_file

    picture = svg(usage(opened))
    with whole_file(plot, force=force) as out:
        out.write(picture.encode())
