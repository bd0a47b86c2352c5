"""The `nac` command: each command parses its arguments, calls the library and prints the results."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from nac.cli import report
from nac.cli.bench import bench
from nac.cli.cat import cat
from nac.cli.codes import codes
from nac.cli.compare import compare
from nac.cli.compress import compress
from nac.cli.convert import convert
from nac.cli.cut import cut
from nac.cli.decompress import decompress
from nac.cli.guesses import Commands
from nac.cli.info import info
from nac.cli.models import models
from nac.cli.notes import NOTES
from nac.cli.pack import pack
from nac.cli.peel import peel
from nac.cli.play import play
from nac.cli.verify import verify
from nac.errors import NacError
from nac.version import __version__


def entry() -> NoReturn:
    """Run the command. Exit codes: 0 done, 1 a file failed, 2 wrong usage, 130 interrupted, 141 no reader left."""
    # PyTorch's threads wait for one another by spinning, which on a busy machine can take a hundred times as long
    # as the work itself. The variable must be set before PyTorch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    atexit.register(gc.freeze)  # otherwise Python searches all objects for cycles at exit: 0.5 s with PyTorch
    try:
        sys.exit(main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (NacError, OSError) as error:
        report.error("", error)
        sys.exit(1)


class _Nac(Commands):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader has closed the pipe: end silently like other commands, also when Python flushes.
            if sys.stdout is not None:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(128 + signal.SIGPIPE) from None


@click.group(cls=_Nac, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nac")
def main() -> None:
    """Compress audio with neural codecs, and decompress it."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _terminate)
    logging.getLogger("nac").addHandler(NOTES)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # Raised as an exception, so that unfinished outputs are removed.
    raise SystemExit(128 + number)


for command in (
    compress,
    decompress,
    peel,
    cut,
    cat,
    codes,
    pack,
    convert,
    play,
    info,
    verify,
    models,
    bench,
    compare,
):
    main.add_command(command)
