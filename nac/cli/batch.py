"""Many files in one command: what becomes what, and doing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nac.errors import NacError
from nac.storage.output import SUFFIX

STANDARD = Path("-")
"""Standard input or output."""


class UsageError(NacError):
    """A command that makes no sense as it was given."""


@dataclass(frozen=True)
class Job:
    """One input and the output to be made of it; ``error`` says why that is already known to fail."""

    input: Path
    output: Path
    error: str = ""


def plan(
    inputs: Iterable[Path],
    out: Path | None,
    *,
    suffix: str,
    recursive: bool,
    wanted: Callable[[Path], bool],
    into_folder: bool = False,
) -> tuple[list[Job], list[Path]]:
    """The jobs, and the files in the folders that are passed over because they are not ``wanted``.

    ``suffix``: ending of an output's default name, as ".nac"; ``into_folder``: ``out`` is a folder even for one
    input. Raises UsageError where two inputs would write one output, or a folder is given without ``recursive``.
    """
    inputs, jobs, others = list(inputs), list[Job](), list[Path]()
    if out == STANDARD and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UsageError("standard output takes one file only")
    if out is not None and out != STANDARD:
        into_folder |= len(inputs) > 1 or out.is_dir() or any(i.is_dir() for i in inputs)
        if into_folder and out.exists() and not out.is_dir():
            raise UsageError(f"{out} is no folder")
    for item in inputs:
        if item != STANDARD and item.is_dir():
            if not recursive:
                raise UsageError(f"{item} is a folder (-r takes what is in it)")
            for path, error in _files(item, skip=out):
                if not error and not (path.is_file() and wanted(path)):
                    others.append(path)
                    continue
                base = item if out is None else out
                jobs.append(Job(path, (base / path.relative_to(item)).with_suffix(suffix), error))
        elif item == STANDARD:
            if out is None or into_folder:
                raise UsageError("standard input needs -o FILE or -o -")
            jobs.append(Job(item, out))
        elif out is None:
            jobs.append(Job(item, item.with_suffix(suffix)))
        else:
            jobs.append(Job(item, out / (item.stem + suffix) if into_folder else out))
    _check_distinct(jobs)
    return jobs, others


def _files(folder: Path, *, skip: Path | None) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, in order, and every folder that cannot be read, with the error.

    Not what lies in the output folder, nor our temporary files. Links to folders are not followed: they may lead
    in circles.
    """
    skipped = skip if skip is not None and _real(skip) != _real(folder) else None
    failed: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=failed.append):
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        folders[:] = sorted(f for f in folders if skipped is None or _real(Path(where) / f) != _real(skipped))
        for name in sorted(names + links):
            if not name.endswith(SUFFIX):
                yield Path(where) / name, ""
    for error in failed:
        yield Path(os.fsdecode(error.filename)), f"cannot be read: {error.strerror}"


def _real(path: Path) -> str:
    """Where links lead; unlike :meth:`Path.resolve`, links that lead in circles are no error."""
    return os.path.realpath(path)


def _check_distinct(jobs: list[Job]) -> None:
    sources = {_real(job.input): job.input for job in jobs if job.input != STANDARD}
    taken: dict[str, Path] = {}
    for job in jobs:
        if job.output == STANDARD or job.error:
            continue
        key = _real(job.output)
        if key in taken:
            raise UsageError(f"{taken[key]} and {job.input} would both write {job.output}")
        if key in sources:
            whose = "its own output" if sources[key] == job.input else f"the output of {job.input}"
            raise UsageError(f"{sources[key]} would be written over by {whose}")
        taken[key] = job.input


def run(jobs: Iterable[Job], work: Callable[[Job], None], *, workers: int, cancel: Callable[[], None]) -> None:
    """Do the work of every job, ``workers`` at a time.

    The first exception that ``work`` raises ends it, an interruption too: then ``cancel`` is called, which should
    make the work that is under way end soon.
    """
    if workers == 1:
        for job in jobs:
            work(job)
        return
    left = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:
        try:
            running: set[Future[None]] = {pool.submit(work, job) for job in islice(left, 2 * workers)}
            while running:
                # Not for ever: a signal that the system gave to another thread does not wake this one.
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                running |= {pool.submit(work, job) for job in islice(left, len(done))}
        except BaseException:
            cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
