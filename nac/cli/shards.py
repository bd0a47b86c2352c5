"""Shards among the inputs of `nac compress` and `nac decompress`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nac.cli import report
from nac.cli.batch import Job, Plan
from nac.cli.hints import message_of
from nac.cli.notes import NOTES
from nac.cli.options import gathered
from nac.cli.running import Settings, Told, at_once
from nac.cli.standard import source, target
from nac.errors import NacError
from nac.storage.records import HEAD, Wanted
from nac.storage.shards import is_shard, is_shard_of, kind_of, packed_up

if TYPE_CHECKING:
    from nac.files.shards import Recoded, Recoding

F = TypeVar("F", bound=Callable[..., object])

COLUMN = click.option("--column", help="The Parquet column with the recordings, if there are several.")
_OPTIONS = (
    COLUMN,
    click.option("--keep-failed", is_flag=True, help="Keep failed items of a shard instead of leaving them out."),
)


@dataclass(frozen=True)
class Shards:
    """The options for shards."""

    column: str | None = None
    keep_failed: bool = False

    def takes(self, item: Wanted, otherwise: Callable[[Path], bool]) -> Callable[[Path], bool]:
        """Whether to take a file in a folder: a shard with such items, or another wanted file."""

        def takes(path: Path) -> bool:
            return is_shard_of(path, item, self.column) if is_shard(path) else otherwise(path)

        return takes

    def wrong(self, item: Wanted, what: str, otherwise: Callable[[Path], str]) -> Callable[[Path], str]:
        """Why a given file cannot be an input: a shard without such items, or another reason."""

        def wrong(path: Path) -> str:
            head = _head(path)
            if not is_shard(path):
                return packed_up(head) or otherwise(path)
            where = " in a column of bytes or {bytes, path}" if kind_of(head) == "parquet" else ""
            return "" if is_shard_of(path, item, self.column) else f"a shard without {what}{where}"

        return wrong

    def how(self, *, verify: bool) -> dict[str, Any]:
        """Keyword arguments of :class:`nac.files.shards.Recoding`."""
        return {"column": self.column, "keep_failed": self.keep_failed, "verify": verify}


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""  # to be reported when it is read


def recode_job(job: Job, how: Recoding, settings: Settings, progress: Told) -> Recoded:
    """Process a shard."""
    from nac.files.shards import recode

    return recode(
        source(job.input),
        target(job.output),
        how,
        force=settings.force,
        gathered=NOTES.gathered,
        progress=progress,
    )


def items_at_once(plan: Plan, settings: Settings) -> int:
    """Items of a shard in parallel, so that all files and shards together are as many as requested."""
    shards = sum(job.shard for job in plan.jobs)
    return max(1, at_once(settings.workers) // max(shards, 1))


def each_packed(path: Path, column: str | None, action: Callable[[str, BytesIO], None], *, as_json: bool) -> int:
    """Call a function with key and bytes of every .nac file in a shard. Returns their number.

    Errors of single files are reported at once; at the end NacError is raised, also for an incomplete shard or one
    without .nac files.
    """
    from nac.files.shards import is_packed, items

    count = failed = 0
    with path.open("rb") as file:
        for item in items(file, is_packed, column):
            count += 1
            try:
                action(item.key, BytesIO(item.data))
            except NacError as error:
                failed += 1
                report.error(f"{path}: {item.key}", error)
                if as_json:
                    report.out(json.dumps({"path": str(path), "key": item.key, "error": message_of(error)}))
    if not count:
        raise NacError("has no .nac files")
    if failed:
        raise NacError(f"{failed} of its {report.many(count, '.nac file')} cannot be read")
    return count


def shard_options(command: F) -> F:
    """The options for shards, passed as ``shards``."""
    command = gathered("shards", Shards)(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
