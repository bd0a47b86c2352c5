"""Descript's .dac: numpy's .npy around a pickled dict of codes and metadata.

Derived from the `descript-audio-codec` package 1.0.0 (model/base.py). A recording longer than the encoder's window
(5 s by default) is coded window by window without padding. The decoder returns slightly fewer samples than the
frames of each window cover, and concatenates them. In a .nac file such windows are segments. They decode to the
package's result within 1e-4, except for up to 500 samples on either side of a join, because its decoder runs
without padding and this one with.
"""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, log10
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nac.codecs.registry import MODELS
from nac.container import Header
from nac.container.header import MAX_FRAME, MAX_RATE, MAX_SAMPLES
from nac.errors import FormatError, NacError
from nac.interop import pickled
from nac.interop.recording import (
    CodeArray,
    Recording,
    check_model,
    check_streams,
    from_first_frame,
    header_for,
    integer,
)
from nac.spec import CodecSpec, Segment

SIGNATURE = b"\x93NUMPY"
LOUDNESS = -16.0
"""LUFS that the encoder brings every recording to, and the decoder back from."""
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': False, 'shape': \(\), ?\} *\n", re.DOTALL
)
_MODELS = sorted(
    (model.spec for model in MODELS.values() if model.spec.family == "dac"), key=lambda spec: len(spec.codebooks)
)
_VERSION = "1.0.0"
_LOST = {320: (5534, 2763), 512: (8342, 4171)}
"""By samples per frame: how many samples the unpadded decoder omits in total, and at the start."""
_USUAL_WINDOWS = {16000: (34, 234), 24000: (59, 359), 44100: (72, 416)}
"""Frames that the unpadded encoder makes of windows of 1 s and 5 s, its defaults."""


@dataclass(frozen=True)
class _Meta:
    """``loudness`` in LUFS; ``samples`` and ``sample_rate`` (Hz) are the recording's; ``window`` in frames."""

    loudness: float
    samples: int
    sample_rate: int
    channels: int
    window: int
    padded: bool


def read(file: BinaryIO, model: str | None = None) -> Recording:
    """``model``: the file's model, which it does not name; by default the smallest that fits.

    Raises FormatError if this is not a .dac file, or its pickle could run a program.
    """
    codes, meta = _parse(file.read())
    spec = _spec(model, codes.shape[1], codes.shape[2], meta)
    header = header_for(
        spec, codes.shape[1], channels=meta.channels, samples=meta.samples, sample_rate=meta.sample_rate
    )
    header = replace(header, gain=10 ** ((LOUDNESS - meta.loudness) / 20))
    if not meta.padded:
        start = _start(spec, meta.sample_rate)
        header = replace(header, segment=_segment(spec, meta.window), start=start)
    available = _samples_in(header, codes.shape[2])
    if available < meta.samples - ceil(meta.sample_rate / spec.sample_rate):
        raise FormatError(f"it declares {meta.samples} samples, but its frames have {available}")
    header = replace(header, samples=min(meta.samples, available))
    notes = [] if model else [f"the model (taken: {spec.name}; -m names another)"]
    notes.append(
        f"how far its peaks were limited (its level is taken from its loudness, {meta.loudness:.1f} LUFS)"
    )
    return Recording(header, list(codes), notes=notes)


def check(header: Header) -> None:
    """Raise NacError unless the content of a .nac file with this header fits a .dac file."""
    check_model(header, "dac", ".dac")
    check_streams(header, ".dac")
    if header.segment and header.segment != _segment(header.spec, header.segment.frames):
        raise NacError("its segments are not the windows of a .dac file")


def write(recording: Recording, file: BinaryIO) -> list[str]:
    """Returns the properties that the file cannot store."""
    recording = _needed_windows(recording) if recording.header.segment else from_first_frame(recording)
    header = recording.header
    lost = ["the model"]
    if header.gain == 1:  # otherwise the gain gives the original loudness
        lost.append(f"its loudness, which .nac does not know (it will play at {LOUDNESS:g} LUFS)")
    artifacts = {
        "codes": np.stack(recording.codes),
        "metadata": {
            "input_db": np.array([LOUDNESS - 20 * log10(header.gain)], np.float32),
            "original_length": recording.samples,
            "sample_rate": header.original_sample_rate,
            "chunk_length": header.segment.frames if header.segment else recording.frames,
            "channels": header.channels,
            "padding": header.segment is None,
            "dac_version": _VERSION,
        },
    }
    file.write(_npy(artifacts))
    return [*recording.notes, *lost]


def _needed_windows(recording: Recording) -> Recording:
    """Remove windows that only a cut kept, and begin where decoding of the first one begins."""
    header = recording.header
    assert header.segment
    frames, stride = header.segment
    ratio = Fraction(header.original_sample_rate, header.sample_rate)
    lead = header.start - _start(header.spec, header.original_sample_rate)
    if lead < 0:
        raise NacError("begins before the first samples that the windows of a .dac file can decode to")
    first = floor(lead / ratio / stride)
    lead -= ceil(first * stride * ratio)
    samples = recording.samples + lead
    part = slice(first * frames, (first + ceil(samples / ratio / stride)) * frames)
    header = replace(header, start=lead, samples=recording.samples)
    return from_first_frame(replace(recording, header=header, codes=[codes[:, part] for codes in recording.codes]))


def _start(spec: CodecSpec, sample_rate: int) -> int:
    """Where the first window's decoding begins, in samples of the original rate."""
    return round(_LOST[spec.frame_samples][1] * sample_rate / spec.sample_rate)


def _npy(value: object) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": ()})
    # Pickled like numpy 1 does, which every numpy reads.
    body = pickle.dumps(np.array(value, object), protocol=3)
    out.write(body.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1))
    return out.getvalue()


def _parse(data: bytes) -> tuple[CodeArray, _Meta]:
    """Codes [channels, codebooks, frames], and the metadata."""
    start = _NPY.match(data)
    if not start:
        raise FormatError("not a .dac file")
    whole = pickled.load(data[start.end() :])
    try:
        (content,) = whole.state[4]
        codes, meta = pickled.array(content["codes"], "codes"), content["metadata"]
        if meta["dac_version"] != _VERSION or not isinstance(meta["padding"], bool):
            raise FormatError(f"a .dac file of another version than {_VERSION}")
        found = _Meta(
            loudness=_loudness(meta["input_db"]),
            samples=integer(meta["original_length"], "an original length", 1, MAX_SAMPLES - 1),
            sample_rate=integer(meta["sample_rate"], "a sample rate", 1, MAX_RATE),
            channels=integer(meta["channels"], "a number of channels", 1, 255),
            window=integer(meta["chunk_length"], "a window in frames", 1, MAX_FRAME),
            padded=meta["padding"],
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise FormatError("not a .dac file: codes or metadata are missing") from None
    return _codes(codes, found), found


def _loudness(value: object) -> float:
    found = pickled.array(value, "the loudness").reshape(-1)
    if found.size != 1 or not abs(loudness := float(found[0])) <= 200:
        raise FormatError("a .dac file of one recording must have one loudness from -200 to 200 LUFS")
    return loudness


def _codes(codes: NDArray[Any], meta: _Meta) -> CodeArray:
    if codes.dtype.kind not in "iu" or codes.ndim != 3 or not codes.size:
        raise FormatError("its codes are not integers [channels, codebooks, frames]")
    channels, codebooks, frames = codes.shape
    if channels != meta.channels:
        raise FormatError(f"codes of {channels} channels where there are {meta.channels}: a batch of recordings")
    if frames % meta.window or (meta.padded and frames != meta.window):
        raise FormatError(f"{frames} frames are not a multiple of its window of {meta.window}")
    if codebooks > len(_MODELS[-1].codebooks) or not 0 <= codes.min() <= codes.max() < 1024:
        raise FormatError(f"{codebooks} codebooks with codes from {codes.min()} to {codes.max()} fit no DAC model")
    return codes.astype(np.uint16)


def _spec(name: str | None, codebooks: int, frames: int, meta: _Meta) -> CodecSpec:
    """The named model, or the one that fits the length, the windows and the number of codebooks.

    Of two with the same sample rate, the smaller one.
    """
    if name is not None:
        spec = next((spec for spec in _MODELS if spec.name == name), None)
        if spec is None:
            raise NacError(f"{name} makes no .dac files; {', '.join(spec.name for spec in _MODELS)} do")
        if codebooks > len(spec.codebooks):
            raise NacError(f"has {codebooks} codebooks; {name} has {len(spec.codebooks)}")
        return spec
    fitting = [spec for spec in _MODELS if codebooks <= len(spec.codebooks) and _fits(spec, frames, meta)]
    whole = [spec for spec in fitting if codebooks == len(spec.codebooks)]
    usual = [spec for spec in fitting if meta.window in _USUAL_WINDOWS[spec.sample_rate]]
    for choice in (whole, usual, fitting):
        if len({spec.sample_rate for spec in choice}) == 1:
            return choice[0]
    names = " and ".join(spec.name for spec in fitting) or "no DAC model"
    raise NacError(f"fits {names} by its {frames} frames and {meta.samples} samples", remedy="model")


def _fits(spec: CodecSpec, frames: int, meta: _Meta) -> bool:
    """Whether the encoder makes this many frames; resampled lengths may be rounded either way."""
    exact = meta.samples * spec.sample_rate / meta.sample_rate
    step = spec.frame_samples if meta.padded else meta.window * spec.frame_samples - _LOST[spec.frame_samples][0]
    unit = 1 if meta.padded else meta.window
    return step > 0 and frames in (unit * -(-floor(exact) // step), unit * -(-ceil(exact) // step))


def _segment(spec: CodecSpec, window: int) -> Segment:
    """Unpadded windows of this many frames as segments of the .nac format."""
    stride = window * spec.frame_samples - _LOST[spec.frame_samples][0]
    if stride < 1:
        raise FormatError(f"windows of {window} frames are too short to decode without padding")
    return Segment(window, stride)


def _samples_in(header: Header, frames: int) -> int:
    """Samples at the original rate in this many frames."""
    if header.segment:
        end = frames // header.segment.frames * header.segment.stride
    else:
        end = frames * header.frame_samples
    return -(-end * header.original_sample_rate // header.sample_rate)
