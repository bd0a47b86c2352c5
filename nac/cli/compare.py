"""`nac compare`."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nac.cli import report
from nac.cli.hints import message_of
from nac.cli.loading import Loading
from nac.cli.options import (
    DEVICE,
    FORCE,
    KBPS,
    QUIET,
    RECURSIVE,
    ModelName,
    Time,
    file_path,
    gathered,
    path,
    several,
)
from nac.cli.running import Stop, expand, tell_others
from nac.errors import NacError

if TYPE_CHECKING:
    from nac.evaluate.comparison import Compared, Score
    from nac.evaluate.metrics import Metric
    from nac.evaluate.page import RecordingView

PAGE = Path("compare.html")


@dataclass(frozen=True)
class Stretch:
    """The part of each recording to compare, in seconds."""

    start: float | None
    duration: float

    def check(self) -> None:
        """Raise UsageError if the part is empty."""
        if not self.duration > 0:
            raise click.UsageError("--duration must be more than 0")


@dataclass(frozen=True)
class Printed:
    """The options for the output."""

    out: Path | None
    as_json: bool
    as_csv: bool
    force: bool
    quiet: bool

    def check(self) -> None:
        """Raise UsageError for options that exclude each other."""
        if self.as_json and self.as_csv:
            raise click.UsageError("--json and --csv exclude each other")

    @property
    def page(self) -> Path | None:
        """The path of the page, if it is written."""
        return self.out or (None if self.as_json or self.as_csv else PAGE)

    def tell(self, gathered: Gathered) -> None:
        """Print the numbers."""
        from nac.evaluate.comparison import averages

        if self.as_json or self.as_csv:
            _print(gathered.scores, self.as_csv)
        elif not self.quiet:
            report.out(report.averages_text(averages(gathered.scores), gathered.metrics))


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=path(exists=True))
@click.option(
    "-o", "--output", "out", type=file_path(), help=f"The page. [default: {PAGE}, or none with --json or --csv]"
)
@several(
    "-m",
    "--models",
    of=ModelName(),
    metavar="A,B",
    help="Names from `nac models`. [default: all that are on this machine]",
)
@several(
    "-k",
    "--kbps",
    of=KBPS,
    metavar="R,R",
    default=["1.5,3,6,12"],
    show_default=True,
    help="Bitrates in kbit/s, all channels together.",
)
@click.option("--start", type=Time(), help="Start in each recording. [default: so that its middle is compared]")
@click.option(
    "--duration", type=Time(), default=10.0, show_default=True, help="Length to compare of each recording."
)
@several("--metrics", of=click.STRING, metavar="A,B", help="Which metrics. [default: all that are installed]")
@click.option(
    "--players",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="How many recordings, the worst ones, get audio and spectrograms in the page; others only numbers.",
)
@RECURSIVE
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the numbers as CSV.")
@FORCE
@QUIET
@gathered("printed", Printed)
@gathered("stretch", Stretch)
def compare(
    printed: Printed,
    stretch: Stretch,
    inputs: tuple[Path, ...],
    models: tuple[str, ...],
    kbps: tuple[float, ...],
    metrics: tuple[str, ...],
    players: int,
    recursive: bool,
    device: str,
) -> None:
    """Compare models on your recordings by ear and by numbers: makes a page for the browser.

    Every recording is compressed with every model at every bitrate, and with Opus and MP3 at the nearest bitrates.
    The page has audio to switch between, also in a blind test, with spectrograms, sizes, speeds and quality
    metrics. It needs no network.
    """
    printed.check()
    stretch.check()
    paths = _recordings(inputs, recursive)
    if not paths:
        raise click.UsageError("no recordings found")
    out = printed.page
    if out is not None and out.resolve() in {one.resolve() for one in paths}:
        raise click.UsageError(f"{out} would be overwritten by the page")
    from nac.evaluate.metrics import chosen
    from nac.storage.output import check_output

    try:
        if out is not None:
            check_output(None, out, force=printed.force)
        gathered = Gathered(_models(models), chosen(metrics or None), players if out is not None else 0)
    except NacError as error:
        raise Stop.of(error) from None
    load = Loading(device).loader(progress=not printed.quiet, download=True)
    failed = _run(paths, gathered, load, kbps, stretch, printed.quiet)
    if not gathered.scores:
        raise SystemExit(1)
    printed.tell(gathered)
    if out is not None:
        _write(out, gathered, stretch.duration, printed)
    if failed:
        raise SystemExit(1)


def _models(names: tuple[str, ...]) -> tuple[str, ...]:
    """The models named, or all that are on this machine. Raises ModelError."""
    from nac.codecs.registry import find
    from nac.weights import models as table

    names = names or tuple(table.present())
    for name in names:
        find(name)
    return names


def _recordings(inputs: tuple[Path, ...], recursive: bool) -> list[Path]:
    from nac.audio.kinds import is_audio

    items, others = expand(inputs, is_audio, recursive=recursive)
    tell_others(others)
    for item in items:
        if item.error:
            raise Stop.of(NacError(f"{item.path}: {item.error}"))
    return [item.path for item in items]


class Gathered:
    """The results: all numbers, and the recordings to show, with audio of the worst ones only."""

    def __init__(self, models: tuple[str, ...], metrics: Sequence[Metric], players: int) -> None:
        self.models, self.metrics, self._players = models, metrics, players
        self.scores: list[Score] = []
        self._views: list[tuple[float, RecordingView]] = []

    def add(self, compared: Compared) -> None:
        from nac.evaluate.comparison import badness
        from nac.evaluate.page import recording_view, without_player

        self.scores += compared.scores
        if not self._players:
            return
        bad = badness(compared.scores, self.models, self.metrics[0])
        self._views.append((bad, recording_view(compared)))
        self._views.sort(key=lambda pair: -pair[0])
        # Audio of a recording that is no longer among the worst is dropped at once to bound memory.
        self._views[self._players :] = [(bad, without_player(one)) for bad, one in self._views[self._players :]]

    @property
    def views(self) -> list[RecordingView]:
        """The recordings, worst first."""
        return [one for _, one in self._views]


def _run(
    paths: Sequence[Path],
    gathered: Gathered,
    load: Callable[[str], Any],
    kbps: tuple[float, ...],
    stretch: Stretch,
    quiet: bool,
) -> bool:
    """Compare every recording; returns whether any failed."""
    from tqdm import tqdm

    from nac.evaluate.coders import Coder, Model, Mp3, Opus
    from nac.evaluate.comparison import compare as compare_one
    from nac.evaluate.excerpt import read_excerpt

    failed, names = False, _names(paths)
    said: set[str] = set()
    coders: list[Coder] = [*(Model(name, load) for name in gathered.models), Opus(), Mp3()]
    # None: only shown on a terminal.
    with tqdm(total=len(paths), leave=False, unit="recording", disable=quiet or None) as bar:

        def say(path: object, problem: Exception | str) -> None:
            with bar.external_write_mode():
                report.error(path, problem)

        for number, one in enumerate(paths, 1):
            try:
                excerpt = read_excerpt(one, names[one], stretch.start, stretch.duration)
                # The rest of a sum of many parts is not exactly zero.
                done = partial(_advance, bar, number)
                compared = compare_one(excerpt, coders, kbps, gathered.metrics, done)
                gathered.add(compared)
                for line in _left_out(compared.unsupported, excerpt.channels, kbps):
                    if line not in said:
                        said.add(line)
                        say("", line)
            except (NacError, OSError) as error:
                failed = True
                say(one, error)
            bar.update(number - bar.n)
    return failed


def _advance(bar: Any, most: int, share: float) -> None:
    bar.update(min(share, most - bar.n))


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Names of recordings: their paths from the common folder, or full paths if that is the root."""
    root = os.path.commonpath([one.absolute().parent for one in paths])
    if Path(root).parent == Path(root):
        return {one: os.fspath(one.absolute()) for one in paths}
    return {one: os.path.relpath(one, root) for one in paths}


def _left_out(names: Sequence[str], channels: int, kbps: Sequence[float]) -> Iterator[str]:
    """Why models support none of the bitrates."""
    from nac.bitrate import allocate
    from nac.codecs.registry import find

    for name in names:
        try:
            allocate(find(name).spec, channels, kbps=max(kbps))
        except NacError as error:
            yield f"{name} is left out: {message_of(error)}"


def _print(scores: Sequence[Score], as_csv: bool) -> None:
    rows = [score.row() for score in scores]
    if not as_csv:
        for row in rows:
            report.out(json.dumps(row))
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    report.out(text.getvalue().rstrip("\n"))


def _write(out: Path, gathered: Gathered, duration: float, printed: Printed) -> None:
    from nac.codecs.registry import find
    from nac.evaluate.comparison import averages
    from nac.evaluate.page import write_page
    from nac.storage.output import whole_file

    try:
        with whole_file(out, force=printed.force) as file:
            known = [find(name) for name in gathered.models]
            write_page(file, gathered.views, averages(gathered.scores), gathered.metrics, known, duration)
    except NacError as error:
        raise Stop.of(error) from None
    if not printed.quiet:
        report.note(f"{report.printable(out)}: {report.size(out.stat().st_size)}, open it in a browser")
