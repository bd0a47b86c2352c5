"""`nac compress`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from nac.cli.batch import Job, Paths
from nac.cli.cluster import Engine, engine_options, hand_over
from nac.cli.guesses import refuse_output_as_input
from nac.cli.hints import HINTS, message_of, with_hint
from nac.cli.loading import Loading
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
    gathered,
    one_of,
)
from nac.cli.running import Settings, Stop, Told, plan, run
from nac.cli.shards import Shards, items_at_once, recode_job, shard_options
from nac.cli.standard import source, target
from nac.errors import ModelError
from nac.storage.output import Result
from nac.storage.shards import is_shard

if TYPE_CHECKING:
    from nac.files.shards import Recoded


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
@click.option("--keep-ending", is_flag=True, help="Name outputs song.wav.nac instead of song.nac.")
@FORCE
@SKIP
@click.option(
    "--coding",
    type=click.Choice(["auto", "packed", "range"]),
    default="auto",
    show_default=True,
    help="How to store codes. auto: range coded where likely smaller; packed: never; range: wherever smaller.",
)
@click.option("--verify", is_flag=True, help="Read each output back and check it.")
@REMOVE
@DEVICE
@JOBS
@WEIGHTS
@REVISION
@shard_options
@engine_options
@JSON
@QUIET
@gathered("paths", Paths)
@gathered("settings", Settings)
@gathered("loading", Loading)
def compress(
    paths: Paths,
    settings: Settings,
    engine: Engine,
    loading: Loading,
    shards: Shards,
    model: str,
    kbps: float | None,
    codebooks: int | None,
    mono: bool,
    keep_ending: bool,
    coding: Literal["auto", "packed", "range"],
    verify: bool,
) -> None:
    """Compress audio files to .nac.

    INPUTS are audio files, folders (with -r), or - for standard input. Without -o, the output is beside the input.
    Without a bitrate, 8 kbit/s are used.

    WebDataset tar files and Parquet files are shards: their audio becomes .nac, everything else in them is
    unchanged, and -o names the folder for the new shards.
    """
    from nac.audio.kinds import is_audio
    from nac.files.conversion import Compression
    from nac.files.encoding import Encoding
    from nac.files.names import nac_name
    from nac.files.shards import is_recording, recoding

    one_of(kbps=kbps, codebooks=codebooks)
    _check_model(model, kbps, codebooks, loading)
    if verify and paths.out == "-":
        raise click.UsageError("--verify reads the output back, which standard output cannot be")
    encoding = Encoding(model, kbps, codebooks, mono, coding)
    how = Compression(encoding, verify or settings.remove_source, sound_only=settings.remove_source)
    named = None if model == "auto" else model
    rename, recode = partial(nac_name, keep_ending=keep_ending), shards.how(verify=how.verify)
    if engine.takes_over(paths):
        from nac.cluster import Action

        there = loading.elsewhere()
        action = partial(Action, how, rename=rename, load=there, shards=recode, model=named, force=settings.force)
        hand_over(paths, settings, engine, action)
        return
    refuse_output_as_input(paths, "compress", ["nac"])
    jobs = plan(
        paths,
        rename,
        shards.takes(is_recording, is_audio),
        wrong=shards.wrong(is_recording, "audio", _is_packed),
        apart=HINTS["keep_ending"],
        is_shard=is_shard,
    )
    load = loading.loader(progress=not settings.quiet, download=True, only=named is not None)
    recoded = recoding(how, load, rename, workers=items_at_once(jobs, settings), fatal=(Stop,), **recode)

    def work(job: Job, progress: Told) -> Result | Recoded:
        if job.shard:
            return recode_job(job, recoded, settings, progress)
        return how.run(source(job.input), target(job.output), load, force=settings.force, progress=progress)

    run(jobs, work, settings)


def _is_packed(path: Path) -> str:
    from nac.files.opening import is_nac

    return with_hint("is already a .nac file", "decompress") if is_nac(path) else ""


def _check_model(model: str, kbps: float | None, codebooks: int | None, loading: Loading) -> None:
    """Report errors that concern every file before the first is read."""
    if model == "auto":
        if loading.weights is not None:
            raise click.UsageError("--weights needs -m, the name of their model")
        return
    from nac.bitrate import allocate
    from nac.codecs.registry import find

    try:
        allocate(find(model).spec, 1, kbps=kbps, codebooks=codebooks)
    except ModelError as error:
        raise click.UsageError(message_of(error)) from None
