"""WebDataset over shards of `nac pack`: a decoder that makes samples of their .nac files.

nac pack archive -o shards && python webdataset_decoder.py shards
"""

import sys
from pathlib import Path
from typing import Any

import webdataset

import nac


def decoder(key: str, data: bytes) -> Any:
    """What becomes of a file in a shard, by its ending; None leaves it to other decoders."""
    return nac.decode(data) if key.endswith("nac") else None


shards = [str(path) for path in sorted(Path(sys.argv[1]).glob("*.tar"))]
# What the decoder leaves, .json, WebDataset decodes by itself.
samples = webdataset.WebDataset(shards, shardshuffle=False).decode(decoder)
for sample in samples:
    audio, sample_rate = sample["nac"]
    print(f"{sample['json']['path']}: {audio.shape} at {sample_rate} Hz")
