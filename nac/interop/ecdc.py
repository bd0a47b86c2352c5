"""EnCodec's .ecdc: a JSON header, then for each segment its scale and its codes, 10 bits each, frame by frame.

Derived from the `encodec` package 0.1.1 (compress.py, binary.py).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nac.codecs.registry import MODELS
from nac.container import Header
from nac.container.bits import pack, packed_bytes, unpack
from nac.container.header import MAX_SAMPLES
from nac.container.records import RecordReader
from nac.errors import FormatError, NacError
from nac.interop.recording import (
    CodeArray,
    Recording,
    at_codec_rate,
    check_model,
    check_streams,
    from_first_frame,
    header_for,
    integer,
)
from nac.spec import CodecSpec

SIGNATURE = b"ECDC"
_HEADER = struct.Struct(">4sBI")
_MAX_META = 1 << 16
ReadCodes = Callable[[RecordReader, int, int], CodeArray]


def read(file: BinaryIO, lm: Path | None = None) -> Recording:
    """``lm``: weights of the language model, for a file coded with it.

    Raises FormatError if this is not a complete .ecdc file, ModelError if those weights are missing.
    """
    source = RecordReader(file)
    meta = _read_meta(source)
    spec = _spec(meta.get("m"))
    samples = integer(meta.get("al"), "a length", 1, MAX_SAMPLES - 1)
    codebooks = integer(meta.get("nc"), "a number of codebooks", 1, len(spec.codebooks))
    if not isinstance(meta.get("lm"), bool):
        raise FormatError("its header does not say whether a language model is needed")
    notes = [f"the recording's own sample rate and channels (taken: {spec.sample_rate} Hz, {spec.channels})"]
    if meta["lm"]:
        from nac.interop import language_model

        coder = language_model.load(spec.name, spec.sample_rate // spec.frame_samples, lm)
        notes.append("whether its language model computed there as it does here, or else these are other codes")
        try:
            codes, scales = _read_segments(source, spec, samples, codebooks, coder.read)
        except FormatError as error:
            raise FormatError(
                "coded with EnCodec's language model, which gives other results on this machine, or the file is "
                f"damaged: {error}"
            ) from None
    else:
        codes, scales = _read_segments(source, spec, samples, codebooks, _unpacked)
    return Recording(
        header_for(spec, codebooks, channels=spec.channels, samples=samples),
        [np.concatenate(codes).T],
        np.array(scales, np.float32) if spec.has_scale else None,
        notes,
    )


def _read_segments(
    source: RecordReader, spec: CodecSpec, samples: int, codebooks: int, read: ReadCodes
) -> tuple[list[CodeArray], list[float]]:
    codes, scales = [], []
    for frames in segment_frames(spec, samples):
        if spec.has_scale:
            scales.append(_read_scale(source))
        codes.append(read(source, frames, codebooks))
    if source.read(1):
        raise FormatError(f"there are bytes after the end, from byte {source.position - 1} on")
    return codes, scales


def _unpacked(source: RecordReader, frames: int, codebooks: int) -> CodeArray:
    """A segment's codes, [frames, codebooks]."""
    count = frames * codebooks
    return unpack([source.need(packed_bytes(10, count))], 10, count).reshape(frames, codebooks)


def check(header: Header) -> None:
    """Raise NacError unless the content of a .nac file with this header fits an .ecdc file."""
    check_model(header, "encodec", ".ecdc")
    check_streams(header, ".ecdc")
    if len(header.stream_codebooks) > 1:
        raise NacError(f"has {len(header.stream_codebooks)} streams; .ecdc has one")


def write(recording: Recording, file: BinaryIO) -> list[str]:
    """Returns the properties that the file cannot store."""
    recording = from_first_frame(recording)
    header, spec = recording.header, recording.header.spec
    samples, lost = at_codec_rate(recording)
    if header.channels < spec.channels:
        lost.append("that it has one channel")
    meta = {"m": header.model, "al": samples, "nc": header.stream_codebooks[0], "lm": False}
    text = json.dumps(meta).encode()
    file.write(_HEADER.pack(SIGNATURE, 0, len(text)) + text)
    for number, segment in enumerate(recording.segments):
        if recording.scales is not None:
            file.write(struct.pack(">f", recording.scales[number]))
        file.write(pack(recording.codes[0][:, segment].T.reshape(-1), 10))
    return [*recording.notes, *lost]


def _read_meta(source: RecordReader) -> dict[str, Any]:
    signature, version, length = _HEADER.unpack(source.need(_HEADER.size))
    if signature != SIGNATURE:
        raise FormatError("not an .ecdc file")
    if version != 0 or length > _MAX_META:
        raise FormatError(f"version {version} of .ecdc with a header of {length} bytes; version 0 is known")
    try:
        meta = json.loads(source.need(length))
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise FormatError("its header is damaged: not a JSON object")
    return meta


def _spec(name: object) -> CodecSpec:
    model = MODELS.get(name) if isinstance(name, str) else None
    if model is None or model.spec.family != "encodec":
        raise FormatError(
            f"made with the model {str(name)[:40]!r}, which is not one of the published EnCodec models"
        )
    return model.spec


def _read_scale(source: RecordReader) -> float:
    scale: float = struct.unpack(">f", source.need(4))[0]
    if not math.isfinite(scale):
        raise FormatError(f"invalid scale {scale} before byte {source.position}")
    return scale


def segment_frames(spec: CodecSpec, samples: int) -> Iterator[int]:
    """Frames of each segment of a signal; segments begin every stride, and the last may be shorter."""
    if spec.segment is None:
        yield -(-samples // spec.frame_samples)
        return
    full = spec.segment.frames * spec.frame_samples
    for start in range(0, samples, spec.segment.stride):
        yield -(-min(full, samples - start) // spec.frame_samples)
