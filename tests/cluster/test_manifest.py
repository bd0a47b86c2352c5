"""What a manifest says is done, and what is done again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toy_command import nac, wav

pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install 'nac-audio[ray]'")

from nac.cluster import manifest
from nac.cluster.manifest import Manifest, Row
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
