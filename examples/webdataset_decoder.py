"""Read tar files of `nac pack` or `nac compress` with WebDataset, and decode their .nac files to samples.

nac pack archive -o shards && python webdataset_decoder.py shards
nac compress recordings/*.tar -o shards && python webdataset_decoder.py shards
"""

import sys
from pathlib import Path
from typing import Any

import webdataset

import nac


def decoder(key: str, data: bytes) -> Any:
    """Decode a file of a shard, depending on its extension; None leaves it to other decoders."""
    return nac.decode(data) if key.endswith("nac") else None


shards = [str(path) for path in sorted(Path(sys.argv[1]).glob("*.tar"))]
# WebDataset itself decodes the .json files.
samples = webdataset.WebDataset(shards, shardshuffle=False).decode(decoder)
for sample in samples:
    if "nac" not in sample:  # a recording that could not be compressed, kept by --keep-failed
        continue
    audio, sample_rate = sample["nac"]
    name = sample.get("json", {}).get("path", sample["__key__"])  # `nac pack` stores the original path
    print(f"{name}: {audio.shape} at {sample_rate} Hz")
