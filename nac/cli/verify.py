"""`nac verify`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli import report
from nac.cli.options import FILES, FORCE, JSON, QUIET, RECURSIVE, file_path
from nac.cli.running import each_nac_file
from nac.cli.shards import COLUMN, each_packed
from nac.cli.standard import seekable, source
from nac.container.timeline import clock
from nac.errors import NacError
from nac.storage.shards import is_shard

if TYPE_CHECKING:
    from nac.files.verify import Checked


@click.command()
@FILES
@click.option("--recover", type=file_path(), help="Save the intact chunks of a damaged FILE to this .nac file.")
@COLUMN
@RECURSIVE
@FORCE
@JSON
@QUIET
def verify(
    files: tuple[Path, ...],
    recover: Path | None,
    column: str | None,
    recursive: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check every byte of .nac files, or of all in folders (with -r). Needs no model.

    For a shard (tar or Parquet), each .nac file in it is checked.
    """
    from nac.files.verify import check

    if recover is not None and (len(files) > 1 or recursive):
        raise click.UsageError("--recover takes one FILE")

    def check_one(path: Path) -> None:
        if is_shard(path):
            check_items(path)
            return
        found = _check(path) if recover is None else _recover(path, recover, force)
        if as_json:
            report.out(json.dumps(_row(found)))
        elif found.error and (quiet or not found.output):
            raise NacError(found.error, remedy=found.remedy)
        elif not quiet:
            report.out(report.check_text(found))
        failed.append(not found.ok)

    def check_items(path: Path) -> None:
        if recover is not None:
            raise NacError("is a shard, and --recover saves one .nac file")
        total = 0.0

        def check_item(key: str, data: BytesIO) -> None:
            nonlocal total
            found = check(data)
            if found.error:
                raise NacError(found.error)  # in a shard there is no file to recover
            total += found.seconds
            if as_json:
                report.out(json.dumps({**_row(found), "path": os.fspath(path), "key": key}))

        count = each_packed(path, column, check_item, as_json=as_json)
        if not (as_json or quiet):
            report.out(f"{report.printable(path)}: whole, {report.many(count, '.nac file')}, {clock(total)}")

    failed: list[bool] = []
    each_nac_file(files, check_one, recursive=recursive, as_json=as_json)
    if any(failed):
        raise SystemExit(1)


def _row(found: Checked) -> dict[str, object]:
    return {key: value for key, value in asdict(found).items() if key != "remedy"}


def _check(path: Path) -> Checked:
    from nac.files.verify import check

    return check(source(path))


def _recover(path: Path, out: Path, force: bool) -> Checked:
    from nac.files.verify import recover

    with seekable(path) as file:
        return replace(recover(file, out, force=force), path=os.fspath(path))
