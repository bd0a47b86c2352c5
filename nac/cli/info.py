"""`nac info`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli import report
from nac.cli.options import FILES, FORCE, JSON, RECURSIVE, file_path
from nac.cli.running import each_nac_file
from nac.cli.shards import COLUMN, each_packed
from nac.cli.standard import seekable
from nac.container.timeline import clock
from nac.errors import NacError
from nac.storage.shards import is_shard

if TYPE_CHECKING:
    from nac.files.info import Info
    from nac.files.nacfile import NacFile


@click.command()
@FILES
@click.option(
    "--plot", type=file_path(), help="Draw how FILE uses its codebooks, and its bits over time, to this .svg file."
)
@COLUMN
@RECURSIVE
@FORCE
@JSON
def info(
    files: tuple[Path, ...],
    plot: Path | None,
    column: str | None,
    recursive: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Show properties of .nac files, or of all in folders (with -r). Needs no model.

    For a shard (tar or Parquet), each .nac file in it is shown.
    """
    from nac.files.nacfile import NacFile

    if plot is not None and (len(files) > 1 or recursive):
        raise click.UsageError("--plot takes one FILE")
    if plot is not None and plot.suffix.lower() not in ("", ".svg"):
        raise click.UsageError(f"--plot writes SVG: give {plot} the extension .svg")

    def show(path: Path) -> None:
        if is_shard(path):
            show_items(path)
            return
        with seekable(path) as file, NacFile(file) as opened:
            found = replace(opened.info(), path=os.fspath(path))
            if plot is not None:
                draw(opened, path.name, plot, force)
        report.out(json.dumps(asdict(found)) if as_json else report.info_text(found))

    def show_items(path: Path) -> None:
        if plot is not None:
            raise NacError("is a shard, and --plot draws one .nac file")
        total = Total()

        def show_item(key: str, data: BytesIO) -> None:
            with NacFile(data) as opened:
                found = replace(opened.info(), path=os.fspath(path))
            total.add(found)
            report.out(json.dumps({**asdict(found), "key": key}) if as_json else report.item_text(key, found))

        each_packed(path, column, show_item, as_json=as_json)
        if not as_json:
            report.out(f"{report.printable(path)}: {total}")

    each_nac_file(files, show, recursive=recursive, as_json=as_json)


@dataclass
class Total:
    """Totals of several .nac files."""

    files: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def add(self, found: Info) -> None:
        self.files += 1
        self.seconds += found.seconds
        self.bytes += found.bytes

    def __str__(self) -> str:
        return f"{report.many(self.files, '.nac file')}, {clock(self.seconds)}, {report.size(self.bytes)}"


def draw(opened: NacFile, name: str, plot: Path, force: bool) -> None:
    from nac.evaluate.usage import svg, usage
    from nac.storage.output import whole_file
    from nac.storage.places import as_text

    picture = svg(replace(usage(opened), name=as_text(name)))
    with whole_file(plot, force=force) as out:
        out.write(picture.encode())
