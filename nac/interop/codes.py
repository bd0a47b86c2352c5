"""Codes in arrays, for example from a language model, to .nac files and to samples."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from nac.audio.memory import DType, check_channels, check_rate
from nac.codecs.base import Codec, Codes
from nac.codecs.registry import find
from nac.container.codebooks import Coding, check_coding
from nac.errors import ArgumentError, ArgumentTypeError
from nac.files.conversion import read
from nac.files.decoding import check_codec
from nac.files.nacfile import NacFile
from nac.files.opening import stream_of
from nac.files.results import Stopwatch
from nac.interop.arrays import convert_codes, from_arrays
from nac.interop.file_codes import Array, FileCodes, of_file, of_streams
from nac.storage.output import PathOrFile, Result, check_output, created
from nac.weights.loaded import loaded

if TYPE_CHECKING:
    import torch


def write_codes(
    file: PathOrFile,
    codes: Any,
    *,
    model: str | None = None,
    codec: Codec | None = None,
    like: PathOrFile | None = None,
    sample_rate: int | None = None,
    channels: int | None = None,
    samples: int | None = None,
    coding: Coding = "auto",
    force: bool = False,
    format: str | None = None,
) -> Result:
    """Write codes to a .nac file: the inverse of :func:`nac.read_codes`. Needs no weights.

    Parameters
    ----------
    file : path or binary file object
        The output.
    codes : arrays, tensors or Codes
        The result of :func:`nac.read_codes`, ``[stream][codebook]``; an integer array [codebooks, frames] or
        [streams, codebooks, frames]; the result of :meth:`nac.Codec.encode`, with each signal of the batch as a
        stream; or arrays by name, as in a .npz file of `nac codes`. The value is -1 where a silent stream has no
        code. A stream is one channel, or two with a network for two.
    model : str, optional
        The name of the model of the codes.
    codec : Codec, optional
        Instead of ``model``: the codec of the codes, with its own weights.
    like : path or binary file object, optional
        Instead of ``model``: a .nac file with the same properties, including stereo and tags, so that codes read
        from it can be written back. The number of frames must be the same; there may be fewer codebooks.
    sample_rate, channels, samples : int, optional
        Of the recording, in Hz and per channel. By default from the codec and the number of frames.
    coding : {"auto", "packed", "range"}
        As for :func:`nac.write`.
    force : bool
        Replace an existing file.
    format : str, optional
        Format of the output if ``codes`` is a file: see :func:`nac.convert_codes`, which is then called.

    Returns
    -------
    Result
        Model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If the codes do not fit the model, or the file cannot be written.
    ValueError
        Unless exactly one of ``model``, ``codec`` and ``like`` is given.
    TypeError
        If ``codes`` is not an array of integers.

    Examples
    --------
    >>> import nac
    >>> codes = nac.read_codes("song.nac")
    >>> nac.write_codes("coarse.nac", [stream[:2] for stream in codes], model="nac_24khz", sample_rate=16000).kbps
    1.5
    >>> _ = nac.write_codes("same.nac", codes, like="song.nac")
    >>> open("same.nac", "rb").read() == open("song.nac", "rb").read()
    True
    """
    if isinstance(codes, (str, os.PathLike)) or hasattr(
        codes, "write"
    ):  # two files: the older meaning of this function
        return convert_codes(file, codes, format=format, model=model, force=force)
    watch = Stopwatch()
    check_output(None, file, force=force)
    whole = _whole(codes, model, codec, like, sample_rate, channels, samples, coding)
    with created(None, file, force=force) as out:
        whole.write(out)
        size = out.tell()
    seconds = whole.samples / whole.header.original_sample_rate
    return watch.result(None, file, whole.header, seconds=seconds, size=size)


def decode_codes(
    codes: Any,
    *,
    model: str | None = None,
    codec: Codec | None = None,
    like: PathOrFile | None = None,
    sample_rate: int | None = None,
    channels: int | None = None,
    samples: int | None = None,
    dtype: DType = "float32",
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
) -> tuple[Array, int]:
    """Decode codes to samples, for example the output of a language model.

    Parameters
    ----------
    codes, like, sample_rate, channels, samples : optional
        As for :func:`nac.write_codes`.
    model : str, optional
        The name of the model of the codes.
    codec : Codec, optional
        Instead of ``model``: the codec of the codes, from :func:`nac.load`.
    dtype : {"float32", "float64", "int16", "int32"}
        As for :func:`nac.read`.
    device, weights : optional
        As for :func:`nac.read`.

    Returns
    -------
    samples : array [n, channels]
        Of type ``dtype``; the same as from a file that :func:`nac.write_codes` writes.
    sample_rate : int
        In Hz.

    Raises
    ------
    NacError, ValueError, TypeError
        As for :func:`nac.write_codes`, and if the model's weights are not on this machine.

    Examples
    --------
    >>> import nac, numpy as np
    >>> samples, sample_rate = nac.decode_codes(np.zeros((4, 75), int), model="nac_24khz")
    >>> samples.shape, sample_rate
    ((24000, 1), 24000)
    """
    if model is not None and codec is None and like is None:
        codec, model = loaded(model, weights=weights, device=device), None
    whole = _whole(codes, model, codec, like, sample_rate, channels, samples, "packed")
    file = io.BytesIO()
    whole.write(file)
    file.seek(0)
    return read(file, dtype=dtype, device=device, weights=weights, codec=codec)


def _whole(
    codes: Any,
    model: str | None,
    codec: Codec | None,
    like: PathOrFile | None,
    sample_rate: int | None,
    channels: int | None,
    samples: int | None,
    coding: Coding,
) -> FileCodes:
    """All content of the file for these codes."""
    check_coding(coding)
    named = isinstance(codes, Mapping)
    if sum(what is not None for what in (model, codec, like)) != 1 and not (named and "header" in codes):
        raise ArgumentError("the model of the codes is unknown: give one of model, codec and like")
    if isinstance(codes, Mapping):
        return from_arrays({name: _array(array) for name, array in codes.items()}, model)
    streams, scales = _streams(codes)
    if like is not None:
        if (sample_rate, channels, samples) != (None, None, None):
            raise ArgumentError("with like, sample_rate, channels and samples come from that file")
        return _like(like, streams)
    if codec is not None:
        check_codec(codec)
    spec = codec.spec if codec is not None else find(model or "").spec
    whole = of_streams(
        spec,
        streams,
        scales,
        sample_rate=None if sample_rate is None else check_rate(sample_rate),
        channels=None if channels is None else check_channels(channels),
        samples=None if samples is None else _count(samples),
        coding=coding,
    )
    if codec is None:
        return whole
    return replace(whole, header=replace(whole.header, fingerprint=spec.fingerprint))


def _count(samples: int) -> int:
    try:
        return index(samples)
    except TypeError:
        raise ArgumentTypeError(f"a number of samples is a whole one, not {samples!r}") from None


def _streams(codes: Any) -> tuple[list[list[Array]], list[Array] | None]:
    """Codes and, if there are any, scales of each stream."""
    if isinstance(codes, Codes):
        books = [_array(book) for book in codes.arrays]
        scales = None if codes.scale is None else [np.asarray(scale, np.float32) for scale in _array(codes.scale)]
        return [[_row(book) for book in signal] for signal in zip(*books, strict=True)], scales
    if not isinstance(codes, Sequence):
        whole = _array(codes)
        if whole.ndim not in (2, 3):
            raise ArgumentError(f"expected codes [streams, codebooks, frames], not {list(whole.shape)}")
        return [[_row(book) for book in stream] for stream in (whole if whole.ndim == 3 else [whole])], None
    if codes and all(map(_is_row, codes)):
        codes = [codes]  # a single stream
    return [[_row(book) for book in stream] for stream in codes], None


def _is_row(codes: Any) -> bool:
    """Whether these are the codes of one codebook, not several."""
    if isinstance(codes, Sequence):
        return bool(codes) and isinstance(codes[0], Integral)
    return _array(codes).ndim == 1


def _row(codes: Any) -> Array:
    """The codes of one codebook."""
    row = _array(codes)
    if row.ndim != 1:
        raise ArgumentError(f"the codes of a codebook must be one row, not {list(row.shape)}")
    if row.dtype.kind not in "iu":
        raise ArgumentTypeError(f"codes must be integers, not {row.dtype}")
    return row


def _array(values: Any) -> Array:
    """A numpy array from an array or a tensor."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        return np.asarray(values)
    except ValueError:
        raise ArgumentError("the rows of codes must have the same length") from None


def _like(file: PathOrFile, streams: list[list[Array]]) -> FileCodes:
    """The content of a file with other codes, from the first frame of its recording on."""
    with stream_of(file) as stream:
        data = stream.read()
    whole = of_file(data)
    with NacFile(io.BytesIO(data)) as opened:
        before = opened.first_frame - (int(whole.chunks[0, 0]) if len(whole.chunks) else 0)
    if len(streams) != len(whole.codes):
        raise ArgumentError(f"{len(streams)} streams, where the file has {len(whole.codes)}")
    put = [_put(old, new, before, whole) for old, new in zip(whole.codes, streams, strict=True)]
    counts = tuple(map(len, put))
    return replace(whole, header=replace(whole.header, stream_codebooks=counts), codes=put)


def _put(old: list[Array], new: list[Array], before: int, whole: FileCodes) -> list[Array]:
    """Replace the codes of a stream from frame ``before`` on."""
    if len(new) > len(old):
        raise ArgumentError(f"{len(new)} codebooks, where the file has {len(old)}")
    put = []
    for number, (was, now) in enumerate(zip(old, new, strict=False)):
        low = before * whole.header.codebooks[number].codes_per_frame
        if len(was) - low != len(now):
            raise ArgumentError(f"{len(now)} codes of codebook {number}, where the file has {len(was) - low}")
        put.append(np.concatenate([was[:low], now]))
    return put
