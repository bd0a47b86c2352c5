"""`nac verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli import report
from nac.cli.options import FILES, FORCE, JSON, QUIET, RECURSIVE, path
from nac.cli.running import each_nac_file
from nac.cli.standard import seekable, source
from nac.errors import NacError

if TYPE_CHECKING:
    from nac.files.verify import Checked


@click.command()
@FILES
@click.option("--recover", type=path(), help="Save what is whole of a damaged FILE to this .nac file.")
@RECURSIVE
@FORCE
@JSON
@QUIET
def verify(
    files: tuple[Path, ...], recover: Path | None, recursive: bool, force: bool, as_json: bool, quiet: bool
) -> None:
    """Check every byte of .nac files, or of all in folders (with -r). Needs no model."""
    if recover is not None and (len(files) > 1 or recursive):
        raise click.UsageError("--recover takes one FILE")

    def check_one(path: Path) -> None:
        found = _check(path) if recover is None else _recover(path, recover, force)
        if as_json:
            report.out(json.dumps({key: value for key, value in asdict(found).items() if key != "remedy"}))
        elif found.error and (quiet or not found.output):
            raise NacError(found.error, remedy=found.remedy)
        elif not quiet:
            report.out(report.check_text(found))
        failed.append(not found.ok)

    failed: list[bool] = []
    each_nac_file(files, check_one, recursive=recursive, as_json=as_json)
    if any(failed):
        raise SystemExit(1)


def _check(path: Path) -> Checked:
    from nac.files.verify import check

    return check(source(path))


def _recover(path: Path, out: Path, force: bool) -> Checked:
    from nac.files.verify import recover

    with seekable(path) as file:
        return recover(file, out, force=force)
