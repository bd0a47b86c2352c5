"""Properties of a .nac file: what its header says, and what all its chunks have; needs no model."""

from __future__ import annotations

from dataclasses import dataclass, field

from nac.bitrate import total_kbps
from nac.container.header import VERSION
from nac.container.reader import Reader
from nac.container.timeline import Lost, Timeline
from nac.errors import FormatError
from nac.files.opening import opened
from nac.storage.output import PathOrFile, name_of


@dataclass(frozen=True)
class Info:
    """Properties of a .nac file; the fields of `nac info --json`.

    ``sample_rate`` (Hz), ``channels`` and ``samples`` (per channel) are those of the recording. ``codebooks``: the
    number for each stream. ``kbps``: bitrate of the packed codes (kbit/s); ``actual_kbps``: of the file.
    ``coding``: "range" if any codes are range coded, else "packed"; ``saved``: the share of the codes' bytes that
    this saves. ``complete``: whether the file has its end record; without it, ``samples`` and ``seconds`` count
    the existing chunks. ``damage``: a description of damaged bytes, or empty; ``lost``: the parts that are missing
    in a file recovered from a damaged one, in words.
    """

    path: str
    version: int
    model: str
    fingerprint: str
    sample_rate: int
    channels: int
    samples: int
    seconds: float
    streams: int
    codebooks: list[int]
    kbps: float
    actual_kbps: float
    bytes: int
    chunks: int
    coding: str
    saved: float
    tags: dict[str, str]
    complete: bool
    damage: str
    lost: list[str]


def info(file: PathOrFile) -> Info:
    """Properties of a .nac file; needs no model.

    Parameters
    ----------
    file : path or binary file object
        A .nac file; a file object must be seekable.

    Returns
    -------
    Info
        The fields of `nac info --json`.

    Raises
    ------
    NacError
        If it is not a .nac file or is damaged.

    Examples
    --------
    >>> import nac
    >>> nac.info("song.nac").model
    'nac_24khz'
    """
    with opened(file) as reader:
        return info_of(reader, name_of(file))


def info_of(reader: Reader, path: str) -> Info:
    """The fields of `nac info --json`."""
    header, size, found = reader.header, reader.size, _survey(reader)
    samples = reader.samples or 0
    seconds = samples / header.original_sample_rate
    return Info(
        path=path,
        version=VERSION,
        model=header.model,
        fingerprint=header.fingerprint,
        sample_rate=header.original_sample_rate,
        channels=header.channels,
        samples=samples,
        seconds=seconds,
        streams=len(header.stream_codebooks),
        codebooks=list(header.stream_codebooks),
        kbps=round(total_kbps(header.spec, header.stream_codebooks), 6),
        actual_kbps=round(size * 8 / 1000 / seconds, 3) if samples else 0.0,
        bytes=size,
        chunks=len(reader.index),
        coding="range" if found.coded < found.packed else "packed",
        saved=round(1 - found.coded / found.packed, 4) if found.packed else 0.0,
        tags=joined_tags(header.tags),
        complete=reader.complete,
        damage=found.damage,
        lost=[str(gap) for gap in found.gaps],
    )


@dataclass
class _Survey:
    """``coded`` and ``packed``: bytes of all codes, as stored and if packed, in the chunks that are whole;
    ``gaps``: missing parts that the file declares; ``damage``: the first damage that was found.
    """

    coded: int = 0
    packed: int = 0
    gaps: list[Lost] = field(default_factory=list)
    damage: str = ""


def _survey(reader: Reader) -> _Survey:
    """Read every chunk."""
    found, timeline, whole = _Survey(), Timeline(reader.header), True
    for number in range(len(reader.index)):
        try:
            chunk = reader.chunk(number)
        except FormatError as error:
            found.damage, whole = found.damage or str(error), False
            continue
        for now, before in chunk.sizes(reader.header):
            found.coded, found.packed = found.coded + now, found.packed + before
        # A gap before it counts as damage if there was any.
        if whole and (gap := timeline.gap(chunk, reader.index[number].offset)):
            found.gaps.append(gap)
        timeline.add(chunk)
        whole = True
    if not found.damage and reader.damage is not None:
        found.damage = str(reader.damage)
    return found


def joined_tags(tags: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Tags by key; values of the same key are joined."""
    found: dict[str, str] = {}
    for key, value in tags:
        found[key] = f"{found[key]}; {value}" if key in found else value
    return found
