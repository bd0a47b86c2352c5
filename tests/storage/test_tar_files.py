"""Tar files as shards: records and their parts, what stays byte for byte, and what is not whole."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from nac.errors import NacError
from nac.storage.records import Item, Part
from nac.storage.shards import holds_items, is_shard, is_shard_of, kind_of, open_shard
from nac.storage.tar import TarRecord, stem_of

FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def is_sound(name: str, head: bytes) -> bool:
    return head.startswith(b"sound")


def member(name: str, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode, info.uid, info.gid, info.uname = size, 1_500_000_000, 0o640, 12, 34, "me"
    return info


def made(names: list[str], form: str = "gnu", sizes: tuple[int, ...] = (0, 1, 511, 512, 513, 1500)) -> bytes:
    """A tar file in which every .wav is a sound."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=FORMATS[form]) as tar:
        for number, name in enumerate(names):
            data = b"sound" if name.endswith(".wav") else b"other"
            data += bytes([number % 256]) * sizes[number % len(sizes)]
            tar.addfile(member(name, len(data)), io.BytesIO(data))
    return out.getvalue()


NAMES = [f"part {number // 4}/{number:03}.{ending}" for number in range(9) for ending in ("json", "wav", "txt")]


def records(data: bytes, part: Part | None = None) -> list[TarRecord]:
    shard = open_shard(io.BytesIO(data), is_sound)
    return list(shard.records(part) if part else shard.records())


def rewritten(data: bytes, new: dict[str, Item]) -> bytes:
    shard, out = open_shard(io.BytesIO(data), is_sound), io.BytesIO()
    writer = shard.writer(out)
    for record in shard.records():
        writer.add(record, {n: new[item.key] for n, item in enumerate(record.items) if item.key in new})
    writer.close()
    return out.getvalue()


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.wav", "a"),
        ("a.b.wav", "a"),
        ("d.e/a.wav", "d.e/a"),
        ("d/.hidden", "d/.hidden"),
        ("d/plain", "d/plain"),
        ("plain", "plain"),
        ("/a.wav", "/a"),
    ],
)
def test_a_stem_ends_at_the_first_dot_of_the_last_part(name: str, stem: str) -> None:
    assert stem_of(name) == stem


@pytest.mark.parametrize("form", FORMATS)
def test_files_of_one_stem_are_a_record(form: str) -> None:
    found = records(made(NAMES, form))
    assert [[m.info.name for m in record.members] for record in found] == [
        NAMES[at : at + 3] for at in range(0, len(NAMES), 3)
    ]
    assert [item.key for record in found for item in record.items] == [n for n in NAMES if n.endswith(".wav")]
    whole = contents(made(NAMES, form))
    assert all(bytes(item.data) == whole[item.key] for record in found for item in record.items)
    assert not any(item.problem for record in found for item in record.items)
    assert found[0].taken("part 0/000.txt")
    assert not found[0].taken("part 0/000.wav")  # an item
    assert not found[0].taken("part 0/001.txt")


def test_a_record_may_have_several_items() -> None:
    data = made(["a.l.wav", "a.r.wav", "a.txt", "b.wav", "a.wav"])
    assert [[item.key for item in record.items] for record in records(data)] == [
        ["a.l.wav", "a.r.wav"],
        ["b.wav"],
        ["a.wav"],
    ]
    new = {"a.r.wav": Item("a.r.nac", b"two")}
    assert list(contents(rewritten(data, new))) == ["a.l.wav", "a.r.nac", "a.txt", "b.wav", "a.wav"]


@pytest.mark.parametrize("there", [0, 5, 512])
def test_a_file_with_holes_stays_as_it_is(there: int) -> None:
    """GNU's kind: the header lists what is there of a larger file, and only that follows."""
    data = b"sound"[:there].ljust(there, b".")
    header = bytearray(made(["a.wav"])[: tarfile.BLOCKSIZE])
    header[124:136] = b"%011o\0" % there
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[257:265] = b"ustar  \0"
    header[345:500] = bytes(155)
    header[386:410] = b"%011o\0%011o\0" % (0, there)
    header[483:495] = b"%011o\0" % 100_000
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    whole = bytes(header) + data.ljust(-(-there // 512) * 512, b"\0") + made(["b.txt", "c.wav"])
    found = records(whole)
    assert [[member.info.name for member in record.members] for record in found] == [
        ["a.wav"],
        ["b.txt"],
        ["c.wav"],
    ]
    assert [bool(item.problem) for record in found for item in record.items] == [True] * bool(there) + [False]
    assert rewritten(whole, {})[: 512 * 3 + len(data)] == whole[: 512 * 3 + len(data)]
    if there:
        with pytest.raises(NacError, match="not a complete tar file"):
            records(whole[: 512 + there - 1])


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("form", FORMATS)
def test_every_record_is_in_one_part(parts: int, form: str) -> None:
    data = made([name.replace("part", "long " * 30 if form != "ustar" else "part") for name in NAMES], form)
    found = [[record.items for record in records(data, Part(n, parts))] for n in range(parts)]
    assert [items for part in found for items in part] == [record.items for record in records(data)]
    if parts <= 3:
        assert all(found)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_not_replaced_stays_byte_for_byte(form: str) -> None:
    data = made(NAMES, form)
    assert rewritten(data, {}) == data
    assert rewritten(made([]), {}) == made([])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 9000])
def test_a_new_item_takes_the_place_of_the_old_and_its_attributes(form: str, size: int) -> None:
    data, name = made(NAMES, form), "part 1/004.wav"
    out = rewritten(data, {name: Item("part 1/004 é.nac", b"n" * size)})
    assert len(out) % tarfile.RECORDSIZE == 0
    assert out.endswith(bytes(2 * tarfile.BLOCKSIZE))
    expected = {("part 1/004 é.nac" if key == name else key): value for key, value in contents(data).items()}
    expected["part 1/004 é.nac"] = b"n" * size
    assert contents(out) == expected
    assert list(contents(out)) == list(expected)
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        info = tar.getmember("part 1/004 é.nac")
    assert (info.mtime, info.mode, info.uid, info.gid, info.uname) == (1_500_000_000, 0o640, 12, 34, "me")


def test_two_empty_blocks_end_a_file_of_any_length() -> None:
    """And what fills up its last record."""
    for count in range(1, 23):
        data = made([f"{number}.wav" for number in range(count)], sizes=(0,))  # two blocks each
        for replaced in 0, 1:
            out = rewritten(data, {f"{n}.wav": Item(f"{n}.nac", b"") for n in range(replaced)})  # one block
            blocks = 2 * count - replaced
            assert out[512 * blocks :] == bytes(len(out) - 512 * blocks)
            assert len(out) == -(-(blocks + 2) // 20) * 20 * 512


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("stem", ["\udcff", "a\udce9b", "\udc80" * 120, "é" * 70])
def test_names_of_any_bytes_are_kept(form: str, stem: str) -> None:
    """As systems write them that do not use UTF-8. Long ones have headers of their own."""
    stem = stem[:20] if form == "ustar" else stem  # which has no more than a hundred bytes
    data = made([f"p/{stem}.wav", f"p/{stem}.txt", "last.wav"], form)
    out = contents(rewritten(data, {f"p/{stem}.wav": Item(f"p/{stem}.nac", b"new")}))
    old = contents(data)
    assert out == {f"p/{stem}.nac": b"new", f"p/{stem}.txt": old[f"p/{stem}.txt"], "last.wav": old["last.wav"]}


def test_pax_headers_of_a_replaced_file_stay_but_for_its_name_and_size() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = member("x" * 150 + ".wav", 5)
        info.pax_headers = {"comment": "kept", "mtime": "1500000000.25"}
        tar.addfile(info, io.BytesIO(b"sound"))
    data = rewritten(out.getvalue(), {"x" * 150 + ".wav": Item("y" * 160 + ".nac", b"new")})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (info,) = tar.getmembers()
    assert (info.name, info.size) == ("y" * 160 + ".nac", 3)
    assert info.pax_headers["comment"] == "kept"
    assert info.mtime == 1_500_000_000.25


@pytest.mark.parametrize("type", [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE])
@pytest.mark.parametrize("headers", [{}, {"size": "5"}])
def test_a_replaced_file_has_its_own_size_and_is_a_plain_one(type: bytes, headers: dict[str, str]) -> None:
    """Whatever kind of plain file it was, and wherever its size was stored."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = member("a.wav", 5)
        info.type, info.pax_headers = type, headers
        tar.addfile(info, io.BytesIO(b"sound"))
        tar.addfile(member("b.txt", 5), io.BytesIO(b"other"))
    data = rewritten(out.getvalue(), {"a.wav": Item("a.nac", b"new" * 300)})
    assert contents(data) == {"a.nac": b"new" * 300, "b.txt": b"other"}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [info.type for info in tar] == [tarfile.REGTYPE] * 2


def test_links_and_files_with_holes_are_told_and_folders_are_no_items(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        folder = member("d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = member("d/a.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "b.wav"
        tar.addfile(link)
    shard = open_shard(io.BytesIO(out.getvalue()), lambda name, head: True)
    items = [item for record in shard.records() for item in record.items]
    assert [(item.key, bool(item.problem)) for item in items] == [("d/a.wav", True)]
    assert rewritten(out.getvalue(), {}) == out.getvalue()


@pytest.mark.parametrize("form", FORMATS)
def test_a_tar_file_that_is_cut_off_is_told_wherever_that_is(form: str) -> None:
    data = made(NAMES[:6], form)
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512  # the two blocks of its end follow
    for size in [*range(513, end, 97), *range(512, end + 512, 512), end - 1, end, end + 1, end + 511]:
        with pytest.raises(NacError, match="not a complete tar file"):
            records(data[:size])
    assert len(records(data[: end + 512])) == 2  # one block will do


def test_what_follows_in_a_part_is_not_read() -> None:
    """Whoever reads a part need not wait for the end of all."""
    data = made(NAMES)
    cut = data[: 2 * len(data) // 3]
    first = Part(0, 3).of(len(cut)).stop
    assert [r.items for r in records(cut, Part(0, 3))] == [
        r.items for r in records(data) if data.index(r.members[0].raw) < first
    ]


def test_what_a_file_is_by_its_first_bytes(tmp_path: Path) -> None:
    tar, wav = made(["a.wav"]), b"RIFF" + bytes(600)
    assert [kind_of(head[:512]) for head in (tar, b"PAR1" + bytes(508), wav, b"", tar[:511])] == [
        "tar",
        "parquet",
        None,
        None,
        None,
    ]
    damaged = bytearray(tar)
    damaged[0] ^= 1
    assert kind_of(bytes(damaged[:512])) is None
    for name, data in {"a.bin": tar, "b.tar": wav, "c.tar": b"", "d.tar": made(["a.txt"])}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "e.tar").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_shard(path)] == ["a.bin", "d.tar"]
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_shard_of(path, is_sound)] == ["a.bin"]
    assert not is_shard(tmp_path / "none")
    with pytest.raises(NacError, match="neither a tar file nor Parquet"):
        open_shard(io.BytesIO(wav), is_sound)
    assert open_shard(io.BytesIO(bytes(10240)), is_sound).holds_items() is False  # an empty tar file


def test_the_first_records_say_whether_there_are_items() -> None:
    others = [f"{number:03}.txt" for number in range(100)]
    for before, held in (0, True), (63, True), (64, False):
        data = made([*others[:before], "z.wav", *others[before:]])
        assert holds_items(io.BytesIO(data), is_sound) is held
    assert holds_items(io.BytesIO(made(others)[:1000]), is_sound)  # broken: to be read, and reported
    assert open_shard(io.BytesIO(made(["a.wav"])), is_sound).holds_items()
