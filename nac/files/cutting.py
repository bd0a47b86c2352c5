"""Cut a part out of a .nac file by copying its codes. Needs no model and no PyTorch.

The samples of a frame also depend on the codes before and after it. So the frames around the part are kept too, as
many as its first and last sample depend on, and the header says which samples are wanted. Frames keep their
numbers, because noise, blocks and resampling are counted from the start of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nac.audio.resample import Resampler
from nac.codecs.registry import find
from nac.codecs.windows import Plan
from nac.container import Chunk, Header, Reader, Writer
from nac.container.chunk_head import MAX_FRAME_NUMBER
from nac.errors import ModelError
from nac.files.opening import check_start, opened, sample_range
from nac.files.results import Stopwatch
from nac.spec import CodecSpec
from nac.storage.output import PathOrFile, Result, created


def cut(
    src: PathOrFile, dst: PathOrFile, *, start: float = 0.0, duration: float | None = None, force: bool = False
) -> Result:
    """Write a part of a .nac file to another, without decoding.

    Decoding the result gives exactly the samples that decoding the whole file gives there. With encodec_24khz,
    whose LSTM has unlimited memory, they are nearly the same. Tags are kept. Works on pipes.

    Parameters
    ----------
    src, dst : path or binary file object
        The .nac file to read, and the one to write.
    start : float
        Start of the part, in seconds.
    duration : float, optional
        Length of the part, in seconds; by default up to the end.
    force : bool
        Replace an existing ``dst``.

    Returns
    -------
    Result
        Names, model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If ``src`` is not a complete .nac file, its model is unknown, the part is empty, or ``dst`` exists.

    Examples
    --------
    >>> import nac
    >>> nac.cut("song.nac", "part.nac", start=1, duration=2).seconds
    2.0
    """
    watch = Stopwatch()
    with opened(src) as reader:
        low, high = sample_range(reader, start, duration)
        header = replace(
            reader.header,
            start=reader.header.start + low,
            samples=None if high is None or reader.samples is None else high - low,
        )
        with created(src, dst, force=force) as out:
            writer = Writer(out, header)
            for part in _parts(reader, header, needed_frames(reader.header, low, high)):
                writer.write(part)
                out.flush()
            samples = _samples(reader, low, high)
            writer.extend(samples)  # there may have been chunks here that are lost
            writer.finish(samples)
    seconds = samples / header.original_sample_rate
    return watch.result(src, dst, header, seconds=seconds, size=writer.bytes_written)


def _parts(reader: Reader, header: Header, frames: range) -> Iterator[Chunk]:
    """The ``frames`` of the chunks that have some of them, and no others."""
    for chunk in reader.chunks(reader.index.find(frames.start) if reader.seekable else 0):
        if part := chunk.part(header, frames.start, frames.stop):
            yield part
        elif chunk.first_frame >= frames.stop and reader.samples is not None:
            return


def _samples(reader: Reader, low: int, high: int | None) -> int:
    """The number of existing samples from ``low`` up to ``high``."""
    assert reader.samples is not None  # the end has been read, or is not needed
    check_start(reader, low)
    return (reader.samples if high is None else min(high, reader.samples)) - low


@dataclass(frozen=True)
class Layout:
    """The properties of a codec that cutting and joining its files depend on.

    ``unit``: a part must begin at a multiple of this many frames.
    """

    spec: CodecSpec
    plan: Plan
    unit: int


def layout_of(header: Header) -> Layout:
    """Raises ModelError for a codec that this version does not know."""
    model = find(header.model)
    spec = model.spec
    windows = None if spec.segment else header.segment  # from a .dac file
    bare = replace(header.spec, fingerprint="", segment=None if windows else header.segment)
    if model.decode_plan is None or replace(spec, family="", frame_multiple=1, fingerprint="") != bare:
        raise ModelError(f"made with a {header.model} that this version of nac does not know how to cut")
    if windows:
        # Each is decoded on its own, but the last one's extent depends on whether another follows. A sample near
        # the start of one is in the middle of an earlier one.
        earlier = -(-windows.margin(spec.frame_samples) // windows.stride)
        plan = Plan(earlier * windows.frames, windows.frames, windows.frames)
        return Layout(replace(spec, segment=windows), plan, windows.frames)
    return Layout(spec, model.decode_plan, spec.segment.frames if spec.segment else spec.frame_multiple)


def needed_frames(header: Header, low: int, high: int | None) -> range:
    """The frames that the recording's samples from ``low`` up to ``high`` (None: the end) depend on."""
    layout, rate, codec_rate = layout_of(header), header.original_sample_rate, header.sample_rate
    spec, plan = layout.spec, layout.plan
    begin = low + header.start
    resampler = Resampler(codec_rate, rate, start=begin * codec_rate // rate)
    first = spec.frame_at(resampler.first_input)
    start = plan.preroll(first)
    if header.stereo_pair:
        # The rotation from the previous chunk's angle takes 20 ms, and begins in that chunk's last frame.
        start = min(start, first - -(-(codec_rate // 50) // spec.frame_samples) - 1)
    start = max(0, start) // layout.unit * layout.unit
    if high is None:
        return range(start, MAX_FRAME_NUMBER)
    if high <= low:
        return range(start, start)
    return range(start, plan.end(spec.frame_at(resampler.input_end(high + header.start - 1) - 1)))
