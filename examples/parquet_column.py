"""Store recordings in a column of a Parquet file, each as the bytes of a .nac file.

python parquet_column.py recordings.parquet first.flac second.wav ...
"""

import sys
from pathlib import Path

import pandas
import soundfile

import nac

table, *recordings = sys.argv[1:]


def encoded(path: str) -> bytes:
    """Encode a recording at 3 kbit/s; the model is loaded once for all recordings."""
    samples, sample_rate = soundfile.read(path, dtype="int16")
    return nac.encode(samples, sample_rate, model="nac_24khz", kbps=3)


frame = pandas.DataFrame({"name": [Path(path).name for path in recordings], "audio": map(encoded, recordings)})
frame["audio"] = list(frame["audio"])
frame.to_parquet(table, index=False)
print(f"{table}: {len(frame)} recordings, {Path(table).stat().st_size} bytes")

for name, data in pandas.read_parquet(table).itertuples(index=False):
    samples, sample_rate = nac.decode(data, duration=1.0)  # decodes only the first second
    print(f"{name}: {len(data)} bytes; its first second: {samples.shape} at {sample_rate} Hz")
