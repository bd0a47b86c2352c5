"""`nac compress`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nac import batch
from nac.commands.options import (
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
    REVISION,
    SKIP,
    WEIGHTS,
    one_of,
)
from nac.commands.running import loader, plan, run, source, target


@click.command()
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

    one_of(kbps=kbps, codebooks=codebooks)
    jobs, others = plan(inputs, out, ".nac", options.pop("recursive"), is_audio)

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac import files

        return files.compress(
            source(job.input),
            target(job.output),
            model=model,
            kbps=kbps,
            codebooks=codebooks,
            mono=mono,
            force=options["force"],
            load=load,
            progress=progress,
        )

    load = loader(device, weights, revision, progress=not options["quiet"], download=True)
    run(jobs, others, work, **options)
