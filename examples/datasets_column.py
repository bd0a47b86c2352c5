"""A column of Hugging Face datasets with .nac bytes, decoded when it is looked at.

python datasets_column.py folder first.flac second.wav ...

`datasets.Audio` decodes whole files of common formats; here the column stays small on the disk, and a transform
makes samples of the rows that are asked for, in whatever process asks.
"""

import sys
from pathlib import Path
from typing import Any

import datasets
import soundfile

import nac

folder, *recordings = sys.argv[1:]


def encoded(path: str) -> bytes:
    samples, sample_rate = soundfile.read(path, dtype="int16")
    return nac.encode(samples, sample_rate, model="nac_24khz", kbps=6)


def decoded(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Rows with samples, as `datasets.Audio` gives them, in place of bytes."""
    pairs = [nac.decode(data) for data in batch["audio"]]
    audio = [{"array": samples.T, "sampling_rate": sample_rate} for samples, sample_rate in pairs]
    return {**batch, "audio": audio}


features = datasets.Features({"name": datasets.Value("string"), "audio": datasets.Value("binary")})
rows = {"name": [Path(path).name for path in recordings], "audio": [encoded(path) for path in recordings]}
datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder)

dataset = datasets.load_from_disk(folder).with_transform(decoded)
for row in dataset:
    audio = row["audio"]
    print(f"{row['name']}: {audio['array'].shape} at {audio['sampling_rate']} Hz")
