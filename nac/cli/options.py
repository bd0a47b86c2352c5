"""Arguments and options that several commands take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
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


class Device(click.ParamType[str]):
    """auto, cpu, cuda, cuda:N or mps."""

    name = "DEVICE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            self.fail(f"unknown device {value!r}: use auto, cpu, cuda, cuda:N or mps", param, ctx)
        return str(value)


class ModelName(click.ParamType[str]):
    """A model's name, which the shell can complete. An unknown name is reported when it is looked up."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from nac.codecs.registry import models

        # After the last comma, if several are allowed.
        before, comma, begun = incomplete.rpartition(",")
        return [CompletionItem(before + comma + name) for name in models() if name.startswith(begun)]


class Several(click.ParamType[tuple[Any, ...]]):
    """Values separated by commas."""

    def __init__(self, of: click.ParamType[Any]) -> None:
        self._of, self.name = of, of.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        return tuple(self._of.convert(part, param, ctx) for part in parts)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return self._of.shell_complete(ctx, param, incomplete)


def several(*names: str, of: click.ParamType[Any], **options: Any) -> Callable[[Decorated], Decorated]:
    """An option with several values, separated by commas or given by repeating the option."""

    def joined(ctx: click.Context, param: click.Parameter, values: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(chain.from_iterable(values)))

    return click.option(*names, type=Several(of), multiple=True, callback=joined, **options)


def gathered(name: str, of: type[Any]) -> Callable[[Decorated], Decorated]:
    """Pass the parameters that are fields of a dataclass to a command as one object."""

    def decorate(command: Decorated) -> Decorated:
        @wraps(command)
        def called(**given: Any) -> Any:
            values = {field.name: given.pop(field.name) for field in fields(of) if field.name in given}
            return command(**{name: of(**values)}, **given)

        return cast(Decorated, called)

    return decorate


class _LocalPath(click.Path):
    """A path on this machine. A URL is refused as such, since as a path it is merely missing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from nac.storage.places import is_url

        if is_url(os.fspath(value)) and not os.path.lexists(value):
            self.fail("only `nac compress`, `nac decompress` and `nac pack` take URLs.", param, ctx)
        return super().convert(value, param, ctx)


def names_folder(output: str) -> bool:
    """Whether an output means a folder, even if there is none yet: by a slash at its end."""
    return output.endswith(("/", os.sep))


class _FilePath(_LocalPath):
    """A path of a single file to write, not of a folder, in which the file would have no name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if names_folder(os.fspath(value)):
            self.fail(f"{value} is a folder: give the file a name.", param, ctx)
        return super().convert(value, param, ctx)


def path(**options: Any) -> click.Path:
    return _LocalPath(**{"path_type": Path, **options})


def file_path(**options: Any) -> click.Path:
    return _FilePath(path_type=Path, **options)


def output_path() -> click.Path:
    """A path to write, or -; as text, because a slash at the end means a folder."""
    return path(path_type=str, allow_dash=True)


# As text, because an input can be a URL.
INPUTS = click.argument("inputs", nargs=-1, required=True, type=click.Path(allow_dash=True))
FILES = click.argument("files", nargs=-1, required=True, type=path(allow_dash=True))
# As text, because a slash at the end means a folder.
OUT = click.option(
    "-o", "--output", "out", type=click.Path(allow_dash=True), help="File, folder, or - for standard output."
)
RECURSIVE = click.option("-r", "--recursive", is_flag=True, help="Process folders, and keep their tree.")
FORCE = click.option("-f", "--force", is_flag=True, help="Replace existing outputs.")
SKIP = click.option("--skip-existing", is_flag=True, help="Skip inputs whose output exists.")
REMOVE = click.option(
    "--remove-source", is_flag=True, help="Delete each input after its output is on the disk and verified."
)
DEVICE = click.option(
    "--device", default="auto", type=Device(), show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)
JOBS = click.option(
    "-j",
    "--jobs",
    "workers",
    type=click.IntRange(min=1),
    help="Files to process in parallel.  [default: one per core, up to 8]",
)
REVISION = click.option("--revision", help="Branch, tag or commit of the weights on the Hub.")
WEIGHTS = click.option("--weights", type=path(exists=True), help="Weights of your own: a file or a folder.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file, one per line.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
RATE = click.option("-k", "--kbps", type=KBPS, help="Maximum bitrate in kbit/s, all channels together.")
COUNT = click.option("--codebooks", type=click.IntRange(min=1), help="Number of codebooks of each stream.")
START = click.option("--start", type=Time(), default=0.0, help="Start: seconds or [h:]m:s[.fff].")
DURATION = click.option("--duration", type=Time(), help="Length: seconds or [h:]m:s[.fff].")


def one_of(**options: object) -> None:
    if all(value is not None for value in options.values()):
        raise click.UsageError(" and ".join(f"--{name}" for name in options) + " exclude each other")
