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
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(0.1, 600), help="Of sound.")
@click.option("--random", is_flag=True, help="Take random weights at official size; nothing needs to be here.")
@click.option("--reference", is_flag=True, help="Compare with the reference packages too; needs --random.")
@DEVICE
@JSON
def bench(
    names: tuple[str, ...], seconds: float, random: bool, reference: bool, device: str, as_json: bool
) -> None:
    """Measure how fast models are on this machine, and how much memory they take.

    All models that are here by default. Speeds are seconds of audio a second; shares are of what the machine does
    in float32 matrix products.
    """
    from nac.evaluate import bench as measuring

    if reference and not random:
        raise click.UsageError("--reference needs --random: the reference gets the same random weights")
    rows = measuring.bench(names, seconds=seconds, random=random, reference=reference, device=device)
    if not as_json:
        report.note(measuring.machine())
        report.note(report.bench_head(reference))
    try:
        for row in rows:
            report.out(json.dumps(asdict(row)) if as_json else report.bench_text(row))
    except NacError as error:
        report.error("", error)
        raise SystemExit(1) from None
