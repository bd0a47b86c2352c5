"""Shards of short recordings with text beside them, one of them broken, as files and as what is in them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from toy_command import wav

BROKEN = 3


def recordings(folder: str, count: int = 6, samples: int = 4000) -> list[bytes]:
    """So many recordings, the one with the number ``BROKEN`` not whole, as files and as bytes."""
    found = []
    for number in range(count):
        path = wav(f"{folder}/{number:04}.wav", samples, seed=number)
        if number == BROKEN:
            path.write_bytes(path.read_bytes()[:-700])
        found.append(path.read_bytes())
    return found


def tar(path: str, sounds: list[bytes]) -> dict[str, bytes]:
    """A tar file of recordings with JSON and text beside each. Returns what else than recordings is in it."""
    others = {}
    Path(path).parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file:
        for number, sound in enumerate(sounds):
            parts = {
                "json": json.dumps({"number": number}).encode(),
                "txt": b"ID3 is not what this is",
                "wav": sound,
            }
            for ending, data in parts.items():
                member = tarfile.TarInfo(f"part one/{number:04}.{ending}")
                member.size, member.mtime, member.mode, member.uname = (
                    len(data),
                    1_500_000_000 + number,
                    0o640,
                    "me",
                )
                file.addfile(member, io.BytesIO(data))
                if ending != "wav":
                    others[member.name] = data
    return others


def parquet(path: str, sounds: list[bytes], *, struct: bool = True, group: int = 4) -> Any:
    """A Parquet file of four columns, one of them recordings, and the table that is in it."""
    import pyarrow as pa
    from pyarrow.parquet import read_table, write_table

    Path(path).parent.mkdir(exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.large_binary()
    rows = [{"bytes": sound, "path": f"{n:04}.wav"} if struct else sound for n, sound in enumerate(sounds)]
    columns = {
        "number": pa.array(range(len(sounds)), pa.int16()),
        "audio": pa.array(rows, kind),
        "text": pa.array([f"text {number}" if number % 2 else None for number in range(len(sounds))]),
        "times": pa.array([[0.5] * (number % 3) for number in range(len(sounds))], pa.list_(pa.float32())),
    }
    about = {"huggingface": json.dumps({"info": {"features": {"audio": {"_type": "Audio"}}}}), "by": "tests"}
    table = pa.table(columns).replace_schema_metadata(about)
    write_table(table, path, row_group_size=group, compression={"audio.bytes" if struct else "audio": "NONE"})
    return read_table(path)


def members(path: str | Path) -> dict[str, bytes]:
    """The files in a tar file, in order."""
    with tarfile.open(path) as file:
        return {member.name: file.extractfile(member).read() for member in file if member.isfile()}  # type: ignore[union-attr]
