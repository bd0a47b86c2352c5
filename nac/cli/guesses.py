"""Likely mistakes on the command line, and the hints for them."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

import click

from nac.cli.batch import Paths

OTHER_NAMES = {
    "encode": "compress",
    "enc": "compress",
    "c": "compress",
    "zip": "compress",
    "decode": "decompress",
    "dec": "decompress",
    "d": "decompress",
    "x": "decompress",
    "extract": "decompress",
    "uncompress": "decompress",
    "expand": "decompress",
    "unpack": "decompress",
    "concat": "cat",
    "join": "cat",
    "merge": "cat",
    "trim": "cut",
    "show": "info",
    "probe": "info",
    "list": "info",
    "test": "verify",
    "check": "verify",
    "recover": "verify",
    "repair": "verify",
    "download": "models",
    "benchmark": "bench",
    "version": "--version",
    "help": "--help",
}
"""Names of commands in other programs."""


class Commands(click.Group):
    """A command group that knows other programs' names of its commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            ctx.fail(f"there is no command {name!r}{self._instead(name, args[1:])}")
        return super().resolve_command(ctx, args)

    def _instead(self, name: str, rest: Sequence[str]) -> str:
        typed = shlex.join(rest)
        if name in OTHER_NAMES:
            return f"; it is: nac {OTHER_NAMES[name]} {typed}".rstrip()
        if Path(name).exists():
            command = "decompress" if name.lower().endswith(".nac") else "compress"
            return f"; for that file it is: nac {command} {shlex.quote(name)}"
        near = difflib.get_close_matches(name, self.commands, n=2)
        return f"; did you mean {' or '.join(near)}?" if near else "; `nac --help` lists them"


def refuse_output_as_input(paths: Paths, command: str, endings: Collection[str]) -> None:
    """Raise UsageError if the second of two inputs is missing and looks like an output."""
    if paths.out is not None or len(paths.inputs) != 2:
        return
    first, second = paths.inputs
    if Path(second).suffix.lower().lstrip(".") in endings and not os.path.lexists(second):
        line = shlex.join(["nac", command, first, "-o", second])
        raise click.UsageError(f"{second} does not exist; if it is the output: {line}")
