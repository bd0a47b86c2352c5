"""The same codes and samples on a GPU as on the CPU, but for near-ties and rounding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from narrow_codecs import NAMES, narrow_codecs

import nac
from nac.codecs.base import Codec
from nac.weights import models

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
Pair = tuple[Codec, Codec]


@pytest.fixture(scope="module")
def pairs(random_lyra_weights: Path) -> Iterator[dict[str, Pair]]:
    """Each codec on the CPU and on the GPU."""
    models.resolve_device("cuda")  # which switches TF32 off
    with narrow_codecs() as slow, narrow_codecs("cuda") as fast:
        made = {name: (slow[name], fast[name]) for name in NAMES}
        for name, weights in (("nac_24khz", None), ("soundstream_16khz", random_lyra_weights)):
            load = [nac.load(name, weights=weights, device=device) for device in ("cpu", "cuda")]
            made[name] = (load[0], load[1])
        yield made


@pytest.mark.parametrize("name", [*NAMES, "nac_24khz", "soundstream_16khz"])
def test_codes_and_samples_are_those_of_the_cpu(pairs: dict[str, Pair], name: str) -> None:
    cpu, gpu = pairs[name]
    assert cpu.spec == gpu.spec
    audio = torch.randn(2, cpu.spec.channels, 40_000, generator=torch.Generator().manual_seed(1)) * 0.2
    codes, other = cpu.encode(audio), gpu.encode(audio)
    # The coarsest codebooks differ by near-ties only; what follows one differs with it.
    for mine, theirs in zip(codes.arrays[:2], other.arrays[:2], strict=True):
        assert (mine == theirs.cpu()).float().mean() > 0.99
    torch.testing.assert_close(gpu.decode(codes).cpu(), cpu.decode(codes), atol=1e-3, rtol=0)
