"""Shards among the inputs of `nac compress` and `nac decompress`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nac.cli.batch import Job, Plan
from nac.cli.notes import NOTES
from nac.cli.options import gathered
from nac.cli.running import Settings, Told, at_once
from nac.cli.standard import source, target
from nac.storage.records import Wanted
from nac.storage.shards import holds_items, is_shard

if TYPE_CHECKING:
    from nac.files.shards import Recoded, Recoding

F = TypeVar("F", bound=Callable[..., object])

_OPTIONS = (
    click.option("--column", help="Of Parquet: the one with the recordings, where several have some."),
    click.option("--keep-failed", is_flag=True, help="Leave what fails in a shard as it is, and not out."),
)


@dataclass(frozen=True)
class Shards:
    """How shards are gone through: the options of that name."""

    column: str | None = None
    keep_failed: bool = False

    def takes(self, item: Wanted, otherwise: Callable[[Path], bool]) -> Callable[[Path], bool]:
        """Whether a file in a folder is to be taken: a shard with such items, or what else is wanted."""

        def takes(path: Path) -> bool:
            return self._holds(path, item) if is_shard(path) else otherwise(path)

        return takes

    def wrong(self, item: Wanted, what: str, otherwise: Callable[[Path], str]) -> Callable[[Path], str]:
        """Why a file given cannot be meant: a shard without such items, or what else is wrong."""

        def wrong(path: Path) -> str:
            if not is_shard(path):
                return otherwise(path)
            return "" if self._holds(path, item) else f"a shard without {what}"

        return wrong

    def _holds(self, path: Path, item: Wanted) -> bool:
        with path.open("rb") as file:
            return holds_items(file, item, self.column)

    def how(self, *, verify: bool) -> dict[str, Any]:
        """Keyword arguments of :class:`nac.files.shards.Recoding`."""
        return {"column": self.column, "keep_failed": self.keep_failed, "verify": verify}


def recode_job(job: Job, how: Recoding, settings: Settings, progress: Told) -> Recoded:
    """Do a shard."""
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
    """Items of a shard at a time, so that all its files and shards together are as many as was asked for."""
    shards = sum(job.shard for job in plan.jobs)
    return max(1, at_once(settings.workers) // max(shards, 1))


def shard_options(command: F) -> F:
    """The options about shards, gathered as ``shards``."""
    command = gathered("shards", Shards)(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
