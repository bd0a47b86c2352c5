"""What a manifest says is done, and what is done again."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path
from typing import BinaryIO

import pytest
from audio_shards import tar
from toy_command import nac, wav
from watched_disk import watched

pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install 'nac-audio[ray]'")

import pyarrow.parquet

from nac.cluster import manifest, worker
from nac.cluster.manifest import Manifest, Row
from nac.errors import NacError
from nac.storage.places import MANIFEST, place


def test_what_failed_is_not_done(tmp_path: Path) -> None:
    with Manifest(place(str(tmp_path))) as manifest:
        manifest.add([Row("good.wav", "good.nac"), Row("bad.wav", "bad.nac", error="cut off"), Row("\udcff", "x")])
        manifest.add(
            [Row("shard.tar", "shard.tar", key=str(n), error="cut off" if n == 1 else None) for n in "012"]
        )
    with Manifest(place(str(tmp_path))) as manifest:
        manifest.add([Row("mended.wav", "mended.nac", error="cut off")])
    with Manifest(place(str(tmp_path))) as manifest:
        manifest.add([Row("mended.wav", "mended.nac")])
    done = Manifest(place(str(tmp_path))).done()
    assert [name for name in ("good.wav", "shard.tar", "mended.wav", "\udcff") if name not in done] == []
    assert [name for name in ("bad.wav", "good.nac", "good", "", "other.wav") if name in done] == []
    assert len(list((tmp_path / MANIFEST).iterdir())) == 3  # a run adds a file, and changes none


def test_what_is_done_is_written_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a number of rows or some time, so that a run that is killed need not begin again."""
    monkeypatch.setattr(manifest, "ROWS", 3)
    with Manifest(place(str(tmp_path))) as rows:
        for number, files in enumerate((0, 0, 1, 1)):
            rows.add([Row(f"{number}.wav", "x")])
            assert len(list(tmp_path.rglob("*.parquet"))) == files
        monkeypatch.setattr(manifest, "SECONDS", -1.0)
        rows.add([Row("4.wav", "x")])
        assert len(list(tmp_path.rglob("*.parquet"))) == 2
        assert all(f"{number}.wav" in rows.done() for number in range(5))


@pytest.mark.parametrize("error", [NacError("fails"), KeyboardInterrupt()])
def test_what_was_done_before_a_run_failed_is_written(tmp_path: Path, error: BaseException) -> None:
    def run() -> None:
        with Manifest(place(str(tmp_path))) as rows:
            rows.add([Row("a.wav", "a.nac")])
            raise error

    with pytest.raises(type(error)):
        run()
    assert "a.wav" in Manifest(place(str(tmp_path))).done()


def counts(message: str) -> list[int]:
    return [int(number) for number in re.findall(r"^(\d+) done, (\d+) skipped, (\d+) failed$", message, re.M)[0]]


def test_what_failed_is_tried_by_every_run_until_it_is_done(toy: object) -> None:
    """Also where something lies in the place of the output, which by itself would count as done."""
    for name in ("a", "b", "c"):
        wav(f"src/{name}.wav", 4000)
    whole = Path("src/b.wav").read_bytes()
    Path("src/b.wav").write_bytes(whole[:-1000])
    Path("dst").mkdir()
    Path("dst/c.nac").write_bytes(b"something else")
    words = ("compress", "-r", f"file://{Path('src').absolute()}", "-o", "dst")
    assert counts(nac(*words, code=1).stderr) == [1, 0, 2]
    for _ in range(2):
        assert counts(nac(*words, code=1).stderr) == [0, 1, 2]
    Path("src/b.wav").write_bytes(whole)
    Path("dst/c.nac").unlink()
    assert counts(nac(*words).stderr) == [2, 1, 0]
    assert counts(nac(*words).stderr) == [0, 3, 0]
    assert counts(nac(*words, "-f").stderr) == [3, 0, 0]


def test_outputs_of_both_directions_stay_unless_forced(toy: object) -> None:
    for name in ("a", "b"):
        wav(f"src/{name}.wav", 4000)
    for words, output in ((("compress", "-r"), "a.nac"), (("decompress", "-r"), "a.wav")):
        source, target = ("src", "packed") if words[0] == "compress" else ("packed", "back")
        command = (*words, f"file://{Path(source).absolute()}", "-o", target)
        assert counts(nac(*command).stderr) == [2, 0, 0]
        made = Path(target, output).read_bytes()
        Path(target, output).write_bytes(b"mine")
        assert counts(nac(*command).stderr) == [0, 2, 0]
        assert Path(target, output).read_bytes() == b"mine"
        assert counts(nac(*command, "-f").stderr) == [2, 0, 0]
        assert Path(target, output).read_bytes() == made


@pytest.mark.parametrize("which", ["packed", "back"])
def test_a_shard_that_has_fewer_recordings_than_its_source_is_not_done(toy: object, which: str) -> None:
    """In both directions, and until the other one is written again."""
    sounds = [wav(f"src/{number}.wav", 4000).read_bytes() for number in range(4)]
    here = f"file://{Path().absolute()}"
    ways = (("compress", "in", "packed"), ("decompress", "packed", "back"))
    tar("in/x.tar", sounds)
    for word, source, target in ways:
        nac(word, "-r", f"{here}/{source}", "-o", target)
        if target == which:
            with tarfile.open(f"{target}/x.tar") as whole, tarfile.open(f"{target}/y.tar", "w") as part:
                for member in whole.getmembers()[:-3]:
                    part.addfile(member, whole.extractfile(member))
            Path(target, "y.tar").replace(Path(target, "x.tar"))
            shutil.rmtree(Path(target, MANIFEST))
            result = nac(word, "-r", f"{here}/{source}", "-o", target, code=1)
            assert "exists, but 1 of the recordings are only in one of the shards" in result.stderr
            assert counts(nac(word, "-r", f"{here}/{source}", "-o", target, "-f").stderr) == [4, 0, 0]
            shutil.rmtree(Path(target, MANIFEST))
            assert counts(nac(word, "-r", f"{here}/{source}", "-o", target).stderr) == [0, 4, 0]


def test_a_part_of_the_manifest_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later run reads all of them."""

    def fails(table: object, file: BinaryIO) -> None:
        file.write(b"PAR1 and so on")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(pyarrow.parquet, "write_table", fails)
        with pytest.raises((OSError, NacError), match="no space left"), Manifest(place(str(tmp_path))) as rows:
            rows.add([Row("a.wav", "a.nac")])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    disk = watched(monkeypatch)
    with Manifest(place(str(tmp_path))) as rows:
        rows.add([Row("a.wav", "a.nac")])
    assert {path.name for path in tmp_path.rglob("*.parquet")} == disk.named() != set()


def test_an_output_without_a_row_gets_one(toy: object) -> None:
    """A run may be killed between the two. Later runs then need not open the output."""
    for name in ("a", "b"):
        wav(f"src/{name}.wav", 4000)
    words = ("compress", "-r", f"file://{Path('src').absolute()}", "-o", "dst")
    nac(*words)
    shutil.rmtree(Path("dst", MANIFEST))
    assert counts(nac(*words).stderr) == [0, 2, 0]
    (table,) = map(pyarrow.parquet.read_table, Path("dst", MANIFEST).glob("*.parquet"))
    rows = {row["input"]: row for row in table.to_pylist()}
    assert rows.keys() == {"a.wav", "b.wav"}
    for row in rows.values():
        assert (row["model"], row["seconds"], row["error"]) == ("toy", 0.25, None)
        assert row["bytes_in"] == Path("src", row["input"]).stat().st_size
        assert row["bytes_out"] == Path("dst", row["output"]).stat().st_size
    assert counts(nac(*words).stderr) == [0, 2, 0]
    assert len(list(Path("dst", MANIFEST).glob("*.parquet"))) == 1


def test_what_is_done_is_passed_over_whatever_else_is_in_the_folder(
    toy: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without opening any file, of which there may be millions."""
    names = [f"{letter}{number}" for letter in "bdf" for number in range(3)]
    for name in names:
        wav(f"src/{name}.wav", 400)
    words = ("compress", "-r", f"file://{Path('src').absolute()}", "-o", "dst")
    nac(*words)
    for letter in "aceg":
        for number in range(3):
            Path(f"dst/{letter}{number}.nac").write_bytes(b"something else")
    monkeypatch.setattr(worker, "info", lambda file: pytest.fail("an output was opened"))
    assert counts(nac(*words).stderr) == [0, len(names), 0]
