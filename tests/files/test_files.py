"""Recordings to .nac and back with every family, made narrow: the codes and samples of the whole signal."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from container_files import written
from narrow_codecs import NAMES, narrow_codecs
from sound_files import Stream

import nac
from nac.codecs.base import Codec, Codes
from nac.container import Reader, chunk, verify
from nac.container.timeline import Timeline
from nac.files import chunks_to_samples


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    """Files of theirs have chunks of about three seconds."""
    with narrow_codecs() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk, "CHUNK_SECONDS", 3)
        yield made


def noise(samples: int, channels: int) -> np.ndarray:
    return np.random.default_rng(samples).integers(-9000, 9000, (samples, channels)).astype(np.int16)


def compressed(samples: np.ndarray, codec: Codec) -> bytes:
    wav, out = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, samples, codec.spec.sample_rate, format="WAV", subtype="PCM_16")
    wav.seek(0)
    nac.compress(wav, out, model=codec.spec.name, codebooks=len(codec.spec.codebooks), load=lambda _: codec)
    return out.getvalue()


# The last ones of encodec_48khz end in segments of 149 and 1 frames, after a whole chunk and within one.
@pytest.mark.parametrize(
    ("name", "length"),
    [
        *((name, 1.3) for name in NAMES),
        *((name, 3.7) for name in ("encodec_24khz", "dac_16khz", "snac_24khz", "snac_32khz", "encodec_48khz")),
        *(("encodec_48khz", samples / 48000) for samples in (1, 47520, 47521, 95100, 142_560, 142_660, 142_760)),
    ],
)
def test_one_stream_is_the_whole_signal(
    codecs: dict[str, Codec], name: str, length: float, tmp_path: Path
) -> None:
    codec = codecs[name]
    spec = codec.spec
    samples = noise(round(length * spec.sample_rate), spec.channels)
    data = compressed(samples, codec)
    assert verify(io.BytesIO(data)).samples == len(samples)
    assert nac.info(io.BytesIO(data)).chunks == 2 or length < 3.7
    audio = torch.from_numpy(samples.T.astype(np.float32) / 32768)[None]
    whole = codec.encode(audio)
    (tmp_path / "x.nac").write_bytes(data)
    for mine, theirs in zip(nac.read_codes(tmp_path / "x.nac")[0], whole.arrays, strict=True):
        assert np.array_equal(mine, theirs[0].numpy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks_to_samples, "PART", spec.sample_rate * 2)
        back, rate = nac.read(io.BytesIO(data), load=lambda _: codec)
    assert rate == spec.sample_rate
    assert np.array_equal(back.T, codec.decode(whole, len(samples))[0].numpy())
    for start in (0.4, 0.99, 1.01, 2.9, 3.2):
        if start < length:
            part, _ = nac.read(io.BytesIO(data), start=start, duration=0.3, load=lambda _: codec)
            first = round(start * rate)
            assert np.array_equal(part, back[first : first + round(0.3 * rate)])


@pytest.mark.parametrize("over", [-47_520, -100, 0, 1, 100, 320, 480, 481, 800])
def test_segments_from_a_pipe_are_those_of_a_file(codecs: dict[str, Codec], over: int) -> None:
    """Wherever the signal ends, near the border of a chunk too, each chunk has the scales of its segments."""
    codec = codecs["encodec_48khz"]
    data = np.ascontiguousarray(noise(142_560 + over, 2)).tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 48000, 4 * 48000, 4, 16)
    wav = b"RIFF\xff\xff\xff\xffWAVE" + form + b"data\xff\xff\xff\xff" + data
    files = []
    for src in (Stream(wav), io.BytesIO(wav)):
        out = io.BytesIO()
        nac.compress(src, out, model="encodec_48khz", codebooks=2, coding="packed", load=lambda _: codec)
        assert verify(io.BytesIO(out.getvalue())).samples == 142_560 + over
        reader = Reader(io.BytesIO(out.getvalue()))
        files.append([(some.frames, some.scales, some.layers) for some in reader.chunks()])
    assert files[0] == files[1]


def test_a_stream_of_segments_may_fall_silent(codecs: dict[str, Codec]) -> None:
    """Its segments reach into the next chunk, so that silence beside another stream is coded like sound."""
    codec, rate = codecs["encodec_48khz"], 48000
    samples = noise(7 * rate, 4)
    samples[int(2.8 * rate) : int(6.2 * rate), 2:] = 0
    back, _ = nac.read(io.BytesIO(compressed(samples, codec)), load=lambda _: codec)
    audio = torch.from_numpy(samples.T.astype(np.float32) / 32768)
    for pair in (0, 2):
        whole = codec.decode(codec.encode(audio[None, pair : pair + 2]), len(samples))
        assert np.array_equal(back[:, pair : pair + 2].T, whole[0].numpy())


def test_what_is_lost_between_segments_is_silent_and_all_else_stays_where_it_was(codecs: dict[str, Codec]) -> None:
    """The segment before it reaches beyond its chunk, and the one after it has nothing to be blended with."""
    codec = codecs["encodec_48khz"]
    segment = codec.spec.segment
    assert segment is not None
    samples = noise(10 * 48000, 3)
    data = compressed(samples, codec)
    whole, _ = nac.read(io.BytesIO(data), load=lambda _: codec)
    reader = Reader(io.BytesIO(data))
    chunks = list(reader.chunks())
    low, high = (codec.spec.start(chunks[number].first_frame) for number in (1, 2))
    file = written(reader.header, [chunks[0], *chunks[2:]], len(samples)).getvalue()
    back, _ = nac.read(io.BytesIO(file), load=lambda _: codec)
    overlap = segment.frames * codec.spec.frame_samples - segment.stride
    assert np.array_equal(back[:low], whole[:low])
    assert not back[low + overlap : high].any()
    assert np.array_equal(back[high + overlap :], whole[high + overlap :])
    for first in (low - 500, low + 500, high - 500, high + 100, high + 2 * overlap):
        part, _ = nac.read(io.BytesIO(file), start=first / 48000, duration=0.05, load=lambda _: codec)
        assert np.array_equal(part, back[first : first + 2400])


@pytest.mark.parametrize(
    ("frames", "overhang"), [(1, False), (150, False), (150, True), (151, False), (300, False), (300, True)]
)
def test_segments_are_as_long_silent_as_they_are_heard_by_either_way(
    codecs: dict[str, Codec], frames: int, overhang: bool
) -> None:
    codec, segments = codecs["encodec_48khz"], -(-frames // 150)
    header = Reader(io.BytesIO(compressed(noise(100, 2), codec))).header
    header = replace(header, samples=None, stream_codebooks=(2,))
    for silent in product([False, True], repeat=segments):
        chunks, timeline = [], Timeline(header)
        arrays = torch.full((1, 2, frames), 5)
        for number, quiet in enumerate(silent):
            low, high = number * 150, min(number * 150 + 150, frames)
            scales = np.ones(1 + (overhang and high == frames), np.float32)
            codes = None if quiet else [row.numpy() for row in arrays[0, :, low:high]]
            chunks.append(chunk.Chunk.pack(header, low, high - low, [codes], scales=[None if quiet else scales]))
            timeline.add(chunks[-1])
            if quiet:
                arrays[..., low:high] = -1
        file = written(header, chunks, timeline.samples).getvalue()
        assert verify(io.BytesIO(file)).samples == timeline.samples
        decoded, _ = nac.read(io.BytesIO(file), codec=codec)
        assert len(decoded) == timeline.samples
        if overhang and silent[-1]:
            continue  # without codes, a chunk has no segments
        sound = codec.decode(Codes.of(arrays, torch.ones(1, segments + overhang)))
        assert np.array_equal(sound[0].numpy().T, decoded)
        heard = codec.decode(Codes.of(arrays.clamp(min=0), torch.ones(1, segments + overhang)))
        assert heard.shape == sound.shape


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_come_back(codecs: dict[str, Codec], name: str, channels: int) -> None:
    codec = codecs[name]
    samples = noise(15_001, channels)
    back, _ = nac.read(io.BytesIO(compressed(samples, codec)), load=lambda _: codec)
    assert back.shape == samples.shape
