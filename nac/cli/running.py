"""How commands go through their files: what to do, one by one, and what to say of each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nac.cli import batch, report
from nac.cli.hints import told
from nac.codecs.parallel import cores
from nac.errors import NacError
from nac.storage.output import Spent, sweep

if TYPE_CHECKING:
    from nac.storage.places import Place


def or_exit(action: Callable[[str], object], name: str) -> None:
    try:
        action(name)
    except NacError as error:
        report.error("", error)
        raise SystemExit(1) from None


ROW = ("input", "output", "model", "kbps", "seconds", "bytes_in", "bytes_out", "wall_seconds", "error")
"""The keys of a line of `--json` for a file, besides "skipped"."""


MOST_JOBS = 8
"""Files at a time where nothing else was asked for: more would gain little, and take memory for each."""


class Stop(click.ClickException):
    """Something that would fail for every file, so that none needs to be tried."""

    def show(self, file: Any = None) -> None:
        report.error("", self.message)


def each(items: Iterable[Any], action: Callable[[Any], None], as_json: bool) -> None:
    """Do something with every item; exit with 1 at the end if any failed."""
    failed = False
    for item in items:
        try:
            action(item)
        except BrokenPipeError:
            raise
        except (NacError, OSError) as error:
            failed = True
            report.error(item, told(error))
            if as_json:
                report.out(json.dumps({"path": str(item), "error": told(error)}))
    if failed:
        raise SystemExit(1)


def plan(
    inputs: tuple[str | Path, ...],
    out: str | Path | None,
    suffix: str,
    recursive: bool,
    wanted: Callable[[Path], bool],
) -> tuple[list[batch.Job], list[Path]]:
    """As :func:`nac.cli.batch.plan`. ``out``: as typed, since a slash at its end says that it is a folder."""
    slash = isinstance(out, str) and out.endswith(("/", os.sep))
    path = None if out is None else Path(out)
    try:
        paths = map(Path, inputs)
        return batch.plan(paths, path, suffix=suffix, recursive=recursive, wanted=wanted, into_folder=slash)
    except batch.UsageError as error:
        raise click.UsageError(str(error)) from None


def loader(
    device: str, weights: Path | None, revision: str | None, *, progress: bool, download: bool, only: bool = False
) -> Callable[[str], Any]:
    """Loads each model once, when a file first needs it; what cannot be loaded is not tried again.

    ``only``: all files need the same one, so that without it none is tried.
    """
    lock, loaded = threading.Lock(), dict[str, Any]()

    def load(name: str) -> Any:
        from nac.codecs.registry import find
        from nac.weights import models as table

        with lock:
            if name not in loaded:
                try:
                    if device not in ("auto", "cpu"):
                        table.resolve_device(device)
                except NacError as error:
                    raise Stop(told(error)) from None
                try:
                    if download and progress and weights is None and name not in table.present():
                        licence = find(name).licence
                        report.note(f"{name}: its weights are not here yet, downloading them (licence: {licence})")
                    loaded[name] = table.load(
                        name,
                        weights=weights,
                        device=device,
                        revision=revision,
                        progress=progress,
                        download=download,
                    )
                except NacError as error:
                    loaded[name] = error
        found = loaded[name]
        if isinstance(found, NacError):
            raise Stop(told(found)) if only else found
        return found

    return load


def source(path: Path) -> Any:
    """A path to read, or standard input."""
    if path != batch.STANDARD:
        return path
    if sys.stdin is None:
        raise NacError("standard input is closed")
    return sys.stdin.buffer


@contextmanager
def seekable(path: Path) -> Iterator[Any]:
    """A path to read, or standard input: where it is a pipe, as a temporary file of what comes through it."""
    file = source(path)
    if isinstance(file, Path) or file.seekable():
        yield file
        return
    with tempfile.TemporaryFile(prefix="nac-") as spool:
        shutil.copyfileobj(file, spool, 1 << 20)
        spool.seek(0)
        yield spool


def target(path: Path) -> Any:
    if path == batch.STANDARD:
        if sys.stdout is None:
            raise NacError("standard output is closed")
        return sys.stdout.buffer
    _folder(path.parent.absolute())
    return path


@cache
def _folder(path: Path) -> None:
    """Make a folder, once a run: one that vanishes with its disk is not made again where that was."""
    if not path.is_dir():
        _folder(path.parent)
        path.mkdir(exist_ok=True)


def not_both(*, force: bool, skip_existing: bool) -> None:
    if force and skip_existing:
        raise click.UsageError("--force and --skip-existing exclude each other")


def folders(sources: Sequence[str], out: str) -> list[Place]:
    """The places at paths or URLs, where there are folders to read, and at last one that takes files."""
    from nac.storage.places import place

    try:
        places = [place(name) for name in (*sources, out)]
    except NacError as error:
        raise Stop(told(error)) from None
    for where in places[:-1]:
        if not where.is_there():
            raise click.UsageError(f"{where.name} is no folder")
    if out == "-" or not places[-1].takes_files():
        raise click.UsageError(f"{places[-1].name} is no folder, and cannot become one")
    return places


def at_once(wanted: int | None) -> int:
    """Files at a time: as many as wanted, else one for each core, up to ``MOST_JOBS``."""
    return wanted or min(cores(), MOST_JOBS)


@contextmanager
def fates_of_files(quiet: bool) -> Iterator[Counter[str]]:
    """Counts what becomes of files that are not known beforehand; tells it, and exits with 1 if any failed."""
    fates: Counter[str] = Counter()
    try:
        yield fates
    except NacError as error:
        raise Stop(told(error)) from None
    finally:
        if fates and not quiet:
            report.note(report.fates_text(fates))
    if fates["failed"]:
        raise SystemExit(1)


def run_one(
    file: Path,
    out: Path,
    suffix: str,
    work: Callable[[batch.Job, Callable[[float, float | None], None]], Any],
    **options: Any,
) -> None:
    """:func:`run` for a command that takes one file. ``suffix``: ending of the output's name in a folder."""
    jobs, _ = plan((file,), out, suffix, False, lambda path: True)
    run(jobs, [], work, skip_existing=False, workers=1, **options)


def run(
    jobs: list[batch.Job],
    others: list[Path],
    work: Callable[[batch.Job, Callable[[float, float | None], None]], Any],
    *,
    force: bool,
    skip_existing: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    remove_source: bool = False,
) -> None:
    """Do the jobs, tell of each, in their order, and exit with 1 if any failed.

    ``workers``: jobs at a time; by default one for each core, up to ``MOST_JOBS``.
    """
    if as_json and any(job.output == batch.STANDARD for job in jobs):
        raise click.UsageError("--json and -o - both write to standard output")
    not_both(force=force, skip_existing=skip_existing)
    if remove_source and any(batch.STANDARD in (job.input, job.output) for job in jobs):
        raise click.UsageError("--remove-source needs files, not standard input or output")
    outcomes: list[str] = []
    telling = InOrder(jobs)
    _folder.cache_clear()

    def one(job: batch.Job) -> None:
        say: list[Callable[[], None]] = []
        row: dict[str, Any] = {**dict.fromkeys(ROW), "input": str(job.input), "output": str(job.output)}
        skipped = skip_existing and job.output != batch.STANDARD and job.output.exists() and not job.error
        try:
            if not skipped:
                result = _done(job, work, progress.of(job), remove_source=remove_source)
                row |= asdict(result)
                if not (quiet or as_json):
                    say.append(partial(progress.note, report.result_text(result)))
            outcome = "skipped" if skipped else "done"
        except (BrokenPipeError, Stop):
            raise
        except Exception as error:  # a night's work does not end at one file, whatever is the matter with it
            outcome, row["error"] = "failed", told(error)
            say.append(partial(progress.note, f"nac: {report.printable(job.input)}: {row['error']}"))
        outcomes.append(outcome)
        progress.file_done(job, skipped=skipped)
        if as_json:
            say.append(partial(report.out, json.dumps({**row, "skipped": skipped})))
        telling.done(job, say)

    with report.Progress(jobs, shown=not quiet) as progress:
        try:
            for folder in {job.output.parent.absolute() for job in jobs if job.output != batch.STANDARD}:
                sweep(folder)
            at_a_time = min(at_once(workers), max(len(jobs), 1))
            try:
                batch.run(jobs, one, workers=at_a_time, cancel=progress.cancel)
            finally:
                telling.rest()
        except BrokenPipeError:
            # Nobody reads any more: end as other commands do, without a word, not even when Python flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            quiet = True
            raise SystemExit(128 + signal.SIGPIPE) from None
        finally:
            if len(jobs) > 1 and not quiet:
                progress.note(report.summary_text(outcomes, len(jobs)))
    if others and not quiet:
        report.note(report.others_text(others))
    if "failed" in outcomes:
        raise SystemExit(1)


class InOrder:
    """Says what there is to say of jobs in the order in which they were given, not in that in which they end."""

    def __init__(self, jobs: list[batch.Job]) -> None:
        self._lock, self._left = threading.Lock(), deque(jobs)
        self._words: dict[batch.Job, list[Callable[[], None]]] = {}

    def done(self, job: batch.Job, words: list[Callable[[], None]]) -> None:
        with self._lock:
            self._words[job] = words
            while self._left and self._left[0] in self._words:
                for say in self._words.pop(self._left.popleft()):
                    say()

    def rest(self) -> None:
        """What is left to say when not all jobs were done."""
        with self._lock:
            for job in self._left:
                for say in self._words.pop(job, []):
                    say()


def _done(
    job: batch.Job,
    work: Callable[[batch.Job, Callable[[float, float | None], None]], Any],
    progress: Callable[[float, float | None], None],
    *,
    remove_source: bool,
) -> Any:
    """The result of one job; its input is deleted after it, if so wished."""
    if job.error:
        raise NacError(job.error)
    spent = Spent(job.input) if remove_source else None
    result = work(job, progress)
    if spent:
        spent.remove(job.output)
    return result
