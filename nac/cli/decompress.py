"""`nac decompress`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nac.cli import batch
from nac.cli.cluster import engine_options, hand_over, only_local
from nac.cli.options import (
    COUNT,
    DEVICE,
    DURATION,
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
    START,
    WEIGHTS,
    one_of,
)
from nac.cli.running import loader, plan, run, source, target


@click.command()
@INPUTS
@OUT
@click.option("--format", "form", type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]), help="Of the output.")
@START
@DURATION
@RATE
@COUNT
@RECURSIVE
@FORCE
@SKIP
@REMOVE
@DEVICE
@JOBS
@WEIGHTS
@REVISION
@click.option("--force-model", is_flag=True, help="Decode with weights other than those a file was made with.")
@engine_options
@JSON
@QUIET
def decompress(
    inputs: tuple[str, ...],
    out: str | None,
    form: str | None,
    start: float,
    duration: float | None,
    kbps: float | None,
    codebooks: int | None,
    device: str,
    weights: Path | None,
    revision: str | None,
    force_model: bool,
    **options: Any,
) -> None:
    """Decompress .nac files to audio.

    INPUTS are .nac files, folders (with -r), or - for standard input. The output is 16-bit WAV beside the input
    unless -o or --format says otherwise. With -k or --codebooks, no more than that is decoded.
    """
    from nac.files.nacfile import is_nac

    one_of(kbps=kbps, codebooks=codebooks)
    if options["remove_source"] and (start or any(value is not None for value in (duration, kbps, codebooks))):
        raise click.UsageError(
            "--remove-source is for whole files: not with --start, --duration, -k or --codebooks"
        )
    settings: dict[str, Any] = {
        "start": start,
        "duration": duration,
        "format": form,
        "kbps": kbps,
        "codebooks": codebooks,
        "force_model": force_model,
        "verify": options["remove_source"],
    }
    # What a file needs was not asked for by name, so nothing is downloaded.
    where = {"device": device, "weights": weights, "revision": revision, "download": False}
    if options["engine"] == "ray":
        where["weights"] = weights and weights.absolute()
        hand_over("decompress", inputs, out, f".{form or 'wav'}", settings, where, model=None, **options)
        return
    options = only_local(options)
    jobs, others = plan(inputs, out, f".{form or 'wav'}", options.pop("recursive"), is_nac)

    def work(job: batch.Job, progress: Callable[[float, float | None], None]) -> Any:
        from nac.files import conversion as files

        return files.decompress(
            source(job.input),
            target(job.output),
            force=options["force"],
            load=load,
            progress=progress,
            **settings,
        )

    load = loader(device, weights, revision, progress=not options["quiet"], download=False)
    run(jobs, others, work, **options)
