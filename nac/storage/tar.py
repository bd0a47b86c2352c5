"""Tar files (POSIX.1-2001, "pax"; GNU's are read too) as shards: https://github.com/webdataset/webdataset."""

from __future__ import annotations

import copy
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from nac.errors import NacError
from nac.storage.records import HEAD, PEEK, WHOLE, Item, Part, Wanted
from nac.streams import read_exactly, write_all

_SAID_OF_DATA = ("path", "size")
"""Pax header fields that no longer hold for a replaced file."""


@dataclass(frozen=True)
class Member:
    """A file in a tar file. ``raw``: all its bytes there; from ``start`` on its own header follows.

    The bytes before ``start`` are headers for all later files. ``item``: its number among the items, if it is one.
    """

    info: tarfile.TarInfo
    raw: bytes
    start: int
    item: int | None = None


@dataclass(frozen=True)
class TarRecord:
    """Consecutive files with the same stem."""

    members: tuple[Member, ...]
    items: tuple[Item, ...]

    def taken(self, key: str) -> bool:
        return any(member.info.name == key for member in self.members if member.item is None)


class TarShard:
    def __init__(self, file: BinaryIO, wanted: Wanted) -> None:
        self._file, self._wanted = file, wanted
        self._size = file.seek(0, os.SEEK_END)

    def holds_items(self) -> bool:
        return any(record.items for record in islice(self.records(), PEEK))

    def records(self, part: Part = WHOLE) -> Iterator[TarRecord]:
        members, items, stem = list[Member](), list[Item](), ""
        for info, raw, start, begin in self._members(part.of(self._size)):
            if members and stem_of(info.name) != stem:
                yield TarRecord(tuple(members), tuple(items))
                members, items = [], []
            stem = stem_of(info.name)
            data = memoryview(raw)[begin : begin + info.size]
            if not self._is_item(info, data):
                members.append(Member(info, raw, start))
                continue
            members.append(Member(info, raw, start, len(items)))
            plain = info.isreg() and not info.issparse()
            items.append(Item(info.name, data) if plain else Item(info.name, problem=_NOT_PLAIN))
        if members:
            yield TarRecord(tuple(members), tuple(items))

    def _is_item(self, info: tarfile.TarInfo, data: memoryview) -> bool:
        return not info.isdir() and bool(self._wanted(info.name, bytes(data[:HEAD])))

    def _members(self, part: range) -> Iterator[tuple[tarfile.TarInfo, bytes, int, int]]:
        """The files of a part's records: all bytes of each, and the positions of its own header and its data."""
        self._file.seek(0)
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                known: list[Any] = vars(tar)["members"]
                at, stem, inside = 0, "", False
                while info := tar.next():
                    if not at or stem_of(info.name) != stem:
                        stem, inside = stem_of(info.name), at in part
                        if at >= part.stop:
                            return
                    if inside:
                        self._file.seek(at)
                        raw = read_exactly(self._file, tar.offset - at)
                        if len(raw) < info.offset_data + (0 if info.issparse() else info.size) - at:
                            raise NacError("not a complete tar file: it ends within a file")
                        yield info, raw, info.offset - at, info.offset_data - at
                    at = tar.offset
                    known.clear()  # would otherwise grow with every file
                self._file.seek(tar.offset)
                if self._file.read(tarfile.BLOCKSIZE) != bytes(
                    tarfile.BLOCKSIZE
                ):  # otherwise tarfile takes it for the end
                    raise NacError("not a complete tar file: it has no end")
        except tarfile.TarError as error:
            raise NacError(f"not a complete tar file: {error}") from None

    def writer(self, out: BinaryIO) -> TarWriter:
        return TarWriter(out)


_NOT_PLAIN = "is a link or has holes, which nac does not read in a tar file"


def stem_of(name: str) -> str:
    """The common stem of files of a record: the name up to the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.split(".")[0] or last)


class TarWriter:
    """Writes files unchanged or replaced; replaced ones keep time, owner and permission bits."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._written = out, 0

    def add(self, record: TarRecord, changed: Mapping[int, Item]) -> None:
        for member in record.members:
            item = None if member.item is None else changed.get(member.item)
            if item is None:
                self._write(member.raw)
                continue
            self._write(member.raw[: member.start])
            self._write(_header(member.info, item.key, len(item.data)))
            self._write(item.data)
            self._write(bytes(-len(item.data) % tarfile.BLOCKSIZE))

    def close(self) -> None:
        end = 2 * tarfile.BLOCKSIZE
        self._write(bytes(end + -(self._written + end) % tarfile.RECORDSIZE))

    def _write(self, data: Any) -> None:
        write_all(self._out, data)
        self._written += len(data)


def _header(info: tarfile.TarInfo, name: str, size: int) -> bytes:
    header = copy.copy(info)
    header.name, header.size, header.type = name, size, tarfile.REGTYPE
    header.pax_headers = {key: value for key, value in info.pax_headers.items() if key not in _SAID_OF_DATA}
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
