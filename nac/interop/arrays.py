"""Codes as arrays in .npz, .npy and .safetensors files, and back: the core of `nac codes`.

.npz and .safetensors have the codes of each stream as ``stream.0``, [codebooks, frames], from coarse to fine. If
the codebooks have different rates, there is one array per codebook, ``stream.0.codebook.1``. The value is -1 where
a silent stream has no code. ``scales.0``, ``chunks`` and ``header`` (JSON) have the rest of a .nac file, so that
it can be restored; without them a model's name is needed. .npy is one array [streams, codebooks, frames], padded
with -1.
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from operator import index
from pathlib import Path
from typing import IO, Any

import numpy as np

from nac.codecs.registry import find
from nac.container import Header, SampleFormat
from nac.container.header import SIGNATURE
from nac.container.records import RecordReader
from nac.errors import ArgumentError, FormatError, NacError
from nac.files.codes import SILENT
from nac.files.opening import stream_of
from nac.files.results import Stopwatch
from nac.interop.file_codes import COLUMNS, Array, FileCodes, of_file, of_streams
from nac.spec import Codebook, Segment
from nac.storage.output import PathOrFile, Result, created

FORMATS = ("nac", "npz", "npy", "safetensors")
_MOST = 255  # streams, and codebooks
_ALWAYS, _MOST_UNPACKED = 1 << 26, 20  # bytes of arrays that are always allowed, and per byte of a .npz


def convert_codes(
    src: PathOrFile, dst: PathOrFile, *, format: str | None = None, model: str | None = None, force: bool = False
) -> Result:
    """Write the codes of a .nac file as arrays, or a .nac file from arrays; needs no weights.

    Parameters
    ----------
    src, dst : path or binary file object
        The file to read, and the one to write; one of them is .nac, the other .npz, .npy or .safetensors.
    format : str, optional
        "nac", "npz", "npy" or "safetensors"; by default from the extension of ``dst``.
    model : str, optional
        The model of the codes, if ``src`` does not name it. The file then has one stream per channel, or per two
        channels with a network for two, at the codec's sample rate.
    force : bool
        Replace an existing ``dst``.

    Returns
    -------
    Result
        Names, model, bitrate, seconds and bytes.

    Raises
    ------
    NacError
        If ``src`` has another format, is damaged or does not fit the model, or ``dst`` exists.

    Examples
    --------
    >>> import nac
    >>> _ = nac.convert_codes("song.nac", "song.npz")
    >>> nac.convert_codes("song.npz", "again.nac").model
    'nac_24khz'
    """
    watch = Stopwatch()
    with stream_of(src) as stream:
        data = stream.read()
    form = format or (Path(dst).suffix.lower().lstrip(".") if isinstance(dst, (str, os.PathLike)) else "")
    if form not in FORMATS:
        raise ArgumentError(f"cannot write {form!r}; the formats are {', '.join(FORMATS)}", remedy="format")
    if data.startswith(SIGNATURE[:4]) == (form == "nac"):
        raise NacError("exactly one of input and output must be .nac")
    if form == "nac":
        codes = from_arrays(_load(data), model)
    elif model is None:
        codes = of_file(data)
    else:
        raise ArgumentError("a .nac file already names its model")
    with created(src, dst, force=force) as out:
        if form == "nac":
            codes.write(out)
        else:
            out.write(_SAVE[form](codes))
        size = out.tell()
    seconds = codes.samples / codes.header.original_sample_rate
    return watch.result(src, dst, codes.header, seconds=seconds, size=size, bytes_in=len(data))


# To arrays


def _to_arrays(codes: FileCodes) -> dict[str, Any]:
    header = codes.header
    arrays: dict[str, Any] = {}
    for stream, books in enumerate(codes.codes):
        if len({book.codes_per_frame for book in header.codebooks}) == 1:
            if books:
                arrays[f"stream.{stream}"] = np.stack(books)
        else:
            arrays |= {f"stream.{stream}.codebook.{number}": array for number, array in enumerate(books)}
        if header.has_scale:
            arrays[f"scales.{stream}"] = codes.scales[stream]
    return {**arrays, "chunks": codes.chunks}


def _facts(codes: FileCodes) -> str:
    return json.dumps({**asdict(codes.header), "total_samples": codes.samples}, ensure_ascii=False)


def _npz(codes: FileCodes) -> bytes:
    file = io.BytesIO()
    np.savez(file, **_to_arrays(codes), header=np.array(_facts(codes)))
    return file.getvalue()


def _safetensors(codes: FileCodes) -> bytes:
    from safetensors.numpy import save

    return save(_to_arrays(codes), {"header": _facts(codes)})


def _npy(codes: FileCodes) -> bytes:
    header = codes.header
    if len({book.codes_per_frame for book in header.codebooks}) > 1:
        raise NacError(
            f"{header.model} has codebooks with different rates, which do not fit the one array of .npy: use .npz"
        )
    most = max(header.stream_codebooks)
    frames = max(len(array) for books in codes.codes for array in books) if most else 0
    joined = np.full((len(codes.codes), most, frames), SILENT, np.int32)
    for stream, books in enumerate(codes.codes):
        for number, array in enumerate(books):
            joined[stream, number] = array
    file = io.BytesIO()
    np.save(file, joined.astype(np.int16) if joined.max(initial=0) < 1 << 15 else joined)
    return file.getvalue()


_SAVE = {"npz": _npz, "npy": _npy, "safetensors": _safetensors}


# From arrays


def _load(data: bytes) -> dict[str, Array]:
    """The arrays of a file, by name; never unpickles. Raises FormatError."""
    try:
        if data.startswith(b"\x93NUMPY"):
            return _named(_array(io.BytesIO(data), len(data)))
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return _zipped(archive, len(data))
        return _load_safetensors(data)
    except Exception as error:  # damaged files make these readers raise errors of any type
        reason = str(error).splitlines() or [type(error).__name__]
        raise FormatError(
            f"not a readable .npz, .npy or .safetensors file with codes ({reason[0]:.200})"
        ) from None


def _zipped(archive: zipfile.ZipFile, size: int) -> dict[str, Array]:
    """The arrays of a .npz file of ``size`` bytes. Raises ValueError for decompression bombs."""
    entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_ALWAYS, _MOST_UNPACKED * size):
        raise ValueError(f"{size} bytes would become {unpacked / 1e9:.3g} GB")
    arrays = {}
    for entry in entries:
        with archive.open(entry) as file:
            arrays[entry.filename.removesuffix(".npy")] = _array(file, entry.file_size)
    return arrays


def _array(file: IO[bytes], size: int) -> Array:
    """A .npy file of ``size`` bytes. Nothing is allocated for a shape larger than the file."""
    version = np.lib.format.read_magic(file)
    shape, _, dtype = _NPY_HEADERS[version](file)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"{size} bytes are not a {dtype} array of shape {shape}")
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _load_safetensors(data: bytes) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    (length,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return arrays | ({"header": np.array(metadata["header"])} if "header" in metadata else {})


def _named(codes: Array) -> dict[str, Array]:
    """The array of a .npy file, [codebooks, frames] or [streams, codebooks, frames], as streams."""
    if codes.ndim not in (2, 3) or len(codes) > _MOST:
        raise ValueError(f"expected an array [streams, codebooks, frames], not {list(codes.shape)}")
    return {f"stream.{number}": stream for number, stream in enumerate(codes if codes.ndim == 3 else [codes])}


def from_arrays(arrays: Mapping[str, Array], model: str | None) -> FileCodes:
    """The recording in these arrays; ``model``: needed without a header. Raises NacError."""
    try:
        if "header" not in arrays:
            return _of_model(arrays, model)
        if model is not None:
            raise ArgumentError("has a header that already names the model")
        header, samples = _read_facts(str(arrays["header"]))
        chunks = np.asarray(arrays["chunks"])
        if chunks.ndim != 2 or chunks.shape[1] != len(COLUMNS) or chunks.dtype.kind not in "iu":
            raise ValueError(f"chunks of {COLUMNS} are needed")
        streams = range(len(header.stream_codebooks))
        scales = [np.asarray(arrays[f"scales.{stream}"], np.float32) for stream in streams if header.has_scale]
        codes = [_books(arrays, stream, header.stream_codebooks[stream]) for stream in streams]
    except NacError:
        raise
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise FormatError(f"these are not the codes of a file: {error!s:.200}") from None
    return FileCodes(header, samples, codes, scales, chunks)


def _read_facts(text: str) -> tuple[Header, int]:
    facts = json.loads(text)
    samples = facts.pop("total_samples")
    facts["codebooks"] = tuple(Codebook(*book) for book in facts["codebooks"])
    facts["segment"] = facts["segment"] and Segment(*facts["segment"])
    facts["sample_format"] = SampleFormat(facts["sample_format"])
    facts["stream_codebooks"] = tuple(facts["stream_codebooks"])
    facts["tags"] = tuple((str(key), str(value)) for key, value in facts["tags"])
    header = Header(**facts)
    # As the format stores it, since JSON has numbers that it cannot: 320.0 or 0.5 samples.
    return Header.read(RecordReader(io.BytesIO(header.to_bytes()))), index(samples)


def _books(arrays: Mapping[str, Array], stream: int, count: int | None = None) -> list[Array]:
    """A stream's codes, one array per codebook; ``count``: how many, or None for all."""
    whole = arrays.get(f"stream.{stream}")
    if whole is not None:
        if whole.ndim != 2 or len(whole) > _MOST:  # empty rows could be arbitrarily many
            raise ValueError(f"stream {stream} is not [codebooks, frames], but {list(whole.shape)}")
        books = list(whole)
    else:
        books = []
        while (name := f"stream.{stream}.codebook.{len(books)}") in arrays:
            books.append(arrays[name])
    if any(array.ndim != 1 or array.dtype.kind not in "iu" for array in books):
        raise ValueError(f"stream {stream} does not consist of rows of integers")
    if count is not None and len(books) != count:
        raise ValueError(f"stream {stream} has {len(books)} codebooks, not {count}")
    return books


def _of_model(arrays: Mapping[str, Array], model: str | None) -> FileCodes:
    """Codes without a header as a recording at the codec's sample rate."""
    if model is None:
        raise NacError("does not name the model of its codes", remedy="model")
    codes = list[list[Array]]()
    while books := _books(arrays, len(codes)):
        codes.append(books)
    if not codes:
        raise NacError("has neither arrays stream.0 and so on nor a header")
    return of_streams(find(model).spec, codes)
