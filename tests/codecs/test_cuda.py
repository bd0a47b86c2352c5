"""The same codes and samples on a GPU as on the CPU, but for near-ties and rounding.

Where there is no CUDA device, the processor takes its place as far as it goes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from gpus_place import in_gpus_place
from narrow_codecs import NAMES, narrow_codecs

import nac
from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.registry import MODELS
from nac.container import chunk
from nac.weights import models

T = TypeVar("T")
ALL = [*NAMES, "nac_24khz", "nac_48khz", "soundstream_16khz"]
Where = Callable[[], AbstractContextManager[None]]
Pair = tuple[Codec, Codec, Where]


@pytest.fixture(scope="module", params=["cuda", "in its place"])
def pairs(request: pytest.FixtureRequest, random_lyra_weights: Path) -> Iterator[dict[str, Pair]]:
    """Each codec on the CPU, on the GPU, and within what the latter is to be used."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    where: Where = nullcontext if request.param == "cuda" else in_gpus_place
    device = "cuda" if request.param == "cuda" else "cpu"
    if device == "cuda":
        models.resolve_device(device)  # which switches TF32 off
    with where(), narrow_codecs(device) as fast:
        fast |= _packaged(device, random_lyra_weights)
    with narrow_codecs() as slow:
        slow |= _packaged("cpu", random_lyra_weights)
        yield {name: (slow[name], fast[name], where) for name in ALL}


def _packaged(device: str, lyra: Path) -> dict[str, Codec]:
    """By PyTorch, also on the processor."""
    paths = {name: models.path(name) for name in ("nac_24khz", "nac_48khz")} | {"soundstream_16khz": lyra}
    return {name: registry.load(MODELS[name].spec, path, torch.device(device)) for name, path in paths.items()}


def sound(codec: Codec, samples: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(batch, codec.channels, samples, generator=generator) * 0.2


@pytest.mark.parametrize("name", ALL)
def test_codes_and_samples_are_those_of_the_cpu(pairs: dict[str, Pair], name: str) -> None:
    cpu, gpu, where = pairs[name]
    assert cpu.spec == gpu.spec
    audio = sound(cpu, 40_000, 2)
    codes = cpu.encode(audio)
    with where():
        other, decoded = gpu.encode(audio), gpu.decode(codes)
    assert other.arrays[0].device == decoded.device == gpu.device
    # The coarsest codebooks differ by near-ties only; what follows one differs with it.
    for mine, theirs in zip(codes.arrays[:2], other.arrays[:2], strict=True):
        assert (mine == theirs.cpu()).float().mean() > 0.99
    torch.testing.assert_close(decoded.cpu(), cpu.decode(codes), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_streams_on_the_host_share_batches(pairs: dict[str, Pair], name: str) -> None:
    """Of several threads. What comes of a signal on the host is on the host."""
    cpu, gpu, where = pairs[name]
    sounds = [sound(cpu, samples) for samples in (40_000, 3000, 70_001, 40_000)]

    def there_and_back(audio: torch.Tensor) -> tuple[nac.Codes, torch.Tensor]:
        encoder, decoder = gpu.encoder(2), gpu.decoder()
        codes = nac.Codes.join([*(encoder.push(part) for part in torch.split(audio, 25_000, -1)), encoder.flush()])
        return codes, torch.cat([decoder.push(codes), decoder.flush()], -1)

    with where(), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(there_and_back, sounds))
    for audio, (codes, decoded) in zip(sounds, found, strict=True):
        assert codes.arrays[0].device.type == decoded.device.type == "cpu"
        assert (cpu.encode(audio, 2).arrays[0] == codes.arrays[0]).float().mean() > 0.99
        torch.testing.assert_close(decoded, cpu.decode(codes), atol=1e-3, rtol=0)


def test_decoding_in_half_precision_is_close_to_exact_decoding(pairs: dict[str, Pair]) -> None:
    where, device = pairs[NAMES[0]][2], pairs[NAMES[0]][1].device.type
    slow = [pairs[name][0] for name in NAMES]
    codes = [codec.encode(sound(codec, 40_000, 2)) for codec in slow]
    with where(), narrow_codecs(device, fast=True) as fast:
        decoded = [fast[name].decode(some).cpu() for name, some in zip(NAMES, codes, strict=True)]
    for codec, some, samples in zip(slow, codes, decoded, strict=True):
        exact = codec.decode(some)
        assert samples.dtype == torch.float32
        noise = (exact - samples).square().sum()
        assert 0 < noise < 1e-4 * exact.square().sum(), codec.spec.name  # 40 dB


@pytest.mark.parametrize("name", ALL)
def test_nothing_waits_while_a_batch_is_computed(
    pairs: dict[str, Pair], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, gpu, where = pairs[name]
    if gpu.device.type != "cuda":
        pytest.skip("PyTorch tells of it with CUDA only; test_batches.py has the like for the processor")
    memory, seen = gpu._batches.gpu, list[str]()

    def measured(run: Callable[[], T]) -> tuple[T, int]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return run(), 0
        finally:
            torch.cuda.set_sync_debug_mode("default")
            seen.append(name)

    audio = sound(gpu, 200_000)
    gpu.decode(gpu.encode(audio))  # what is made at first use
    monkeypatch.setattr(memory, "measured", measured)
    gpu._batches._limits.clear()
    with where():
        gpu.decode(gpu.encode(audio))
    assert len(seen) == 2


def test_files_are_those_of_the_cpu(pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """But for near-ties: what each has made the other decodes."""
    monkeypatch.setattr(chunk, "CHUNK_SECONDS", 3)
    cpu, gpu, where = pairs["nac_24khz"]
    samples = np.random.default_rng(0).standard_normal((24000 * 7, 1)).astype(np.float32) * 0.1
    with where():
        data = nac.encode(samples, 24000, codec=gpu, kbps=3)
        decoded, _ = nac.decode(data, codec=gpu)
    assert decoded.shape == samples.shape
    mine = nac.encode(samples, 24000, codec=cpu, kbps=3)
    (here,), (there,) = (nac.read_codes(io.BytesIO(file)) for file in (mine, data))
    assert min((a == b).mean() for a, b in zip(here[:2], there[:2], strict=True)) > 0.99
    np.testing.assert_allclose(nac.decode(data, codec=cpu)[0], decoded, atol=1e-3)
