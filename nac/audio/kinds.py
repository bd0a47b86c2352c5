"""Detection of file formats by their first bytes only; no other module does this.

Names and extensions are ignored, so a pipe and a file are treated alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

HEAD = 400
"""How many bytes are needed to detect the format."""

Kind = Literal[
    "wav", "w64", "aiff", "au", "caf", "sphere", "flac", "ogg", "mp3", "id3", "aac", "ac3", "dts", "loas", "mp4",
    "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "amr", "wavpack", "ape", "tta", "tak", "musepack", "dsf",
    "iff", "voc", "ircam", "pvf", "avr", "shorten", "oma", "realmedia", "sox", "nut",
]  # fmt: skip
"""Containers and streams by format name."""

W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
"""First bytes of a Wave64 file; the names of its other chunks differ only in the first four bytes."""

_SIGNATURES: dict[Kind, tuple[bytes, ...]] = {
    "w64": (W64,),
    "au": (b".snd", b"dns."),
    "caf": (b"caff",),
    "sphere": (b"NIST_1A",),
    "flac": (b"fLaC",),
    "ogg": (b"OggS",),
    "id3": (b"ID3",),
    "ac3": (b"\x0b\x77",),
    "dts": (b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8", b"DTSHDHDR"),
    "matroska": (b"\x1a\x45\xdf\xa3",),
    "asf": (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),),
    "flv": (b"FLV\x01",),
    "mpeg": (b"\0\0\x01\xba",),
    "amr": (b"#!AMR",),
    "wavpack": (b"wvpk",),
    "ape": (b"MAC ",),
    "tta": (b"TTA1",),
    "tak": (b"tBaK",),
    "musepack": (b"MPCK", b"MP+"),
    "dsf": (b"DSD ",),
    "voc": (b"Creative Voice File\x1a",),
    "ircam": (b"\x64\xa3", b"\0\x01\xa3\x64", b"\0\x02\xa3\x64", b"\0\x03\xa3\x64", b"\0\x04\xa3\x64"),
    "pvf": (b"PVF1\n",),
    "avr": (b"2BIT",),
    "shorten": (b"ajkg",),
    "oma": (b"ea3\x03", b"EA3\x01"),
    "realmedia": (b".RMF",),
    "sox": (b".SoX", b"XoS."),
    "nut": (b"nut/multimedia container\0",),
}
_FORMS: dict[bytes, dict[bytes, Kind]] = {
    b"RIFF": {b"WAVE": "wav", b"AVI ": "avi"},
    b"RIFX": {b"WAVE": "wav"},
    b"RF64": {b"WAVE": "wav"},
    b"BW64": {b"WAVE": "wav"},
    b"FORM": {b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "iff", b"16SV": "iff"},
    b"FRM8": {b"": "iff"},
}
"""Chunk-based formats: the type at byte 8."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free")
_PICTURES = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")
"""Brands of HEIF pictures, which also begin like MP4."""
_PACKET = 188  # bytes, of an MPEG transport stream

ENDINGS = frozenset({
    "wav", "wave", "w64", "rf64", "bwf", "aif", "aiff", "aifc", "au", "snd", "caf", "sph", "nist", "flac", "ogg",
    "oga", "opus", "spx", "mp1", "mp2", "mp3", "m4a", "m4b", "aac", "adts", "ac3", "eac3", "dts", "mka", "webm",
    "wma", "amr", "wv", "ape", "tta", "tak", "mpc", "dsf", "dff", "8svx", "voc", "avr", "shn", "oma", "ra",
})  # fmt: skip
"""Extensions of audio files, in lower case: used to report files whose first bytes are damaged."""


def kind_of(head: bytes) -> Kind | None:
    """The format of a file with these first ``HEAD`` bytes, or a candidate; None if it is not audio for nac."""
    if forms := _FORMS.get(head[:4]):
        return next((kind for form, kind in forms.items() if head[8:12].startswith(form)), None)
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        if head[1] & 6 in (2, 4):
            return "mp3"
        if head[1] & 0xF6 == 0xF0:
            return "aac"
    for kind, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            return kind
    if head[4:8] in _BOXES:
        return None if head[4:8] == b"ftyp" and head[8:12] in _PICTURES else "mp4"
    if head[:1] == b"\x56" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "loas"
    for first in (0, 4):  # M2TS files have four more bytes before each packet
        if all(head[first + n * (_PACKET + first) :][:1] == b"\x47" for n in range(3)):
            return "mpegts"
    padded = head.lstrip(b"\0")
    return "mp3" if padded != head and kind_of(padded) == "mp3" else None


def id3_size(head: bytes) -> int:
    """Bytes of the ID3 tag that a file begins with; 0 if it does not."""
    if not head.startswith(b"ID3") or len(head) < 10:
        return 0
    # Its length has seven bits a byte; the same again may stand at its end.
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 0x10 else 0)


def is_audio(path: Path) -> bool:
    """Whether a file is, or may be, audio."""
    try:
        with path.open("rb") as file:
            return may_be_audio(file.read(HEAD))
    except OSError:
        return True  # to be tried, and reported


def may_be_audio(head: bytes) -> bool:
    """Whether a file with these first ``HEAD`` bytes is, or may be, audio."""
    return kind_of(head) is not None
