"""Decoding in half precision: close to exact decoding, without seams, and never for encoding."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from gpus_place import in_gpus_place
from narrow_codecs import NAMES, narrow_codecs
from torch import Tensor
from toy_command import nac, wav

from nac.codecs import registry
from nac.codecs.base import Codec, Codes
from nac.codecs.layers.weights import RandomWeights, half
from nac.codecs.registry import MODELS
from nac.errors import ModelError
from nac.files.conversion import decompress, read
from nac.weights import models, precision
from nac.weights.loaded import forget
from nac.weights.loading import load as nac_load

CPU = torch.device("cpu")
ON_CPU = [name for name in NAMES if "cpu" in registry.family(MODELS[name].spec.family).fast]
PLACES = [*(("gpu", name) for name in NAMES), *(("cpu", name) for name in ON_CPU)]
needs_amx = pytest.mark.skipif(not precision.multiplies_bfloat16(), reason="this CPU has no AMX")
PARAMETERS = [pytest.param(*case, marks=[needs_amx] if case[0] == "cpu" else []) for case in PLACES]
BOUND = {torch.float16: 40.0, torch.bfloat16: 25.0}
"""Minimum signal-to-noise ratio in dB. One rounding to 11 or 8 bits costs 74 or 56 dB, a network has about 30."""
SEAM = {torch.float16: 50.0, torch.bfloat16: 25.0}


class Decoders:
    """An exact and a fast codec of each model, either on the CPU or with the CPU in a GPU's place."""

    def __init__(self, place: str) -> None:
        self.place = place
        with self.where(), narrow_codecs() as exact, narrow_codecs(fast=True) as fast:
            self.exact, self.fast = exact, fast
            self.dtype = half(CPU)

    def where(self) -> AbstractContextManager[None]:
        return in_gpus_place() if self.place == "gpu" else nullcontext()


@pytest.fixture(scope="module")
def places() -> dict[str, Decoders]:
    return {place: Decoders(place) for place in ("gpu", "cpu")}


def sound(codec: Codec, seconds: float, batch: int = 1) -> Tensor:
    shape = batch, codec.channels, int(seconds * codec.sample_rate)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 0.2


def snr(exact: Tensor, other: Tensor) -> float:
    assert exact.shape == other.shape
    assert other.dtype == torch.float32
    assert other.isfinite().all()
    return float(10 * torch.log10(exact.square().sum() / (exact - other).square().sum().clamp_min(1e-30)))


@pytest.mark.parametrize(("place", "name"), PARAMETERS)
def test_samples_are_close_to_the_exact_ones_and_codes_are_equal(
    places: dict[str, Decoders], place: str, name: str
) -> None:
    decoders = places[place]
    exact, fast = decoders.exact[name], decoders.fast[name]
    assert fast.fast
    assert not exact.fast
    assert fast.spec == exact.spec
    audio = sound(exact, 1.7, 2)
    with decoders.where():
        codes, other = exact.encode(audio), fast.encode(audio)
        assert all(torch.equal(*pair) for pair in zip(codes.arrays, other.arrays, strict=True))
        plain, quick = exact.decode(codes), fast.decode(codes)
    assert BOUND[decoders.dtype] < snr(plain, quick) < 120  # which shows that it is another precision


@pytest.mark.parametrize(("place", "name"), PARAMETERS)
def test_parts_have_no_seams(places: dict[str, Decoders], place: str, name: str) -> None:
    """Codes that arrive in parts, and decoding from the middle, give the samples of the whole."""
    decoders = places[place]
    fast = decoders.fast[name]
    with decoders.where():
        codes = fast.encode(sound(fast, 4.1))
        frames = codes.frames(fast.spec)
        whole, decoder = fast.decode(codes), fast.decoder()
        edges = [*range(0, frames, fast.spec.frame_multiple * 3), frames]
        parts = [decoder.push(codes.between(fast.spec, *edge)) for edge in pairwise(edges)]
        joined = torch.cat([*parts, decoder.flush()], -1)
        start = frames // 2 // fast.spec.frame_multiple * fast.spec.frame_multiple
        first = fast.preroll(start)
        decoder = fast.decoder(start=start)
        rest = torch.cat([decoder.push(codes.between(fast.spec, first, frames)), decoder.flush()], -1)
    low = fast.spec.start(start)
    for part, same in ((joined, whole), (rest, whole[..., low:])):
        assert snr(same, part) > SEAM[decoders.dtype]
        assert (part - same).abs().max() < 0.02 * same.abs().max()


def test_weights_of_the_decoder_alone_are_rounded() -> None:
    weights = RandomWeights(fast=True)
    decoding = weights.of_decoder()
    assert weights.take("encoder.weight", 4, 4).dtype == torch.float32
    assert decoding.take("decoder.weight", 4, 4).dtype == half(CPU) == torch.bfloat16
    assert decoding.take("decoder.alpha", 4, exact=True).dtype == torch.float32
    weights.finish()  # which knows all three
    with in_gpus_place():
        assert RandomWeights(fast=True).of_decoder().take("a", 2).dtype == torch.float16
    assert RandomWeights().of_decoder().take("a", 2).dtype == torch.float32


def test_numbers_beyond_the_range_of_half_precision_are_an_error() -> None:
    with in_gpus_place(), narrow_codecs(fast=True) as fast:
        codec = fast["encodec_24khz"]
        codes = codec.encode(sound(codec, 0.5))
        for quantiser in codec.quantisers:  # type: ignore[attr-defined]
            quantiser._entries *= 1e5
        with pytest.raises(ModelError, match=r"^encodec_24khz exceeds the range of half precision here$"):
            codec.decode(codes)


@pytest.mark.parametrize(
    ("name", "device", "amx", "reason"),
    [
        ("dac_44khz", "cuda", False, ""),
        ("snac_24khz", "cuda", False, ""),
        ("encodec_24khz", "mps", False, ""),
        ("dac_44khz", "cpu", True, ""),
        ("dac_44khz", "cpu", False, "which is as fast on this CPU, because it has no AMX"),
        ("snac_24khz", "cpu", True, "which is about as fast on a CPU for this model"),
        ("mimi", "cpu", True, "which is about as fast on a CPU for this model"),
        ("nac_24khz", None, True, "because half precision makes no difference to this model"),
        ("soundstream_16khz", "cuda", True, "because half precision makes no difference to this model"),
    ],
)
def test_exact_decoding_where_nothing_is_gained(
    name: str, device: str | None, amx: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: amx)
    where = None if device is None else torch.device(device)
    assert precision.why_exact(MODELS[name].spec, where) == reason


def test_a_model_without_it_is_loaded_as_ever_and_this_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nac"):
        plain, fast = models.load("nac_24khz"), models.load("nac_24khz", fast=True)
    assert type(fast) is type(plain)
    assert not fast.fast
    assert [record.getMessage() for record in caplog.records] == [
        "nac_24khz: decoding in full precision, because half precision makes no difference to this model"
    ]


def test_families_without_it_on_a_cpu_stay_exact() -> None:
    with narrow_codecs(fast=True) as fast:
        assert {name for name, codec in fast.items() if codec.fast} == set(ON_CPU)


@pytest.mark.parametrize("amx", [pytest.param(True, marks=needs_amx), False])
def test_a_checkpoint_is_loaded_in_half_precision(
    amx: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: amx)
    with narrow_codecs():
        codec, tensors = registry.random(MODELS["dac_16khz"].spec)
        file = tmp_path / "weights.safetensors"
        save_file(tensors, file)
        exact, fast = (models.load("dac_16khz", weights=file, device="cpu", fast=fast) for fast in (False, True))
    codes = codec.encode(sound(codec, 0.5))
    assert exact.spec == fast.spec
    assert torch.equal(exact.decode(codes), codec.decode(codes))
    assert fast.fast == amx
    assert torch.equal(fast.decode(codes), codec.decode(codes)) != amx
    assert isinstance(codes, Codes)


def test_the_commands_option_and_the_functions_argument_reach_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nac("compress", wav("song.wav"), "-m", "nac_24khz", "-q")
    plain = nac("decompress", "song.nac", "-o", "plain.wav")
    fast = nac("decompress", "song.nac", "-o", "fast.wav", "--fast")
    line = "nac_24khz: decoding in full precision, because half precision makes no difference to this model"
    assert line not in plain.stderr
    assert fast.stderr.count(line) == 1
    assert Path("fast.wav").read_bytes() == Path("plain.wav").read_bytes()

    asked: list[bool] = []

    def load(name: str, **options: Any) -> Codec:
        asked.append(options["fast"])
        return original(name, **options)

    original = models.load
    monkeypatch.setattr(models, "load", load)
    forget()
    for given in (False, True):
        decompress("song.nac", "again.wav", fast=given, force=True)
        read("song.nac", fast=given)
        nac_load("nac_24khz", fast=given)
    assert asked == [False, False, True, True]  # read uses the codec that decompress has loaded
    forget()
