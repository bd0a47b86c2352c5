"""What files decode to stays what it was: numbers in tests/data/golden, of every network and layout of channels.

    python tests/files/test_golden.py [NAME...]

writes them anew, for a network that is new. Those of a network that exists must not change, since its files would.
Weights are random but for those of nac_24khz, so that they change with how random weights are made.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from golden_codecs import codec_of  # noqa: E402
from narrow_codecs import narrow_codecs  # noqa: E402

import nac  # noqa: E402
from nac.codecs.base import Codec  # noqa: E402
from nac.codecs.registry import MODELS  # noqa: E402
from nac.container import Chunk, Header, Writer  # noqa: E402

GOLDEN = ROOT / "tests" / "data" / "golden" / "decoded.json"
LAYOUTS = {"mono": 1, "pair": 2, "three": 3}
KEPT = 24  # samples of each channel, from one end to the other


def file_of(codec: Codec, channels: int) -> io.BytesIO:
    """Two chunks of codes that look random; a pair with an angle in each, streams of fewer and fewer codebooks."""
    spec, rng = codec.spec, np.random.default_rng(channels)
    streams = 2 if channels == 2 and spec.channels == 1 else -(-channels // spec.channels)
    books = len(spec.codebooks)
    unit = spec.segment.frames if spec.segment else spec.frame_multiple
    lengths = (unit, unit // 5) if spec.segment else (unit * -(-20 // unit), unit * -(-7 // unit))
    header = Header(
        model=spec.name,
        fingerprint=spec.fingerprint,
        sample_rate=spec.sample_rate,
        frame_samples=spec.frame_samples,
        codebooks=spec.codebooks,
        network_channels=spec.channels,
        stereo_pair=channels == 2 and spec.channels == 1,
        stream_codebooks=tuple(max(1, books // (1 + stream)) for stream in range(streams)),
        original_sample_rate=spec.sample_rate,
        channels=channels,
        segment=spec.segment,
        has_scale=spec.has_scale,
    )
    out, first = io.BytesIO(), 0
    writer = Writer(out, header)
    for frames, angle in zip(lengths, (20, 50), strict=True):
        codes = [
            [rng.integers(0, 1 << bits, frames * each) for bits, each in spec.codebooks[:count]]
            for count in header.stream_codebooks
        ]
        scales = [np.full(1, 0.5 + stream, np.float32) for stream in range(streams)] if spec.has_scale else None
        chunk = Chunk.pack(
            header, first, frames, codes, angle=angle * header.stereo_pair, scales=scales, coding="packed"
        )
        writer.write(chunk)
        first += frames
    writer.finish(writer.samples)
    out.seek(0)
    return out


def decoded(codec: Codec, channels: int) -> dict[str, object]:
    """The samples kept, and each channel's root mean square."""
    samples, _ = nac.read(file_of(codec, channels), load=lambda _: codec)
    at = np.linspace(0, len(samples) - 1, KEPT).astype(int)
    return {
        "length": len(samples),
        "level": np.sqrt((samples.astype(np.float64) ** 2).mean(axis=0)).tolist(),
        "samples": samples[at].T.astype(np.float64).tolist(),
    }


@pytest.fixture(scope="module")
def narrow() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", list(MODELS))
def test_a_file_decodes_to_what_it_did(name: str, layout: str, narrow: dict[str, Codec]) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert name in golden, "a new network: write its numbers, as the top of this file says"
    kept = golden[name][layout]
    found = decoded(codec_of(name, narrow), LAYOUTS[layout])
    assert found["length"] == kept["length"]
    loud = max(kept["level"])
    assert loud > 1e-4
    # Machines differ in the last bits of single precision, and networks make a little more of that.
    for key in ("level", "samples"):
        assert np.abs(np.array(found[key]) - np.array(kept[key])).max() < 1e-3 * loud, key


def main() -> None:
    kept = json.loads(GOLDEN.read_text())
    with narrow_codecs() as made:
        found = {
            name: {layout: decoded(codec_of(name, made), count) for layout, count in LAYOUTS.items()}
            if name in (sys.argv[1:] or MODELS)
            else kept[name]
            for name in MODELS
        }
    text = json.dumps(found, indent=0)
    GOLDEN.write_text(text + "\n")


if __name__ == "__main__":
    main()
