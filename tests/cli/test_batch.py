"""Many files in one command, of every kind, and what is safe to delete after it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from toy_command import ROOT, nac, wav

from nac.audio import reading as audio
from nac.cli import batch
from nac.errors import ModelError, NacError
from nac.files import conversion as files
from nac.storage import output
from nac.storage.output import SUFFIX, Spent, whole_file
from nac.weights import models

pytestmark = pytest.mark.usefixtures("toy")


def tree(folder: str | Path = ".") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir())


def test_a_folder_of_horrors() -> None:
    names = [
        "a b.wav",
        "new\nline.wav",
        "-dash.wav",
        "ü.wav",
        os.fsdecode(b"caf\xe9.wav"),
        "deep/er/x.wav",
        "n.o.wav",
    ]
    for name in names:
        wav(Path("in") / name)
    Path("in/link.wav").symlink_to("a b.wav")
    Path("in/loop.wav").symlink_to("loop2.wav")
    Path("in/loop2.wav").symlink_to("loop.wav")
    Path("in/deep/back").symlink_to("..")
    Path("in/gone.wav").symlink_to("nowhere.wav")
    os.mkfifo("in/pipe.wav")
    Path("in/empty.wav").touch()
    Path("in/notes.wav").write_text("text")
    Path("in/broken.wav").write_bytes(b"RIFF\4\0\0\0WAVE")
    Path(f"in/.x.wav.01234567{SUFFIX}").write_bytes(b"RIFF")
    result = nac("compress", "-r", "in", "-o", "out", "--json", code=1)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    made = [str(Path(name).with_suffix(".nac")) for name in [*names, "link.wav"]]
    assert tree("out") == sorted(made)
    assert sorted(row["output"] for row in rows if not row["error"]) == sorted(f"out/{name}" for name in made)
    assert [row["input"] for row in rows if row["error"]] == ["in/broken.wav"]
    others = "empty.wav", "gone.wav", "loop.wav", "loop2.wav", "notes.wav"
    assert "ignored 7 other files: " + ", ".join(f"in/{name}" for name in others) in result.stderr
    assert "8 done, 0 skipped, 1 failed" in result.stderr
    assert result.stderr.count("in/broken.wav") == 1


def test_links_that_lead_in_circles_are_an_error_of_their_own() -> None:
    Path("loop.wav").symlink_to("loop.wav")
    wav("a.wav")
    stderr = nac("compress", "loop.wav", "a.wav", "-o", "out", code=1).stderr
    assert "nac: loop.wav: " in stderr
    assert tree("out") == ["a.nac"]


def test_a_folder_that_cannot_be_read_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    wav("in/a.wav"), wav("in/closed/b.wav")
    scandir = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert "nac: in/closed: cannot be read: Permission denied" in nac("compress", "-r", "in", code=1).stderr
    assert Path("in/a.nac").exists()


def test_a_file_of_a_folder_that_cannot_be_read_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in").mkdir()
    Path("in/closed.nac").touch()
    monkeypatch.setattr(Path, "open", denied)
    for command in "info", "verify", "decompress":
        assert "in/closed.nac: cannot be read: Permission denied" in nac(command, "-r", "in", code=1).stderr


def denied(path: Path, *_: object) -> object:
    raise PermissionError(13, "Permission denied", str(path))


def test_a_slash_at_the_end_says_folder() -> None:
    wav("a.wav")
    nac("compress", "a.wav", "-o", "new/")
    assert tree("new") == ["a.nac"]
    nac("decompress", "new/a.nac", "-o", "back/", "--format", "flac")
    assert tree("back") == ["a.flac"]
    for inputs in (["a.wav"], ["a.wav", "b.wav"]):
        assert "a.wav is not a folder" in nac("compress", *inputs, "-o", "a.wav/", code=2).stderr
    assert "a.wav is not a folder" in nac("compress", "b.wav", "c.wav", "-o", "a.wav", code=2).stderr


@pytest.mark.parametrize(
    "command", ["cat a.nac -o", "info a.nac --plot", "verify a.nac --recover", "compare a.wav -o"]
)
@pytest.mark.parametrize("out", ["new/", "there/"])
def test_an_output_that_takes_no_name_from_an_input_is_not_a_folder(command: str, out: str) -> None:
    Path("there").mkdir()
    wav("a.wav")
    nac("compress", "a.wav")
    before = tree(".")
    assert f"{out} is a folder: give the file a name" in nac(*command.split(), out, code=2).stderr
    assert tree(".") == before


@pytest.mark.parametrize("command", ["compress", "decompress", "codes", "convert", "cut --start 1", "peel -k 9"])
@pytest.mark.parametrize("out", ["new/", "there"])
def test_standard_input_has_no_name_in_a_folder(command: str, out: str) -> None:
    Path("there").mkdir()
    where = [out] if command == "convert" else ["-o", out]
    assert "standard input needs -o FILE" in nac(*command.split(), "-", *where, stdin=b"", code=2).stderr
    assert tree() == []


def test_no_input_is_the_output_of_another() -> None:
    wav("in/a.wav"), wav("a.nac")
    wav("b.wav"), Path("other").mkdir()
    stderr = nac("compress", "in/a.wav", "a.nac", "b.wav", "-o", ".", "-f", code=1).stderr
    assert "in/a.wav: a.nac would be overwritten by the output of in/a.wav" in stderr
    assert "a.nac: a.nac would be overwritten by its own output" in stderr
    assert "1 done, 0 skipped, 2 failed" in stderr
    Path("b.wav").unlink()
    Path("b.wav").symlink_to("in/a.wav")
    Path("out").mkdir()
    Path("out/a.nac").symlink_to("../in/a.wav")
    assert "would be overwritten" in nac("compress", "in/a.wav", "-o", "out", "-f", code=2).stderr


def test_skipped_files_have_their_line_of_json() -> None:
    wav("a.wav"), wav("b.wav")
    nac("compress", "a.wav")
    rows = nac("compress", "a.wav", "b.wav", "--skip-existing", "--json").stdout.splitlines()
    assert [json.loads(row)["skipped"] for row in rows] == [True, False]
    assert json.loads(rows[0]) == dict.fromkeys(json.loads(rows[1]), None) | {
        "input": "a.wav",
        "output": "a.nac",
        "skipped": True,
    }


def test_what_is_wrong_is_not_skipped_though_its_output_exists() -> None:
    wav("a.wav"), wav("in/a.flac"), wav("b.wav")
    nac("compress", "a.wav", "b.wav", "-o", "out", "-q")
    words = ["compress", "a.wav", "in/a.flac", "b.wav", "-o", "out", "--skip-existing", "--json"]
    rows = [json.loads(line) for line in nac(*words, code=1).stdout.splitlines()]
    assert [row["skipped"] for row in rows] == [False, False, True]
    assert [bool(row["error"]) for row in rows] == [True, True, False]


def test_what_is_always_there_is_never_skipped() -> None:
    """Devices and pipes exist before anything is written to them."""
    wav("a.wav", 3000)
    Path("there.nac").touch()
    os.mkfifo("pipe")
    reader = threading.Thread(target=Path("pipe").read_bytes, daemon=True)
    reader.start()
    for name in ("/dev/null", "pipe", "there.nac"):
        result = nac("compress", "a.wav", "-o", name, "--skip-existing", "--json")
        assert json.loads(result.stdout)["skipped"] == (name == "there.nac")
    reader.join(10)


def test_what_is_wrong_for_every_file_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wav("a.wav"), wav("b.wav")
    for words in (
        ["-m", "tyo"],
        ["--device", "gpu"],
        ["--device", "cuda:x"],
        ["-m", "toy", "--codebooks", "3"],
        ["-m", "toy", "-k", "1"],
        ["--weights", "a.wav"],
    ):
        assert nac("compress", "a.wav", "b.wav", *words, code=2).stderr.count("Error: ") == 1
    assert "unknown device 'gpu'" in nac("decompress", "a.nac", "--device", "gpu", code=2).stderr

    def load(name: str, **_: object) -> None:
        loads.append(name)
        raise ModelError("no weights")

    loads: list[str] = []
    monkeypatch.setattr(models, "load", load)
    for workers in "1", "3":
        assert (
            nac("compress", "a.wav", "b.wav", "-m", "toy", "-q", "-j", workers, code=1).stderr
            == "nac: no weights\n"
        )
    loads.clear()
    assert "0 done, 0 skipped, 2 failed" in nac("compress", "a.wav", "b.wav", code=1).stderr
    assert loads == ["toy"]


def test_what_is_not_installed_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    wav("a.wav"), wav("b.wav")

    def load(name: str, **_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(models, "load", load)
    line = "needs torch, which is not installed: pip install torch"
    assert nac("compress", "a.wav", "b.wav", "-m", "toy", "-q", code=1).stderr == f"nac: {line}\n"
    assert nac("compress", "a.wav", code=1).stderr == f"nac: a.wav: {line}\n"


def test_an_error_nobody_thought_of_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    compress = files.Compression.run
    errors = [ZeroDivisionError("x"), MemoryError(), RuntimeError("CUDA out of memory. Tr")]

    def failing(*args: object, **options: object) -> object:
        if errors:
            raise errors.pop()
        return compress(*args, **options)

    monkeypatch.setattr(files.Compression, "run", failing)
    for name in "abcd":
        wav(f"{name}.wav")
    lines = nac("compress", "a.wav", "b.wav", "c.wav", "d.wav", "-j", "1", code=1).stderr.splitlines()
    assert lines[:2] == [f"nac: {name}.wav: not enough memory" for name in "ab"]
    assert lines[2].startswith(
        "nac: c.wav: an error in nac, please report it: ZeroDivisionError: x (test_batch.py:"
    )
    assert lines[4] == "1 done, 0 skipped, 3 failed"


def test_a_folder_that_vanishes_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a disk was mounted there is then another, which the rest of the night would fill."""
    for name in ("a.wav", "b.wav", "sub/c.wav", "sub/d.wav"):
        wav(f"in/{name}")
    compress = files.Compression.run

    def vanishing(how: files.Compression, source: Path, out: Path, load: Any, **options: Any) -> Any:
        result = compress(how, source, out, load, **options)
        if Path(out).name == "a.nac":
            Path("disk/out").rename("gone")
        return result

    monkeypatch.setattr(files.Compression, "run", vanishing)
    Path("disk").mkdir()
    stderr = nac("compress", "-r", "in", "-o", "disk/out", "-j", "1", code=1).stderr
    assert stderr.count("No such file or directory") == 3
    assert "1 done, 0 skipped, 3 failed" in stderr
    assert list(Path("disk").iterdir()) == []
    monkeypatch.setattr(files.Compression, "run", compress)
    nac("compress", "-r", "in", "-o", "disk/out")


def test_standard_input_is_looked_at_like_a_file() -> None:
    wav("a.wav", samples=400_000)
    nac("compress", "a.wav", "-q")
    data = Path("a.nac").read_bytes()
    theirs = json.loads(nac("info", "-", "--json", stdin=data).stdout)
    assert theirs == json.loads(nac("info", "a.nac", "--json").stdout) | {"path": "-"}
    for words, found in (
        (["info", "-"], b"in 3 chunks"),
        (["verify", "-"], b"-: whole, 0:25.0 in 3 chunks"),
        (["verify", "-", "--recover", "b.nac"], b"-: 3 whole chunks, 0:25.0, saved to b.nac"),
    ):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "nac", *words]
        assert found in subprocess.run(command, input=data, capture_output=True, env=environment).stdout
    assert "cut short" in nac("verify", "-", stdin=data[:-3], code=1).stderr


def changing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that gives back other bytes than it was given."""
    sync = output.sync

    def damage(file: object) -> None:
        sync(file)
        os.pwrite(file.fileno(), b"!", os.fstat(file.fileno()).st_size // 2)

    for place in "nac.files.verify.sync", "nac.files.conversion.sync":
        monkeypatch.setattr(place, damage)


def test_an_output_that_does_not_come_back_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    wav("a.wav")
    nac("compress", "a.wav", "--verify", "-q")
    nac("verify", "a.nac")
    assert "standard output" in nac("compress", "a.wav", "--verify", "-o", "-", code=2).stderr
    assert "cannot be read back" in nac("compress", "a.wav", "--verify", "-o", "/dev/null", code=1).stderr
    changing(monkeypatch)
    for words in (["--verify"], ["--remove-source"]):
        assert "reading the output back failed" in nac("compress", "a.wav", "-f", *words, code=1).stderr
    message = nac("decompress", "a.nac", "-o", "b.flac", "--remove-source", code=1).stderr
    assert "reading the output back failed" in message
    assert tree() == ["a.nac", "a.wav"]
    nac("verify", "a.nac")


def test_sources_are_removed_when_their_outputs_are_safe() -> None:
    wav("in/a.wav", samples=50_000), wav("in/b/c.wav")
    Path("in/broken.wav").write_bytes(b"RIFF\4\0\0\0WAVE")
    nac("compress", "-r", "in", "-o", "out", "--remove-source", code=1)
    assert tree("in") == ["broken.wav"]
    assert tree("out") == ["a.nac", "b/c.nac"]
    for form in "wav", "flac", "ogg", "mp3":
        nac("compress", "-r", "in", "-o", "out", "--skip-existing", "--remove-source", code=1)
        nac("decompress", "-r", "out", "-o", form, "--format", form, "-q")
    nac("decompress", "-r", "out", "-o", "back", "--remove-source", "-j", "2")
    assert (tree("out"), tree("back")) == ([], ["a.wav", "b/c.wav"])


def test_sources_that_stay() -> None:
    data = wav("a.wav").read_bytes()
    Path("link.wav").symlink_to("a.wav")
    assert "not a plain file" in nac("compress", "link.wav", "--remove-source", code=1).stderr
    for words in (["-", "-o", "x.nac"], ["a.wav", "-o", "-"]):
        assert (
            "--remove-source needs files" in nac("compress", *words, "--remove-source", stdin=data, code=2).stderr
        )
    Path("a.nac").touch()
    nac("compress", "a.wav", "--remove-source", "--skip-existing")
    assert "exists" in nac("compress", "a.wav", "--remove-source", code=1).stderr
    nac("compress", "a.wav", "-fq")
    for words in (["--start", "1"], ["--duration", "1"], ["--codebooks", "1"], ["-k", "200"]):
        assert "cannot be used with" in nac("decompress", "a.nac", "--remove-source", *words, code=2).stderr
    assert tree() == ["a.nac", "a.wav", "link.wav"]


def test_a_source_that_changed_meanwhile_stays(tmp_path: Path) -> None:
    path = wav("a.wav")
    spent = Spent(path)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(NacError, match="changed in the meantime"):
        spent.remove(tmp_path / "a.nac")
    assert path.exists()


@pytest.mark.skipif(os.name == "nt", reason="signals go to processes there, not to threads")
def test_an_interruption_that_the_system_gives_to_a_worker_stops_all() -> None:
    stop, message = threading.Event(), []

    def work(job: batch.Job) -> None:
        if job.input.name == "0":
            time.sleep(0.5)  # until the main thread waits
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        message.append(stop.wait(10))

    jobs = [batch.Job(Path(str(i)), Path(f"{i}.nac")) for i in range(2)]
    with pytest.raises(KeyboardInterrupt):
        batch.run(jobs, work, workers=2, cancel=stop.set)
    assert message == [True, True]


def test_the_next_run_deletes_what_killed_ones_left_and_nothing_else() -> None:
    keep = ["a.nac-part", ".a.nac.0123456.nac-part", ".a.nac.01234567.part", ".a.nac.0123456x.nac-part"]
    for name in [*keep, ".old.nac.01234567.nac-part", ".x\ny.nac.89abcdef.nac-part"]:
        Path(name).write_bytes(b"half")
    Path(".link.0123abcd.nac-part").symlink_to(keep[0])
    held = Path(".held.nac.01234567.nac-part")
    code = f"import fcntl; f = open({str(held)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as other:
        other.stdout.readline()
        wav("a.wav")
        nac("compress", "a.wav", "-q")
        assert tree() == sorted([*keep, ".link.0123abcd.nac-part", str(held), "a.nac", "a.wav"])
        other.communicate(b"\n")
    output.sweep.cache_clear()
    nac("compress", "a.wav", "--skip-existing", "-q")
    assert not held.exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for links in True, False:
        if not links:
            monkeypatch.setattr(Path, "hardlink_to", lambda *_: os.link("", ""))
        with pytest.raises(NacError, match="exists"), whole_file(tmp_path / "x", force=False):
            (tmp_path / "x").write_bytes(b"first")
        assert (tree(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"first")
        (tmp_path / "x").unlink()
        with whole_file(tmp_path / "x", force=False) as file:
            file.write(b"new")
        assert (tree(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"new")
        (tmp_path / "x").unlink()


def test_many_writers_in_one_folder_do_not_sweep_each_other(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from nac.storage.output import sweep, whole_file\n"
    code += "for i in range(60):\n    sweep.cache_clear()\n    path = Path(sys.argv[1]) / f'{sys.argv[2]}-{i}'\n"
    code += "    with whole_file(path, force=False) as file: file.write(b'x' * 1000)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(n)], cwd=ROOT, stderr=subprocess.PIPE) for n in range(3)]
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    assert len(tree(tmp_path)) == 180


def test_the_bytes_do_not_depend_on_blocks_threads_or_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network in the package; the toy codec's are in test_cli.py and test_pipeline.py."""
    monkeypatch.undo()
    folder = ROOT / "examples" / "audio"
    monkeypatch.chdir(folder)
    made: dict[str, set[bytes]] = {"speech": set(), "guitar": set()}
    for name, data in made.items():
        for block in (1 << 15, 4_321):
            monkeypatch.setattr(audio, "BLOCK", block)
            out = io.BytesIO()
            files.compress(Path(f"{name}.flac"), out, model="nac_24khz", kbps=3)
            data.add(out.getvalue())
    with tempfile.TemporaryDirectory() as out_folder:
        for threads, workers in (("1", "1"), ("2", "2")):
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads}
            environment["OPENBLAS_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = threads
            words = ["compress", "speech.flac", "guitar.flac", "-m", "nac_24khz", "-k", "3", "-q", "-f"]
            command = [sys.executable, "-m", "nac", *words, "-j", workers, "-o", out_folder]
            subprocess.run(command, env=environment, check=True)
            for name, data in made.items():
                data.add((Path(out_folder) / f"{name}.nac").read_bytes())
    assert {name: len(data) for name, data in made.items()} == {"speech": 1, "guitar": 1}
