"""The `nac` command: reads the command line, calls the library, prints."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from nac import batch, report
from nac.errors import NacError
from nac.version import __version__

KBPS = click.FloatRange(min=0, min_open=True)


class Time(click.ParamType[float]):
    """Seconds, or [h:]m:s[.fff]."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = str(value).split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3 or any(not 0 <= n < float("inf") for n in numbers):
            self.fail(f"{value!r} is not a time: seconds or [h:]m:s[.fff]", param, ctx)
        seconds = 0.0
        for number in numbers:
            seconds = seconds * 60 + number
        return seconds


def _path(**options: Any) -> click.Path:
    return click.Path(path_type=Path, **options)


INPUTS = click.argument("inputs", nargs=-1, required=True, type=_path(allow_dash=True))
FILES = click.argument("files", nargs=-1, required=True, type=_path())
OUT = click.option(
    "-o", "--output", "out", type=_path(allow_dash=True), help="File, folder, or - for standard output."
)
RECURSIVE = click.option("-r", "--recursive", is_flag=True, help="Take what is in folders; keep their tree.")
FORCE = click.option("-f", "--force", is_flag=True, help="Replace existing outputs.")
SKIP = click.option("--skip-existing", is_flag=True, help="Pass over inputs whose output is there.")
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
JOBS = click.option(
    "-j", "--jobs", "workers", default=1, show_default=True, type=click.IntRange(min=1), help="Files at a time."
)
REVISION = click.option("--revision", help="Branch, tag or commit of the weights on the Hub.")
WEIGHTS = click.option("--weights", type=_path(exists=True), help="Weights of your own: a file or a folder.")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a file, one a line.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
RATE = click.option("-k", "--kbps", type=KBPS, help="At most so many kbit/s, all channels together.")
COUNT = click.option("--codebooks", type=click.IntRange(min=1), help="Codebooks of every stream.")


def entry() -> NoReturn:
    """Run the command, and exit with 0: done; 1: a file failed; 2: wrong usage; 130: interrupted."""
    # PyTorch's threads wait for one another by spinning, which on a busy machine can take a hundred times as long
    # as the work. This has to be said before PyTorch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        sys.exit(main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        report.error("", _reason(error))
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nac")
def main() -> None:
    """Compress audio with neural codecs, and bring it back."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that unfinished outputs are removed on the way out.
    raise SystemExit(128 + number)


@main.command()
@INPUTS
@OUT
@click.option("-m", "--model", default="auto", show_default=True, help="A name from `nac models`.")
@RATE
@COUNT
@click.option("--mono", is_flag=True, help="Mix down to one channel.")
@RECURSIVE
@FORCE
@SKIP
@DEVICE
@JOBS
@WEIGHTS
@REVISION
@JSON
@QUIET
def compress(
    inputs: tuple[Path, ...],
    out: Path | None,
    model: str,
    kbps: float | None,
    codebooks: int | None,
    mono: bool,
    device: str,
    weights: Path | None,
    revision: str | None,
    **options: Any,
) -> None:
    """Compress audio files to .nac.

    INPUTS are audio files, folders (with -r), or - for standard input. The output lies beside the input unless -o
    says otherwise. Without a bitrate, 8 kbit/s are aimed at.
    """
    from nac.audio import is_audio

    _one_of(kbps=kbps, codebooks=codebooks)
    jobs, others = _plan(inputs, out, ".nac", options.pop("recursive"), is_audio)

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac import files

        return files.compress(
            _source(job.input),
            _target(job.output),
            model=model,
            kbps=kbps,
            codebooks=codebooks,
            mono=mono,
            force=options["force"],
            load=load,
            progress=progress,
        )

    load = _loader(device, weights, revision, progress=not options["quiet"], download=True)
    _run(jobs, others, work, **options)


@main.command()
@INPUTS
@OUT
@click.option("--format", "form", type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]), help="Of the output.")
@click.option("--start", type=Time(), default=0.0, help="Where to begin: seconds or [h:]m:s[.fff].")
@click.option("--duration", type=Time(), help="How much: seconds or [h:]m:s[.fff].")
@RATE
@COUNT
@RECURSIVE
@FORCE
@SKIP
@DEVICE
@JOBS
@WEIGHTS
@REVISION
@click.option("--force-model", is_flag=True, help="Decode with weights other than those a file was made with.")
@JSON
@QUIET
def decompress(
    inputs: tuple[Path, ...],
    out: Path | None,
    form: str | None,
    start: float,
    duration: float | None,
    kbps: float | None,
    codebooks: int | None,
    device: str,
    weights: Path | None,
    revision: str | None,
    force_model: bool,
    **options: Any,
) -> None:
    """Decompress .nac files to audio.

    INPUTS are .nac files, folders (with -r), or - for standard input. The output is 16-bit WAV beside the input
    unless -o or --format says otherwise. With -k or --codebooks, no more than that is decoded.
    """
    from nac.nacfile import is_nac

    _one_of(kbps=kbps, codebooks=codebooks)
    jobs, others = _plan(inputs, out, f".{form or 'wav'}", options.pop("recursive"), is_nac)

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac import files

        return files.decompress(
            _source(job.input),
            _target(job.output),
            start=start,
            duration=duration,
            format=form,
            kbps=kbps,
            codebooks=codebooks,
            force=options["force"],
            force_model=force_model,
            load=load,
            progress=progress,
        )

    # What a file needs was not asked for by name, so nothing is downloaded.
    load = _loader(device, weights, revision, progress=not options["quiet"], download=False)
    _run(jobs, others, work, **options)


@main.command()
@click.argument("file", type=_path(allow_dash=True))
@click.option(
    "-o", "--output", "out", required=True, type=_path(allow_dash=True), help="A .nac file, or - for stdout."
)
@RATE
@COUNT
@FORCE
@JSON
@QUIET
def peel(file: Path, out: Path, kbps: float | None, codebooks: int | None, **options: Any) -> None:
    """Lower the bitrate of a .nac file by dropping codebooks.

    Nothing is decoded, and no model is needed; the result is what compressing at that bitrate gives.
    """
    _one_of(kbps=kbps, codebooks=codebooks)
    if kbps is None and codebooks is None:
        raise click.UsageError("give --kbps or --codebooks")

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac import peeling

        force = options["force"]
        return peeling.peel(_source(job.input), _target(job.output), kbps=kbps, codebooks=codebooks, force=force)

    jobs, _ = _plan((file,), out, ".nac", False, lambda path: True)
    _run(jobs, [], work, skip_existing=False, workers=1, **options)


@main.command()
@FILES
@JSON
def info(files: tuple[Path, ...], as_json: bool) -> None:
    """Show what .nac files hold. Needs no model."""
    from nac import nacfile

    def show(path: Path) -> None:
        found = nacfile.info(path)
        report.out(json.dumps(asdict(found)) if as_json else report.info_text(found))

    _each(files, show, as_json)


@main.command()
@FILES
@click.option("--recover", type=_path(), help="Save what is whole of a damaged FILE to this .nac file.")
@FORCE
@JSON
def verify(files: tuple[Path, ...], recover: Path | None, force: bool, as_json: bool) -> None:
    """Check every byte of .nac files. Needs no model."""
    from nac import check

    if recover is not None and len(files) > 1:
        raise click.UsageError("--recover takes one FILE")

    def check_one(path: Path) -> None:
        found = check.check(path) if recover is None else check.recover(path, recover, force=force)
        if as_json or not found.error or found.output:
            report.out(json.dumps(asdict(found)) if as_json else report.check_text(found))
        if found.error and not (as_json or found.output):
            raise NacError(found.error)
        failed.append(not found.ok)

    failed: list[bool] = []
    _each(files, check_one, as_json)
    if any(failed):
        raise SystemExit(1)


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List, download, check and remove models."""
    if context.invoked_subcommand is None:
        context.invoke(models_list, as_json=as_json)
    elif as_json:
        raise click.UsageError("--json goes behind the command")


NAMES = click.argument("names", nargs=-1, required=True)
SOME_NAMES = click.argument("names", nargs=-1)


@models.command("list")
@SOME_NAMES
@JSON
def models_list(names: tuple[str, ...] = (), as_json: bool = False) -> None:
    """Show what models there are, and which are on this machine."""
    from nac import models as table

    for name in names:
        _or_exit(table.find, name)
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
    """Bring models' weights to this machine."""
    from nac import models as table

    def one(name: str) -> None:
        path = str(table.download(name, revision=revision, progress=sys.stderr.isatty()))
        report.out(json.dumps({"model": name, "path": path}) if as_json else f"{name}: {path}")

    _each(names, one, as_json)


@models.command("verify")
@SOME_NAMES
@REVISION
@JSON
def models_verify(names: tuple[str, ...], revision: str | None, as_json: bool) -> None:
    """Hash models' weights and compare: of all that are here, by default."""
    from nac import models as table

    def one(name: str) -> None:
        for file in table.verify(name, revision):
            row = {"model": name, **asdict(file), "path": str(file.path)}
            text = f"{name}: {file.path}: SHA-256 {file.sha256} ({file.against})"
            report.out(json.dumps(row) if as_json else text)

    _each(names or table.present(), one, as_json)


@models.command("path")
@NAMES
@REVISION
@JSON
def models_path(names: tuple[str, ...], revision: str | None, as_json: bool) -> None:
    """Print where models' weights lie."""
    from nac import models as table

    def one(name: str) -> None:
        path = str(table.path(name, revision))
        report.out(json.dumps({"model": name, "path": path}) if as_json else path)

    _each(names, one, as_json)


@models.command("remove")
@NAMES
@JSON
def models_remove(names: tuple[str, ...], as_json: bool) -> None:
    """Delete models' weights from the cache."""
    from nac import models as table

    def one(name: str) -> None:
        freed = table.remove(name)
        report.out(
            json.dumps({"model": name, "bytes": freed}) if as_json else f"{name}: {report.size(freed)} freed"
        )

    _each(names, one, as_json)


# What the commands share


def _one_of(**options: object) -> None:
    if all(value is not None for value in options.values()):
        raise click.UsageError(" and ".join(f"--{name}" for name in options) + " exclude each other")


def _or_exit(action: Callable[[str], object], name: str) -> None:
    try:
        action(name)
    except NacError as error:
        report.error("", error)
        raise SystemExit(1) from None


ROW = ("input", "output", "model", "kbps", "seconds", "bytes_in", "bytes_out", "wall_seconds", "error")
"""The keys of a line of `--json`, for a file that was done or failed."""


def _reason(error: Exception) -> str:
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _each(items: Iterable[Any], action: Callable[[Any], None], as_json: bool) -> None:
    """Do something with every item; exit with 1 at the end if any failed."""
    failed = False
    for item in items:
        try:
            action(item)
        except BrokenPipeError:
            raise
        except (NacError, OSError) as error:
            failed = True
            report.error(item, _reason(error))
            if as_json:
                report.out(json.dumps({"path": str(item), "error": _reason(error)}))
    if failed:
        raise SystemExit(1)


def _plan(
    inputs: tuple[Path, ...], out: Path | None, suffix: str, recursive: bool, wanted: Callable[[Path], bool]
) -> tuple[list[batch.Job], list[Path]]:
    try:
        return batch.plan(inputs, out, suffix=suffix, recursive=recursive, wanted=wanted)
    except batch.UsageError as error:
        raise click.UsageError(str(error)) from None


def _loader(
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


def _source(path: Path) -> Any:
    if path != batch.STANDARD:
        return path
    if sys.stdin is None:
        raise NacError("standard input is closed")
    return sys.stdin.buffer


def _target(path: Path) -> Any:
    if path == batch.STANDARD:
        if sys.stdout is None:
            raise NacError("standard output is closed")
        return sys.stdout.buffer
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _run(
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
            row["error"] = _reason(error)
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
