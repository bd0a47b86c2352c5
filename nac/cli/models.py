"""`nac models`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from nac.cli import report
from nac.cli.options import JSON, REVISION, ModelName
from nac.cli.running import each, or_exit


@click.group(invoke_without_command=True)
@JSON
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List, download, check and remove models."""
    if context.invoked_subcommand is None:
        context.invoke(models_list, as_json=as_json)
    elif as_json:
        raise click.UsageError("--json goes after the subcommand")


NAMES = click.argument("names", nargs=-1, required=True, type=ModelName())
SOME_NAMES = click.argument("names", nargs=-1, type=ModelName())


@models.command("list")
@SOME_NAMES
@JSON
def models_list(names: tuple[str, ...] = (), as_json: bool = False) -> None:
    """List the models, and which are on this machine."""
    from nac.codecs.registry import find
    from nac.weights import models as table

    for name in names:
        or_exit(find, name)
    rows = [row for row in table.status() if not names or row.name in names]
    if not as_json:
        report.out(report.models_text(rows))
        return
    for row in rows:
        report.out(json.dumps({**asdict(row), "path": row.path and str(row.path), "present": row.present}))


@models.command("download")
@NAMES
@REVISION
@JSON
def models_download(names: tuple[str, ...], revision: str | None, as_json: bool) -> None:
    """Download models' weights."""
    from nac.codecs.registry import find
    from nac.weights import models as table

    def one(name: str) -> None:
        path = str(table.download(name, revision=revision, progress=sys.stderr.isatty()))
        licence = find(name).licence
        row = {"model": name, "path": path, "licence": licence}
        report.out(json.dumps(row) if as_json else f"{name}: {path} (licence: {licence})")

    each(names, one, as_json)


@models.command("verify")
@SOME_NAMES
@REVISION
@JSON
def models_verify(names: tuple[str, ...], revision: str | None, as_json: bool) -> None:
    """Verify the hashes of models' weights, by default of all on this machine."""
    from nac.weights import models as table

    def one(name: str) -> None:
        for file in table.verify(name, revision):
            row = {"model": name, **asdict(file), "path": str(file.path)}
            text = f"{name}: {file.path}: SHA-256 {file.sha256} ({file.against})"
            report.out(json.dumps(row) if as_json else text)

    each(names or table.present(), one, as_json)


@models.command("path")
@NAMES
@REVISION
@JSON
def models_path(names: tuple[str, ...], revision: str | None, as_json: bool) -> None:
    """Print the paths of models' weights."""
    from nac.weights import models as table

    def one(name: str) -> None:
        path = str(table.path(name, revision))
        report.out(json.dumps({"model": name, "path": path}) if as_json else path)

    each(names, one, as_json)


@models.command("remove")
@NAMES
@JSON
def models_remove(names: tuple[str, ...], as_json: bool) -> None:
    """Delete models' weights from the cache."""
    from nac.weights import models as table

    def one(name: str) -> None:
        freed = table.remove(name)
        report.out(
            json.dumps({"model": name, "bytes": freed}) if as_json else f"{name}: {report.size(freed)} freed"
        )

    each(names, one, as_json)
