"""Many files in one command: the list of jobs, and running them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from nac.cli.options import names_folder
from nac.errors import NacError
from nac.storage.output import SUFFIX, descriptor, is_stream

STANDARD = Path("-")
"""Standard input or output."""


class UsageError(NacError):
    """The command's arguments do not make sense."""


@dataclass(frozen=True)
class Job:
    """One input and its output; ``error``: why the job is already known to fail.

    ``shard``: the input has many recordings, and its output has the same name.
    """

    input: Path
    output: Path
    error: str = ""
    shard: bool = False


@dataclass(frozen=True)
class Plan:
    """The jobs, and the files in folders that are skipped."""

    jobs: list[Job]
    others: list[Path]


@dataclass(frozen=True)
class Item:
    """A given file, or one below a given ``folder``; ``error``: why that folder cannot be read."""

    path: Path
    folder: Path | None = None
    error: str = ""


def expand(
    inputs: Iterable[Path], wanted: Callable[[Path], bool], *, recursive: bool, skip: Path | None = None
) -> tuple[list[Item], list[Path]]:
    """The given files and ``wanted`` files of given folders; and the folders' other files. Nothing in ``skip``.

    Raises UsageError for a folder without ``recursive``.
    """
    items, others = list[Item](), list[Path]()
    for given in inputs:
        if not is_folder(given):
            items.append(Item(given))
            continue
        if not recursive:
            raise UsageError(f"{given} is a folder (-r takes the files in it)")
        for path, error in files_below(given, skip=skip):
            if error or (path.is_file() and wanted(path)):
                items.append(Item(path, given, error))
            else:
                others.append(path)
    return items, others


@dataclass(frozen=True)
class Paths:
    """The paths as typed: a slash at the end of ``out`` means a folder."""

    inputs: tuple[str, ...]
    out: str | None
    recursive: bool = False

    def plan(
        self,
        rename: Callable[[str], str],
        wanted: Callable[[Path], bool] = lambda path: True,
        *,
        wrong: Callable[[Path], str] = lambda path: "",
        apart: str = "",
        is_shard: Callable[[Path], bool] = lambda path: False,
    ) -> Plan:
        """The jobs.

        ``rename``: the default output name for an input name; ``wanted``: whether to take a file in a folder;
        ``wrong``: why a given file cannot be an input; ``apart``: a hint on how to give inputs that differ only in
        their extension different outputs; ``is_shard``: whether a file's output keeps its name. Raises UsageError
        if the paths make no sense.
        """
        inputs, out = [Path(name) for name in self.inputs], None if self.out is None else Path(self.out)
        if out is not None and descriptor(out) == 1:  # /dev/stdout
            out = STANDARD
        if out == STANDARD and (len(inputs) > 1 or is_folder(inputs[0])):
            raise UsageError("standard output takes one file only")
        into_folder = out is not None and out != STANDARD and self._into_folder(inputs, out, is_shard)
        if STANDARD in inputs and (out is None or into_folder):
            raise UsageError("standard input needs -o FILE or -o -")
        items, others = expand(inputs, wanted, recursive=self.recursive, skip=out)
        jobs = []
        for item in items:
            place = item.path.parent if out is None else out
            if item.folder is not None and out is not None:
                place = out / item.path.relative_to(item.folder).parent
            named = out is not None and not into_folder
            error = item.error or (wrong(item.path) if item.folder is None and is_plain(item.path) else "")
            shard = is_shard(item.path)
            name = item.path.name if shard else rename(item.path.name)
            jobs.append(Job(item.path, place if named else place / name, error, shard))
        jobs = _distinct(list(dict.fromkeys(jobs)), apart)
        outputs = {job.output for job in jobs}  # perhaps from an earlier run
        return Plan(jobs, [path for path in others if path not in outputs])

    def _into_folder(self, inputs: list[Path], out: Path, is_shard: Callable[[Path], bool]) -> bool:
        """Whether outputs go into a folder. Raises UsageError if the folder cannot exist.

        The output of a shard does, unless ``out`` has the shard's extension.
        """
        slash = names_folder(str(self.out))
        shard = out.suffix != inputs[0].suffix and not is_stream(out) and is_shard(inputs[0])
        if not (slash or shard or len(inputs) > 1 or is_folder(inputs[0]) or is_folder(out)):
            return False
        if os.path.lexists(out) and not is_folder(out):
            raise UsageError(f"{out} is not a folder")
        return True


def files_below(folder: Path, *, skip: Path | None = None) -> Iterator[tuple[Path, str]]:
    """Every file below a folder, in order, and every folder that cannot be read, with the error.

    Leaves out the output folder (``skip``) and temporary files of nac. Links to folders are not followed, because
    they may form cycles.
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


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False if that cannot be determined."""
    try:
        return path != STANDARD and path.is_dir()
    except OSError:
        return False


def is_plain(path: Path) -> bool:
    """Whether a path is a plain file, which can be read without consuming anything."""
    try:
        return path != STANDARD and path.is_file()
    except OSError:
        return False


def _real(path: Path) -> str:
    """Resolve links; unlike :meth:`Path.resolve`, cycles of links are not an error."""
    return os.path.realpath(path)


def _distinct(jobs: list[Job], apart: str) -> list[Job]:
    """The jobs, with an error for those that would overwrite an input or another job's output.

    Raises UsageError if it is the only job.
    """
    sources = {_real(job.input): job.input for job in jobs if job.input != STANDARD}
    writers: dict[str, list[Job]] = {}
    for job in jobs:
        if job.output != STANDARD and not job.error:
            writers.setdefault(_real(job.output), []).append(job)
    checked = []
    for job in jobs:
        error = job.error
        key = _real(job.output)
        if key in writers and not error:
            if key in sources:
                own = sources[key] == job.input
                whose = "its own output (-o names another)" if own else f"the output of {job.input}"
                error = f"{sources[key]} would be overwritten by {whose}"
            elif len(writers[key]) > 1:
                error = _rivals(job, [other.input for other in writers[key] if other is not job], apart)
        checked.append(replace(job, error=error))
    if len(jobs) == 1 and checked[0].error and not jobs[0].error:
        raise UsageError(checked[0].error)
    return checked


def _rivals(job: Job, others: Sequence[Path], apart: str) -> str:
    """The error for several inputs with the same output, with a hint."""
    names = " and ".join(map(str, others[:2])) + (f" and {len(others) - 2} more" if len(others) > 2 else "")
    if not apart or any(other.name == job.input.name for other in others):
        apart = "-o names another output, -r takes a folder and keeps its tree"
    return f"would write {job.output}, as would {names} ({apart})"


def run(jobs: Iterable[Job], work: Callable[[Job], None], *, workers: int, cancel: Callable[[], None]) -> None:
    """Do the work of every job, ``workers`` at a time.

    The first exception that ``work`` raises ends it, an interruption too: then ``cancel`` is called, which should
    make running work end soon.
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
                # With a timeout: a signal delivered to another thread does not wake this one.
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                running |= {pool.submit(work, job) for job in islice(left, len(done))}
        except BaseException:
            cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
