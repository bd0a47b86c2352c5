"""What recordings and codes are compressed to stays what it was, to the byte: hashes in tests/data/golden.

    python tests/files/test_golden_bytes.py [NAME...]

writes them anew, for a network that is new, or after a change that is meant to change the files.

**Codes to bytes** is integer arithmetic, the range coder's included, so the hashes hold on any machine.

**Sound to codes** is arithmetic in single precision, whose last bits (6e-8) differ between processors. So each
sound here is one whose codes have a margin: noise of ``NOISE`` of its level, more than a thousand such bits,
changes none of them in ``DRAWS`` draws. The program looks for such sounds, and writes no hash without. The
hashes are the same where PyTorch, oneDNN and OpenBLAS are held to SSE, AVX or AVX2. EnCodec at 48 kHz has
scales in the file, which are floats; those of these sounds are exact, as all their samples are small multiples
of a power of two, and sums of their squares need no rounding. Random weights may differ in the last bits as
well; their fingerprint is left out.
"""

from __future__ import annotations

import hashlib
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
from nac.container.codebooks import Coding  # noqa: E402

GOLDEN = ROOT / "tests" / "data" / "golden" / "bytes.json"
LAYOUTS = {"mono": 1, "stereo": 2}
CODINGS: tuple[Coding, ...] = ("packed", "range")
SECONDS, CODEBOOKS = 0.4, 3
NOISE, DRAWS = 1e-4, 16


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Codes to bytes


def file_of_codes(codec: Codec, channels: int, coding: Coding) -> bytes:
    """Two chunks of codes with few values each, which can be range coded; of several streams one falls silent."""
    spec, rng = codec.spec, np.random.default_rng(channels)
    streams = -(-channels // spec.channels)
    books = min(len(spec.codebooks), 6)
    unit = spec.segment.frames if spec.segment else spec.frame_multiple
    header = Header(
        model=spec.name,
        fingerprint=spec.fingerprint,
        sample_rate=spec.sample_rate,
        frame_samples=spec.frame_samples,
        codebooks=spec.codebooks,
        network_channels=spec.channels,
        stereo_pair=streams == 2,
        stream_codebooks=tuple(books - 2 * stream for stream in range(streams)),
        original_sample_rate=spec.sample_rate,
        channels=channels,
        segment=spec.segment,
        has_scale=spec.has_scale,
        tags=(("title", "Gold"),),
    )
    out, first = io.BytesIO(), 0
    writer = Writer(out, header)
    for frames, heard in ((unit * -(-300 // unit), streams), (unit * -(-90 // unit), 1)):
        codes = [
            [
                rng.integers(0, 1 << bits, 5)[rng.integers(0, 5, frames * each)]
                for bits, each in spec.codebooks[:count]
            ]
            for count in header.stream_codebooks
        ]
        present = [arrays if stream < heard else None for stream, arrays in enumerate(codes)]
        segments = frames // spec.segment.frames if spec.segment else 0
        scales = [np.full(segments, 0.5, np.float32)] * streams if spec.has_scale else None
        angle = 20 * header.stereo_pair
        writer.write(Chunk.pack(header, first, frames, present, angle=angle, scales=scales, coding=coding))
        first += frames
    writer.finish(writer.samples)
    return out.getvalue()


# Sound to bytes


def sound(codec: Codec, channels: int, seed: int) -> np.ndarray:
    """Steps up and down at random times, of 1/4 in the first channel and 1/8 in the second: exact in any sum."""
    rng = np.random.default_rng(seed)
    samples = round(SECONDS * codec.spec.sample_rate)
    waves = []
    for channel in range(channels):
        held = rng.integers(1, 40, samples)
        signs = 2.0 * rng.integers(0, 2, samples) - 1
        waves.append(np.repeat(signs, held)[:samples] * 0.25 / (1 + channel))
    return np.stack(waves, axis=1).astype(np.float32)


def compressed(codec: Codec, samples: np.ndarray, coding: Coding = "packed") -> bytes:
    return nac.encode(samples, codec.spec.sample_rate, codec=codec, codebooks=CODEBOOKS, coding=coding)


def codes_of(data: bytes) -> list[bytes]:
    with nac.open(io.BytesIO(data)) as file:
        return [array.tobytes() for stream in file.codes() for array in stream]


def has_margin(codec: Codec, samples: np.ndarray) -> bool:
    """Whether the codes are the same for sounds that are not quite the same."""
    wanted, rng = codes_of(compressed(codec, samples)), np.random.default_rng(0)
    amount = NOISE * samples.std()
    return all(
        codes_of(compressed(codec, (samples + amount * rng.standard_normal(samples.shape)).astype(np.float32)))
        == wanted
        for _ in range(DRAWS)
    )


def hashes(codec: Codec, channels: int, seed: int) -> dict[str, object]:
    samples = sound(codec, channels, seed)
    return {
        "seed": seed,
        "codes": sha(b"".join(codes_of(compressed(codec, samples)))),
        "sound": {coding: sha(compressed(codec, samples, coding)) for coding in CODINGS},
        "made": {coding: sha(file_of_codes(codec, channels, coding)) for coding in CODINGS},
    }


@pytest.fixture(scope="module")
def narrow() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", list(MODELS))
def test_bytes_are_what_they_were(name: str, layout: str, narrow: dict[str, Codec]) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert name in golden, "a new network: write its hashes, as the top of this file says"
    kept, codec = golden[name][layout], codec_of(name, narrow)
    found = hashes(codec, LAYOUTS[layout], kept["seed"])
    assert found["made"] == kept["made"], "the same codes give another file"
    assert found["codes"] == kept["codes"], "the same sound gives other codes"
    assert found["sound"] == kept["sound"], "the same sound gives the same codes in another file"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_codes_of_few_values_are_range_coded(layout: str, narrow: dict[str, Codec]) -> None:
    """So that the hashes are of the range coder's bytes, with and without tables."""
    for name in ("nac_24khz", "snac_24khz"):
        packed, coded = (file_of_codes(codec_of(name, narrow), LAYOUTS[layout], coding) for coding in CODINGS)
        assert nac.info(io.BytesIO(coded)).coding == "range"
        assert len(coded) < 0.85 * len(packed)
        assert codes_of(coded) == codes_of(packed)


def main() -> None:
    kept = json.loads(GOLDEN.read_text())
    found: dict[str, dict[str, object]] = {}
    with narrow_codecs() as made:
        for name in MODELS:
            if sys.argv[1:] and name not in sys.argv[1:]:
                found[name] = kept[name]
                continue
            codec, found[name] = codec_of(name, made), {}
            for layout, channels in LAYOUTS.items():
                seed = next(seed for seed in range(1000) if has_margin(codec, sound(codec, channels, seed)))
                found[name][layout] = hashes(codec, channels, seed)
                print(name, layout, f"seed {seed}", flush=True)
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
