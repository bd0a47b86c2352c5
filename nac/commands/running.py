"""How commands go through their files: what to do, one by one, and what to say of each."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nac import batch, report
from nac.errors import NacError


def or_exit(action: Callable[[str], object], name: str) -> None:
    try:
        action(name)
    except NacError as error:
        report.error("", error)
        raise SystemExit(1) from None


ROW = ("input", "output", "model", "kbps", "seconds", "bytes_in", "bytes_out", "wall_seconds", "error")
"""The keys of a line of `--json`, for a file that was done or failed."""


def reason(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


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
            report.error(item, reason(error))
            if as_json:
                report.out(json.dumps({"path": str(item), "error": reason(error)}))
    if failed:
        raise SystemExit(1)


def plan(
    inputs: tuple[Path, ...], out: Path | None, suffix: str, recursive: bool, wanted: Callable[[Path], bool]
) -> tuple[list[batch.Job], list[Path]]:
    try:
        return batch.plan(inputs, out, suffix=suffix, recursive=recursive, wanted=wanted)
    except batch.UsageError as error:
        raise click.UsageError(str(error)) from None


def loader(
    device: str, weights: Path | None, revision: str | None, *, progress: bool, download: bool
) -> Callable[[str], Any]:
    """Loads each model once, when a file first needs it."""
    lock, loaded = threading.Lock(), dict[str, Any]()

    def load(name: str) -> Any:
        from nac import models as table

        with lock:
            if name not in loaded:
                loaded[name] = table.load(
                    name, weights=weights, device=device, revision=revision, progress=progress, download=download
                )
        return loaded[name]

    return load


def source(path: Path) -> Any:
    if path != batch.STANDARD:
        return path
    if sys.stdin is None:
        raise NacError("standard input is closed")
    return sys.stdin.buffer


def target(path: Path) -> Any:
    if path == batch.STANDARD:
        if sys.stdout is None:
            raise NacError("standard output is closed")
        return sys.stdout.buffer
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def run(
    jobs: list[batch.Job],
    others: list[Path],
    work: Callable[[batch.Job, Callable[[float, float | None], None]], Any],
    *,
    force: bool,
    skip_existing: bool,
    workers: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Do the jobs, tell of each, and exit with 1 if any failed."""
    if as_json and any(job.output == batch.STANDARD for job in jobs):
        raise click.UsageError("--json and -o - both write to standard output")
    if force and skip_existing:
        raise click.UsageError("--force and --skip-existing exclude each other")
    failed: list[batch.Job] = []
    skipped: list[batch.Job] = []

    def one(job: batch.Job) -> None:
        try:
            if skip_existing and job.output != batch.STANDARD and job.output.exists():
                skipped.append(job)
                return
            result = work(job, progress.advance)
        except BrokenPipeError:
            raise
        except (NacError, OSError) as error:
            failed.append(job)
            row: dict[str, Any] = {**dict.fromkeys(ROW), "input": str(job.input), "output": str(job.output)}
            row["error"] = reason(error)
            progress.note(f"nac: {report.printable(job.input)}: {row['error']}")
        else:
            row = {**asdict(result), "error": None}
            if not (quiet or as_json):
                progress.note(report.result_text(result))
        finally:
            progress.file_done()
        if as_json:
            report.out(json.dumps(row))

    with report.Progress(len(jobs), shown=not quiet) as progress:
        try:
            batch.run(jobs, one, workers=workers, cancel=progress.cancel)
        except BrokenPipeError:
            # Nobody reads any more: end as other commands do, without a word, not even when Python flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(128 + signal.SIGPIPE) from None
    if not quiet:
        if others:
            report.note(report.others_text(others))
        if len(jobs) > 1:
            done = len(jobs) - len(failed) - len(skipped)
            report.note(f"{done} done, {len(skipped)} skipped, {len(failed)} failed")
    if failed:
        raise SystemExit(1)
