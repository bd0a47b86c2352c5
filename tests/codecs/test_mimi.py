"""Mimi: what its attention remembers and how far it reaches. See also test_references.py and test_streams.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import oracles
import pytest
import torch
from torch import Tensor

from nac.codecs import mimi, registry
from nac.codecs.base import Codes
from nac.codecs.layers.weights import RandomWeights
from nac.codecs.mimi import Attention, Mimi, Positions

SPEC = registry.find("mimi").spec


@pytest.fixture
def short_sighted() -> Iterator[Mimi]:
    """Few channels, and attention over 11 steps, so that what is out of reach is near."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mimi, "SHAPE", replace(mimi.SHAPE, width=2, latent=16))
        for name, value in {"INNER": 24, "CODEBOOK": 4, "WINDOW": 11, "BLOCK": 8}.items():
            patch.setattr(mimi, name, value)
        codec, _ = registry.random(SPEC)
        assert isinstance(codec, Mimi)
        yield codec


def codes_of(frames: int, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    return Codes(tuple(torch.randint(2048, (1, frames), generator=generator) for _ in SPEC.codebooks))


def part(codes: Codes, low: int, high: int | None = None) -> Codes:
    return Codes(tuple(array[:, low:high] for array in codes.arrays))


def test_decoding_from_the_middle_is_exact_and_needs_so_much_before(short_sighted: Mimi) -> None:
    codes, origin = codes_of(200), 5  # recordings that were cut begin at any frame
    decoder = short_sighted.decoder(origin=origin)
    whole = torch.cat([decoder.push(codes), decoder.flush()], -1)
    for start in (130, 131, 150, 204):
        first = short_sighted.preroll(start, origin)
        assert origin < first <= start - 8 * 10 // 2  # eight layers see ten steps back, two of which are a frame
        decoder = short_sighted.decoder(origin=origin, start=start)
        given = [
            decoder.push(part(codes, first - origin, first - origin + 3)),
            decoder.push(part(codes, first - 2)),
        ]
        tail = torch.cat([*given, decoder.flush()], -1)
        assert torch.equal(tail, whole[..., (start - origin) * 1920 :])


def test_nothing_reaches_further(short_sighted: Mimi) -> None:
    codes = codes_of(120)
    whole = short_sighted.decode(codes)
    changed = Codes(tuple(array.clone() for array in codes.arrays))
    for array in changed.arrays:
        array[:, 30] = (array[:, 30] + 7) % 2048
    differs = (short_sighted.decode(changed) != whole)[0, 0].nonzero()
    assert differs.min() >= 30 * 1920  # causal
    reach = 30 + 8 * 10 // 2
    assert (reach - 2) * 1920 < differs.max() < (reach + 6) * 1920


def test_one_attention_against_all_at_once() -> None:
    """Steps that come in parts see as many before as those that come together do under a mask."""
    weights = RandomWeights(seed=3)
    attention = Attention(weights, "x", 64, torch.ones(64), Positions(64 // mimi.HEADS, weights.device))
    steps = 600
    x = torch.randn(1, steps, 64, generator=torch.Generator().manual_seed(1))
    stream = mimi.Stream()
    parts = []
    for piece in torch.split(x, [64, 2, 62, *7 * [64], 1, 23], 1):
        parts.append(attention(piece, stream, torch.zeros_like(piece)))
        stream.first = False
        assert stream.memory[attention].shape[3] <= mimi.WINDOW - 1
    torch.testing.assert_close(torch.cat(parts, 1), plain(weights, x), rtol=0, atol=2e-6)


def plain(weights: RandomWeights, x: Tensor) -> Tensor:
    """The textbook's attention, in float64 and with complex numbers for rotations."""
    tensors = {name: tensor.double() for name, tensor in weights.tensors.items()}
    heads = [x.double() @ tensors[f"x.{each}_proj.weight"].T for each in "qkv"]
    query, key, value = (each.unflatten(2, (mimi.HEADS, -1)).transpose(1, 2) for each in heads)
    steps, width = query.shape[2:]
    turns = torch.arange(steps)[:, None] * 10000.0 ** -(torch.arange(width // 2).double() / (width // 2))

    def turned(v: Tensor) -> Tensor:
        return torch.complex(*v.chunk(2, -1)) * torch.polar(torch.ones_like(turns), turns)

    scores = (turned(query) @ turned(key).conj().mT).real / width**0.5
    distance = torch.arange(steps)[:, None] - torch.arange(steps)
    seen = (distance >= 0) & (distance < 250)
    out = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value
    return (out.transpose(1, 2).flatten(2) @ tensors["x.o_proj.weight"].T).float()


def test_what_is_remembered_does_not_grow(short_sighted: Mimi) -> None:
    encoder, sizes = short_sighted.encoder(), []
    for _ in range(12):
        encoder.push(torch.randn(1, 1, 8 * 1920 * 4))
        streams = [stream for streams in encoder._blocks._streams for stream in streams]
        sizes.append(
            sum(tensor.untyped_storage().nbytes() for stream in streams for tensor in stream.memory.values())
        )
    assert sizes[3] == sizes[-1]


def test_layouts_have_one_fingerprint_and_no_extra_tensors() -> None:
    """Names of both published layouts, at other sizes."""
    theirs = {"encoder_transformer.transformer.layers.3.self_attn.in_proj_weight": torch.randn(3 * 512, 512)}
    newer = {"encoder_transformer.transformer.layers.3.self_attn.in_projs.0.weight": next(iter(theirs.values()))}
    found = mimi.canonical(theirs)
    assert found.keys() == {f"encoder_transformer.layers.3.self_attn.{part}_proj.weight" for part in "qkv"}
    assert all(torch.equal(found[name], tensor) for name, tensor in mimi.canonical(newer).items())
    again = mimi.canonical(found)
    assert again.keys() == found.keys()
    assert mimi.canonical({"quantizer.rvq_first.vq.layers.0._codebook._initialized": torch.ones(1)}) == {}


@pytest.mark.parametrize("codebooks", [1, 2, 32])
def test_the_semantic_codebook_alone(short_sighted: Mimi, codebooks: int) -> None:
    audio = oracles.synthetic(30000, 24000)
    codes = short_sighted.encode(audio, codebooks)
    assert len(codes.arrays) == codebooks
    everything = short_sighted.encode(audio)
    assert all(map(torch.equal, codes.arrays, everything.arrays))
