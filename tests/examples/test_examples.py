"""The examples of where people keep audio, against the real packages; those that are not installed are skipped."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import nac

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RECORDINGS = [EXAMPLES / "audio" / name for name in ("speech.flac", "guitar.flac")]


def environment(folder: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(ROOT), "NAC_CACHE": str(folder / "cache"), "HF_HOME": str(folder / "hub")}
    clean = {name: value for name, value in os.environ.items() if name != "NAC_WEIGHTS"}
    return {**clean, **own, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def run(folder: Path, *words: object) -> str:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_command(folder: Path, recording: Path, kbps: float) -> bytes:
    """What the command makes of a recording."""
    out = folder / f"{recording.stem}.nac"
    run(folder, "-m", "nac", "compress", recording, "-m", "nac_24khz", "-k", kbps, "-o", out, "-f", "-q")
    return out.read_bytes()


def test_a_parquet_column(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    out = run(tmp_path, EXAMPLES / "parquet_column.py", "x.parquet", *RECORDINGS)
    assert "x.parquet: 2 recordings" in out
    assert "guitar.flac: " in out
    assert "its first second: (44100, 2) at 44100 Hz" in out
    table = pandas.read_parquet(tmp_path / "x.parquet")
    for recording, data in zip(RECORDINGS, table["audio"], strict=True):
        whole = nac.read(io.BytesIO(by_command(tmp_path, recording, 3)))[0]
        assert np.array_equal(nac.decode(data)[0], whole)
        assert nac.info(io.BytesIO(data)).tags == {}


def test_a_column_of_datasets(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    out = run(tmp_path, EXAMPLES / "datasets_column.py", "rows", *RECORDINGS)
    samples = {recording: soundfile.info(recording) for recording in RECORDINGS}
    for recording, found in samples.items():
        assert f"{recording.stem}.nac: ({found.channels}, {found.frames}) at {found.samplerate} Hz" in out


def test_a_parquet_file_of_nac_is_an_audio_column_of_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {
        "audio": [{"bytes": path.read_bytes(), "path": path.name} for path in RECORDINGS],
        "text": ["a voice", "a guitar"],
    }
    features = datasets.Features({"audio": datasets.Audio(), "text": datasets.Value("string")})
    made = datasets.Dataset.from_dict({**rows, "audio": [None, None]}, features=features)
    table = made.data.table.set_column(0, "audio", [rows["audio"]])  # without decoding what is in it
    datasets.Dataset(table).to_parquet(tmp_path / "train.parquet")
    run(tmp_path, "-m", "nac", "compress", "train.parquet", "-o", "packed", "-m", "nac_24khz", "-q")
    out = run(tmp_path, EXAMPLES / "datasets_column.py", "packed/train.parquet")
    for recording in RECORDINGS:
        found = soundfile.info(recording)
        assert f"{recording.stem}.nac: ({found.channels}, {found.frames}) at {found.samplerate} Hz" in out


def test_rows_without_nac_files_are_left_empty(tmp_path: Path) -> None:
    """Of a Parquet file with a row without audio, and a recording that failed and was kept."""
    pytest.importorskip("datasets")
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    guitar = {"bytes": RECORDINGS[1].read_bytes(), "path": "guitar.flac"}
    rows = [None, guitar, {"bytes": b"fLaC is not all", "path": "broken.flac"}, {"bytes": None, "path": None}]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    write_table(pyarrow.table({"audio": pyarrow.array(rows, kind)}), tmp_path / "train.parquet")
    words = "-m", "nac", "compress", "train.parquet", "-o", "packed", "-m", "nac_24khz", "--keep-failed", "-q"
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment(tmp_path), check=False)
    assert done.returncode == 1
    out = run(tmp_path, EXAMPLES / "datasets_column.py", "packed/train.parquet")
    found = soundfile.info(RECORDINGS[1])
    assert out == f"guitar.nac: {(found.channels, found.frames)} at {found.samplerate} Hz\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with .nac files of both recordings, at one rate and with one channel."""
    folder = tmp_path_factory.mktemp("archive")
    for recording in RECORDINGS:
        samples, rate = soundfile.read(recording, dtype="int16", always_2d=True)
        nac.write(folder / f"{recording.stem}.nac", samples[: rate * 3, :1], 16000, model="nac_24khz", kbps=3)
    return folder


def test_a_loader_of_pytorch(archive: Path) -> None:
    out = run(archive, EXAMPLES / "torch_loader.py", archive)
    assert re.fullmatch(r"a batch of \(2, 1, 8000\), level 0\.\d+\n", out)


def test_a_decoder_for_webdataset(archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    run(tmp_path, "-m", "nac", "pack", archive, "-o", "shards", "-q")
    out = run(tmp_path, EXAMPLES / "webdataset_decoder.py", "shards")
    assert out.splitlines() == [
        f"{name}: {(nac.info(archive / name).samples, 1)} at 16000 Hz" for name in ("guitar.nac", "speech.nac")
    ]


def test_the_decoder_for_webdataset_reads_what_was_compressed(tmp_path: Path) -> None:
    """A shard with JSON of its owner's, and with a recording that failed and was kept."""
    pytest.importorskip("webdataset")
    sounds = [RECORDINGS[1].read_bytes(), b"fLaC is not all"]
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for number, sound in enumerate(sounds):
            for ending, data in ("json", b'{"text": "a guitar"}'), ("flac", sound):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    words = "-m", "nac", "compress", "a.tar", "-o", "shards", "-m", "nac_24khz", "--keep-failed", "-q"
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment(tmp_path), check=False)
    assert done.returncode == 1
    found = soundfile.info(RECORDINGS[1])
    out = run(tmp_path, EXAMPLES / "webdataset_decoder.py", "shards")
    assert out == f"0: {(found.frames, found.channels)} at {found.samplerate} Hz\n"


def test_the_tour_of_a_short_recording(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    samples, rate = soundfile.read(RECORDINGS[0], dtype="int16")
    soundfile.write(tmp_path / "short.wav", samples[: rate // 2], rate)
    assert "generated: 1 s of (4, 75) codes" in run(tmp_path, EXAMPLES / "tour.py", "short.wav", "tour")


def test_the_tour(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = run(tmp_path, EXAMPLES / "tour.py", RECORDINGS[0], "tour")
    first, last = map(float, re.findall(r"nats per code: ([\d.]+) at first, ([\d.]+) in the end", out)[0])
    assert last < first / 2
    for picture in ("spectrograms", "codes", "losses"):
        assert (tmp_path / "tour" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    data = (tmp_path / "tour" / "recording.nac").read_bytes()
    assert f"   3 kbit/s: {len(data)} bytes" in out
    assert nac.info(io.BytesIO(data)).kbps == 3
    generated = tmp_path / "tour" / "generated.nac"
    assert "generated: 1 s of (4, 75) codes" in out
    assert nac.read(generated)[0].shape == (24000, 1)


# The server


@pytest.fixture(scope="module")
def server(archive: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (archive / "broken.nac").write_bytes(b"no")
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "serve.py", archive, str(port)],
        env=environment(archive),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()
    (archive / "broken.nac").unlink()


def fetch(url: str, part: str = "") -> tuple[int, Any, bytes]:
    """Status, headers and body."""
    asked = urllib.request.Request(url, headers={"Range": part} if part else {})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.network
def test_the_server_gives_the_wav_that_decompressing_makes(server: str, archive: Path, tmp_path: Path) -> None:
    nac.decompress(archive / "speech.nac", tmp_path / "x.wav")
    status, headers, whole = fetch(f"{server}speech.nac")
    assert (status, headers["Content-Type"], headers["Accept-Ranges"]) == (200, "audio/wav", "bytes")
    assert whole == (tmp_path / "x.wav").read_bytes()
    size = len(whole)
    for low, high in (
        (0, 0),
        (0, 43),
        (10, 60),
        (44, 1000),
        (1001, 50_002),
        (size - 3, size - 1),
        (20_000, 1 << 40),
    ):
        status, headers, part = fetch(f"{server}speech.nac", f"bytes={low}-{high}")
        assert part == whole[low : high + 1], (low, high)
        assert (status, headers["Content-Range"]) == (206, f"bytes {low}-{min(high, size - 1)}/{size}")
    assert fetch(f"{server}speech.nac", "bytes=90001-")[2] == whole[90_001:]
    assert fetch(f"{server}speech.nac", f"bytes={size}-")[0] == 416


@pytest.mark.network
def test_the_server_gives_a_stretch_of_time(server: str, archive: Path) -> None:
    body = fetch(f"{server}speech.nac?start=1&duration=0.5")[2]
    heard, _ = soundfile.read(io.BytesIO(body), dtype="int16", always_2d=True)
    assert np.array_equal(heard, nac.read(archive / "speech.nac", start=1, duration=0.5, dtype="int16")[0])
    for query, status in (("start=99", 400), ("start=x", 400), ("start=nan", 400), ("start=inf", 400)):
        assert fetch(f"{server}speech.nac?{query}")[0] == status
    assert len(fetch(f"{server}speech.nac?duration=-1")[2]) == 44


@pytest.mark.network
def test_the_server_keeps_to_its_folder(server: str) -> None:
    for path in ("none.nac", "../x.nac", "%2e%2e/%2e%2e/etc/passwd", "", "speech.wav"):
        assert fetch(f"{server}{path}")[0] == 404
    status, _, message = fetch(f"{server}broken.nac")
    assert status == 500
    assert b"not a .nac file" in message


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for example in EXAMPLES.glob("*.py"):
        assert re.search(rf"\b{example.stem}\b", tests), example.name
