"""`nac info`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli import report
from nac.cli.options import FILES, FORCE, JSON, RECURSIVE, path
from nac.cli.running import each_nac_file
from nac.cli.standard import seekable

if TYPE_CHECKING:
    from nac.files.nacfile import NacFile


@click.command()
@FILES
@click.option(
    "--plot", type=path(), help="Draw how FILE uses its codebooks, and its bits over time, to this .svg file."
)
@RECURSIVE
@FORCE
@JSON
def info(files: tuple[Path, ...], plot: Path | None, recursive: bool, force: bool, as_json: bool) -> None:
    """Show what .nac files hold, or all in folders (with -r). Needs no model."""
    from nac.files.nacfile import NacFile

    if plot is not None and (len(files) > 1 or recursive):
        raise click.UsageError("--plot takes one FILE")
    if plot is not None and plot.suffix.lower() not in ("", ".svg"):
        raise click.UsageError(f"--plot writes SVG: give {plot} the ending .svg")

    def show(path: Path) -> None:
        with seekable(path) as file, NacFile(file) as opened:
            found = replace(opened.info(), path=os.fspath(path))
            if plot is not None:
                draw(opened, plot, force)
        report.out(json.dumps(asdict(found)) if as_json else report.info_text(found))

    each_nac_file(files, show, recursive=recursive, as_json=as_json)


def draw(opened: NacFile, plot: Path, force: bool) -> None:
    from nac.evaluate.usage import svg, usage
    from nac.storage.output import whole_file

    picture = svg(usage(opened))
    with whole_file(plot, force=force) as out:
        out.write(picture.encode())
