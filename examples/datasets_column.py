"""A column of .nac bytes in Hugging Face datasets, decoded when rows are read.

python datasets_column.py folder first.flac second.wav ...
nac compress train.parquet -o packed && python datasets_column.py packed/train.parquet

`datasets.Audio` decodes whole files of common formats. Here, the column stays small on disk, and a transform
decodes the rows that are read, in the process that reads them. In a Parquet file written by `nac compress`, the
audio column has the same type as before, {bytes, path}, and the bytes are .nac files.
"""

import sys
from pathlib import Path
from typing import Any

import datasets
import soundfile

import nac

location, *recordings = sys.argv[1:]


def encoded(path: str) -> dict[str, Any]:
    samples, sample_rate = soundfile.read(path, dtype="int16")
    data = nac.encode(samples, sample_rate, model="nac_24khz", kbps=6)
    return {"bytes": data, "path": Path(path).with_suffix(".nac").name}


def sound(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Decode a value to the form that `datasets.Audio` returns."""
    if value is None or not (value["bytes"] or b"").startswith(b"\x89NAC"):
        return None  # an empty row, or a recording that could not be compressed, kept by --keep-failed
    samples, sample_rate = nac.decode(value["bytes"])
    return {"path": value["path"], "array": samples.T, "sampling_rate": sample_rate}


def decoded(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Replace bytes with samples."""
    return {**batch, "audio": [sound(value) for value in batch["audio"]]}


if recordings:
    pair = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    rows = {"audio": [encoded(path) for path in recordings]}
    datasets.Dataset.from_dict(rows, features=datasets.Features({"audio": pair})).save_to_disk(location)
    dataset = datasets.load_from_disk(location)
else:
    dataset = datasets.Dataset.from_parquet(location, cache_dir=f"{location}-cache")

dataset = dataset.cast_column("audio", datasets.Audio(decode=False))  # keeps {bytes, path}
for row in dataset.with_transform(decoded):
    if audio := row["audio"]:
        print(f"{audio['path']}: {audio['array'].shape} at {audio['sampling_rate']} Hz")
