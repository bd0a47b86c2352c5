"""Arrays of samples to .nac files and bytes, and back."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nac.audio.memory import Array, DType, in_memory
from nac.codecs.base import Codec
from nac.container.codebooks import Coding
from nac.errors import ArgumentTypeError
from nac.files.conversion import read
from nac.files.decoding import loader
from nac.files.encoding import Encoding, prepare, write_nac
from nac.files.results import Stopwatch
from nac.storage.output import PathOrFile, Result, check_output, created

if TYPE_CHECKING:
    import torch

log = logging.getLogger("nac")


def write(
    file: PathOrFile,
    samples: Any,
    sample_rate: int,
    *,
    model: str = "auto",
    kbps: float | None = None,
    codebooks: int | None = None,
    mono: bool = False,
    coding: Coding = "auto",
    tags: Mapping[str, str] | None = None,
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
    codec: Codec | None = None,
    force: bool = False,
) -> Result:
    """Write samples to a .nac file, similar to ``soundfile.write``. The inverse is :func:`nac.read`.

    The file is byte for byte the one that :func:`nac.compress` makes of a WAV file with these samples and tags.

    Parameters
    ----------
    file : path or binary file object
        The output. A file object is written to from its current position, and stays open.
    samples : array or tensor, [n] or [n, channels]
        From numpy or PyTorch, with soundfile's convention: int16 or int32 use the full range of the type,
        float32 and float64 are nominally within -1 to 1. Floats beyond that are scaled into range, and back by
        decoding.
    sample_rate : int
        In Hz, 1000 to 16777216. Decoding restores it.
    model : str
        A name that :func:`nac.models` lists, or "auto" for the best model whose weights are already on this
        machine.
    kbps : float, optional
        Upper limit for the bitrate, in kbit/s, all channels together. By default 8, or 4 for each channel of more
        than two, or the next possible above.
    codebooks : int, optional
        The number of codebooks of each stream, instead of ``kbps``.
    mono : bool
        Mix down to one channel.
    coding : {"auto", "packed", "range"}
        "auto" uses range coding where it saves bytes, "packed" is faster, "range" searches longer for fewer bytes.
    tags : mapping of str to str, optional
        Title, artist and so on, with the names of Vorbis comments.
    device : str or torch.device
        "auto" (CUDA if available), "cpu", "cuda", "cuda:N" or "mps".
    weights : path, optional
        Your own checkpoint instead of the official weights.
    codec : Codec, optional
        The result of :func:`nac.load`, instead of ``model``, ``device`` and ``weights``. Without it, the two
        codecs used last stay loaded for the next call.
    force : bool
        Replace an existing file.

    Returns
    -------
    Result
        Model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        In all cases below, and if the samples cannot be coded.
    TypeError
        If the samples, the rate or an option have an unsupported type.
    ValueError
        If the shape is wrong, the rate out of range, or the model, bitrate, number of codebooks or coding does
        not exist.
    FileExistsError
        If the file exists, without ``force``.
    OSError
        If the file cannot be written.

    Notes
    -----
    Several threads may call this at the same time; they share one codec.

    Examples
    --------
    >>> import nac, numpy as np
    >>> tone = 0.1 * np.sin(2 * np.pi * 440 / 16000 * np.arange(16000))
    >>> nac.write("tone.nac", tone, 16000, model="nac_24khz", kbps=3).seconds
    1.0
    >>> samples, sample_rate = nac.read("tone.nac")
    >>> samples.shape, samples.dtype, sample_rate
    ((16000, 1), dtype('float32'), 16000)
    """
    watch = Stopwatch()
    check_output(None, file, force=force)
    how = Encoding(model, kbps, codebooks, mono, coding)
    source = in_memory(samples, sample_rate, tags)
    network, header = prepare(source, how, loader(None, weights, device, download=True), codec)
    with created(None, file, force=force) as out:
        count, size = write_nac(out, source, network, header, coding)
    for note in source.notes:
        log.warning("%s", note)
    return watch.result(None, file, header, seconds=count / source.sample_rate, size=size)


def encode(
    samples: Any,
    sample_rate: int,
    *,
    model: str = "auto",
    kbps: float | None = None,
    codebooks: int | None = None,
    mono: bool = False,
    coding: Coding = "auto",
    tags: Mapping[str, str] | None = None,
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
    codec: Codec | None = None,
) -> bytes:
    """Encode samples to the bytes of a .nac file, for example for a database or a network.

    Parameters
    ----------
    samples : array or tensor, [n] or [n, channels]
        Of int16, int32, float32 or float64, with soundfile's convention.
    sample_rate : int
        In Hz.
    model, kbps, codebooks, mono, coding, tags, device, weights, codec : optional
        As for :func:`nac.write`.

    Returns
    -------
    bytes
        The content of the file that :func:`nac.write` writes.

    Raises
    ------
    NacError, TypeError, ValueError
        As for :func:`nac.write`.

    Examples
    --------
    >>> import nac, numpy as np
    >>> data = nac.encode(np.zeros(24000, np.int16), 24000, model="nac_24khz", kbps=3)
    >>> type(data), nac.decode(data)[0].shape
    (<class 'bytes'>, (24000, 1))
    """
    file = io.BytesIO()
    write(
        file,
        samples,
        sample_rate,
        model=model,
        kbps=kbps,
        codebooks=codebooks,
        mono=mono,
        coding=coding,
        tags=tags,
        device=device,
        weights=weights,
        codec=codec,
    )
    return file.getvalue()


def decode(
    data: bytes,
    *,
    start: float = 0.0,
    duration: float | None = None,
    dtype: DType = "float32",
    device: str | torch.device = "auto",
    weights: str | os.PathLike[str] | None = None,
    codec: Codec | None = None,
) -> tuple[Array, int]:
    """Decode the bytes of a .nac file to samples and their rate: the inverse of :func:`nac.encode`.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        All bytes of a .nac file.
    start, duration : float, optional
        The part to decode, in seconds; by default all.
    dtype : {"float32", "float64", "int16", "int32"}
        Type of the samples.
    device, weights, codec : optional
        As for :func:`nac.read`.

    Returns
    -------
    samples : array [n, channels]
        Of type ``dtype``.
    sample_rate : int
        In Hz.

    Raises
    ------
    NacError
        If ``data`` is not a .nac file (FormatError), is damaged (DamageError), or its model is not on this machine
        (ModelError).
    TypeError
        If ``data`` is not bytes.

    Examples
    --------
    >>> import nac, numpy as np
    >>> data = nac.encode(np.zeros((48000, 2), np.float32), 48000, model="nac_24khz", tags={"title": "Silence"})
    >>> samples, sample_rate = nac.decode(data, start=0.25, duration=0.5, dtype="int16")
    >>> samples.shape, samples.dtype, sample_rate
    ((24000, 2), dtype('int16'), 48000)
    """
    try:
        whole = io.BytesIO(memoryview(data))
    except TypeError:
        raise ArgumentTypeError(f"the bytes of a .nac file are needed, not a {type(data).__name__}") from None
    return read(
        whole,
        start=start,
        duration=duration,
        dtype=dtype,
        device=device,
        weights=weights,
        codec=codec,
    )
