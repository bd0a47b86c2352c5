"""How commands process their files: one by one, with a report of each."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nac.cli import batch, report
from nac.cli.batch import STANDARD, Item, Job, Plan
from nac.cli.hints import message_of, with_hint
from nac.cli.notes import NOTES
from nac.cli.standard import make_folder
from nac.codecs.parallel import cores
from nac.errors import NacError
from nac.storage.output import Result, Spent, is_stream, sweep

if TYPE_CHECKING:
    from nac.files.shards import Outcome, Recoded
    from nac.storage.places import Place

T = TypeVar("T")
ROW = ("input", "output", "model", "kbps", "seconds", "bytes_in", "bytes_out", "wall_seconds", "error")
"""The keys of the `--json` line of a file, besides "skipped"."""
MOST_JOBS = 8
"""Default limit of files in parallel: more would gain little, and each takes memory."""
Told = Callable[[float, float | None], None]
"""Called with the seconds of audio done since the last call, and the total if known."""
Work = Callable[[Job, Told], "Result | Recoded"]
Say = Callable[[], None]


@dataclass(frozen=True)
class Settings:
    """The options for processing files. ``workers``: files in parallel."""

    force: bool = False
    skip_existing: bool = False
    workers: int | None = 1
    remove_source: bool = False
    as_json: bool = False
    quiet: bool = False

    def check(self) -> None:
        """Raise UsageError for settings that exclude each other."""
        if self.force and self.skip_existing:
            raise click.UsageError("--force and --skip-existing exclude each other")


class Stop(click.ClickException):
    """An error that concerns every file, so that none needs to be tried."""

    @classmethod
    def of(cls, error: Exception) -> Stop:
        return cls(message_of(error))

    def show(self, file: Any = None) -> None:
        report.error("", self.message)


def or_exit(action: Callable[[str], object], name: str) -> None:
    try:
        action(name)
    except NacError as error:
        raise Stop.of(error) from None


def each(
    items: Iterable[T], action: Callable[[T], None], as_json: bool, name: Callable[[T], object] = lambda item: item
) -> None:
    """Process every item; exit with 1 at the end if any failed. ``name``: gives the name of an item."""
    failed = False
    for item in items:
        try:
            action(item)
        except BrokenPipeError:
            raise
        except (NacError, OSError) as error:
            failed = True
            report.error(name(item), error)
            if as_json:
                report.out(json.dumps({"path": str(name(item)), "error": message_of(error)}))
    if failed:
        raise SystemExit(1)


def each_nac_file(
    files: Iterable[Path], action: Callable[[Path], None], *, recursive: bool, as_json: bool
) -> None:
    """:func:`each` for .nac files and shards of them, and for those in folders."""
    from nac.files.opening import is_nac
    from nac.files.shards import is_packed
    from nac.storage.shards import is_shard, is_shard_of

    def wanted(path: Path) -> bool:
        return is_shard_of(path, is_packed) if is_shard(path) else is_nac(path)

    def one(item: Item) -> None:
        if item.error:
            raise NacError(item.error)
        action(item.path)

    items, others = expand(files, wanted, recursive=recursive)
    try:
        each(items, one, as_json, lambda item: item.path)
    finally:
        tell_others(others)


def expand(
    inputs: Iterable[Path], wanted: Callable[[Path], bool], *, recursive: bool
) -> tuple[list[Item], list[Path]]:
    """As :func:`nac.cli.batch.expand`."""
    try:
        return batch.expand(inputs, wanted, recursive=recursive)
    except batch.UsageError as error:
        raise click.UsageError(str(error)) from None


def tell_others(others: Sequence[Path]) -> None:
    """Report ignored files, even with --quiet, since ignoring one may be a mistake."""
    if others:
        report.note(report.others_text(len(others), others))


def folders(sources: Sequence[str], out: str) -> list[Place]:
    """The folders at paths or URLs: those to read, and at last the one for the output."""
    from nac.storage.places import place

    try:
        places = [place(name) for name in (*sources, out)]
    except NacError as error:
        raise Stop.of(error) from None
    for where in places[:-1]:
        if not where.is_there():
            raise click.UsageError(f"{where.name} is not a folder")
    if out == "-" or not places[-1].takes_files():
        raise click.UsageError(f"{places[-1].name} is not a folder, and cannot become one")
    return places


def at_once(wanted: int | None) -> int:
    """Files in parallel: as given, or one per core up to ``MOST_JOBS``."""
    return wanted or min(cores(), MOST_JOBS)


@contextmanager
def counted(quiet: bool) -> Iterator[Counter[str]]:
    """Counts and reports outcomes of files not known in advance; exits with 1 if any failed."""
    counts: Counter[str] = Counter()
    try:
        yield counts
    except NacError as error:
        raise Stop.of(error) from None
    finally:
        if counts and not quiet:
            report.note(report.counts_text(counts))
        if counts["other"]:
            report.note(report.others_text(counts["other"]))
    if counts["failed"]:
        raise SystemExit(1)


def plan(
    paths: batch.Paths,
    rename: Callable[[str], str],
    wanted: Callable[[Path], bool] = lambda path: True,
    *,
    wrong: Callable[[Path], str] = lambda path: "",
    apart: str = "",
    is_shard: Callable[[Path], bool] = lambda path: False,
) -> Plan:
    """As :meth:`nac.cli.batch.Paths.plan`."""
    try:
        return paths.plan(rename, wanted, wrong=wrong, apart=apart, is_shard=is_shard)
    except batch.UsageError as error:
        raise click.UsageError(str(error)) from None


def run_one(file: Path, out: str, ending: str, work: Work, settings: Settings) -> None:
    """:func:`run` for a command that takes one file. ``ending``: extension of the output's name in a folder."""
    paths = batch.Paths((os.fspath(file),), out)
    run(plan(paths, lambda name: Path(name).stem + ending), work, settings)


def run(plan: Plan, work: Work, settings: Settings) -> None:
    """Do the jobs, report each in order, and exit with 1 if any failed."""
    settings.check()
    if settings.as_json:
        if any(job.output == STANDARD for job in plan.jobs):
            raise click.UsageError("--json and -o - both write to standard output")
        report.check_out()
    if settings.remove_source and any(STANDARD in (job.input, job.output) for job in plan.jobs):
        raise click.UsageError("--remove-source needs files, not standard input or output")
    with report.Progress(plan.jobs, shown=not settings.quiet) as progress:
        outcomes = Run(plan.jobs, work, settings, progress).run()
    tell_others(plan.others)
    if "failed" in outcomes:
        raise SystemExit(1)


class Run:
    """Runs jobs."""

    def __init__(self, jobs: list[Job], work: Work, settings: Settings, progress: report.Progress) -> None:
        self._jobs, self._work, self._settings, self._progress = jobs, work, settings, progress
        self._outcomes: list[str] = []
        self._telling = InOrder(jobs)

    def run(self) -> list[str]:
        """Do them all; yields the outcome of each: "done", "skipped" or "failed"."""
        make_folder.cache_clear()
        quiet = self._settings.quiet
        try:
            for folder in {job.output.parent.absolute() for job in self._jobs if job.output != STANDARD}:
                sweep(folder)
            at_a_time = min(at_once(self._settings.workers), max(len(self._jobs), 1))
            try:
                batch.run(self._jobs, self._one, workers=at_a_time, cancel=self._progress.cancel)
            finally:
                self._telling.rest()
        except BrokenPipeError:
            quiet = True
            raise
        finally:
            if len(self._jobs) > 1 and not quiet:
                report.note(report.summary_text(self._outcomes, len(self._jobs)))
        return self._outcomes

    def _one(self, job: Job) -> None:
        """Do or skip one job, and report it."""
        say: list[Say] = []
        row: dict[str, Any] = {**dict.fromkeys(ROW), "input": str(job.input), "output": str(job.output)}
        rows = [row]
        skipped = self._settings.skip_existing and not job.error and _is_there(job.output)
        try:
            if not skipped:
                with NOTES.gathered() as notes:
                    try:
                        result = self._done(job)
                    finally:
                        say += [partial(report.warning, job.input, line) for line in dict.fromkeys(notes)]
                if isinstance(result, Result):
                    row |= asdict(result)
                    text = report.result_text(result)
                else:
                    rows, text = item_rows(row, result), report.recoded_text(result)
                    say += item_words(result)
                if not (self._settings.quiet or self._settings.as_json):
                    say.append(partial(report.note, text))
            outcome = "skipped" if skipped else "failed" if any(row["error"] for row in rows) else "done"
        except (BrokenPipeError, Stop):
            raise
        except Exception as error:  # an error in one file must not stop the others
            outcome, row["error"] = "failed", message_of(error)
            say.append(partial(report.error, job.input, row["error"]))
        self._outcomes.append(outcome)
        self._progress.file_done(job, skipped=skipped)
        if self._settings.as_json:
            say += [partial(report.out, json.dumps({**row, "skipped": skipped})) for row in rows]
        self._telling.done(job, say)

    def _done(self, job: Job) -> Result | Recoded:
        """The result of one job; deletes its input afterwards if requested."""
        if job.error:
            raise NacError(job.error)
        spent = Spent(job.input) if self._settings.remove_source else None
        result = self._work(job, self._progress.of(job))
        if spent and (isinstance(result, Result) or not result.failed):
            spent.remove(job.output)
        return result


def item_rows(row: dict[str, Any], recoded: Recoded) -> list[dict[str, Any]]:
    """The lines of ``--json`` for the items of a shard: like those of files, with the item's name as "key"."""
    return [item_row(row, outcome) for outcome in recoded.outcomes]


def item_row(row: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    done = asdict(outcome.result) if outcome.result else {}
    error = with_hint(outcome.error, outcome.remedy) if outcome.error else None
    return {**row, **done, "input": row["input"], "output": row["output"], "error": error, "key": outcome.key}


def item_words(recoded: Recoded) -> Iterator[Say]:
    """Notes on the items of a shard."""
    for outcome in recoded.outcomes:
        name = f"{recoded.input}: {outcome.key}"
        for line in outcome.notes:
            yield partial(report.warning, name, line)
        if outcome.error:
            yield partial(report.error, name, with_hint(outcome.error, outcome.remedy))


def _is_there(output: Path) -> bool:
    """Whether an output exists already; devices and pipes, which always exist, do not count."""
    try:
        return output != STANDARD and output.exists() and not is_stream(output)
    except OSError:
        return False


class InOrder:
    """Prints reports in the order of the jobs, not the order in which they end."""

    def __init__(self, jobs: list[Job]) -> None:
        self._lock, self._left = threading.Lock(), deque(jobs)
        self._words: dict[Job, list[Say]] = {}

    def done(self, job: Job, words: list[Say]) -> None:
        with self._lock:
            self._words[job] = words
            while self._left and self._left[0] in self._words:
                for say in self._words.pop(self._left.popleft()):
                    say()

    def rest(self) -> None:
        """Print the remaining reports when not all jobs were done."""
        with self._lock:
            for job in self._left:
                for say in self._words.pop(job, []):
                    say()
