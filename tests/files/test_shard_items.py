"""nac compress and nac decompress of shards: items as files would become, all else as it was."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import json
import lzma
import re
import signal
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from audio_shards import BROKEN, members, parquet, recordings, tar
from toy_command import install_toy, nac, run, wav

import nac as library
from nac.errors import NacError
from nac.files.shards import Outcome, Recoding, is_packed, is_recording, recode
from nac.files.shards import items as read_items
from nac.storage.output import Result
from nac.storage.records import WHOLE, Part
from nac.storage.shards import is_shard, open_shard
from nac.storage.tar import stem_of

GOOD = [number for number in range(6) if number != BROKEN]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    install_toy(monkeypatch)
    return tmp_path


@pytest.fixture(params=["tar", "parquet"])
def form(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    return str(request.param)


def made(form: str, path: str, sounds: list[bytes]) -> None:
    (tar if form == "tar" else parquet)(path, sounds)


def items(path: str | Path, wanted: Any = is_packed) -> dict[str, bytes]:
    with Path(path).open("rb") as file:
        return {i.key: bytes(i.data) for record in open_shard(file, wanted).records() for i in record.items}


def plain(folder: str, *words: str, command: str = "compress", code: int = 0) -> dict[str, bytes]:
    """What the command makes of the files in a folder, by name."""
    nac(command, "-r", folder, "-o", f"{folder}-plain", *words, code=code)
    return {path.name: path.read_bytes() for path in sorted(Path(f"{folder}-plain").iterdir())}


def test_a_tar_file(folder: Path) -> None:
    others = tar("in/a.tar", recordings("src"))
    message = nac("compress", "in/a.tar", "-o", "out", "--json", code=1)
    kept = {name: data for name, data in others.items() if f"{BROKEN:04}" not in name}
    found = members("out/a.tar")
    assert {name: data for name, data in found.items() if not name.endswith(".nac")} == kept
    sounds = {name.split("/")[1]: data for name, data in found.items() if name.endswith(".nac")}
    assert sounds == plain("src", code=1)
    order = [name.replace(".wav", ".nac") for name in members("in/a.tar") if f"{BROKEN:04}" not in name]
    assert list(found) == order

    rows = [json.loads(line) for line in message.stdout.splitlines()]
    assert [row["key"] for row in rows] == [f"part one/{number:04}.wav" for number in range(6)]
    assert {row["input"] for row in rows} == {"in/a.tar"}
    assert {row["output"] for row in rows} == {"out/a.tar"}
    assert [row["key"] for row in rows if row["error"]] == [f"part one/{BROKEN:04}.wav"]
    assert all(row["bytes_out"] == len(sounds[f"{number:04}.nac"]) for number in GOOD for row in [rows[number]])
    assert f"in/a.tar: part one/{BROKEN:04}.wav: cut off" in message.stderr


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 100])
def test_parts_hold_every_record_once(folder: Path, form: str, parts: int) -> None:
    sounds = recordings("src", 11)
    if form == "tar":
        tar("a.tar", sounds[:10])
        with tarfile.open("a.tar", "a", format=tarfile.PAX_FORMAT) as file:  # a long name, and nothing beside it
            file.add("src/0010.wav", "x" * 300 + ".wav")
    else:
        parquet("a.parquet", sounds)

    def found(part: Part) -> list[tuple[str, bytes]]:
        with Path(f"a.{form}").open("rb") as file:
            records = list(open_shard(file, is_recording).records(part))
            return [(item.key, bytes(item.data)) for record in records for item in record.items]

    pieces = [found(Part(number, parts)) for number in range(parts)]
    assert [pair for piece in pieces for pair in piece] == found(WHOLE)
    assert len(found(WHOLE)) == 11
    assert max(map(len, pieces)) <= (11 if parts == 1 else 8)
    how = Recoding(halved, str, is_recording)
    with Path(f"a.{form}").open("rb") as file:
        done = [each for number in range(parts) for each in how.part(file, Part(number, parts), no_notes)]
    recode(f"a.{form}", "whole", how)
    recode(f"a.{form}", "joined", Recoding(refused, str, is_recording), done=done)
    assert Path("joined").read_bytes() == Path("whole").read_bytes()
    for other in done[:-1], [*done, done[0]]:
        with pytest.raises(NacError, match="has changed in the meantime"):
            recode(f"a.{form}", "other", how, done=other)
    assert not Path("other").exists()


def test_headers_of_tar_files_stay(folder: Path) -> None:
    """Those of what stays byte for byte, of what is replaced all but name and size."""
    long = "é" * 90 + "/" + "x" * 120
    sound = wav("a.wav", 4000).read_bytes()
    with tarfile.open("a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "for all"}) as file:
        for name in (f"{long}.json", f"{long}.wav", "d", "d/l.json", "d/b.c.flac"):
            member = tarfile.TarInfo(name)
            member.mtime, member.uid, member.gname = 1_600_000_000.25, 1234, "ü"
            member.pax_headers = {"COLOUR": "red"}
            member.type = {"d": tarfile.DIRTYPE, "d/l.json": tarfile.SYMTYPE}.get(name, tarfile.REGTYPE)
            data = sound if name.endswith(("wav", "flac")) else b"{}" * member.isreg()
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    nac("compress", "a.tar", "-o", "b.tar")
    with tarfile.open("a.tar") as before, tarfile.open("b.tar") as after:
        assert before.pax_headers == after.pax_headers
        for old, new in zip(before.getmembers(), after.getmembers(), strict=True):
            recorded = old.name.endswith((".wav", ".flac"))
            assert new.name == (old.name.rpartition(".")[0] + ".nac" if recorded else old.name)
            for key in ("mtime", "uid", "gname", "mode", "type", "linkname"):
                assert getattr(new, key) == getattr(old, key)
            assert new.pax_headers["COLOUR"] == "red"
            start, end = old.offset, old.offset_data + old.size
            if not recorded:
                assert Path("a.tar").read_bytes()[start:end] in Path("b.tar").read_bytes()
    assert members("b.tar")["d/b.c.nac"] == members("b.tar")[f"{long}.nac"]


@pytest.mark.parametrize("struct", [True, False])
def test_a_parquet_file(folder: Path, struct: bool) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    from pyarrow.parquet import ParquetFile, read_table

    table = parquet("in/a.parquet", recordings("src"), struct=struct)
    message = nac("compress", "in/a.parquet", "-o", "out", "--json", code=1)
    found = read_table("out/a.parquet")
    assert found.schema.equals(table.schema, check_metadata=True)
    assert found.drop(["audio"]).equals(table.take(GOOD).drop(["audio"]))
    audio = found["audio"].to_pylist()
    assert [value["bytes"] if struct else value for value in audio] == list(plain("src", code=1).values())
    if struct:
        assert [value["path"] for value in audio] == [f"{number:04}.nac" for number in GOOD]
    about, before = (ParquetFile(f"{name}/a.parquet").metadata for name in ("out", "in"))
    assert [about.row_group(number).num_rows for number in range(about.num_row_groups)] == [3, 2]
    for number in range(about.num_columns):
        old, new = before.row_group(0).column(number), about.row_group(0).column(number)
        assert (old.path_in_schema, old.compression) == (new.path_in_schema, new.compression)

    keys = [row["key"] for row in map(json.loads, message.stdout.splitlines())]
    assert keys == [f"{n:04}.wav" if struct else f"row {n + 1}" for n in range(6)]
    assert "cut off" in message.stderr


def test_there_and_back(folder: Path, form: str) -> None:
    made(form, f"in/a.{form}", recordings("src"))
    nac("compress", f"in/a.{form}", "-o", "out", "--keep-failed", code=1)
    nac("compress", "-r", "src", "-o", "packed", code=1)
    nac("decompress", f"out/a.{form}", "-o", "back", "--format", "flac")
    whole = plain("packed", "--format", "flac", command="decompress")
    found = {name.split("/")[-1]: data for name, data in items(f"back/a.{form}", is_recording).items()}
    assert found.pop(f"{BROKEN:04}.wav") == Path(f"src/{BROKEN:04}.wav").read_bytes()
    assert found == whole
    # Without a format each becomes WAV, tags and all.
    nac("decompress", f"out/a.{form}", "-o", "wav")
    whole = plain("packed", "-f", command="decompress")
    found = {name.split("/")[-1]: data for name, data in items(f"wav/a.{form}", is_recording).items()}
    assert {name: found[name] for name in whole if name.endswith(".wav")} == {
        name: data for name, data in whole.items() if name.endswith(".wav")
    }


def test_tags_are_as_in_files(folder: Path) -> None:
    import mutagen.wave

    wav("src/a.wav", 4000)
    tagged = mutagen.wave.WAVE("src/a.wav")
    tagged.add_tags()
    tagged.tags.add(mutagen.id3.TIT2(text=["A title"]))  # type: ignore[union-attr]
    tagged.save()
    tar("a.tar", [Path("src/a.wav").read_bytes()])
    nac("compress", "a.tar", "src/a.wav", "-o", "packed")
    nac("decompress", "packed/a.tar", "packed/a.nac", "-o", "back")
    assert members("back/a.tar")["part one/0000.wav"] == Path("back/a.wav").read_bytes()
    assert mutagen.wave.WAVE("back/a.wav").tags["TIT2"].text == ["A title"]  # type: ignore[index]


def test_beside_files_and_folders_and_told_by_content(folder: Path, form: str) -> None:
    made(form, "in/shard.data", recordings("src", 2))
    wav("in/d/one.wav", 4000)
    Path("in/notes.tar").write_bytes(b"no shard")
    with tarfile.open("in/texts.tar", "w") as file:
        file.add("in/notes.tar")
    message = nac("compress", "-r", "in", "src/0001.wav", "-o", "out")
    assert "3 done, 0 skipped, 0 failed" in message.stderr
    assert "ignored 2 other files" in message.stderr
    found = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())
    assert found == ["0001.nac", "d/one.nac", "shard.data"]
    assert is_shard(Path("out/shard.data"))
    assert (
        "0 done, 3 skipped" in nac("compress", "-r", "in", "src/0001.wav", "-o", "out", "--skip-existing").stderr
    )
    assert "a shard without audio" in nac("compress", "in/texts.tar", "-o", "out", code=1).stderr
    assert "a shard without audio" in nac("compress", "out/shard.data", "-o", "more", code=1).stderr
    assert "would be overwritten by its own output" in nac("compress", "in/shard.data", code=2).stderr


def test_what_shares_a_stem(folder: Path) -> None:
    """Two endings that would become one fail together; with --keep-ending each has its own."""
    sound = wav("a.wav", 4000).read_bytes()
    with tarfile.open("a.tar", "w") as file:
        for name in ("0.left.wav", "0.right.wav", "1.wav", "1.flac", "1.json", "2.wav", "3.wav", "3.nac"):
            member = tarfile.TarInfo(name)
            member.size = len(sound)
            file.addfile(member, io.BytesIO(sound))
    message = nac("compress", "a.tar", "-o", "b.tar", code=1).stderr
    assert message.count("would become 1.nac, as would another file beside it (--keep-ending") == 2
    assert "would become 3.nac, as would another file beside it (--keep-ending" in message
    assert list(members("b.tar")) == ["0.left.nac", "0.right.nac", "2.nac"]
    nac("compress", "a.tar", "-o", "c.tar", "--keep-ending")
    assert list(members("c.tar"))[2:5] == ["1.wav.nac", "1.flac.nac", "1.json"]
    assert [stem_of(name) for name in ("a/b.c/0.x.y", "./0.x", "0", "d/.x")] == ["a/b.c/0", "./0", "0", "d/.x"]


def test_what_belongs_together_is_left_out_together_if_one_of_it_fails(folder: Path) -> None:
    sound = wav("a.wav", 4000).read_bytes()
    with tarfile.open("a.tar", "w") as file:
        for name in ("0.left.wav", "0.right.wav", "0.json", "1.wav", "1.json", "2.json"):
            data = sound[:100] if name == "0.right.wav" else sound
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    assert "0.right.wav: " in nac("compress", "a.tar", "-o", "b.tar", code=1).stderr
    assert list(members("b.tar")) == ["1.nac", "1.json", "2.json"]


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_shard_that_is_there_is_replaced_only_if_told(folder: Path, form: str, command: str) -> None:
    made(form, f"in/a.{form}", recordings("src", 2))
    if command == "decompress":
        nac("compress", f"in/a.{form}", "-o", "packed", "-q")
    source = f"in/a.{form}" if command == "compress" else f"packed/a.{form}"
    there = Path("out", f"a.{form}")
    there.parent.mkdir()
    there.write_bytes(b"of somebody else")
    words = (command, source, "-o", "out")
    assert f"out/a.{form} exists" in nac(*words, code=1).stderr
    assert f"out/a.{form} exists" in nac(command, "-r", str(Path(source).parent), "-o", "out", code=1).stderr
    assert there.read_bytes() == b"of somebody else"
    nac(*words, "-f", "-q")
    assert len(items(there, is_packed if command == "compress" else is_recording)) == 2


@pytest.mark.parametrize("words", [("in/a.parquet",), ("-r", "in")])
def test_a_column_that_is_named_holds_recordings_whatever_they_begin_with(
    folder: Path, words: tuple[str, ...]
) -> None:
    """None of them is passed over in silence, and neither is the shard."""
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import write_table

    Path("in").mkdir()
    write_table(pa.table({"near": [b"no recording", b"neither"], "text": ["a", "b"]}), "in/a.parquet")
    said = nac("compress", *words, "-o", "out", "--column", "near", code=1).stderr
    assert [f"row {row}: not in an audio format" in said for row in (1, 2)] == [True, True]
    code, why = (0, "ignored 1 other file") if "-r" in words else (1, "a shard without audio in a column")
    assert why in nac("compress", *words, "-o", "out", code=code).stderr


def test_several_columns(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import read_table, write_table

    sounds = recordings("src", 2)
    table = pa.table({"far": sounds, "near": sounds[::-1], "picture": [b"\x89PNG", None], "id": ["x", "y"]})
    write_table(table, "a.parquet")
    message = nac("compress", "a.parquet", "-o", "out", code=1).stderr
    assert "has several columns of recordings: far, near (--column names one)" in message
    rows = nac("compress", "a.parquet", "-o", "out", "--column", "near", "--json").stdout.splitlines()
    assert [json.loads(row)["key"] for row in rows] == ["x", "y"]
    found = read_table("out/a.parquet")
    assert found.drop(["near"]).equals(table.drop(["near"]))
    assert found["near"].to_pylist() == list(reversed(plain("src").values()))
    for column, why in ("none", "has no column 'none'"), ("id", "has type string, not bytes"):
        assert why in nac("compress", "a.parquet", "-o", "x", "--column", column, code=1).stderr


@pytest.mark.parametrize("damage", ["end", "middle", "header"])
def test_a_shard_that_is_not_whole_becomes_nothing(folder: Path, form: str, damage: str) -> None:
    made(form, f"a.{form}", recordings("src", 40))
    data = bytearray(Path(f"a.{form}").read_bytes())
    if damage == "end":
        del data[-12_000:]
    elif damage == "middle":
        del data[len(data) // 2 :]
    elif form == "tar":
        with tarfile.open("a.tar") as file:
            data[file.getmembers()[50].offset + 150] ^= 1
    else:
        data[-6] ^= 0xFF
    Path(f"a.{form}").write_bytes(data)
    message = nac("compress", f"a.{form}", "-o", f"out/a.{form}", code=1).stderr
    assert "not a complete" in message
    assert list(Path("out").iterdir()) == []


def test_a_run_that_was_killed_is_gone_on_with(folder: Path, form: str) -> None:
    sounds = recordings("src", 3)
    for number in range(4):
        made(form, f"in/{number}.{form}", sounds if number != 2 else sounds * 400)
    process = run("compress", "-r", "in", "-o", "out", "-j", "1")
    for _ in range(600):
        if Path(f"out/1.{form}").exists() and list(Path("out").glob(f".2.{form}*")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = {path.name: path.read_bytes() for path in Path("out").glob(f"*.{form}")}
    assert sorted(there) == [f"0.{form}", f"1.{form}"]
    assert "2 done, 2 skipped" in nac("compress", "-r", "in", "-o", "out", "--skip-existing").stderr
    assert sorted(path.name for path in Path("out").iterdir()) == [f"{number}.{form}" for number in range(4)]
    nac("compress", "-r", "in", "-o", "again", "-j", "3")
    for path in Path("out").iterdir():
        assert path.read_bytes() == (Path("again") / path.name).read_bytes()
    assert there.items() <= {path.name: path.read_bytes() for path in Path("out").iterdir()}.items()


def halved(src: Any, out: Any, name: str) -> Result:
    """In place of a codec."""
    out.write(src.read()[::2])
    return Result("-", "-", "none", 1.0, 1.0, None, out.tell(), 0.0)


def refused(src: Any, out: Any, name: str) -> Result:
    raise AssertionError(name)


def no_notes() -> AbstractContextManager[list[str]]:
    return nullcontext([])


def peak(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_shard(folder: Path, form: str) -> None:
    sounds = [number.to_bytes(2, "big") * 100_000 for number in range(20)]
    how = Recoding(halved, lambda name: name, lambda name, head: True, workers=2)
    peaks = []
    for count in (1, 8):
        made(form, f"{count}.{form}", sounds * count)
        peaks.append(peak(lambda: recode(f"{count}.{form}", f"out{count}", how)))  # noqa: B023
        assert len(items(f"out{count}", lambda name, head: True)) > 0
    assert peaks[1] < peaks[0] + 2_000_000  # the shard has 28 MB more


def test_rows_that_grow_are_written_in_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As recordings do that are decompressed: no more is held than was wanted, not even of one group of rows."""
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    from pyarrow.parquet import ParquetFile

    from nac.storage import parquet as writing

    monkeypatch.setattr(writing, "BATCH", 100_000)
    sounds = [number.to_bytes(2, "big") * 100 for number in range(300)]
    parquet("a.parquet", sounds, group=200)

    def grown(src: Any, out: Any, name: str) -> Result:
        out.write(src.read() * 50)
        return Result("-", "-", "none", 1.0, 1.0, None, out.tell(), 0.0)

    recode("a.parquet", "b.parquet", Recoding(grown, str, lambda name, head: True))
    about = ParquetFile("b.parquet").metadata
    groups = [about.row_group(number).total_byte_size for number in range(about.num_row_groups)]
    assert max(groups) < 130_000
    assert len(groups) < 40
    assert list(items("b.parquet", lambda name, head: True).values()) == [sound * 50 for sound in sounds]


def test_an_output_is_read_back_before_its_source_is_deleted(
    folder: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(form, f"in/a.{form}", recordings("src"))
    made(form, f"in/b.{form}", recordings("src", 2))
    nac("compress", "-r", "in", "-o", "out", "--remove-source", code=1)
    assert [path.name for path in Path("in").iterdir()] == [f"a.{form}"]  # of which one item failed
    made(form, f"in/b.{form}", recordings("src", 2))
    Path(f"out/b.{form}").unlink()
    from nac.files import shards

    monkeypatch.setattr(shards, "sync", lambda file: (file.seek(700), file.write(b"x")))
    message = nac("compress", f"in/b.{form}", "-o", "out", "--remove-source", code=1).stderr
    assert "reading the output back gave" in message
    assert Path(f"in/b.{form}").exists()
    assert not Path(f"out/b.{form}").exists()


def test_what_is_logged_of_an_item_is_told_with_its_key(folder: Path) -> None:
    sounds = recordings("src", 1)
    tar("a.tar", sounds)

    def convert(src: Any, out: Any, name: str) -> Result:
        import logging

        logging.getLogger("nac").warning("to be noted")
        return halved(src, out, name)

    from nac.files.notes import Notes

    notes = Notes()
    import logging

    logging.getLogger("nac").addHandler(notes)
    try:
        with notes.gathered() as outer:
            done = recode("a.tar", "b.tar", Recoding(convert, str, is_recording), gathered=notes.gathered)
            logging.getLogger("nac").warning("of the shard")
    finally:
        logging.getLogger("nac").removeHandler(notes)
    assert outer == ["of the shard"]
    assert done.outcomes[0].notes == ("to be noted",)
    assert isinstance(done.outcomes[0], Outcome)


def test_links_and_empty_values_are_told_and_left(folder: Path) -> None:
    with tarfile.open("a.tar", "w") as file:
        sound = wav("a.wav", 4000).read_bytes()
        for name, kind in ("0.wav", tarfile.REGTYPE), ("1.wav", tarfile.LNKTYPE), ("2.wav", tarfile.REGTYPE):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0.wav" if kind == tarfile.LNKTYPE else ""
            member.size = len(sound) if name == "0.wav" else 0
            file.addfile(member, io.BytesIO(sound))
    message = nac("compress", "a.tar", "-o", "b.tar", code=1).stderr
    assert "1.wav: is a link" in message
    assert "a.tar: 2.wav: " in message
    assert list(members("b.tar")) == ["0.nac"]


def test_rows_without_sound(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import read_table, write_table

    (sound,) = recordings("src", 1)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pairs = (sound, None), (None, "far.wav"), (None, None)
    rows = [None, *({"bytes": data, "path": path} for data, path in pairs)]
    write_table(pa.table({"audio": pa.array(rows, kind), "n": range(4)}), "a.parquet")
    message = nac("compress", "a.parquet", "-o", "b.parquet", code=1).stderr
    assert "far.wav: has a path but no bytes" in message
    found = read_table("b.parquet").to_pylist()
    assert [row["n"] for row in found] == [0, 1, 3]
    assert found[0]["audio"] is None
    assert found[1]["audio"]["path"] is None
    assert found[2]["audio"] == {"bytes": None, "path": None}


def test_no_shard(folder: Path) -> None:
    with pytest.raises(NacError, match="neither a tar file nor Parquet"):
        open_shard(io.BytesIO(b"RIFF"), is_recording)


def test_info_and_verify_tell_of_the_items(folder: Path, form: str) -> None:
    made(form, f"in/a.{form}", recordings("src", 3))
    nac("compress", f"in/a.{form}", "-o", "out")
    nac("compress", "-r", "src", "-o", "files")
    out = f"out/a.{form}"
    keys = list(items(out))
    assert [key.split("/")[-1] for key in keys] == ["0000.nac", "0001.nac", "0002.nac"]

    shown = nac("info", out, "--json").stdout.splitlines()
    for key, line in zip(keys, shown, strict=True):
        alone = json.loads(nac("info", f"files/{key.split('/')[-1]}", "--json").stdout)
        assert json.loads(line) == {**alone, "path": out, "key": key}
    text = nac("info", out).stdout.splitlines()
    assert text[0].startswith(f"  {keys[0]}: 0:00.2, 16000 Hz, 1 channel, toy 128 kbit/s")
    assert text[-1].startswith(f"{out}: 3 .nac files, 0:00.8")
    assert len(nac("info", "-r", "in", "out", "files", "--json").stdout.splitlines()) == 6

    assert nac("verify", out).stdout == f"{out}: whole, 3 .nac files, 0:00.8\n"
    assert [json.loads(line)["key"] for line in nac("verify", out, "--json").stdout.splitlines()] == keys
    data = bytearray(Path(out).read_bytes())
    data[data.index(items(out)[keys[1]]) + 2000] ^= 1
    Path(out).write_bytes(data)
    message = nac("verify", out, code=1)
    assert f"nac: {out}: {keys[1]}: " in message.stderr
    assert f"nac: {out}: 1 of its 3 .nac files cannot be read" in message.stderr
    rows = [json.loads(line) for line in nac("verify", out, "--json", code=1).stdout.splitlines()]
    assert [bool(row["error"]) for row in rows] == [False, True, False, True]
    for words in ("verify", out, "--recover", "x.nac"), ("info", out, "--plot", "x.svg"):
        assert "is a shard" in nac(*words, code=1).stderr


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_shard_without_nac_files_is_no_success(folder: Path, form: str, command: str) -> None:
    """As a recording is none: one that was to be compressed is not told to be whole."""
    made(form, f"a.{form}", recordings("src", 2))
    column = () if form == "tar" else ("--column", "audio")
    result = nac(command, f"a.{form}", *column, code=1)
    assert result.stderr == f"nac: a.{form}: has no .nac files\n"
    assert result.stdout == ""
    (row,) = map(json.loads, nac(command, f"a.{form}", *column, "--json", code=1).stdout.splitlines())
    assert row["error"] == "has no .nac files"


def test_a_dataset_reads_shards_that_were_compressed(folder: Path, form: str) -> None:
    made(form, f"in/a.{form}", recordings("src"))
    nac("compress", f"in/a.{form}", "-o", "out", "--keep-failed", code=1)
    nac("compress", "-r", "src", "-o", "files", code=1)
    Path("out/nac-manifest").mkdir()
    Path("out/nac-manifest/0.parquet").touch()  # as of a large job
    from_shards, from_files = list(library.Dataset("out")), library.Dataset("files")
    assert len(from_shards) == len(from_files) == 5
    for number, codes in enumerate(from_shards):
        assert codes.equal(from_files[number])


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_parquet_file_that_is_given_up_is_told_in_one_line(folder: Path) -> None:
    """By then some of it has been written, which pyarrow would go on with."""
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    parquet("a.parquet", recordings("src", 40))
    from pyarrow.parquet import ParquetFile

    start = ParquetFile("a.parquet").metadata.row_group(7).column(1).data_page_offset
    data = bytearray(Path("a.parquet").read_bytes())
    data[start : start + 20] = b"\xff" * 20  # where the page says what it is
    Path("a.parquet").write_bytes(data)
    message = nac("compress", "a.parquet", "-o", "out/a.parquet", code=1).stderr
    assert re.fullmatch(
        r"(nac: a\.parquet: \d{4}\.wav: .*\n)*nac: a\.parquet: not a complete Parquet file: .*\n", message
    )
    gc.collect()
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_what_is_no_shard_for_nac_is_refused_in_one_line(folder: Path, form: str, command: str) -> None:
    """Tar files that are compressed as a whole, and shards on standard input."""
    made(form, f"a.{form}", recordings("src", 2))
    for module, program in (gzip, "gunzip"), (bz2, "bunzip2"), (lzma, "unxz"):
        Path("a.tar.x").write_bytes(module.compress(Path(f"a.{form}").read_bytes()))
        message = nac(command, "a.tar.x", "-o", "out", code=1).stderr
        assert message == f"nac: a.tar.x: is compressed as a whole: `{program}` it first, tar files too\n"
        with Path("a.tar.x").open("rb") as file:
            process = run(command, "-", "-o", "out.tar", stdin=file)
        assert process.communicate()[1].decode() == message.replace("a.tar.x", "-")
        assert process.returncode == 1
    with Path(f"a.{form}").open("rb") as file:
        process = run(command, "-", "-o", f"out.{form}", stdin=file)
    message = f"nac: -: is a {form} file: shards are read from files and URLs, not from standard input\n"
    assert process.communicate()[1].decode() == message
    assert process.returncode == 1
    assert not [path for path in folder.iterdir() if path.name.startswith("out")]


def test_columns_of_all_types_stay(folder: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import read_table, write_table

    sounds = recordings("src")
    inner = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string()), ("who", pa.string())])
    rows = [{"bytes": sound, "path": f"{n:04}.wav", "who": "me"} for n, sound in enumerate(sounds)]
    for audio in pa.array(rows, inner), pa.array(sounds, pa.binary_view()):
        table = pa.table(
            {
                "view": pa.array(["a", None, "c" * 40] * 2, pa.string_view()),
                "audio": audio,
                "words": pa.array(list("abcabc")).dictionary_encode(),
                "nothing": pa.nulls(6),
                "lists": pa.array([[{"bytes": b"RIFF", "path": "x"}], None] * 3),
                "map": pa.array([[("k", 1)]] * 6, pa.map_(pa.string(), pa.int8())),
            }
        )
        write_table(table, "a.parquet")
        nac("compress", "a.parquet", "-o", "b.parquet", "-f", code=1)
        found = read_table("b.parquet")
        assert found.schema == read_table("a.parquet").schema
        kept = [row for number, row in enumerate(table.drop(["audio"]).to_pylist()) if number != BROKEN]
        assert found.drop(["audio"]).to_pylist() == kept
        values = [value["bytes"] if "who" in str(audio.type) else value for value in found["audio"].to_pylist()]
        assert values == list(plain("src", "-f", code=1).values())


def test_a_shard_of_nothing(folder: Path) -> None:
    """Neither an empty one nor one with other things becomes a shard, and the reason is given."""
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import write_table

    tarfile.open("empty.tar", "w").close()
    with tarfile.open("texts.tar", "w") as file:
        file.addfile(tarfile.TarInfo("a.json"))
    write_table(pa.table({"audio": pa.array([], pa.binary())}), "empty.parquet")
    write_table(pa.table({"audio": pa.array([None], pa.binary())}), "nulls.parquet")
    write_table(pa.table({"audio": pa.array([b"RIFF"], pa.binary(4))}), "fixed.parquet")
    for name in ("empty.tar", "texts.tar", "empty.parquet", "nulls.parquet", "fixed.parquet"):
        where = " in a column of bytes or {bytes, path}" if name.endswith("parquet") else ""
        message = nac("compress", name, "-o", "out", code=1).stderr
        assert message == f"nac: {name}: a shard without audio{where}\n"
    assert not Path("out").exists()


@pytest.mark.parametrize("verify", [False, True])
def test_the_bytes_that_are_told_of_a_shard_are_those_of_its_file(folder: Path, verify: bool) -> None:
    tar("a.tar", recordings("src", 2))
    done = recode("a.tar", "b.tar", Recoding(halved, str, is_recording, verify=verify))
    assert (done.bytes_in, done.bytes_out) == (Path("a.tar").stat().st_size, Path("b.tar").stat().st_size)


@pytest.mark.parametrize("head", [b"RIFF\x24\0\0\0WAVEfmt ", b"\xff\xfb\x90\x64" * 4, b"ID3\4\0\0\0\0\0\0"])
def test_texts_and_pictures_are_no_recordings_whatever_they_begin_with(head: bytes) -> None:
    for ending in ("txt", "csv", "json", "html", "png", "jpg", "JSON", "TXT"):
        assert is_recording(f"a/0.x.{ending}", head) is None
        assert is_packed(f"a/0.x.{ending}", head) is None
    for ending in ("wav", "mp3", "bin", "x", "FLAC"):
        assert is_recording(f"a/0.x.{ending}", head)
        assert is_packed(f"a/0.x.{ending}", head) is False
    assert is_recording("a", head)


def test_an_error_that_is_not_about_one_item_ends_the_shard_and_leaves_nothing(folder: Path, form: str) -> None:
    """Of each other error the items are told one by one, and the shard goes on."""
    made(form, f"a.{form}", recordings("src", 3))

    def failing(src: Any, out: Any, name: str) -> Result:
        if "0001" in name:
            raise MemoryError("no more")
        return halved(src, out, name)

    with pytest.raises(MemoryError):
        recode(f"a.{form}", "b", Recoding(failing, str, is_recording, fatal=(OSError, MemoryError)))
    assert not Path("b").exists()
    done = recode(f"a.{form}", "b", Recoding(failing, str, is_recording, fatal=(OSError,)))
    assert [bool(outcome.error) for outcome in done.outcomes] == [False, True, False]


def test_the_total_that_is_told_is_that_of_the_whole_shard_by_its_bytes(folder: Path, form: str) -> None:
    """Each call tells of one item that was converted, and none of those that failed. An existing output stays."""
    made(form, f"a.{form}", [b"RIFF" + bytes([number]) * 100_000 for number in range(10)])
    told = list[tuple[float, float | None]]()

    def failing(src: Any, out: Any, name: str) -> Result:
        if "0004" in name:
            raise NacError("no")
        return halved(src, out, name)

    how = Recoding(failing, str, lambda name, head: head.startswith(b"RIFF") or None)
    recode(f"a.{form}", "b", how, progress=lambda *seconds: told.append(seconds))
    assert [seconds for seconds, _ in told] == [1.0] * 9
    if form == "tar":  # pages of Parquet are compressed
        assert all(total is not None and 10 <= total < 11 for _, total in told)
    before = Path("b").read_bytes()
    with pytest.raises(NacError, match="exists"):
        recode(f"a.{form}", "b", Recoding(halved, str, is_recording))
    assert Path("b").read_bytes() == before


def test_reading_the_items_of_a_shard_ends_with_an_error_at_one_without_bytes(folder: Path) -> None:
    data = library.encode([0.5] * 99, 16000)
    with tarfile.open("a.tar", "w") as file:
        for name, kind in ("0.nac", tarfile.REGTYPE), ("1.nac", tarfile.LNKTYPE), ("2.nac", tarfile.REGTYPE):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "0.nac" if kind == tarfile.LNKTYPE else ""
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            file.addfile(member, io.BytesIO(data))
    with Path("a.tar").open("rb") as file:
        found = read_items(file, is_packed)
        assert next(found).data == data
        with pytest.raises(NacError, match=r"^1\.nac: is a link"):
            next(found)
