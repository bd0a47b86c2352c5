"""`nac play`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli import report
from nac.cli.loading import Loading
from nac.cli.options import DEVICE, DURATION, FILES, QUIET, REVISION, START, WEIGHTS, gathered
from nac.cli.running import each
from nac.cli.standard import source
from nac.container.timeline import clock

if TYPE_CHECKING:
    from nac.container.header import Header


@click.command()
@FILES
@START
@DURATION
@click.option(
    "--speaker", help="Loudspeaker: a number or a part of a name, as `python -m sounddevice` lists them."
)
@DEVICE
@WEIGHTS
@REVISION
@QUIET
@gathered("loading", Loading)
def play(
    loading: Loading,
    files: tuple[Path, ...],
    start: float,
    duration: float | None,
    speaker: str | None,
    quiet: bool,
) -> None:
    """Play .nac files, one after another.

    Files are decoded while they play; - is standard input. Needs sounddevice: pip install 'nac-audio[play]'.
    """
    from nac.files import playing

    # The user did not name the model, so nothing is downloaded.
    load = loading.loader(progress=not quiet, download=False)

    def one(path: Path) -> None:
        def begun(header: Header, seconds: float | None) -> None:
            if not quiet:
                length = "" if seconds is None else f"{clock(seconds)}, "
                report.note(f"{report.printable(path)}: {length}{header.model}")

        playing.play(source(path), start=start, duration=duration, device=speaker, load=load, begun=begun)

    each(files, one, as_json=False)
