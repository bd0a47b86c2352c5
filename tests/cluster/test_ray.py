"""--engine ray, on a real cluster of several nodes on this machine: the same files as without, whatever breaks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_shards import parquet, recordings, tar
from toy_command import ROOT, install_toy, nac, wav

pytest.importorskip("ray", reason="Ray is absent: pip install 'nac-audio[ray]'")
pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install 'nac-audio[ray]'")

from fragile_worker import FragileWorker, IdleWorker, LonelyWorker
from pyarrow.fs import FileSystem, FileType

from nac.cluster import workers
from nac.storage.places import MANIFEST, place

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does no work, and two nodes with a CPU each."""
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}")  # for the workers
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    settings = {"object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **settings})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        yield cluster
    finally:
        cluster.shutdown()
        patch.undo()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clip(name: str | Path, *, seed: int = 0, rate: int = 16000) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(seed).integers(-9000, 9000, rate // 2).astype(np.int16)
    soundfile.write(path, sound, rate)
    return path


def contents(folder: str) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.parent.name != MANIFEST]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def manifest(folder: str) -> dict[str, dict[str, Any]]:
    """The last row of every input."""
    from pyarrow.parquet import read_table

    rows = read_table(Path(folder, MANIFEST)).sort_by("written").to_pylist()
    return {row["input"]: row for row in rows}


def ray(*words: str, cluster: Any, code: int = 0) -> Any:
    return nac(*words, "--engine", "ray", "--address", cluster.address, "--workers", "2", code=code)


def until(what: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def alive(mark: Path) -> bool:
    """Whether the worker that left a mark is still there."""
    try:
        os.kill(int(mark.suffix[1:]), 0)
    except ProcessLookupError:
        return False
    return True


def test_the_same_files_as_on_one_machine(cluster: Any, folder: Path) -> None:
    for number, name in enumerate(("a.wav", "b/a.flac", "b/c d/é.ogg", "b/same.wav", "b/same.flac", "b/lone.wav")):
        clip(f"src/{name}", seed=number)
    Path("src/b/lone.txt").write_text("not audio")  # nor a rival of lone.wav
    Path("src/broken.wav").write_bytes(b"RIFF????WAVEjunk")

    lines = ray("compress", "-r", "src", "-o", "dst", "--json", cluster=cluster, code=1)
    rows = {row["input"]: row for row in map(json.loads, lines.stdout.splitlines())}
    assert len(rows) == 7
    assert "have the same output" in rows["src/b/same.wav"]["error"]
    assert "have the same output" in rows["src/b/same.flac"]["error"]
    assert rows["src/broken.wav"]["error"]
    assert "4 done, 0 skipped, 3 failed" in lines.stderr
    assert "ignored 1 other file" in lines.stderr

    Path("src/b/same.wav").unlink()
    Path("src/b/same.flac").unlink()
    Path("src/broken.wav").unlink()
    nac("compress", "-r", "src", "-o", "plain", "-q")
    assert contents("dst") == contents("plain")
    row = manifest("dst")["b/c d/é.ogg"]
    assert row["output"] == "b/c d/é.nac"
    assert (row["model"], row["seconds"], row["error"]) == ("nac_24khz", 0.5, None)
    assert len(row["fingerprint"]) == 16
    assert row["bytes_in"] == Path("src/b/c d/é.ogg").stat().st_size
    assert row["bytes_out"] == Path("dst/b/c d/é.nac").stat().st_size
    assert row["wall_seconds"] > 0

    assert "4 done, 0 skipped" in ray("decompress", "-r", "dst", "-o", "back", cluster=cluster).stderr
    nac("decompress", "-r", "plain", "-o", "plainback", "-q")
    assert contents("back") == contents("plainback")


def test_again_does_the_rest(cluster: Any, folder: Path) -> None:
    for number in range(4):
        clip(f"src/{number}.wav", seed=number)
    ray("compress", "-r", "src", "-o", "dst", cluster=cluster)
    whole = contents("dst")
    Path("dst/1.nac").unlink()
    shutil.rmtree(f"dst/{MANIFEST}")  # as if the command had been killed before it wrote a row
    Path("dst/2.nac").write_bytes(b"not what nac wrote")
    again = ray("compress", "-r", "src", "-o", "dst", cluster=cluster, code=1)
    assert "1 done, 2 skipped, 1 failed" in again.stderr
    rows = manifest("dst")
    assert "2.nac exists but is not complete" in rows["2.wav"]["error"]
    assert (rows["0.wav"]["model"], rows["0.wav"]["wall_seconds"]) == ("nac_24khz", None)
    assert rows["0.wav"]["bytes_out"] == len(whole["0.nac"])
    assert "4 done, 0 skipped" in ray("compress", "-r", "src", "-o", "dst", "-f", cluster=cluster).stderr
    assert contents("dst") == whole
    assert manifest("dst")["2.wav"]["error"] is None
    assert "0 done, 4 skipped, 0 failed" in ray("compress", "-r", "src", "-o", "dst", cluster=cluster).stderr


def test_workers_with_other_weights_are_refused(
    cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        clip(f"src/{number}.wav", seed=number)
    monkeypatch.setattr(workers, "ProcessWorker", LonelyWorker)
    for words in (), ("-m", "nac_24khz"):
        printed = ray("compress", "-r", "src", "-o", "dst", *words, cluster=cluster, code=1).stderr
        assert re.search(r"the machines have different versions .*weights of \d+; .*weights of \d+", printed)


@pytest.mark.parametrize("breaks", ["once", "poison"])
def test_a_file_that_breaks_workers_is_tried_alone_and_left(
    cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    monkeypatch.setattr(workers, "ProcessWorker", FragileWorker)
    monkeypatch.setattr(workers, "MAX_BUNDLE", 1)  # otherwise the message depends on the machine's speed
    names = ("0", "1", breaks, "4", "5")
    for number, name in enumerate(names):
        clip(f"src/{name}.wav", seed=number)
    lost = breaks == "poison"
    result = ray("compress", "-r", "src", "-o", "dst", "-j", "2", "--json", cluster=cluster, code=int(lost))
    # The output of a file that was done, but not reported when its worker died on the other one, exists.
    (done, skipped) = map(
        int, re.findall(rf"^(\d+) done, (\d+) skipped, {lost:d} failed$", result.stderr, re.M)[0]
    )
    assert done + skipped == 5 - lost
    assert f"a worker died while processing {breaks}.wav; trying it once more, alone" in result.stderr
    inputs = {json.loads(line)["input"] for line in result.stdout.splitlines()}  # and not what Ray has to say
    assert inputs == {f"src/{name}.wav" for name in names}
    assert len(list(Path().glob(f"{breaks}.*"))) == 2  # it was begun twice
    rows = manifest("dst")
    failed = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert failed == (
        {"poison.wav": "two workers died while processing it, the second one alone with it"} if lost else {}
    )
    assert len(rows) == 5
    Path("src/poison.wav").unlink(missing_ok=True)
    nac("compress", "-r", "src", "-o", "plain", "-q")
    assert contents("dst") == contents("plain")


def test_a_killed_node_costs_only_its_work_in_hand(
    cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ProcessWorker", FragileWorker)
    monkeypatch.setattr(workers, "MAX_BUNDLE", 1)
    node = cluster.add_node(num_cpus=1, resources={"doomed": 1}, object_store_memory=80 << 20)
    for number, name in enumerate(("0", "1", "2", "slow", "slow2", "slow3")):
        clip(f"src/{name}.wav", seed=number)

    def strike() -> None:
        try:
            until(lambda: len(list(Path().glob("slow*.*"))) == 3)
            cluster.remove_node(node, allow_graceful=False)
            until(lambda: not all(map(alive, Path().glob("slow*.*"))))
        finally:
            (folder / "go").touch()  # else the command would wait for ever

    thread = threading.Thread(target=strike)
    thread.start()
    words = (
        "compress",
        "-r",
        "src",
        "-o",
        "dst",
        "--engine",
        "ray",
        "--address",
        cluster.address,
        "--workers",
        "3",
    )
    assert "6 done, 0 skipped, 0 failed" in nac(*words).stderr
    thread.join()
    assert len(list(Path().glob("slow*.*"))) == 4  # one was begun twice
    nac("compress", "-r", "src", "-o", "plain", "-q")
    assert contents("dst") == contents("plain")
    assert all(row["error"] is None for row in manifest("dst").values())


def test_an_object_store_that_turns_requests_away(cluster: Any, folder: Path) -> None:
    pytest.importorskip("moto.server", reason="moto's S3 server is absent: pip install 'moto[s3,server]'")
    from throttled_s3 import s3_server

    for number in range(3):
        clip(f"src/d/{number}.wav", seed=number)
    nac("compress", "-r", "src", "-o", "plain", "-q")
    with s3_server() as (throttle, options):
        store, _ = FileSystem.from_uri(f"s3://archive/{options}&allow_bucket_creation=true")
        store.create_dir("archive")
        for path in Path("src/d").iterdir():
            with store.open_output_stream(f"archive/in/d/{path.name}") as out:
                out.write(path.read_bytes())
        throttle.times, throttle.puts = 3, []
        done = ray(
            "compress", "-r", f"s3://archive/in{options}", "-o", f"s3://archive/out{options}", cluster=cluster
        )
        assert "3 done, 0 skipped, 0 failed" in done.stderr
        assert "s3://archive/in/d/0.wav -> s3://archive/out/d/0.nac" in done.stderr
        assert max(throttle.refused.values()) > 3
        # A single PUT each: no parts, no renaming. One that is answered late may come again.
        outputs = {put for put in throttle.puts if put.split("?")[0].endswith(".nac")}
        assert outputs == {f"/archive/out/d/{number}.nac?" for number in range(3)}
        for number in range(3):
            with store.open_input_stream(f"archive/out/d/{number}.nac") as file:
                assert file.read() == Path(f"plain/d/{number}.nac").read_bytes()
        assert (
            "0 done, 3 skipped"
            in ray(
                "compress", "-r", f"s3://archive/in{options}", "-o", f"s3://archive/out{options}", cluster=cluster
            ).stderr
        )
        ray("decompress", "-r", f"s3://archive/out{options}", "-o", "back", cluster=cluster)
        assert store.get_file_info(f"archive/out/{MANIFEST}").type == FileType.Directory
    nac("decompress", "-r", "plain", "-o", "plainback", "-q")
    assert contents("back") == contents("plainback")


def test_an_interrupted_run_leaves_nothing_half_written(cluster: Any, folder: Path) -> None:
    for number in range(40):
        clip(f"src/{number}.wav", seed=number)
    command = [sys.executable, "-m", "nac", "compress", "-r", "src", "-o", "dst", "--engine", "ray"]
    command += ["--address", cluster.address, "--workers", "2"]
    for number, code, count in (signal.SIGINT, 130, 4), (signal.SIGTERM, 143, 16):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        until(lambda least=count: len(list(Path("dst").glob("*.nac"))) >= least)
        process.send_signal(number)
        _, result = process.communicate(timeout=240)
        assert process.returncode == code
        last = [line for line in result.splitlines() if line and " -> " not in line]
        assert len(last) == 1
        assert last[0].endswith("0 failed")
    assert len(list(Path("dst").glob("*.nac"))) < 40
    known = len(manifest("dst"))
    result = ray("compress", "-r", "src", "-o", "dst", cluster=cluster).stderr
    (done, skipped) = map(int, re.findall(r"^(\d+) done, (\d+) skipped, 0 failed$", result, re.M)[0])
    assert done + skipped == 40
    assert known <= skipped  # an output can be there before its row is
    nac("compress", "-r", "src", "-o", "plain", "-q")
    assert contents("dst") == contents("plain")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("src", "-o", "dst"), "takes -r, one folder"),
        (("-r", "src"), "and -o with another"),
        (("-r", "src", "src", "-o", "dst"), "one folder or URL"),
        (("-r", "nowhere", "-o", "dst"), "nowhere is not a folder"),
        (("-r", "src", "-o", "src/a.wav"), "src/a.wav is not a folder"),
        (("-r", "src", "-o", "dst", "--remove-source"), "--remove-source"),
        (("-r", "src", "-o", "dst", "-m", "nac_25khz"), "did you mean nac_24khz"),
    ],
)
def test_wrong_usage(folder: Path, words: tuple[str, ...], message: str) -> None:
    clip("src/a.wav")
    assert message in nac("compress", *words, "--engine", "ray", code=2).stderr


def test_urls(folder: Path) -> None:
    clip("src/a.wav")
    for words in ("foo://x", "-o", "dst"), ("src", "-o", "foo://x"):
        for engine in "local", "ray":
            result = nac("compress", "-r", *words, "--engine", engine, code=1).stderr
            assert re.fullmatch(r"nac: foo://x?: Protocol not known: foo\n", result)
    assert [path.name for path in folder.iterdir()] == ["src"]


def test_buckets_that_are_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto.server", reason="moto's S3 server is absent: pip install 'moto[s3,server]'")
    from throttled_s3 import s3_server

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    clip("src/a.wav")
    with s3_server() as (throttle, options):
        store, _ = FileSystem.from_uri(f"s3://archive/{options}&allow_bucket_creation=true")
        store.create_dir("archive")
        there, other = f"s3://archive/a{options}", f"s3://other/a{options}"
        for source, target in (there, "dst"), (other, "dst"), ("src", other):
            url = (target if source == "src" else source).split("?")[0]
            result = nac("compress", "-r", source, "-o", target, "--engine", "ray", code=2).stderr
            assert f"{url} is not a folder" in result
            assert f"{url} is not a folder" in nac("pack", source, "-o", target, code=2).stderr
        # One that has gone meanwhile is not asked for again and again.
        with pytest.raises(OSError, match="NO_SUCH_BUCKET"), place(other).written("a.nac") as path:
            path.write_bytes(b"nac")
        assert throttle.refused["PUT", "/other/a/a.nac?"] == 1


def test_what_else_there_is_to_say_is_told(cluster: Any, folder: Path) -> None:
    import mutagen.flac

    clip("src/a.flac")
    tagged = mutagen.flac.FLAC("src/a.flac")
    tagged["comment"] = "x" * 70_000
    tagged.save()
    for quiet, count in ((), 1), (("-q",), 0):
        result = ray("compress", "-r", "src", "-o", "dst", "-f", *quiet, cluster=cluster).stderr
        assert result.count("nac: src/a.flac: the tag comment is left out") == count


def test_no_cluster_is_told_in_one_line(folder: Path) -> None:
    clip("src/a.wav")
    result = nac(
        "compress", "-r", "src", "-o", "dst", "--engine", "ray", "--address", "127.0.0.1:1", code=1
    ).stderr
    assert "cannot connect to Ray at 127.0.0.1:1" in result


def shards_of(folder: str, count: int = 4) -> None:
    """Tar and Parquet files of the same clips, one of each broken."""
    sounds = recordings("src")
    for number in range(count):
        made = tar if number % 2 else parquet
        made(f"{folder}/{number}.{'tar' if number % 2 else 'parquet'}", sounds)


def test_shards_are_the_same_as_on_one_machine(cluster: Any, folder: Path) -> None:
    shards_of("in")
    clip("in/d/alone.wav")
    with tarfile.open("in/texts.tar", "w") as file:
        file.add("src/0000.wav", "0000.txt")
    result = ray("compress", "-r", "in", "-o", "dst", "-j", "2", "--json", cluster=cluster, code=1)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 4 * 6 + 1
    assert "21 done, 0 skipped, 4 failed" in result.stderr
    assert "ignored 1 other file" in result.stderr
    failed = {(row["input"], row["key"]) for row in rows if row["error"]}
    assert failed == {(f"in/{n}.parquet", "0003.wav") for n in (0, 2)} | {
        (f"in/{n}.tar", "part one/0003.wav") for n in (1, 3)
    }
    nac("compress", "-r", "in", "-o", "plain", "-q", code=1)
    assert contents("dst") == contents("plain")

    from pyarrow.parquet import read_table

    table = read_table(Path("dst", MANIFEST)).to_pylist()
    assert len(table) == 25
    assert {(row["input"], row["key"]) for row in table if row["error"]} == {(n[3:], key) for n, key in failed}
    assert all(row["fingerprint"] and row["bytes_out"] for row in table if not row["error"])

    assert "0 done, 5 skipped, 0 failed" in ray("compress", "-r", "in", "-o", "dst", cluster=cluster).stderr
    # Without the manifest, as if the command had been killed before it wrote it.
    shutil.rmtree(f"dst/{MANIFEST}")
    result = ray("compress", "-r", "in", "-o", "dst", cluster=cluster, code=1).stderr
    assert "0 done, 21 skipped, 4 failed" in result
    assert result.count("exists, but 1 of the recordings are only in one of the shards (-f replaces it)") == 4

    names = [f"dst/{name}" for name in ("0.parquet", "1.tar")]
    ray("decompress", *names, "-o", "back", "--format", "flac", cluster=cluster)
    nac("decompress", *names, "-o", "plainback", "--format", "flac", "-q")
    assert contents("back") == contents("plainback")


def test_a_worker_killed_over_a_shard(cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ProcessWorker", FragileWorker)
    sounds = recordings("src", 2)
    for name in ("0", "1", "once", "poison", "4"):
        tar(f"in/{name}.tar", sounds)
    result = ray("compress", "-r", "in", "-o", "dst", cluster=cluster, code=1).stderr
    assert "a worker died while processing once.tar; trying it once more, alone" in result
    assert "poison.tar: two workers died while processing it" in result
    Path("in/poison.tar").unlink()
    nac("compress", "-r", "in", "-o", "plain", "-q")
    assert contents("dst") == contents("plain")


@pytest.mark.parametrize("made", [tar, parquet])
@pytest.mark.parametrize("name", ["alone", "once"])
def test_a_shard_in_parts(
    cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[..., Any], name: str
) -> None:
    """Fewer shards than workers: it is done in as many parts, over one of which a worker dies."""
    monkeypatch.setattr(workers, "ProcessWorker", FragileWorker)
    path = f"d/{name}.{made.__name__}"
    (folder / "in").mkdir()
    made(f"in/{path}", recordings("src", 11))
    result = ray("compress", "-r", "in", "-o", "dst", "--json", cluster=cluster, code=1)
    assert {mark.suffixes[0] for mark in Path().glob(f"{name}.*.*")} == {".0", ".1"}
    assert (f"a worker died while processing {path}; trying it once more" in result.stderr) == (name == "once")
    assert "10 done, 0 skipped, 1 failed" in result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["key"].split("/")[-1] for row in rows] == [f"{number:04}.wav" for number in range(11)]
    told_plain = nac("compress", "-r", "in", "-o", "plain", "-q", code=1).stderr
    assert contents("dst") == contents("plain")
    assert told_plain in result.stderr

    from pyarrow.parquet import read_table

    table = read_table(Path("dst", MANIFEST)).to_pylist()
    assert [row["key"] for row in table] == [row["key"] for row in rows]
    assert all(
        row["fingerprint"] and row["bytes_out"] and row["wall_seconds"] for row in table if not row["error"]
    )
    assert [path.suffix for path in Path("dst", MANIFEST).iterdir()] == [".parquet"]  # no part is left


def test_parts_of_a_shard_that_is_not_whole(cluster: Any, folder: Path) -> None:
    Path("in").mkdir()
    tar("in/a.tar", recordings("src", 11))
    data = Path("in/a.tar").read_bytes()
    Path("in/a.tar").write_bytes(data[: len(data) * 4 // 5])
    result = ray("compress", "-r", "in", "-o", "dst", "--json", cluster=cluster, code=1)
    (row,) = map(json.loads, result.stdout.splitlines())
    assert "not a complete tar file" in row["error"]
    assert contents("dst") == {}
    assert [path.suffix for path in Path("dst", MANIFEST).iterdir()] == [".parquet"]


def test_bundles_grow_and_none_is_lost(cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does nothing, and dies once in the middle of a large bundle."""
    monkeypatch.setattr(workers, "ProcessWorker", IdleWorker)
    for number in range(3000):
        Path(f"src/{number % 3}").mkdir(parents=True, exist_ok=True)
        Path(f"src/{number % 3}/{number}.wav").touch()
    Path("src/1/1500 once.wav").touch()
    result = ray("compress", "-r", "src", "-o", "dst", "--json", cluster=cluster)
    assert "3001 done, 0 skipped, 0 failed" in result.stderr
    assert re.search(
        r"a worker died while processing .* and \d\d+ more; trying each once more, alone", result.stderr
    )
    inputs = [json.loads(line)["input"] for line in result.stdout.splitlines()]
    assert len(inputs) == len(set(inputs)) == 3001
    assert len(manifest("dst")) == 3001


def test_urls_without_a_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto.server", reason="moto's S3 server is absent: pip install 'moto[s3,server]'")
    from throttled_s3 import s3_server

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    install_toy(monkeypatch)
    shards_of("in", 2)
    wav("in/alone.wav", 4000)
    nac("compress", "-r", "in", "-o", "plain", "-q", code=1)
    with s3_server() as (throttle, options):
        store, _ = FileSystem.from_uri(f"s3://archive/{options}&allow_bucket_creation=true")
        store.create_dir("archive")
        for path in Path("in").iterdir():
            with store.open_output_stream(f"archive/in/{path.name}") as out:
                out.write(path.read_bytes())
        throttle.times = 2
        names = [f"s3://archive/in/{name}{options}" for name in ("0.parquet", "1.tar", "alone.wav")]
        result = nac("compress", *names[:2], "-o", f"s3://archive/out{options}", "--json", code=1)
        assert len(result.stdout.splitlines()) == 12
        assert "s3://archive/in/1.tar: part one/0003.wav: cut off" in result.stderr
        result = nac("compress", "-r", f"s3://archive/in{options}", "-o", f"s3://archive/out{options}").stderr
        assert "1 done, 2 skipped, 0 failed" in result
        for name in ("0.parquet", "1.tar", "alone.nac"):
            with store.open_input_stream(f"archive/out/{name}") as file:
                assert file.read() == Path(f"plain/{name}").read_bytes()
        nac("decompress", "-r", f"s3://archive/out{options}", "-o", "back")
        nac("compress", "-r", "in", "-o", f"s3://archive/up{options}", code=1)
        assert store.get_file_info("archive/up/1.tar").size == Path("plain/1.tar").stat().st_size
        result = nac("compress", f"s3://archive/none.tar{options}", "-o", "x", code=2).stderr
        assert "a URL takes -r, one folder or URL" in result
    nac("decompress", "-r", "plain", "-o", "plainback", "-q")
    assert contents("back") == contents("plainback")
