"""Lower the bitrate without decoding, by dropping the finest codebooks. Needs no model and no PyTorch."""

from __future__ import annotations

from dataclasses import replace

from nac.bitrate import at_most
from nac.container import Chunk, Writer
from nac.container.codebooks import Coding
from nac.files.opening import opened
from nac.files.results import Stopwatch
from nac.storage.output import PathOrFile, Result, created


def peel(
    src: PathOrFile,
    dst: PathOrFile,
    *,
    kbps: float | None = None,
    codebooks: int | None = None,
    coding: Coding | None = None,
    force: bool = False,
) -> Result:
    """Write a .nac file with a lower bitrate, by dropping its finest codebooks, without decoding.

    The result equals the file that compressing at that bitrate gives. A bitrate above the file's own
    changes nothing. Works on pipes.

    Parameters
    ----------
    src, dst : path or binary file object
        The .nac file to read, and the one to write.
    kbps : float, optional
        Upper limit for the bitrate, in kbit/s, all channels together.
    codebooks : int, optional
        The number of codebooks to keep in each stream, instead of ``kbps``.
    coding : {"auto", "packed", "range"}, optional
        Recode as :func:`nac.compress` does; packed codes can be read without probability tables.
    force : bool
        Replace an existing ``dst``.

    Returns
    -------
    Result
        Names, model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If ``src`` is not a complete .nac file, the bitrate is too low for one codebook, or ``dst`` exists.

    Examples
    --------
    >>> import nac
    >>> nac.peel("song.nac", "small.nac", kbps=1.5).kbps
    1.5
    """
    watch = Stopwatch()
    with opened(src) as reader:
        header = reader.header
        counts = at_most(header, kbps=kbps, codebooks=codebooks)
        fewer = replace(header, stream_codebooks=counts)
        with created(src, dst, force=force) as out:
            writer = Writer(out, fewer)
            for chunk in reader.chunks():
                less = _without(chunk, counts)
                writer.write(less.recoded(fewer, coding) if coding else less)
                out.flush()
            assert reader.samples is not None  # the end has been read
            writer.finish(reader.samples)
    seconds = reader.samples / header.original_sample_rate
    return watch.result(src, dst, fewer, seconds=seconds, size=writer.bytes_written)


def _without(chunk: Chunk, counts: tuple[int, ...]) -> Chunk:
    """The chunk with at most this many codebooks of each stream."""
    layers = tuple(layers[:count] for layers, count in zip(chunk.layers, counts, strict=True))
    scales = tuple(row if kept else () for row, kept in zip(chunk.scales, layers, strict=False))
    return replace(chunk, layers=layers, scales=scales)
