"""Write a manual page for nac and one for each of its commands, from their --help.

python docs/man_pages.py FOLDER
"""

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click
from click_man.core import write_man_pages

from nac.cli import main
from nac.version import __version__


def below(command: click.Command) -> Iterator[click.Command]:
    """Yield a command and all of its subcommands."""
    yield command
    if isinstance(command, click.Group):
        for sub in command.commands.values():
            yield from below(sub)


folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for command in below(main):
    # troff reads a dot at the start of a line as a command.
    command.help = cleandoc(command.help or "").replace("\n.", "\n\\&.")
    # The whole first paragraph, which click would shorten.
    command.short_help = command.help.split("\n\n")[0].replace("\n", " ")
write_man_pages("nac", main, version=__version__, target_dir=str(folder))
