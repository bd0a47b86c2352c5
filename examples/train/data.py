"""Recordings for training: fetched as Debian packages, split by file, cached as 24 kHz mono 16-bit samples.

Every source is freely licensed (see README.md). ``python data.py --work DIR`` fetches and caches all of them, or
those that are named; nothing is installed. A cache is two files for each split: ``<split>.i16``, all samples one
after another, and ``<split>.json``, a list of ``{"name", "kind", "start", "length"}``.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

RATE = 24000
Samples = npt.NDArray[np.float32]

#: package: kind of its sound where the path does not tell better
TRAIN = {
    "tuxpaint-stamps-default": "speech",
    "klettres-data": "speech",
    "fillets-ng-data-cs": "speech",
    "asterisk-core-sounds-en-g722": "speech",
    "asterisk-core-sounds-es-g722": "speech",
    "asterisk-core-sounds-fr-g722": "speech",
    "asterisk-core-sounds-ru-g722": "speech",
    "wesnoth-1.16-music": "music",
    "hydrogen-drumkits": "other",
    "fluid-soundfont-gm": "other",
    "unknown-horizons": "music",
    "ufoai-music": "music",
    "0ad-data": "other",
    "supertuxkart-data": "other",
    "widelands-data": "other",
}
#: never trained on: measured as unseen packages
UNSEEN = {"warzone2100-music": "music", "redeclipse-data": "other"}
#: ends the names of clips that are half the difference of two channels, which is what stereo adds to mono
SIDE = " side"
#: files kept out of training whatever their split, for clips of them are used elsewhere
EXCLUDED = ("legends_of_the_north", "_desc_es.", "_es.ogg")

SOUND = (".ogg", ".wav", ".flac", ".opus", ".g722", ".sf2")
ARCHIVES = (".zip", ".pk3")


@dataclass(frozen=True)
class Clip:
    """One recording of the cache: ``start`` and ``length`` in samples."""

    name: str
    kind: str
    start: int
    length: int


def fetch(package: str, work: Path) -> Path:
    """Download and unpack a Debian package (needs ``apt-get update`` to have run); give its folder."""
    folder = work / "raw" / package
    if not folder.exists():
        downloads = work / "deb"
        shutil.rmtree(downloads, ignore_errors=True)
        downloads.mkdir(parents=True)
        subprocess.run(["apt-get", "download", package], cwd=downloads, check=True)
        (deb,) = downloads.glob("*.deb")
        part = work / "raw" / f"{package}.part"
        part.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg", "-x", str(deb), str(part)], check=True)
        part.rename(folder)
        shutil.rmtree(downloads)
    return folder


def recordings(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every sound file below a folder, also those inside its zip archives."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix in SOUND:
            yield str(path.relative_to(folder)), path.read_bytes()
        elif path.suffix in ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(SOUND):
                        yield f"{path.name}/{name}", archive.read(name)


def decode(name: str, data: bytes) -> Iterator[tuple[str, Samples]]:
    """The recordings in one file at ``RATE``: mono, and of two channels the side; no broken or silent ones."""
    try:
        if name.endswith(".sf2"):
            found = list(soundfont(data))
        elif name.endswith(".g722"):
            found = [(name, g722(data), 16000)]
        else:
            audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
            found = [(name, audio.mean(axis=1), rate)]
            if audio.shape[1] == 2:
                found.append((name + SIDE, 0.5 * (audio[:, 0] - audio[:, 1]), rate))
    except (RuntimeError, ValueError, OSError):
        return
    for label, mono, rate in found:
        audio = soxr.resample(mono, rate, RATE, quality="HQ").astype(np.float32)
        audio = trim(audio)
        if len(audio) >= RATE // 8 and np.abs(audio).max() > 1e-3:
            yield label, audio


def trim(audio: Samples, floor: float = 1e-4) -> Samples:
    """Without digital silence at either end, but for a tenth of a second of it."""
    loud = np.flatnonzero(np.abs(audio) > floor)
    if not len(loud):
        return audio[:0]
    margin = RATE // 10
    return audio[max(loud[0] - margin, 0) : loud[-1] + margin]


def g722(data: bytes) -> Samples:
    """Decode a raw G.722 file (16 kHz) by FFmpeg."""
    import av

    with av.open(io.BytesIO(data), format="g722") as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return (np.concatenate(parts) / 32768).astype(np.float32)


def soundfont(data: bytes) -> Iterator[tuple[str, Samples, int]]:
    """The samples of a SoundFont 2 bank: chunk ``smpl`` holds 16-bit samples, ``shdr`` 46-byte descriptions."""
    at = data.index(b"smpl")
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    pool = np.frombuffer(data, "<i2", size // 2, at + 8)
    at = data.index(b"shdr", at + 8 + size)
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    fields = np.dtype(
        [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop", "<u4", 2), ("rate", "<u4"), ("rest", "V6")]
    )
    for header in np.frombuffer(data, fields, size // 46, at + 8):
        if header["end"] > header["start"] and header["rate"]:
            mono = pool[header["start"] : header["end"]].astype(np.float32) / 32768
            yield header["name"].decode("latin1"), mono, int(header["rate"])


def kind_of(name: str, default: str) -> str:
    """``side``, or ``speech``, ``music`` or ``other``, from a path where it tells."""
    if name.endswith(SIDE):
        return "side"
    lowered = name.lower()
    for word, kind in (("music", "music"), ("voice", "speech"), ("_desc", "speech"), ("stamps", "other")):
        if word in lowered:
            return kind
    return default


def split_of(package: str, name: str) -> str:
    """``train``, ``held`` (one file in sixteen) or ``unseen``."""
    if package in UNSEEN:
        return "unseen"
    if any(word in name for word in EXCLUDED) or zlib.crc32(name.encode()) % 16 == 0:
        return "held"
    return "train"


def build(work: Path, packages: dict[str, str]) -> None:
    """Cache all splits of the packages under ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    outputs = {split: (work / f"{split}.i16").open("wb") for split in ("train", "held", "unseen")}
    clips: dict[str, list[Clip]] = {split: [] for split in outputs}
    for package, default in packages.items():
        for name, data in recordings(fetch(package, work)):
            for label, audio in decode(name, data):
                split = split_of(package, label.removesuffix(SIDE))
                samples = np.clip(np.rint(audio * 32767), -32768, 32767).astype("<i2")
                start = outputs[split].tell() // 2
                outputs[split].write(samples.tobytes())
                clips[split].append(Clip(f"{package}/{label}", kind_of(label, default), start, len(samples)))
    for split, found in clips.items():
        outputs[split].close()
        (work / f"{split}.json").write_text(json.dumps([vars(clip) for clip in found]))
        for kind in ("speech", "music", "other", "side"):
            hours = sum(c.length for c in found if c.kind == kind) / RATE / 3600
            print(f"{split:7} {kind:7} {hours:6.2f} h", flush=True)


def load(work: Path, split: str) -> tuple[npt.NDArray[np.int16], list[Clip]]:
    """All samples of a split (memory-mapped) and its clips."""
    clips = [Clip(**entry) for entry in json.loads((work / f"{split}.json").read_text())]
    return np.memmap(work / f"{split}.i16", "<i2", "r"), clips


if __name__ == "__main__":
    known = TRAIN | UNSEEN
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="some of them, for a small trial")
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    if unknown := set(args.packages) - set(known):
        parser.error(f"no such package: {', '.join(sorted(unknown))} (there are {', '.join(known)})")
    build(args.work, {name: known[name] for name in args.packages or known})
