"""nac pack, and nac.Dataset over what it writes."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_files import HEADER, SNAC, file
from container_files import written
from torch.utils.data import DataLoader
from toy_command import ROOT, nac

import nac as library
from nac.errors import NacError
from nac.storage import output
from nac.training import shards


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve files in `src`, all different."""
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        file(Path(f"src/{'ab'[number % 2]} é/{number:02}.x.nac"), 0.4 + 0.3 * number, seed=number)
    Path("src/notes.txt").write_text("no codes")
    return tmp_path


@pytest.fixture(params=["tar", "parquet"])
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    return request.param


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def packed(folder: str) -> list[bytes]:
    """The files in shards, in order."""
    found = []
    for data in contents(folder).values():
        found += [data for _, data in shards.read(io.BytesIO(data))]
    return found


def sources() -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path("src").rglob("*.nac"))]


def rows(dataset: Any, **options: Any) -> list[tuple[int, ...]]:
    """Items of a loader without batches, told apart by their codes."""
    loader = DataLoader(dataset, batch_size=None, **options)
    return [tuple(item.flatten().tolist()) for item in loader]


def test_every_file_is_in_a_shard_as_it_is(folder: Path, form: str) -> None:
    message = nac("pack", "src", "-o", "shards", "--size", "12kB", "--format", form).stderr
    assert "12 done, 0 skipped, 0 failed\nignored 1 other file\n" in message
    assert packed("shards") == sources()
    names = list(contents("shards"))
    assert names == [f"shards-{number:06}.{form}" for number in range(len(names))]
    assert len(names) > 1
    assert f"shards/shards-000000.{form}: " in message
    sizes = [len(data) for data in contents("shards").values()]
    # A tar file is filled up to 10 kB; Parquet has a description of its columns.
    assert max(sizes) <= 12_000 + 10_240
    nac("pack", "src/", "-o", "again", "--size", "12kB", "--format", form, "-q", "-j", "3")
    assert contents("again") == contents("shards")


def test_tar_is_plain_and_says_what_is_in_it(folder: Path) -> None:
    nac("pack", "src", "-o", "shards", "-q")
    with tarfile.open("shards/shards-000000.tar") as tar:
        members = tar.getmembers()
        assert [member.name for member in members[:4]] == [
            f"00000000{n}.{e}" for n in (0, 1) for e in ("json", "nac")
        ]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode, m.type) for m in members} == {(0, 0, 0, "", 0o644, b"0")}
        about = json.load(tar.extractfile("000000000.json"))
    assert about == json.loads(nac("info", "src/a é/00.x.nac", "--json").stdout) | {"path": "a é/00.x.nac"}
    assert Path("shards/shards-000000.tar").read_bytes()[257:265] == b"ustar\x0000"


def test_webdataset_reads_them(folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is absent: pip install webdataset")
    nac("pack", "src", "-o", "shards", "--size", "12kB", "-q")
    last = len(contents("shards")) - 1
    urls = f"shards/shards-{{000000..{last:06}}}.tar"
    data = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["nac"] for sample in data] == sources()
    assert [sample["json"]["bytes"] for sample in data] == [len(sample["nac"]) for sample in data]


def test_parquet_is_read_by_pyarrow(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    from pyarrow.parquet import read_table

    nac("pack", "src", "-o", "shards", "--format", "parquet", "-q")
    table = read_table("shards")
    assert table["nac"].to_pylist() == sources()
    row = table.drop_columns("nac").to_pylist()[0]
    assert row | {"tags": {}} == json.loads(nac("info", "src/a é/00.x.nac", "--json").stdout) | {
        "path": "a é/00.x.nac"
    }


@pytest.mark.parametrize("group", [1, 2000, 5000])
def test_every_file_is_in_one_row_group_of_parquet(
    folder: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    """Of which a reader loads one at a time."""
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr(shards, "GROUP", group)
    library.pack(["src"], "shards", format="parquet")
    assert packed("shards") == sources()
    file = ParquetFile("shards/shards-000000.parquet")
    for number in range(file.num_row_groups - 1):
        sizes = [len(data) for data in file.read_row_group(number, ["nac"])["nac"].to_pylist()]
        assert sum(sizes) >= group > sum(sizes[:-1])
    assert file.num_row_groups > 1


def test_broken_files_are_told_and_left_out(folder: Path, form: str) -> None:
    broken = bytearray(Path("src/a é/02.x.nac").read_bytes())
    broken[-100] ^= 1
    Path("src/a é/02.x.nac").write_bytes(broken)
    Path("src/b é/03.x.nac").write_bytes(b"")
    message = nac("pack", "src", "-o", "shards", "--json", "--format", form, code=1)
    assert [line for line in message.stderr.splitlines() if line.startswith("nac: ")] == [
        "nac: src/a é/02.x.nac: damaged within bytes 47 to 806, at 0:00.0",
        "nac: src/b é/03.x.nac: not a .nac file: it is empty",
    ]
    lines = [json.loads(line) for line in message.stdout.splitlines()]
    assert len(lines) == 12
    assert [line["input"] for line in lines if line["error"]] == ["src/a é/02.x.nac", "src/b é/03.x.nac"]
    good = [line for line in lines if not line["error"]]
    assert {line["output"] for line in good} == {f"shards/shards-000000.{form}"}
    assert good[0]["model"] == "encodec_24khz"
    assert len(packed("shards")) == 10
    with pytest.raises(NacError, match=r"02\.x\.nac: damaged within bytes 47 to 806, at 0:00.0"):
        library.pack(["src"], "other")
    assert not list(Path("other").iterdir())


def test_what_is_there_is_not_touched_unless_told(folder: Path, form: str) -> None:
    words = ("pack", "src", "-o", "shards", "--size", "12kB", "--format", form, "-q")
    nac(*words)
    before = contents("shards")
    assert "shards already contains shards" in nac(*words, code=1).stderr
    assert contents("shards") == before
    # As after a run that was killed: the same files in the end.
    for name in list(before)[2:]:
        Path("shards", name).unlink()
    message = nac(*words[:-1], "--skip-existing", "--json")
    assert " 0 failed" in message.stderr
    assert contents("shards") == before
    assert sum(json.loads(line)["skipped"] for line in message.stdout.splitlines()) == 12 - message.stdout.count(
        '"output": "'
    )
    file(Path("src/later.nac"), 1)
    nac(*words, "--skip-existing")
    assert packed("shards")[12:] == [Path("src/later.nac").read_bytes()]
    nac("pack", "src/a é", "-o", "shards", "-f", "-q", "--format", form)
    assert list(contents("shards")) == [f"shards-000000.{form}"]
    assert len(packed("shards")) == 6
    assert nac(*words, "-f", "--skip-existing", code=2).stderr.endswith("exclude each other\n")


def test_a_shard_that_is_missing_is_made_up_for_behind_the_others(folder: Path, form: str) -> None:
    library.pack(["src"], "shards", size=12_000, format=form)
    (first, _), *others = contents("shards").items()
    Path("shards", first).unlink()
    library.pack(["src"], "shards", size=12_000, format=form, skip_existing=True)
    assert list(contents("shards").items())[: len(others)] == others
    assert sorted(packed("shards")) == sorted(sources())


@pytest.mark.parametrize("missing", [0, 1, -1])
def test_no_two_files_of_all_shards_have_one_number(folder: Path, missing: int) -> None:
    """Those of a later run follow the highest there is, however many files the user has deleted."""
    library.pack(["src"], "shards", size=12_000)
    names = list(contents("shards"))
    assert len(names) > 2
    Path("shards", names[missing]).unlink()
    kept = {number for number, _ in numbered("shards")}
    library.pack(["src"], "shards", size=12_000, skip_existing=True)
    found = numbered("shards")
    assert len(found) == len(dict(found)) == 2 * 12
    added = [int(number.split(".")[0]) for number, name in found if number not in kept]
    assert min(added) == max(int(number.split(".")[0]) for number in kept) + 1


@pytest.mark.parametrize("order", [("few", "more"), ("more", "few")])
def test_numbers_follow_the_highest_of_shards_with_the_same_files(folder: Path, order: tuple[str, str]) -> None:
    """As the user may have put together."""
    library.pack(["src"], "few")
    file(Path("src/a first.nac"), 1)
    library.pack(["src"], "more")  # the same files under higher numbers, up to 12
    Path("both").mkdir()
    for number, name in enumerate(order):
        shutil.copy(f"{name}/shards-000000.tar", f"both/shards-00000{number}.tar")
    file(Path("src/later.nac"), 1)
    library.pack(["src"], "both", skip_existing=True)
    added = [key for key, name in numbered("both") if name == "shards-000002.tar"]
    assert added == ["000000013.json", "000000013.nac"]


def numbered(folder: str) -> list[tuple[str, str]]:
    """The names of the files in tar shards, each with the shard's."""
    found = []
    for name, data in contents(folder).items():
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found += [(member, name) for member in tar.getnames()]
    return found


@pytest.mark.parametrize("kept", ["half", "all but its end"])
def test_nothing_is_packed_beside_a_shard_that_is_cut(folder: Path, form: str, kept: str) -> None:
    library.pack(["src"], "shards", format=form)
    ((name, whole),) = contents("shards").items()
    files_end = 512 * -(-len(whole.rstrip(b"\0")) // 512) if form == "tar" else len(whole) - 4
    cut = {name: whole[: len(whole) // 2 if kept == "half" else files_end]}
    Path("shards", name).write_bytes(cut[name])
    with pytest.raises(NacError, match=f"shards/{name}: not a complete"):
        library.pack(["src"], "shards", format=form, skip_existing=True)
    assert contents("shards") == cut


def test_several_folders(folder: Path, form: str) -> None:
    nac("pack", "src/a é", "src/b é/", "-o", "shards", "-q", "--format", form)
    (name,) = contents("shards")
    with Path("shards", name).open("rb") as shard:
        assert [path for path, _ in shards.listed(shard, name)][5:7] == ["a é/10.x.nac", "b é/01.x.nac"]
    assert "two folders are named src" in nac("pack", "src", "./src", "-o", "o", code=1).stderr
    for words in (
        ("nowhere", "-o", "o"),
        ("src", "-o", "src/notes.txt"),
        ("src", "-o", "-"),
        ("src/notes.txt", "-o", "o"),
    ):
        assert "not a folder" in nac("pack", *words, code=2).stderr
    assert "not a size" in nac("pack", "src", "-o", "o", "--size", "big", code=2).stderr


def test_an_interrupted_run_leaves_whole_shards_only(folder: Path) -> None:
    for number in range(60):
        file(Path(f"src/more/{number:03}.nac"), 8, seed=number)
    command = [sys.executable, "-m", "nac", "pack", "src", "-o", "shards", "--size", "30kB"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not Path("shards/shards-000001.tar").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in message
    assert not [name for name in contents("shards") if not name.endswith(".tar")]
    count = len(packed("shards"))
    assert count < 72
    nac("pack", "src", "-o", "shards", "--size", "30kB", "--skip-existing", "-q")
    nac("pack", "src", "-o", "whole", "--size", "30kB", "-q")
    assert contents("shards") == contents("whole")


def test_no_pytorch_is_needed_to_pack(folder: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from nac.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, "pack", "src", "-o", "shards", "-q"], check=True, env=environment)
    assert len(packed("shards")) == 12


@pytest.fixture
def shard_folder(folder: Path, form: str) -> str:
    nac("pack", "src", "-o", "shards", "--size", "12kB", "--format", form, "-q")
    return "shards"


def test_shards_give_what_the_folder_gives(shard_folder: str) -> None:
    for options in (
        {},
        {"seconds": 0.5},
        {"frames": 30, "codebooks": 2},
        {"frames": 20, "transform": library.flatten},
    ):
        files, data = library.Dataset("src", **options), library.Dataset(shard_folder, **options)
        assert isinstance(data, torch.utils.data.IterableDataset)
        assert data.spec == files.spec
        assert data.frames == files.frames
        assert rows(data) == rows(files)
        assert next(iter(data)).dtype == torch.int64


def given_out(source: str, world: int, workers: int, **options: Any) -> list[list[tuple[int, ...]]]:
    """What each worker on each node gives. Without processes, which take long: later tests have these."""
    found, each = [], max(workers, 1)
    for rank in range(world):
        data = library.Dataset(source, rank=rank, world_size=world, **options)
        for worker in range(each):
            info = torch.utils.data._utils.worker.WorkerInfo(id=worker, num_workers=each, seed=0, dataset=data)
            torch.utils.data._utils.worker._worker_info = info
            try:
                found.append(rows(data))
            finally:
                torch.utils.data._utils.worker._worker_info = None
    return found


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 1), (3, 2), (2, 8)])
def test_every_item_once_over_workers_and_nodes(shard_folder: str, world: int, workers: int) -> None:
    whole = rows(library.Dataset("src", frames=20))
    found = chain.from_iterable(given_out(shard_folder, world, workers, frames=20, shuffle=10, seed=3))
    assert len(whole) == len(set(whole))
    assert sorted(found) == sorted(whole)


@pytest.mark.parametrize("frames", [None, 5, 40])
@pytest.mark.parametrize(("shuffle", "size"), [(0, "1MB"), (10, "1MB"), (0, "25kB"), (10, "25kB")])
def test_those_who_share_a_shard_get_as_much_of_it(
    folder: Path, frames: int | None, shuffle: int, size: str
) -> None:
    """Be it of many files with an item each, or of few with many."""
    nac("pack", "src", "-o", "shards", "--size", size, "-q")
    of = {}
    for name in contents("shards"):
        Path("alone").mkdir()
        shutil.copy(f"shards/{name}", "alone")
        of |= dict.fromkeys(rows(library.Dataset("alone", frames=frames)), name)
        shutil.rmtree("alone")
    assert len(set(of.values())) == (1 if size == "1MB" else 2)
    for world, workers in (1, 3), (2, 2), (7, 1), (2, 5):
        found = given_out("shards", world, workers, frames=frames, shuffle=shuffle)
        assert sorted(chain.from_iterable(found)) == sorted(of)
        sharing: dict[str, list[int]] = {name: [] for name in of.values()}
        for items in found:
            for name in {of[item] for item in items}:
                assert all(of[item] == name for item in items), "from several shards, though there are few"
                sharing[name].append(len(items))
        for counts in [*sharing.values(), list(map(len, sharing.values()))]:
            assert max(counts) - min(counts) <= 1, sharing


def test_the_same_seed_the_same_order(folder: Path) -> None:
    nac("pack", "src", "-o", "shards", "--size", "12kB", "-q")
    options: dict[str, Any] = {"frames": 20, "shuffle": 20}
    data = library.Dataset("shards", **options, seed=1)
    first = rows(data)
    assert first == rows(data)
    assert first == rows(library.Dataset("shards", **options, seed=1))
    assert first == rows(pickle.loads(pickle.dumps(data)))
    assert first != rows(library.Dataset("shards", **options, seed=2))
    assert first != rows(library.Dataset("src", frames=20))
    data.set_epoch(1)
    assert first != rows(data)
    assert sorted(first) == sorted(rows(data))
    data.set_epoch(0)
    assert first == rows(data)


def test_one_shard_that_fits_the_buffer_is_shuffled_anew_in_every_epoch(folder: Path) -> None:
    nac("pack", "src", "-o", "shards", "--format", "tar", "-q")
    data = library.Dataset("shards", shuffle=100)
    orders = [rows(library.Dataset("src"))]
    for epoch in range(3):
        data.set_epoch(epoch)
        orders.append(rows(data))
        assert sorted(orders[-1]) == sorted(orders[0])
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])


def test_workers_that_stay_know_of_the_epoch(folder: Path) -> None:
    nac("pack", "src", "-o", "shards", "--size", "12kB", "-q")
    data = library.Dataset("shards", frames=20, shuffle=20)
    context = multiprocessing.get_context("spawn")
    loader = DataLoader(
        data, batch_size=4, num_workers=1, persistent_workers=True, multiprocessing_context=context
    )
    epochs = []
    for epoch in (0, 1):
        data.set_epoch(epoch)
        epochs.append([tuple(item.flatten().tolist()) for batch in loader for item in batch])
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(rows(library.Dataset("src", frames=20)))


def test_the_node_is_what_torch_says(folder: Path) -> None:
    nac("pack", "src", "-o", "shards", "--size", "12kB", "-q")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as nodes:
        counts = list(nodes.map(items_of_node, [str(folder / "store")] * 2, (0, 1), timeout=120))
    assert min(counts) > 0
    assert sum(counts) == len(library.Dataset("src", frames=20))


def items_of_node(store: str, rank: int) -> int:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    group = torch.distributed.FileStore(store, 2)
    torch.distributed.init_process_group("gloo", store=group, rank=rank, world_size=2)
    return sum(1 for _ in library.Dataset("shards", frames=20))


def test_shards_that_cannot_be_read_are_told(folder: Path, form: str) -> None:
    Path("empty").mkdir()
    with tarfile.open("empty/x.tar", "w"):
        pass
    with pytest.raises(NacError, match=r"no \.nac files in the shards of empty"):
        library.Dataset("empty")
    with pytest.raises(NacError, match="rank 2 is out of range"):
        library.Dataset("empty", rank=2, world_size=2)
    with pytest.raises(NacError, match="both rank and world_size"):
        library.Dataset("empty", rank=2)
    with pytest.raises(NacError, match="with a DataLoader"):
        library.Dataset("src", shuffle=10)
    nac("pack", "src", "-o", "shards", "-q", "--format", form)
    (name,) = contents("shards")
    whole = Path("shards", name).read_bytes()
    Path("shards", name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NacError, match=f"shards/{name}: not a complete"):
        list(library.Dataset("shards"))
    damaged = bytearray(whole)
    damaged[whole.index(sources()[4]) + 200] ^= 1
    Path("shards", name).write_bytes(damaged)
    with pytest.raises(NacError, match=rf"shards/{name}: .*nac: damaged within"):
        list(library.Dataset("shards"))
    file(Path("mixed/snac.nac"), 3, SNAC)
    file(Path("mixed/encodec.nac"), 3)
    nac("pack", "mixed", "-o", "both", "-q", "--format", form)
    with pytest.raises(
        NacError, match=r"snac\.nac: made with snac_24khz" if form == "parquet" else "1.nac: made with snac_24khz"
    ):
        list(library.Dataset("both"))
    (Path("both") / "a.nac").write_bytes(sources()[0])
    with pytest.raises(NacError, match=r"both .nac files and shards"):
        library.Dataset("both")


def test_parquet_without_pyarrow_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in nac("pack", "src", "-o", "shards", "--format", "parquet", code=1).stderr
    Path("other").mkdir()
    Path("other/x.parquet").write_bytes(b"PAR1")
    with pytest.raises(NacError, match="pip install pyarrow"):
        library.Dataset("other")


def test_tars_of_others(folder: Path) -> None:
    """Other names, other files beside the codes, a folder below."""
    Path("theirs/below").mkdir(parents=True)
    with tarfile.open("theirs/below/0.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(Path("src").rglob("*.nac")):
            tar.add(path)
            tar.add("src/notes.txt", str(path.with_suffix(".txt")))
    assert rows(library.Dataset("theirs", frames=20)) == rows(library.Dataset("src", frames=20))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    pytest.importorskip("moto.server", reason="moto's S3 server is absent: pip install 'moto[s3,server]'")
    from pyarrow.fs import FileSystem
    from throttled_s3 import s3_server

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with s3_server() as (throttle, options):
        system, _ = FileSystem.from_uri(f"s3://archive/{options}&allow_bucket_creation=true")
        system.create_dir("archive")
        yield throttle, system, options


@pytest.mark.network
def test_an_object_store(store: Any, folder: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nac.storage.places.PAUSES", (0.01,) * 4)
    from pyarrow.fs import FileSelector

    throttle, system, options = store
    for path in Path("src").rglob("*.*"):
        with system.open_output_stream(f"archive/{form}/{path.as_posix()}") as out:
            out.write(path.read_bytes())
    throttle.times = 1
    words = (
        "pack",
        f"s3://archive/{form}/src{options}",
        "-o",
        f"s3://archive/{form}/shards{options}",
        "--size",
        "12kB",
    )
    message = nac(*words, "--format", form, "-j", "4").stderr
    assert "12 done, 0 skipped, 0 failed" in message
    throttle.times = 0
    assert f"s3://archive/{form}/shards/shards-000000.{form}: " in message
    nac("pack", "src", "-o", "shards", "--size", "12kB", "--format", form, "-q")
    for name, data in contents("shards").items():
        with system.open_input_stream(f"archive/{form}/shards/{name}") as shard:
            assert shard.read() == data
    assert "0 done, 12 skipped" in nac(*words, "--format", form, "--skip-existing").stderr
    whole = rows(library.Dataset("src", frames=20))
    assert rows(library.Dataset(f"s3://archive/{form}/src{options}", frames=20)) == whole
    data = library.Dataset(f"s3://archive/{form}/shards{options}", frames=20)
    assert rows(data) == whole
    assert sorted(rows(data, num_workers=1, multiprocessing_context="spawn")) == sorted(whole)
    nac(*words[:-1], "1MB", "--format", form, "-f", "-q")
    assert len(system.get_file_info(FileSelector(f"archive/{form}/shards"))) == 1


def test_a_stereo_pair_gives_the_stream_asked_for(tmp_path: Path) -> None:
    from dataclasses import replace

    from nac.container import Chunk

    header = replace(HEADER, stereo_pair=True, channels=2, stream_codebooks=(4, 2))
    codes = [np.full(100, number) for number in range(6)]
    chunk = Chunk.pack(header, 0, 100, [codes[:4], codes[4:]])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.nac").write_bytes(written(header, [chunk], 32_000).getvalue())
    library.pack([tmp_path / "in"], tmp_path / "out")
    (item,) = library.Dataset(tmp_path / "out", stream=1)
    assert item[:, 0].tolist() == [4, 5]


def test_the_column_of_a_parquet_shard(folder: Path) -> None:
    """As `nac compress --column` leaves them: other columns may hold .nac files too."""
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import write_table

    files = [path.read_bytes() for path in sorted(Path("src").rglob("*.nac"))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    near = pa.array([{"bytes": data, "path": f"{number}.nac"} for number, data in enumerate(files[:6])], kind)
    Path("shards").mkdir()
    write_table(pa.table({"far": files[6:], "near": near, "text": ["x"] * 6}), "shards/0.parquet")
    with pytest.raises(NacError, match=r"0\.parquet: has several columns of recordings: far, near$") as caught:
        library.Dataset("shards")
    assert caught.value.remedy == "column"
    for column, own in ("far", files[6:]), ("near", files[:6]):
        found = list(library.Dataset("shards", column=column))
        assert len(found) == 6
        for codes, data in zip(found, own, strict=True):
            whole = library.read_codes(io.BytesIO(data))[0]
            assert torch.equal(codes, torch.from_numpy(np.stack(whole).astype(np.int64)))
    with pytest.raises(NacError, match="has no column 'middle'"):
        library.Dataset("shards", column="middle")
    with pytest.raises(NacError, match="column is for Parquet shards"):
        library.Dataset("src", column="near")


def test_a_shard_may_be_just_as_large_as_it_may_be(folder: Path) -> None:
    """What its files take in it, without the end of the tar file."""
    nac("pack", "src", "-o", "whole", "-q")
    with tarfile.open("whole/shards-000000.tar") as tar:
        taken = [512 * (1 + -(-member.size // 512)) for member in tar]
    three = sum(taken[: 2 * 3])  # a description and a file each
    for size, count in ((three - 1, 2), (three, 3), (three + 1, 3)):
        library.pack(["src"], "shards", size=size, force=True)
        first = contents("shards")["shards-000000.tar"]
        assert len(list(shards.read(io.BytesIO(first)))) == count


def test_old_shards_stay_until_the_first_new_one_is_complete(
    folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.pack(["src"], "shards", size=12_000, format=form)
    before = contents("shards")
    assert len(before) > 1

    def full(file: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(output, "sync", full)
        with pytest.raises(NacError, match="No space left"):
            library.pack(["src"], "shards", format=form, force=True)
    assert contents("shards") == before
    library.pack(["src"], "shards", format=form, force=True)
    assert packed("shards") == sources()
    assert len(contents("shards")) == 1
