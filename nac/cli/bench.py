"""`nac bench`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from nac.cli import report
from nac.cli.options import DEVICE, JSON, ModelName, several
from nac.errors import NacError


@click.command()
@several("-m", "--model", "names", of=ModelName(), metavar="A,B", help="Names from `nac models`.")
@several(
    "--lengths",
    "lengths",
    of=click.FloatRange(0.1, 600),
    metavar="A,B",
    help="Lengths of audio in s; by default 1, 3, 10 and 30.",
)
@click.option(
    "--random", is_flag=True, help="Use random weights of the official size; nothing needs to be downloaded."
)
@click.option("--reference", is_flag=True, help="Compare with the reference packages too; needs --random.")
@DEVICE
@JSON
def bench(
    names: tuple[str, ...], lengths: tuple[float, ...], random: bool, reference: bool, device: str, as_json: bool
) -> None:
    """Measure speed and memory use of models on this machine.

    By default all models whose weights are on this machine. Speeds are seconds of audio per second; shares are of
    the highest float32 speed that any library reaches on this machine. Without --lengths, a batch of eight clips
    of 3 s is measured too.
    """
    from nac.evaluate import bench as measuring

    if reference and not random:
        raise click.UsageError("--reference needs --random: the reference gets the same random weights")
    clips = [measuring.Clips(length) for length in lengths] or measuring.CLIPS
    rows = measuring.bench(names, clips=clips, random=random, reference=reference, device=device)
    if not as_json:
        report.note(measuring.machine())
        report.note(report.bench_head(reference))
    try:
        for row in rows:
            report.out(json.dumps(asdict(row)) if as_json else report.bench_text(row))
    except NacError as error:
        report.error("", error)
        raise SystemExit(1) from None
