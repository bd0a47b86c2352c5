"""Recordings to .nac files and back with the processor in a GPU's place: many files at a time, and pipes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from gpus_place import in_gpus_place
from narrow_codecs import narrow_codecs
from torch import Tensor

from nac.audio.reading import Source, open_source
from nac.codecs.base import Codec
from nac.codecs.batches import Row
from nac.container import Reader, chunk
from nac.errors import NacError
from nac.files import conversion
from nac.files.chunks_to_samples import decode_blocks
from nac.files.encoding import make_header
from nac.files.samples_to_chunks import encode_chunks

NAMES = ["encodec_24khz", "encodec_48khz", "dac_16khz", "snac_24khz", "mimi"]
SECONDS = [0.3, 1.6, 7.5, 1.1, 1.6, 0.02, 2.4]


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, tuple[Codec, Codec]]]:
    """Each codec on the processor, and in a GPU's place; files have chunks of about three seconds."""
    with narrow_codecs() as slow, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk, "CHUNK_SECONDS", 3)
        with in_gpus_place(), narrow_codecs() as fast:
            pass
        yield {name: (slow[name], fast[name]) for name in NAMES}


def sound(seconds: float, codec: Codec, seed: int = 0) -> np.ndarray:
    """Noise of the codec's rate and channels, silent from the third second to the sixth."""
    shape = round(seconds * codec.sample_rate), codec.channels
    found = np.random.default_rng(seed).standard_normal(shape) * 0.1
    found[3 * codec.sample_rate : 6 * codec.sample_rate] = 0
    return found


def wav(samples: np.ndarray, codec: Codec) -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, samples, codec.sample_rate, format="WAV", subtype="FLOAT")
    file.seek(0)
    return file


def compressed(sounds: list[io.BytesIO], codec: Codec, threads: int) -> list[bytes | str]:
    """Each as a .nac file, or why not."""

    def one(file: io.BytesIO) -> bytes | str:
        out = io.BytesIO()
        try:
            conversion.compress(
                io.BytesIO(file.getvalue()), out, model=codec.spec.name, codebooks=2, load=lambda name: codec
            )
        except NacError as error:
            return str(error)
        return out.getvalue()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, sounds))


@pytest.mark.parametrize("name", NAMES)
def test_files_of_all_lengths_at_a_time_are_those_of_the_processor(
    pairs: dict[str, tuple[Codec, Codec]], name: str
) -> None:
    cpu, gpu = pairs[name]
    sounds = [wav(sound(seconds, cpu, seed), cpu) for seed, seconds in enumerate(SECONDS)]
    sounds[3] = io.BytesIO(sounds[3].getvalue()[:-700])  # not whole
    expected = compressed(sounds, cpu, 1)
    with in_gpus_place():
        found = compressed(sounds, gpu, 4)
        assert found == expected
        assert isinstance(expected[3], str)
        files = [file for file in found if isinstance(file, bytes)]
        with ThreadPoolExecutor(4) as pool:
            decoded = list(pool.map(lambda file: conversion.read(io.BytesIO(file), codec=gpu)[0], files))
            # From anywhere, of a long one.
            part, rate = conversion.read(io.BytesIO(files[2]), codec=gpu, start=6.1, duration=1.3)
    for file, samples in zip(files, decoded, strict=True):
        np.testing.assert_allclose(samples, conversion.read(io.BytesIO(file), codec=cpu)[0], atol=1e-4)
    np.testing.assert_allclose(part, decoded[2][round(6.1 * rate) :][: len(part)], atol=1e-4)


def test_of_a_long_file_many_windows_are_done_at_once(
    pairs: dict[str, tuple[Codec, Codec]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunk, "CHUNK_SECONDS", 10)
    _, gpu = pairs["dac_16khz"]
    batch, sizes = gpu._batches._batch, list[int]()

    def noted(rows: list[Row]) -> Iterator[tuple[Tensor, ...]]:
        sizes.append(len(rows))
        return batch(rows)

    monkeypatch.setattr(gpu._batches, "_batch", noted)
    with in_gpus_place():
        (file,) = compressed([wav(sound(10, gpu), gpu)], gpu, 1)
        conversion.read(io.BytesIO(file), codec=gpu)
    assert sum(sizes) > 60
    assert len(sizes) < sum(sizes) / 4


def live(samples: np.ndarray, codec: Codec, taken: list[int], size: int) -> Source:
    """A pipe whose blocks are noted as they are taken."""

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(samples), size):
            taken.append(start)
            yield samples[start : start + size].astype(np.float32)

    with open_source(wav(samples[:100], codec)) as source:
        return replace(source, samples=None, live=True, blocks=blocks())


@pytest.mark.parametrize("name", NAMES)
def test_a_live_pipe_waits_for_no_batch(pairs: dict[str, tuple[Codec, Codec]], name: str) -> None:
    """Chunks come after no more blocks than from the processor."""
    seen = []
    for codec, where in zip(pairs[name], (nullcontext, in_gpus_place), strict=True):
        taken: list[int] = []
        with where():
            source = live(sound(10, codec), codec, taken, codec.sample_rate // 2)
            header = make_header(source, codec.spec, (2,), mono=False)
            seen.append([len(taken) for _ in encode_chunks(source, codec, header)])
    assert len(seen[0]) == len(seen[1]) > 2
    assert all(gpu <= cpu for cpu, gpu in zip(*seen, strict=True))


class Arriving(io.BytesIO):
    """Bytes that come through a pipe."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("name", ["dac_16khz", "encodec_24khz"])
def test_sound_of_a_live_file_waits_for_no_batch(pairs: dict[str, tuple[Codec, Codec]], name: str) -> None:
    """After as many bytes there are at least as many samples as from the processor."""
    cpu, _ = pairs[name]
    (data,) = compressed([wav(sound(17, cpu), cpu)], cpu, 1)
    assert isinstance(data, bytes)
    seen = []
    for codec, where in zip(pairs[name], (nullcontext, in_gpus_place), strict=True):
        pipe, total, reached = Arriving(data), 0, dict[int, int]()
        with where():
            for block in decode_blocks(Reader(pipe), codec, sample_rate=codec.sample_rate):
                total += len(block)
                reached[pipe.tell()] = total
        seen.append(reached)
    processor, gpu = seen
    assert len(processor) > 4
    for taken, samples in processor.items():
        assert max((there for at, there in gpu.items() if at <= taken), default=0) >= samples
