"""Recordings that a program has in memory: arrays to .nac files and bytes, and back."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nac.audio.memory import Array, DType, in_memory
from nac.codecs.base import Codec
from nac.container.codebooks import Coding
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
    """Write samples to a .nac file, like ``soundfile.write``: the twin of :func:`nac.read`.

    The file is the same, byte for byte, as :func:`nac.compress` makes of a WAV file with these samples and tags.

    Parameters
    ----------
    file : path or binary file object
        Where to write. A file object is written to from where it stands, and stays open.
    samples : array or tensor, [n] or [n, channels]
        Numpy's or PyTorch's, as soundfile has them: of int16 or int32, where full scale is the type's, or of
        float32 or float64, nominally within -1 to 1. Floats beyond that are brought into range, and back on
        decoding.
    sample_rate : int
        In Hz, from 1000 on. Decoding gives it back.
    model : str
        A name that :func:`nac.models` lists, or "auto" for the best model that already is on this machine.
    kbps : float, optional
        The most that the file may have, in kbit/s, all channels together. By default 8, or the next possible
        above.
    codebooks : int, optional
        How many codebooks each stream gets, instead of ``kbps``.
    mono : bool
        Mix down to one channel first.
    coding : {"auto", "packed", "range"}
        "auto" takes fewer bytes where the codes allow it, "packed" is faster, "range" tries harder.
    tags : mapping of str to str, optional
        Title, artist and so on, by the names that Vorbis comments have.
    device : str or torch.device
        "auto" (CUDA if there is any), "cpu", "cuda", "cuda:N" or "mps".
    weights : path, optional
        A checkpoint of one's own instead of the official weights.
    codec : Codec, optional
        What :func:`nac.load` gave, instead of ``model``, ``device`` and ``weights``. Without it, the two codecs
        used last stay loaded for the next call.
    force : bool
        Replace an existing file.

    Returns
    -------
    Result
        What was done: model, bitrate, seconds, bytes.

    Raises
    ------
    NacError
        In all cases below, and where the samples cannot be coded.
    TypeError
        For samples or a rate of another type.
    ValueError
        For another shape, or a model, bitrate or number of codebooks that there is not.
    FileExistsError
        If there is a file, and no ``force``.
    OSError
        If the file cannot be written.

    Notes
    -----
    Any number of threads may call this at once; they share one codec.

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
    """Samples as the bytes of a .nac file, for a database, a column, or the network.

    Parameters
    ----------
    samples : array or tensor, [n] or [n, channels]
        Of int16, int32, float32 or float64, as soundfile has them.
    sample_rate : int
        In Hz.
    model, kbps, codebooks, mono, coding, tags, device, weights, codec : optional
        As for :func:`nac.write`.

    Returns
    -------
    bytes
        What :func:`nac.write` would write.

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
    """The samples of a .nac file that is at hand as bytes, and their rate: the inverse of :func:`nac.encode`.

    Parameters
    ----------
    data : bytes, bytearray or memoryview
        All bytes of a .nac file.
    start, duration : float, optional
        The stretch that is wanted, in seconds; by default all.
    dtype : {"float32", "float64", "int16", "int32"}
        Of the samples.
    device, weights, codec : optional
        As for :func:`nac.read`.

    Returns
    -------
    samples : array [n, channels]
        Of ``dtype``.
    sample_rate : int
        In Hz.

    Raises
    ------
    NacError
        If these are not the bytes of a .nac file (FormatError), are damaged (DamageError), or its model is not
        on this machine (ModelError).
    TypeError
        For what is no bytes.

    Examples
    --------
    >>> import nac, numpy as np
    >>> data = nac.encode(np.zeros((48000, 2), np.float32), 48000, model="nac_24khz", tags={"title": "Silence"})
    >>> samples, sample_rate = nac.decode(data, start=0.25, duration=0.5, dtype="int16")
    >>> samples.shape, samples.dtype, sample_rate
    ((24000, 2), dtype('int16'), 48000)
    """
    return read(
        io.BytesIO(data),
        start=start,
        duration=duration,
        dtype=dtype,
        device=device,
        weights=weights,
        codec=codec,
    )
