"""What a worker does before and after its files, without Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toy_command import ROOT, install_toy, wav

from nac.cluster import parts, workers
from nac.cluster.jobs import Action, Job, jobs
from nac.cluster.worker import Worker, scratch
from nac.errors import NacError
from nac.files.conversion import Compression
from nac.files.encoding import Encoding
from nac.files.names import nac_name
from nac.files.notes import Notes
from nac.files.shards import Done, Outcome
from nac.storage.places import place
from nac.storage.records import Item
from nac.version import __version__ as nac_version


def test_a_worker_says_which_weights_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = install_toy(monkeypatch)

    def said(model: str | None) -> tuple[str, ...]:
        return Worker(Action(Compression(Encoding()), "src", "dst", str, {}, {}, model), Notes()).ready()

    first = said("toy")
    assert first == (nac_version, codec.spec.fingerprint)
    codec.spec = replace(codec.spec, fingerprint="of others")
    assert said("toy") == (nac_version, "of others")
    assert said(None) == (nac_version, "toy")


def test_workers_with_other_weights_are_refused() -> None:
    def start(*versions: str) -> None:
        together = workers.Workers(Action(Compression(Encoding()), "src", "dst", str, {}, {}), options, print)
        for version in versions:
            together._mark_ready(workers.Started(None), (nac_version, version))

    options = workers.WorkerOptions()
    start("these", "these")
    with pytest.raises(NacError, match=r"the machines have different versions .*, those; .*, these") as raised:
        start("these", "those")
    assert raised.value.remedy == "model"


def test_only_workers_that_die_in_a_row_while_starting_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(kill=lambda actor: None))
    monkeypatch.setattr(workers.Workers, "_start", lambda self: None)
    action = Action(Compression(Encoding()), "src", "dst", str, {}, {})
    together = workers.Workers(action, workers.WorkerOptions(), print)

    def dies(ready: bool = False) -> None:
        worker = workers.Started(None, ready=ready)
        together._workers.append(worker)
        assert list(together._lost(workers.Call(worker, ()), workers.Queue((), 1))) == []

    for _ in range(3):
        dies()
        dies()
        dies(ready=True)  # while it worked
        together._mark_ready(workers.Started(None), (nac_version, "these"))
    dies()
    dies()
    with pytest.raises(NacError, match="3 workers in a row died while starting"):
        dies()


def test_what_a_killed_worker_held_is_deleted_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from nac.cluster.worker import scratch; held = scratch(); print(held[0], flush=True); input()"
    settings: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = []
    for _ in range(2):
        environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen([sys.executable, "-c", code], env=environment, **settings))
    killed, living = started
    folders = [Path(worker.stdout.readline().strip()) for worker in started]
    (folders[0] / "fetched").mkdir()
    (folders[0] / "fetched" / "a.wav").touch()
    killed.kill()
    killed.wait()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder, held = scratch()
    with held:
        assert set(tmp_path.iterdir()) == {folders[1], Path(folder)}
    living.communicate("\n")


def worker(**options: Any) -> Worker:
    """One that compresses the files in src to dst."""
    how = Compression(Encoding("toy"))
    return Worker(Action(how, "src", "dst", nac_name, {}, {}, "toy", **options), Notes())


def test_an_existing_output_is_kept_without_force_and_checked(toy: object) -> None:
    wav("src/a.wav", 4000)
    job = Job("a.wav", "a.nac")
    assert [done.status for done in worker().do([job])] == ["done"]
    whole = Path("dst/a.nac").read_bytes()
    (skipped,) = worker().do([job])
    assert (skipped.status, skipped.row.model, skipped.row.seconds) == ("skipped", "toy", 0.25)
    Path("dst/a.nac").write_bytes(b"half an output")
    (failed,) = worker().do([job])
    assert failed.status == "failed"
    assert failed.row.error == "a.nac exists but is not complete: not a .nac file"
    assert Path("dst/a.nac").read_bytes() == b"half an output"
    assert [done.status for done in worker(force=True).do([job])] == ["done"]
    assert Path("dst/a.nac").read_bytes() == whole


def test_what_is_left_of_a_worker_that_died_over_a_file_is_deleted(toy: object) -> None:
    """Its folder has been swept before, which is done once in a run."""
    for name in ("a", "b", "c"):
        wav(f"src/{name}.wav", 4000)
    survivor = worker()
    survivor.do([Job("a.wav", "a.nac")])
    left = Path("dst/.b.nac.0123abcd.nac-part")
    left.write_bytes(b"half an output")
    survivor.do([Job("b.wav", "b.nac", suspect=True)])
    assert sorted(path.name for path in Path("dst").iterdir()) == ["a.nac", "b.nac"]


def test_parts_are_joined_in_order_if_all_are_there(tmp_path: Path) -> None:
    target = place(str(tmp_path))

    def write(number: int, *keys: str) -> None:
        path = tmp_path / parts.name("s/a.tar", number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            parts.write(file, (done_of(key) for key in keys))

    def done_of(key: str) -> Done:
        return Done({1: Item(f"{key}.nac", key.encode() * 3)}, (Outcome(key, notes=("a note",)),))

    with parts.kept(target):
        write(2, "e")
        write(0, "a", "b")
        assert parts.joined(target, "s/a.tar", 3) is None
        assert parts.joined(target, "s/a.tar", 0) is None
        write(1, "c", "d")
        joined = parts.joined(target, "s/a.tar", 3)
        assert joined is not None
        assert list(joined) == [done_of(key) for key in "abcde"]
        assert parts.joined(target, "s/a.tar", 4) is None
    assert not (tmp_path / parts.FOLDER).exists()


@pytest.mark.parametrize("count", [2, 11, 101])
def test_any_number_of_parts_is_joined_in_their_order(tmp_path: Path, count: int) -> None:
    target = place(str(tmp_path))
    with parts.kept(target):
        for number in reversed(range(count)):
            path = tmp_path / parts.name("a.tar", number)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                parts.write(file, [Done({}, (Outcome(str(number)),))])
        joined = parts.joined(target, "a.tar", count)
        assert joined is not None
        assert [int(done.outcomes[0].key) for done in joined] == list(range(count))


def test_parts_of_a_run_that_was_killed_are_not_joined(tmp_path: Path) -> None:
    old = tmp_path / parts.name("a.tar", 0)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"of other settings")
    with parts.kept(place(str(tmp_path))):
        assert parts.joined(place(str(tmp_path)), "a.tar", 1) is None
        assert not old.exists()


@pytest.mark.parametrize("error", [NacError("fails"), KeyboardInterrupt()])
def test_no_parts_stay_after_a_run_that_failed(tmp_path: Path, error: BaseException) -> None:
    part = tmp_path / parts.name("a.tar", 0)

    def run() -> None:
        with parts.kept(place(str(tmp_path))):
            part.parent.mkdir(parents=True)
            part.write_bytes(b"a part")
            raise error

    with pytest.raises(type(error)):
        run()
    assert not (tmp_path / parts.FOLDER).exists()


def test_inputs_with_the_same_output_fail_and_the_others_do_not(toy: object) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "sub/a.wav"):
        wav(f"src/{name}", 400)
    shutil.copy("src/a.wav", "src/a.flac")
    Path("src/b.txt").write_text("no recording, and so no rival")
    found = dict[str, str]()
    for item in jobs(Action(Compression(Encoding()), "src", "dst", nac_name, {}, {}), frozenset()):
        found[item.input if isinstance(item, Job) else item.row.input] = (
            "job" if isinstance(item, Job) else item.row.error or item.status
        )
    rivals = "a.flac and a.wav have the same output a.nac"
    alone = dict.fromkeys(("b.wav", "c.wav", "sub/a.wav"), "job")
    assert found == {"a.flac": rivals, "a.wav": rivals, "b.txt": "other", **alone}
