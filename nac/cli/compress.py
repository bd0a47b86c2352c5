"""`nac compress`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from nac.cli import batch
from nac.cli.cluster import engine_options, hand_over, only_local
from nac.cli.hints import told
from nac.cli.options import (
    COUNT,
    DEVICE,
    FORCE,
    INPUTS,
    JOBS,
    JSON,
    OUT,
    QUIET,
    RATE,
    RECURSIVE,
    REMOVE,
    REVISION,
    SKIP,
    WEIGHTS,
    ModelName,
    one_of,
)
from nac.cli.running import loader, plan, run, source, target
from nac.errors import ModelError


@click.command()
@INPUTS
@OUT
@click.option(
    "-m", "--model", type=ModelName(), default="auto", show_default=True, help="A name from `nac models`."
)
@RATE
@COUNT
@click.option("--mono", is_flag=True, help="Mix down to one channel.")
@RECURSIVE
@FORCE
@SKIP
@click.option(
    "--coding",
    type=click.Choice(["auto", "packed", "range"]),
    default="auto",
    show_default=True,
    help="How codes are stored: range coded where that is likely to be smaller, never, or wherever it is.",
)
@click.option("--verify", is_flag=True, help="Read each output back and check it before it counts.")
@REMOVE
@DEVICE
@JOBS
@WEIGHTS
@REVISION
@engine_options
@JSON
@QUIET
def compress(
    inputs: tuple[str, ...],
    out: str | None,
    model: str,
    kbps: float | None,
    codebooks: int | None,
    mono: bool,
    coding: Literal["auto", "packed", "range"],
    verify: bool,
    device: str,
    weights: Path | None,
    revision: str | None,
    **options: Any,
) -> None:
    """Compress audio files to .nac.

    INPUTS are audio files, folders (with -r), or - for standard input. The output lies beside the input unless -o
    says otherwise. Without a bitrate, 8 kbit/s are aimed at.
    """
    from nac.audio.recordings import is_audio

    one_of(kbps=kbps, codebooks=codebooks)
    _check_model(model, kbps, codebooks, weights)
    if verify and out == "-":
        raise click.UsageError("--verify reads the output back, which standard output cannot be")
    settings: dict[str, Any] = {
        "model": model,
        "kbps": kbps,
        "codebooks": codebooks,
        "mono": mono,
        "coding": coding,
        "verify": verify or options["remove_source"],
    }
    named = None if model == "auto" else model
    if options["engine"] == "ray":
        where = {"device": device, "weights": weights and weights.absolute(), "revision": revision}
        hand_over("compress", inputs, out, ".nac", settings, where, model=named, **options)
        return
    options = only_local(options)
    jobs, others = plan(inputs, out, ".nac", options.pop("recursive"), is_audio)

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac.files import conversion as files

        return files.compress(
            source(job.input),
            target(job.output),
            force=options["force"],
            load=load,
            progress=progress,
            **settings,
        )

    load = loader(device, weights, revision, progress=not options["quiet"], download=True, only=named is not None)
    run(jobs, others, work, **options)


def _check_model(model: str, kbps: float | None, codebooks: int | None, weights: Path | None) -> None:
    """What is wrong for every file, whatever it holds, is told before the first is looked at."""
    if model == "auto":
        if weights is not None:
            raise click.UsageError("--weights needs -m: the name of the model that they are of")
        return
    from nac.bitrate import allocate
    from nac.codecs.registry import find

    try:
        allocate(find(model).spec, 1, kbps=kbps, codebooks=codebooks)
    except ModelError as error:
        raise click.UsageError(told(error)) from None
