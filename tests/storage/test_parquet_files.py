"""Parquet files as shards: which column has recordings, what is read of it, and what stays as it is."""

from __future__ import annotations

import io
import sys
from itertools import chain
from typing import Any

import pytest

from nac.errors import NacError
from nac.storage import parquet
from nac.storage.records import Item, Part
from nac.storage.shards import open_shard

pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")

import pyarrow as pa
from pyarrow.parquet import ParquetFile, read_table, write_table


def is_sound(name: str, head: bytes) -> bool | None:
    """As of recordings: None where nothing says so."""
    assert len(head) <= 512
    return None if head.startswith(b"?") else head.startswith(b"sound")


SOUNDS = [None if number == 3 else b"sound" + bytes([number]) * (number * 400) for number in range(11)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def audio(kind: str) -> Any:
    """A column of sounds, with paths for the even ones."""
    if kind == "struct":
        rows = [
            None if sound is None else {"bytes": sound, "path": f"{n:03}.wav" if n % 2 == 0 else None}
            for n, sound in enumerate(SOUNDS)
        ]
        return pa.array(rows, STRUCT)
    return pa.array(SOUNDS, getattr(pa, kind)())


def file(group: int = 4, *, others: dict[str, Any] | None = None, kind: str = "struct", **options: Any) -> bytes:
    columns = {
        "number": pa.array(range(len(SOUNDS)), pa.int16()),
        "audio": audio(kind),
        "text": pa.array(["one", None, "one"] * 3 + ["two", "one"]),
        **(others or {}),
    }
    out = io.BytesIO()
    write_table(pa.table(columns).replace_schema_metadata({"by": "tests"}), out, row_group_size=group, **options)
    return out.getvalue()


def shard(data: bytes, column: str | None = None, wanted: Any = is_sound) -> Any:
    return open_shard(io.BytesIO(data), wanted, column)


def items(data: bytes, part: Part | None = None, **options: Any) -> list[Item]:
    found = shard(data, **options)
    return [item for record in (found.records(part) if part else found.records()) for item in record.items]


def rewritten(data: bytes, new: dict[str, Item], column: str | None = None) -> bytes:
    opened, out = shard(data, column), io.BytesIO()
    writer = opened.writer(out)
    for record in opened.records():
        writer.add(record, {n: new[item.key] for n, item in enumerate(record.items) if item.key in new})
    writer.close()
    return out.getvalue()


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
@pytest.mark.parametrize("group", [1, 4, 100])
def test_every_row_is_a_record_with_its_item(kind: str, group: int) -> None:
    data = file(group, kind=kind)
    records = list(shard(data).records())
    assert len(records) == len(SOUNDS)
    assert [[bytes(item.data) for item in record.items] for record in records] == [
        [] if sound is None else [sound] for sound in SOUNDS
    ]
    paths = [f"{n:03}.wav" if kind == "struct" and n % 2 == 0 else f"row {n + 1}" for n in range(len(SOUNDS))]
    assert [item.key for record in records for item in record.items] == [p for n, p in enumerate(paths) if n != 3]
    assert not any(record.taken(key) for record in records for key in ("000.wav", ""))


NAMING = ("path", "__key__", "key", "id")


@pytest.mark.parametrize("name", NAMING)
def test_rows_are_called_by_the_first_column_that_names_them(name: str) -> None:
    others = {other: pa.array([f"{other} {n}" for n in range(11)]) for other in NAMING}
    for other in NAMING[: NAMING.index(name)]:
        others[other] = pa.array(range(11))  # no text
    keys = [item.key for item in items(file(kind="binary", others=others), column="audio")]
    assert keys == [f"{name} {n}" for n in range(11) if n != 3]
    keys = [item.key for item in items(file(others=others), column="audio")]
    assert keys == [f"{n:03}.wav" if n % 2 == 0 else f"{name} {n}" for n in range(11) if n != 3]


@pytest.mark.parametrize("parts", [1, 2, 3, 11, 30])
@pytest.mark.parametrize("group", [1, 2, 4, 100])
def test_every_row_is_in_one_part(parts: int, group: int) -> None:
    data = file(group)
    found = [list(shard(data).records(Part(n, parts))) for n in range(parts)]
    assert [len(part) for part in found] == [11 * (n + 1) // parts - 11 * n // parts for n in range(parts)]
    keys = [[item.key for item in record.items] for record in chain.from_iterable(found)]
    assert keys == [[item.key for item in record.items] for record in shard(data).records()]


def test_of_a_part_only_its_groups_and_columns_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    batches = ParquetFile.iter_batches

    def watched(self: Any, size: int, groups: list[int], columns: Any, **options: Any) -> Any:
        read.extend((group, columns) for group in groups)
        return batches(self, size, groups, columns, **options)

    opened = shard(file(2), "audio")
    monkeypatch.setattr(ParquetFile, "iter_batches", watched)
    assert len(list(opened.records(Part(1, 3)))) == 4  # rows 3 to 6, from 0
    assert read == [(group, ["audio", *parquet.NAMES]) for group in (1, 2, 3)]


def test_the_column_is_the_only_one_with_recordings() -> None:
    noise = pa.array([b"other"] * 11)
    assert shard(file(others={"a": noise})).column == "audio"
    assert shard(file(others={"a": noise})).holds_items()
    with pytest.raises(NacError, match="several columns of recordings: audio, more") as message:
        shard(file(others={"more": audio("binary")}))
    assert message.value.remedy == "column"
    assert len(items(file(others={"more": audio("binary")}), column="more")) == 10
    none = shard(file(), wanted=lambda name, head: False)
    assert not none.holds_items()
    with pytest.raises(NacError, match="no column with such recordings"):
        next(none.records())


def test_a_column_that_is_asked_for_has_to_be_one() -> None:
    with pytest.raises(NacError, match="has no column 'sound'; its columns are number, audio, text"):
        shard(file(), "sound")
    others = {"wrong": pa.array([{"path": "a"}] * 11), "right": pa.array([{"bytes": b"x"}] * 11)}
    for name, kind in ("number", "int16"), ("text", "string"), ("wrong", "struct"):
        with pytest.raises(NacError, match=f"the column '{name}' has type {kind}.*, not bytes"):
            shard(file(others=others), name)
    assert shard(file(others=others), "right").column == "right"


def test_what_may_be_a_recording_counts_in_its_column_and_does_not_make_one() -> None:
    others = {"maybe": pa.array([b"?"] * 11)}
    assert shard(file(others=others)).column == "audio"
    assert len(items(file(others=others), column="maybe")) == 11
    assert len(items(file(others={"no": pa.array([b"other"] * 11)}), column="no")) == 0


@pytest.mark.parametrize(("before", "held"), [(0, True), (63, True), (64, False)])
def test_the_first_values_say_whether_there_are_items(before: int, held: bool) -> None:
    out = io.BytesIO()
    rows = [None, *[b"other"] * before, b"sound", *[b"other"] * 100]  # a null is no value
    write_table(pa.table({"audio": rows}), out)
    assert shard(out.getvalue()).holds_items() is held


def test_a_path_without_bytes_is_told() -> None:
    rows = [
        {"bytes": None, "path": "far.wav"},
        {"bytes": b"sound", "path": None},
        {"bytes": None, "path": None},
        None,
    ]
    out = io.BytesIO()
    write_table(pa.table({"audio": pa.array(rows, STRUCT)}), out)
    assert [(item.key, item.problem) for item in items(out.getvalue())] == [
        ("far.wav", "has a path but no bytes"),
        ("row 2", ""),
    ]
    assert read_table(io.BytesIO(rewritten(out.getvalue(), {}))) == read_table(io.BytesIO(out.getvalue()))


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
@pytest.mark.parametrize("group", [1, 3, 100])
@pytest.mark.parametrize("batch", [1, 3000, 16 << 20])
def test_new_items_take_the_place_of_the_old_and_all_else_stays(
    kind: str, group: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH", batch)
    data = file(
        group, kind=kind, compression={"audio.bytes" if kind == "struct" else "audio": "GZIP", "text": "NONE"}
    )
    new = {item.key: Item(f"{item.key}.nac", b"new" * n) for n, item in enumerate(items(data)) if n % 3 < 2}
    out = rewritten(data, new)
    before, after = read_table(io.BytesIO(data)), read_table(io.BytesIO(out))
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop_columns("audio").equals(before.drop_columns("audio"))
    keys = {bytes(item.data): item.key for item in items(data)}
    for was, now in zip(before["audio"].to_pylist(), after["audio"].to_pylist(), strict=True):
        sound = was["bytes"] if was and kind == "struct" else was
        item = new.get(keys.get(sound, ""))
        if item is None:
            assert now == was
        elif kind == "struct":  # what had no path gets none
            assert now == {"bytes": item.data, "path": was["path"] and item.key}
        else:
            assert now == item.data


def groups(data: bytes) -> list[int]:
    about = ParquetFile(io.BytesIO(data)).metadata
    return [about.row_group(number).num_rows for number in range(about.num_row_groups)]


def test_groups_of_rows_stay_as_large_unless_what_they_hold_is_more_than_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert groups(rewritten(file(4), {})) == [4, 4, 3]
    assert groups(rewritten(file(1), {})) == [1] * 11
    new = {item.key: Item(item.key, b"n" * 1000) for item in items(file(11))}
    monkeypatch.setattr(parquet, "BATCH", 3000)
    out = groups(rewritten(file(11), new))
    assert sum(out) == 11
    assert 2 < len(out) < 8


def test_how_columns_were_written_stays() -> None:
    made = {"compression": {"number": "SNAPPY", "text": "GZIP", "audio.bytes": "NONE", "audio.path": "ZSTD"}}
    data = file(100, use_dictionary=["text"], write_statistics=["number"], **made)
    about = ParquetFile(io.BytesIO(rewritten(data, {}))).metadata.row_group(0)
    columns = {about.column(n).path_in_schema: about.column(n) for n in range(about.num_columns)}
    assert {name: column.compression for name, column in columns.items()} == {
        "number": "SNAPPY",
        "text": "GZIP",
        "audio.bytes": "UNCOMPRESSED",
        "audio.path": "ZSTD",
    }
    assert [name for name, column in columns.items() if column.has_dictionary_page] == ["text"]
    assert [name for name, column in columns.items() if column.is_stats_set] == ["number"]


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_recordings_have_neither_dictionaries_nor_statistics(kind: str) -> None:
    data = file(100, kind=kind, use_dictionary=True, write_statistics=True)
    about = ParquetFile(io.BytesIO(rewritten(data, {}))).metadata.row_group(0)
    for number in range(about.num_columns):
        column = about.column(number)
        is_plain = column.path_in_schema in ("audio", "audio.bytes")
        assert column.has_dictionary_page is not is_plain
        assert column.is_stats_set is not is_plain


def test_a_file_without_rows_stays_one() -> None:
    out = io.BytesIO()
    write_table(pa.table({"audio": pa.array([], STRUCT), "n": pa.array([], pa.int8())}), out)
    assert read_table(io.BytesIO(rewritten(out.getvalue(), {}, "audio"))).schema == read_table(out).schema
    assert list(shard(out.getvalue(), "audio").records()) == []


def test_a_file_that_is_cut_off_is_told() -> None:
    data = file()
    for size in 12, len(data) // 2, len(data) - 1:
        with pytest.raises(NacError, match="not a complete Parquet file"):
            shard(data[:size])
    damaged = bytearray(data)
    damaged[40:2000] = bytes(1960)
    with pytest.raises(NacError, match="not a complete Parquet file"):
        items(bytes(damaged), column="audio")


def test_a_disk_that_fails_is_no_file_that_is_cut_off() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 4:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error") as message:
        open_shard(Failing(file()), is_sound)
    assert not isinstance(message.value, NacError)


def test_rows_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are of about so many bytes, but 1024 at most."""
    sizes: list[int] = []
    batches = ParquetFile.iter_batches

    def watched(self: Any, size: int, *arguments: Any, **options: Any) -> Any:
        sizes.append(size)
        return batches(self, size, *arguments, **options)

    monkeypatch.setattr(ParquetFile, "iter_batches", watched)
    about = ParquetFile(io.BytesIO(file(100))).metadata.row_group(0).total_byte_size
    for batch, size in ((about // 2, 5), (1, 1), (1 << 30, 1024)):
        monkeypatch.setattr(parquet, "BATCH", batch)
        sizes.clear()
        assert len(items(file(100), column="audio")) == 10
        assert sizes == [size]


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(NacError, match="Parquet needs pyarrow: pip install pyarrow"):
        shard(data)
