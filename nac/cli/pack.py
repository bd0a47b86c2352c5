"""`nac pack`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import click

from nac.cli import report
from nac.cli.options import FORCE, JOBS, JSON, QUIET, SKIP, gathered
from nac.cli.running import ROW, Settings, at_once, counted, folders
from nac.training.packing import LeftOut, Packed


class Size(click.ParamType[int]):
    """Bytes: 1GB, 500MB, 64MiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([kKMGT])(i?))?B?", value)
        size = 0
        if found:
            size = round(
                float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index((found[2] or " ").upper())
            )
        if not size:
            self.fail(f"{value!r} is not a size: a number with kB, MB, GB or TB", param, ctx)
        return size


@click.command()
@click.argument("sources", metavar="DIR...", nargs=-1, required=True)
@click.option("-o", "--output", "out", required=True, help="A folder for the shards, or a URL.")
@click.option("--size", type=Size(), default="1GB", show_default=True, help="Maximum size of a shard.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tar", "parquet"]),
    default="tar",
    show_default=True,
    help="tar: WebDataset; parquet: one row per file.",
)
@FORCE
@SKIP
@JOBS
@JSON
@QUIET
@gathered("settings", Settings)
def pack(settings: Settings, sources: tuple[str, ...], out: str, size: int, form: Any) -> None:
    """Pack all .nac files below folders into shards for training.

    DIR and OUT are folders or URLs (s3://, ...). Each file is checked, and left out if it is not intact. It is
    stored unchanged, with a description: the fields of `nac info --json`. After an interrupted run,
    --skip-existing does the rest.
    """
    from nac.training import packing

    settings.check()
    folders(sources, out)

    def tell(item: Packed | LeftOut) -> None:
        if isinstance(item, LeftOut):
            counts[item.status] += 1
            if item.status == "failed":
                report.error(item.input, item.error)
            if settings.as_json and item.status != "other":
                row = {**dict.fromkeys(ROW), "input": item.input, "error": item.error}
                report.out(json.dumps({**row, "skipped": item.status == "skipped"}))
            return
        counts["done"] += len(item.files)
        if settings.as_json:
            for file in item.files:
                report.out(json.dumps({**dict.fromkeys(ROW), **asdict(file), "skipped": False}))
        elif not settings.quiet:
            report.note(report.shard_text(item))

    with counted(settings.quiet) as counts:
        packing.pack(
            sources,
            out,
            format=form,
            size=size,
            force=settings.force,
            skip_existing=settings.skip_existing,
            jobs=at_once(settings.workers),
            tell=tell,
        )
