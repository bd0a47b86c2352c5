"""Recordings for training: downloaded as Debian packages, split by file, cached as 48 kHz mono 16-bit samples.

All sources have free licences (see README.md). ``python data.py --work DIR`` downloads and caches all packages, or
those named; nothing is installed. The cache of a package is two files in ``DIR/cache``: ``<package>.i16``, with
the samples of all clips, and ``<package>.json``, which describes them (see :class:`Clip`). Cached packages are not
downloaded again, so training can start with the first ones.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

RATE = 48000
Samples = npt.NDArray[np.float32]

#: package: kind of its recordings, unless the path determines it; first those with full bandwidth
TRAIN = {
    "klettres-data": "speech",
    "planetblupi-music-ogg": "music",
    "tuxpaint-stamps-default": "speech",
    "hedgewars-data": "other",
    "hydrogen-drumkits": "other",
    "wesnoth-1.16-music": "music",
    "megaglest-data": "other",
    "fillets-ng-data-cs": "speech",
    "supertux-data": "other",
    "asterisk-core-sounds-en-g722": "speech",
    "colobot-common-sounds": "other",
    "singularity-music": "music",
    "flare-game": "other",
    "hyperrogue-music": "other",
    "fluid-soundfont-gm": "other",
    "asterisk-core-sounds-es-g722": "speech",
    "asterisk-core-sounds-fr-g722": "speech",
    "asterisk-core-sounds-ru-g722": "speech",
    "unknown-horizons": "music",
    "ufoai-music": "music",
    "supertuxkart-data": "other",
    "widelands-data": "other",
    "0ad-data": "other",
}
#: packages that are never used for training, only for measurements
UNSEEN = {"warzone2100-music": "music", "redeclipse-data": "other"}
#: suffix of the names of side signals, half the difference of two channels
SIDE = " side"
#: files that are excluded from training, because the tests use excerpts of them
EXCLUDED = ("legends_of_the_north", "_desc_es.", "_es.ogg")

#: parts of paths that determine the kind
WORDS = (
    ("music", "music"),
    ("voice", "speech"),
    ("/speech", "speech"),
    ("_desc", "speech"),
    ("stamps", "other"),
)
SOUND = (".ogg", ".wav", ".flac", ".opus", ".g722", ".sf2")
ARCHIVES = (".zip", ".pk3")


@dataclass(frozen=True)
class Clip:
    """One recording in the cache: ``start`` and ``length`` in samples of its package.

    ``band``: its bandwidth in Hz. A recording at 16 kHz contains no information about the voice above 8 kHz.
    """

    name: str
    kind: str
    split: str
    start: int
    length: int
    band: int


def fetch(package: str, work: Path) -> Path:
    """Download and unpack a Debian package (run ``apt-get update`` before). Returns its folder."""
    folder = work / "raw" / package
    if not folder.exists():
        part = work / "raw" / f"{package}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as downloads:
            Path(downloads).chmod(0o755)  # apt downloads as another user
            subprocess.run(["apt-get", "download", package], cwd=downloads, check=True)
            (deb,) = Path(downloads).glob("*.deb")
            subprocess.run(["dpkg", "-x", str(deb), str(part)], check=True)
        part.rename(folder)
    return folder


def recordings(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every audio file in a folder, also of those in its zip archives."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix in SOUND:
            yield str(path.relative_to(folder)), path.read_bytes()
        elif path.suffix in ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(SOUND):
                        yield f"{path.name}/{name}", archive.read(name)


def decode(name: str, data: bytes) -> Iterator[tuple[str, Samples]]:
    """Yield a file's recordings at ``RATE``: mono, and the side signal of stereo. Skips broken and silent ones."""
    try:
        if name.endswith(".sf2"):
            found = list(soundfont(data))
        elif name.endswith(".g722"):
            found = [(name, g722(data), 16000)]
        else:
            audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
            mid = audio.mean(axis=1)
            found = [(name, mid, rate)]
            if audio.shape[1] == 2:
                side = 0.5 * (audio[:, 0] - audio[:, 1])
                if side.std() > 0.03 * mid.std():
                    found.append((name + SIDE, side, rate))
    except (RuntimeError, ValueError, OSError):
        return
    for label, mono, rate in found:
        audio = soxr.resample(mono, rate, RATE, quality="HQ").astype(np.float32)
        audio = trim(audio)
        if len(audio) >= RATE // 8 and np.abs(audio).max() > 1e-3:
            yield label, audio


def trim(audio: Samples, floor: float = 1e-4) -> Samples:
    """Trim digital silence at both ends to a tenth of a second."""
    loud = np.flatnonzero(np.abs(audio) > floor)
    if not len(loud):
        return audio[:0]
    margin = RATE // 10
    return audio[max(loud[0] - margin, 0) : loud[-1] + margin]


def band(audio: Samples, size: int = 2048) -> int:
    """Measure the bandwidth in Hz: the highest frequency above -90 dB of the total, and above rounding noise."""
    starts = np.linspace(0, max(len(audio) - size, 0), 200).astype(int)
    frames = np.stack([np.resize(audio[start : start + size], size) for start in starts]) * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames))).mean(axis=0)
    smooth = np.convolve(power, np.full(21, 1 / 21), mode="same")
    rounding = 0.375 * size / 12 / 32768**2
    present = np.flatnonzero(smooth > max(1e-9 * power.sum(), 4 * rounding))
    return int(present[-1] * RATE / size) if len(present) else 0


def g722(data: bytes) -> Samples:
    """Decode a raw G.722 file (16 kHz) with FFmpeg."""
    import av

    with av.open(io.BytesIO(data), format="g722") as container:
        parts = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return (np.concatenate(parts) / 32768).astype(np.float32)


def soundfont(data: bytes) -> Iterator[tuple[str, Samples, int]]:
    """Yield the samples of a SoundFont 2 bank: 16-bit samples in ``smpl``, 46-byte descriptions in ``shdr``."""
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
    """Return ``side``, ``speech``, ``music`` or ``other``, from the path if it determines the kind."""
    if name.endswith(SIDE):
        return "side"
    lowered = name.lower()
    for word, kind in WORDS:
        if word in lowered:
            return kind
    return default


def split_of(package: str, name: str) -> str:
    """Return the split: ``train``, ``held`` (held out, one file in sixteen) or ``unseen``."""
    if package in UNSEEN:
        return "unseen"
    if any(word in name for word in EXCLUDED) or zlib.crc32(name.encode()) % 16 == 0:
        return "held"
    return "train"


def stored(samples: Samples) -> npt.NDArray[np.int16]:
    """Convert samples to 16-bit integers."""
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2")


def cache(package: str, work: Path) -> None:
    """Download a package and cache its recordings, unless they are cached."""
    folder, kind = work / "cache", (TRAIN | UNSEEN)[package]
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / f"{package}.json").exists():
        return
    clips = []
    with (folder / f"{package}.i16").open("wb") as output:
        for name, data in recordings(fetch(package, work)):
            for label, audio in decode(name, data):
                split = split_of(package, label.removesuffix(SIDE))
                start, kind_of_clip = output.tell() // 2, kind_of(label, kind)
                clips.append(Clip(f"{package}/{label}", kind_of_clip, split, start, len(audio), band(audio)))
                output.write(stored(audio).tobytes())
    describe(folder, package, clips)
    print(f"{package:30} {sum(clip.length for clip in clips) / RATE / 3600:6.2f} h", flush=True)


def describe(folder: Path, package: str, clips: list[Clip]) -> None:
    """Write the description of a package's samples, which marks them as complete."""
    part = folder / f"{package}.part"
    part.write_text(json.dumps([asdict(clip) for clip in clips]))
    part.rename(folder / f"{package}.json")


def build(work: Path, packages: list[str], processes: int = 2) -> None:
    """Cache packages in ``work``."""
    with ProcessPoolExecutor(processes) as pool:
        for _ in pool.map(partial(cache, work=work), packages):
            pass


class Cache:
    """The cached recordings of one split in ``work``: ``clips`` and their samples."""

    def __init__(self, work: Path, split: str) -> None:
        self._pools, self.clips = {}, []
        for path in sorted((work / "cache").glob("*.json")):
            clips = [Clip(**entry) for entry in json.loads(path.read_text())]
            self._pools[path.stem] = np.memmap(path.with_suffix(".i16"), "<i2", "r") if clips else None
            self.clips += [clip for clip in clips if clip.split == split]

    def samples(self, clip: Clip, offset: int = 0, length: int | None = None) -> Samples:
        """Return up to ``length`` samples of a clip, from ``offset`` on."""
        pool = self._pools[clip.name.split("/")[0]]
        assert pool is not None
        end = clip.length if length is None else min(offset + length, clip.length)
        part = pool[clip.start + offset : clip.start + end]
        return part.astype(np.float32) / 32768

    def report(self) -> str:
        """Format the hours of each kind, and of those with a bandwidth above 15 kHz."""
        lines = []
        for kind in ("speech", "music", "other", "side"):
            clips = [clip for clip in self.clips if clip.kind == kind]
            hours = sum(clip.length for clip in clips) / RATE / 3600
            full_band = sum(clip.length for clip in clips if clip.band > 15000) / RATE / 3600
            lines.append(f"{kind:7} {hours:6.2f} h, {full_band:6.2f} h of it above 15 kHz")
        return "\n".join(lines)


if __name__ == "__main__":
    known = TRAIN | UNSEEN
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="only these packages, for a small trial")
    parser.add_argument("--work", type=Path, required=True)
    args = parser.parse_args()
    if unknown := set(args.packages) - set(known):
        parser.error(f"unknown packages: {', '.join(sorted(unknown))} (known are {', '.join(known)})")
    build(args.work, args.packages or list(known))
    for split in ("train", "held", "unseen"):
        print(f"{split}\n{Cache(args.work, split).report()}", flush=True)
