"""`nac decompress`."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nac.cli.batch import Job, Paths
from nac.cli.cluster import Engine, engine_options, hand_over
from nac.cli.guesses import refuse_output_as_input
from nac.cli.hints import HINTS, with_hint
from nac.cli.loading import Loading
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
    gathered,
    one_of,
)
from nac.cli.running import Settings, Stop, Told, plan, run
from nac.cli.shards import Shards, items_at_once, recode_job, shard_options
from nac.cli.standard import source, target
from nac.errors import NacError
from nac.storage.output import Result
from nac.storage.shards import is_shard

if TYPE_CHECKING:
    from nac.audio.wav import Bits
    from nac.files.shards import Recoded


@click.command()
@INPUTS
@OUT
@click.option("--format", "form", type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]), help="Of the output.")
@click.option(
    "--bits", type=click.Choice(["16", "24", "float"]), help="Sample format in WAV and FLAC; by default 16."
)
@START
@DURATION
@RATE
@COUNT
@RECURSIVE
@FORCE
@SKIP
@REMOVE
@DEVICE
@click.option("--fast", is_flag=True, help="Decode in half precision where that is faster, not quite exactly.")
@JOBS
@WEIGHTS
@REVISION
@click.option("--force-model", is_flag=True, help="Decode even if a file was made with other weights.")
@shard_options
@engine_options
@JSON
@QUIET
@gathered("paths", Paths)
@gathered("settings", Settings)
@gathered("loading", Loading)
def decompress(
    paths: Paths,
    settings: Settings,
    engine: Engine,
    loading: Loading,
    shards: Shards,
    form: str | None,
    bits: Bits | None,
    start: float,
    duration: float | None,
    kbps: float | None,
    codebooks: int | None,
    force_model: bool,
) -> None:
    """Decompress .nac files to audio.

    INPUTS are .nac files, folders (with -r), or - for standard input. Without -o or --format, the output is a
    16-bit WAV file beside the input. With -k or --codebooks, only that bitrate is decoded.

    --fast is for EnCodec, DAC, SNAC and Mimi on a GPU, and for DAC on a CPU with AMX. Elsewhere it has no effect,
    which is reported.

    In tar and Parquet files, the .nac files become audio, everything else is unchanged, and -o names the folder
    for the new ones.
    """
    from nac.audio.writing import OUTPUT_FORMATS
    from nac.files.conversion import Decompression
    from nac.files.names import audio_name
    from nac.files.opening import is_nac
    from nac.files.shards import is_packed, recoding

    one_of(kbps=kbps, codebooks=codebooks)
    if settings.remove_source and (start or any(value is not None for value in (duration, kbps, codebooks))):
        raise click.UsageError("--remove-source cannot be used with --start, --duration, -k or --codebooks")
    verify = settings.remove_source
    how = Decompression(start, duration, form, bits, kbps, codebooks, force_model, verify)
    rename, recode = partial(audio_name, format=form), shards.how(verify=verify)
    if engine.takes_over(paths):
        from nac.cluster import Action

        # The user did not name the model, so nothing is downloaded.
        there = {**loading.elsewhere(), "download": False}
        action = partial(Action, how, rename=rename, load=there, shards=recode, force=settings.force)
        hand_over(paths, settings, engine, action)
        return
    refuse_output_as_input(paths, "decompress", OUTPUT_FORMATS)
    jobs = plan(
        paths,
        rename,
        shards.takes(is_packed, is_nac),
        wrong=shards.wrong(is_packed, ".nac files", _is_audio),
        is_shard=is_shard,
    )
    load = loading.loader(progress=not settings.quiet, download=False)
    recoded = recoding(how, load, rename, workers=items_at_once(jobs, settings), fatal=(Stop,), **recode)

    def work(job: Job, progress: Told) -> Result | Recoded:
        if job.shard:
            return recode_job(job, recoded, settings, progress)
        try:
            return how.run(source(job.input), target(job.output), load, force=settings.force, progress=progress)
        except NacError as error:
            if error.remedy == "force" and paths.out is None:
                raise NacError(_may_be_the_original(job)) from None
            raise

    run(jobs, work, settings)


def _is_audio(path: Path) -> str:
    """The message for an input such as talk.wav, instead of "would be overwritten"."""
    from nac.files.names import audio_name
    from nac.files.opening import is_nac

    meant = audio_name(path.name) != path.name or is_nac(path)
    return "" if meant else with_hint("not a .nac file", "compress")


def _may_be_the_original(job: Job) -> str:
    """A hint if the default output exists, which may be the original recording."""
    other = job.output.with_stem(f"{job.output.stem}-decompressed")
    line = shlex.join(["nac", "decompress", str(job.input), "-o", str(other)])
    return (
        f"{job.output} exists, and may be the original recording; -o gives the output another name: {line} "
        f"({HINTS['force']})"
    )
