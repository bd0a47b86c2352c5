"""`nac info`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from nac import report
from nac.commands.options import FILES, JSON
from nac.commands.running import each, seekable


@click.command()
@FILES
@JSON
def info(files: tuple[Path, ...], as_json: bool) -> None:
    """Show what .nac files hold. Needs no model."""
    from nac import nacfile

    def show(path: Path) -> None:
        with seekable(path) as file:
            found = nacfile.info(file)
        report.out(json.dumps(asdict(found)) if as_json else report.info_text(found))

    each(files, show, as_json)
