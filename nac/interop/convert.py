"""Files of other codecs to .nac and back with the same codes: the core of `nac convert`."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from nac.container import Reader
from nac.container.header import SIGNATURE, UNKNOWN_WEIGHTS
from nac.errors import ArgumentError, FormatError, NacError
from nac.files.opening import stream_of
from nac.files.results import Stopwatch
from nac.interop import dac, ecdc, lyra
from nac.interop.recording import Recording, from_nac, published_weights, to_nac
from nac.storage.output import PathOrFile, Result, created

FORMATS = {"ecdc": ecdc, "dac": dac, "lyra": lyra}
_SIGNATURES = {"nac": SIGNATURE[:4], "ecdc": ecdc.SIGNATURE, "dac": dac.SIGNATURE}


@dataclass(frozen=True)
class Converted(Result):
    """``format``: ecdc, dac or lyra. ``notes``: properties that it cannot store (assumed, or lost)."""

    format: str = ""
    notes: tuple[str, ...] = ()


def convert(
    src: PathOrFile,
    dst: PathOrFile,
    *,
    format: str | None = None,
    model: str | None = None,
    kbps: float | None = None,
    lm: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Converted:
    """Write an .ecdc, .dac or .lyra file as .nac, or a .nac file as one of them; the codes stay as they are.

    Parameters
    ----------
    src, dst : path or binary file object
        The file to read, and the one to write.
    format : str, optional
        What to write: "nac", "ecdc", "dac" or "lyra"; by default from the extension of ``dst``.
    model : str, optional
        The model of a .dac file, if the file fits several.
    kbps : float, optional
        The bitrate of a .lyra file, which does not contain it: 3.2, 6 or 9.2 kbit/s.
    lm : path, optional
        Weights of EnCodec's language model, for an .ecdc file coded with it, if neither ``NAC_WEIGHTS`` nor the
        package encodec has them. Only this case needs PyTorch.
    force : bool
        Replace an existing ``dst``.

    Returns
    -------
    Converted
        A :class:`Result` with ``format`` and ``notes``: the properties that the other format cannot store, and
        that were therefore assumed or are lost.

    Raises
    ------
    NacError
        If ``src`` is damaged or of unknown format, its content does not fit ``dst``, or ``dst`` exists.

    Examples
    --------
    >>> import nac
    >>> codes = nac.convert_codes("song.nac", "codes.npz")
    >>> nac.convert("song.nac", "song.ecdc")
    Traceback (most recent call last):
        ...
    nac.errors.NacError: made with nac_24khz; .ecdc files are of encodec_24khz, encodec_48khz
    """
    watch = Stopwatch()
    data = _content(src)
    found = _format(data, src)
    target = format or _ending(dst) or ("" if found == "nac" else "nac")
    if target not in ("nac", *FORMATS):
        raise ArgumentError(f"cannot write {target!r}; the formats are nac, {', '.join(FORMATS)}", remedy="format")
    if (found == "nac") == (target == "nac"):
        raise NacError(f"cannot convert .{found} to .{target}: one of the two must be .nac")
    if (model and found != "dac") or (kbps and found != "lyra"):
        raise NacError(f"a .{found} file already contains its model and bitrate")
    if target == "nac":
        recording = _read(data, found, model, kbps, Path(lm) if lm else None)
    else:
        reader = Reader(io.BytesIO(data))
        FORMATS[target].check(reader.header)
        recording = from_nac(reader, f".{target}")
    with created(src, dst, force=force) as out:
        if target == "nac":
            to_nac(recording, out)
            notes = recording.notes
        else:
            notes = FORMATS[target].write(recording, out)
            if recording.header.fingerprint not in (UNKNOWN_WEIGHTS, published_weights(recording.header.model)):
                notes.append(f"the weights ({recording.header.fingerprint})")
        size = out.tell()
    header = recording.header
    seconds = recording.samples / header.original_sample_rate
    result = watch.result(src, dst, header, seconds=seconds, size=size, bytes_in=len(data))
    return Converted(**asdict(result), format=found if target == "nac" else target, notes=tuple(notes))


def _content(src: PathOrFile) -> bytes:
    with stream_of(src) as file:
        return file.read()


def _format(data: bytes, src: PathOrFile) -> str:
    """The format of a file by its first bytes, or by its name for Lyra, which has no header."""
    for name, signature in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if _ending(src) == "lyra":
        return "lyra"
    raise FormatError("neither .nac nor .ecdc nor .dac by its first bytes, nor .lyra by its name")


def _ending(file: PathOrFile) -> str:
    return Path(file).suffix.lower().lstrip(".") if isinstance(file, (str, os.PathLike)) else ""


def _read(data: bytes, format: str, model: str | None, kbps: float | None, lm: Path | None) -> Recording:
    file = io.BytesIO(data)
    if format == "ecdc":
        recording = ecdc.read(file, lm)
    elif format == "dac":
        recording = dac.read(file, model)
    else:
        recording = lyra.read(file, kbps)
    if recording.header.fingerprint == UNKNOWN_WEIGHTS:
        recording.notes.append(f"the weights (taken: those published as {recording.header.model})")
    return recording
