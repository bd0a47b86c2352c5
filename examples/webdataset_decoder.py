"""Read shards of `nac pack` with WebDataset, and decode their .nac files to samples.

nac pack archive -o shards && python webdataset_decoder.py shards
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
    audio, sample_rate = sample["nac"]
    print(f"{sample['json']['path']}: {audio.shape} at {sample_rate} Hz")
