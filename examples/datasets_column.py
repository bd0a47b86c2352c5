"""A column of Hugging Face datasets with .nac bytes, decoded when it is looked at.

python datasets_column.py folder first.flac second.wav ...
nac compress train.parquet -o packed && python datasets_column.py packed/train.parquet

`datasets.Audio` decodes whole files of common formats; here the column stays small on the disk, and a transform
makes samples of the rows that are asked for, in whatever process asks. In a Parquet file that `nac compress` made,
the audio column is as `datasets` wrote it, of {bytes, path}, with .nac files for bytes.
"""

import sys
from pathlib import Path
from typing import Any

import datasets
import soundfile

import nac

where, *recordings = sys.argv[1:]


def encoded(path: str) -> dict[str, Any]:
    samples, sample_rate = soundfile.read(path, dtype="int16")
    data = nac.encode(samples, sample_rate, model="nac_24khz", kbps=6)
    return {"bytes": data, "path": Path(path).with_suffix(".nac").name}


def decoded(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Rows with samples, as `datasets.Audio` gives them, in place of bytes."""
    audio = []
    for value in batch["audio"]:
        samples, sample_rate = nac.decode(value["bytes"])
        audio.append({"path": value["path"], "array": samples.T, "sampling_rate": sample_rate})
    return {**batch, "audio": audio}


if recordings:
    pair = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    rows = {"audio": [encoded(path) for path in recordings]}
    datasets.Dataset.from_dict(rows, features=datasets.Features({"audio": pair})).save_to_disk(where)
    dataset = datasets.load_from_disk(where)
else:
    dataset = datasets.Dataset.from_parquet(where, cache_dir=f"{where}-cache")

dataset = dataset.cast_column("audio", datasets.Audio(decode=False))  # {bytes, path}, left as they are
for row in dataset.with_transform(decoded):
    audio = row["audio"]
    print(f"{audio['path']}: {audio['array'].shape} at {audio['sampling_rate']} Hz")
