"""`nac verify`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from nac.cli import report
from nac.cli.options import FILES, FORCE, JSON, path
from nac.cli.running import each, seekable, source
from nac.errors import NacError


@click.command()
@FILES
@click.option("--recover", type=path(), help="Save what is whole of a damaged FILE to this .nac file.")
@FORCE
@JSON
def verify(files: tuple[Path, ...], recover: Path | None, force: bool, as_json: bool) -> None:
    """Check every byte of .nac files. Needs no model."""
    from nac.files import verify as check

    if recover is not None and len(files) > 1:
        raise click.UsageError("--recover takes one FILE")

    def check_one(path: Path) -> None:
        if recover is None:
            found = check.check(source(path))
        else:
            with seekable(path) as file:
                found = check.recover(file, recover, force=force)
        if as_json or not found.error or found.output:
            report.out(json.dumps(asdict(found)) if as_json else report.check_text(found))
        if found.error and not (as_json or found.output):
            raise NacError(found.error)
        failed.append(not found.ok)

    failed: list[bool] = []
    each(files, check_one, as_json)
    if any(failed):
        raise SystemExit(1)
