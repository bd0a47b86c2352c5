"""The content of a file of any format: a .nac header, and all codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nac.codecs.registry import MODELS
from nac.container import Chunk, Header, Reader, Writer
from nac.container.chunk import chunk_frames
from nac.container.header import UNKNOWN_WEIGHTS
from nac.errors import FormatError, NacError
from nac.spec import CodecSpec
from nac.weights import cache

CodeArray = NDArray[np.uint16]


@dataclass(frozen=True)
class Recording:
    """All codes of a recording, for codecs with one code per codebook and frame.

    ``header`` contains the number of samples. ``codes``: of each stream [codebooks, frames]. ``scales``: float32
    [segments] of the only stream, if the codec has them. ``notes``: properties that the source format does not
    contain, or that the target format cannot store.
    """

    header: Header
    codes: list[CodeArray]
    scales: NDArray[np.float32] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def samples(self) -> int:
        """Per channel, at the original rate."""
        assert self.header.samples is not None
        return self.header.samples

    @property
    def frames(self) -> int:
        return int(self.codes[0].shape[1])

    @property
    def segments(self) -> list[slice]:
        """The frames of each segment; all frames if the codec has no segments."""
        if self.header.segment is None:
            return [slice(0, self.frames)]
        borders = list(range(0, self.frames, self.header.segment.frames))
        if self.scales is not None and len(self.scales) > len(borders):
            borders.append(self.frames - 1)  # an overhang
        return [slice(low, high) for low, high in pairwise([*borders, self.frames])]


def header_for(
    spec: CodecSpec, codebooks: int, *, channels: int, samples: int, sample_rate: int | None = None
) -> Header:
    """The header for a file from another format: equal numbers of codebooks, no stereo rotation.

    ``sample_rate``: the recording's, Hz; the codec's by default.
    """
    return Header(
        model=spec.name,
        fingerprint=published_weights(spec.name),
        sample_rate=spec.sample_rate,
        frame_samples=spec.frame_samples,
        codebooks=spec.codebooks,
        network_channels=spec.channels,
        stereo_pair=False,
        stream_codebooks=(codebooks,) * -(-channels // spec.channels),
        original_sample_rate=sample_rate or spec.sample_rate,
        channels=channels,
        samples=samples,
        segment=spec.segment,
        has_scale=spec.has_scale,
    )


def published_weights(model: str) -> str:
    """Fingerprint of the official weights: from the table, or from when they were last loaded here, or unknown."""
    return MODELS[model].fingerprint or cache.fingerprint(model) or UNKNOWN_WEIGHTS


def check_model(header: Header, family: str, target: str) -> None:
    """Raise NacError unless a file was made by a model of the family that the format ``target`` is for."""
    model = MODELS.get(header.model)
    if model is None or model.spec.family != family:
        names = ", ".join(name for name, known in MODELS.items() if known.spec.family == family)
        raise NacError(f"made with {header.model}; {target} holds codes of {names} only")
    spec = model.spec
    ours = (spec.sample_rate, spec.channels, spec.frame_samples, spec.codebooks, spec.has_scale)
    same = (header.sample_rate, header.network_channels, header.frame_samples, header.codebooks, header.has_scale)
    if same != ours:
        raise NacError(f"its {header.model} is not the one that {target} is for")


def check_streams(header: Header, target: str) -> None:
    """Raise NacError unless streams are channels and have equally many codebooks."""
    if header.stereo_pair:
        raise NacError(
            f"its two streams are rotated stereo, which {target} cannot store: "
            "decompress it and use that format's own encoder, or compress it mixed down to one channel"
        )
    if len(set(header.stream_codebooks)) > 1 or not header.stream_codebooks[0]:
        counts = " and ".join(map(str, header.stream_codebooks))
        raise NacError(f"its streams have {counts} codebooks; {target} has the same number for all")


def from_nac(reader: Reader, target: str) -> Recording:
    """The content of a .nac file, checked to its end; ``header.start`` counts from the first frame.

    ``target``: the format that it is for. Raises NacError if frames are missing or silent streams have none.
    """
    header, chunks = reader.header, list(reader.chunks())
    if reader.gaps:
        raise NacError(f"{reader.gaps[0]}; {target} cannot leave frames out")
    if any(not chunk.present(stream) for chunk in chunks for stream in range(len(header.stream_codebooks))):
        raise NacError(f"a silent stream has no codes; {target} cannot leave them out")
    if not chunks or not reader.samples:
        raise NacError("has no audio")
    codes = [
        np.concatenate([np.stack(chunk.codes(header, stream)) for chunk in chunks], axis=1)
        for stream in range(len(header.stream_codebooks))
    ]
    scales = None
    if header.has_scale:
        scales = np.array([scale for chunk in chunks for scale in chunk.scales[0]], np.float32)
    before = header.spec.start(chunks[0].first_frame) * header.original_sample_rate / header.sample_rate
    whole = replace(header, samples=reader.samples, start=max(0, int(header.start - before)), tags=())
    tags = len(header.tags)
    return Recording(whole, codes, scales, [f"{tags} tag{'s' * (tags > 1)}"] if tags else [])


def from_first_frame(recording: Recording) -> Recording:
    """Include the samples of the first frame before a start in its middle."""
    header = recording.header
    if not header.start:
        return recording
    longer = replace(header, samples=recording.samples + header.start, start=0)
    seconds = header.start / header.original_sample_rate
    return replace(
        recording, header=longer, notes=[*recording.notes, f"that the first {seconds:.3f} s are not wanted"]
    )


def at_codec_rate(recording: Recording) -> tuple[int, list[str]]:
    """Samples at the codec's rate that a reader derives from the frames; and notes on what that changes."""
    header, spec = recording.header, recording.header.spec
    samples = -(-recording.samples * header.sample_rate // header.original_sample_rate)
    notes = []
    if header.original_sample_rate != header.sample_rate:
        notes.append(f"the sample rate of {header.original_sample_rate} Hz")
    if spec.frames(samples) != recording.frames:
        samples, wanted = _all_samples(recording), samples
        notes.append(f"where it ends ({(samples - wanted) / header.sample_rate:.3f} s earlier)")
    return samples, notes


def _all_samples(recording: Recording) -> int:
    """Samples at the codec's rate in all frames."""
    spec, (*before, last) = recording.header.spec, recording.segments
    start = len(before) * (spec.segment.stride if spec.segment else 0)
    samples: int = start + (last.stop - last.start) * spec.frame_samples
    if spec.frames(samples) != recording.frames:
        raise NacError("its last segments are not those that its length needs")
    return samples


def to_nac(recording: Recording, file: BinaryIO) -> int:
    """Write a .nac file, with chunks of the same size as compressing makes. Returns the number of bytes."""
    writer = Writer(file, recording.header)
    for chunk in _chunks(recording):
        writer.write(chunk)
    writer.finish(recording.samples)
    return writer.bytes_written


def _chunks(recording: Recording) -> Iterator[Chunk]:
    header, size = recording.header, chunk_frames(recording.header.spec)
    scales = recording.scales
    for first in range(0, recording.frames, size):
        frames = min(size, recording.frames - first)
        rows = None
        if scales is not None and header.segment is not None:
            # The last chunk takes all remaining scales: an overhang has one more than its frames need.
            count = len(scales) if first + size >= recording.frames else size // header.segment.frames
            rows, scales = [scales[:count]], scales[count:]
        codes = [list(stream[:, first : first + frames]) for stream in recording.codes]
        yield Chunk.pack(header, first, frames, codes, scales=rows)


def integer(value: object, what: str, low: int, high: int) -> int:
    """A number from a file. Raises FormatError unless it is an integer from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        shown = value if isinstance(value, int) and abs(value) < 1 << 64 else type(value).__name__
        raise FormatError(f"expected {what} from {low} to {high}, not {shown}")
    return value
