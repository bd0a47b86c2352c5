"""What is taken of samples and codes through the Python interface, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from narrow_codecs import narrow_codecs
from toy_codec import ToyCodec

import nac
from nac.codecs.base import Codes
from nac.codecs.checks import check_codes, runs
from nac.codecs.registry import MODELS
from nac.errors import NacError


@pytest.fixture(params=["toy", "nac_24khz", "nac_48khz", "snac_24khz"])
def codec(request: pytest.FixtureRequest):
    if request.param == "toy":
        return ToyCodec()
    if request.param.startswith("nac"):
        return nac.load(request.param)
    with narrow_codecs() as codecs:
        return codecs["snac_24khz"]


def tone(codec, samples: int = 9000) -> torch.Tensor:
    return 0.1 * torch.sin(torch.arange(samples) / 10)[None, None]


def test_samples_of_any_float_are_taken_and_others_refused(codec) -> None:
    x = tone(codec)
    want = codec.encode(x)
    for same in (x.numpy(), x.double(), x.double().numpy(), x.clone().requires_grad_()):
        assert all(torch.equal(a, b) for a, b in zip(codec.encode(same).arrays, want.arrays, strict=True))
    codec.encode(x.bfloat16())
    for wrong in ((x * 32767).to(torch.int16), (x * 32767).to(torch.int16).numpy(), x > 0, x.to(torch.complex64)):
        with pytest.raises(ValueError, match="takes float samples, of which 1 is full scale, not"):
            codec.encode(wrong)
    for shape in ((9000,), (1, 9000), (1, 2, 9000), (1, 1, 1, 9000)):
        with pytest.raises(ValueError, match=r"takes audio \[B, 1, N\], not"):
            codec.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match="a tensor or a numpy array is needed, not list"):
        codec.encode([[[0.0]]])


def test_codes_of_any_integers_are_taken_and_others_refused(codec) -> None:
    codes = codec.encode(tone(codec))
    want = codec.decode(codes)
    for change in (lambda a: a.numpy(), lambda a: a.to(torch.int32), lambda a: a.numpy().astype(np.uint16)):
        assert torch.equal(codec.decode(Codes(tuple(map(change, codes.arrays)))), want)
    last = codec.spec.codebooks[-1]
    ragged = (*codes.arrays[:-1], codes.arrays[-1][..., last.codes_per_frame :])
    high = tuple(a + (1 << book.bits) for a, book in zip(codes.arrays, codec.spec.codebooks, strict=True))
    for message, arrays in {
        "codebook 0 of .*: integer codes are needed, not torch.float32": tuple(a.float() for a in codes.arrays),
        "integer codes are needed, not float64": tuple(a.numpy() + 0.5 for a in codes.arrays),
        "the same frames in every codebook": ragged,
        r"are needed, not \[\d+\]": tuple(a[0] for a in codes.arrays),
        "are needed": tuple(torch.cat([a, a]) if i else a for i, a in enumerate(codes.arrays)),
        "codes must be 0": high,
        "or -1 for silence, not -2 to -2": tuple(a * 0 - 2 for a in codes.arrays),
        "codebooks, not 0": (),
        "takes codes of 1 to": codes.arrays + codes.arrays[:1],
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            codec.decode(Codes(arrays))
        assert isinstance(caught.value, NacError)
    for none in ([[[1]]], None):
        with pytest.raises(TypeError, match=r"codes \[B, K, T\] are needed, not") as refused:
            codec.decode(none)
        assert isinstance(refused.value, NacError)
    with pytest.raises(ValueError, match="not -1 to -1"):  # in a stream, silence is stored otherwise
        codec.decoder().push(Codes(tuple(a * 0 - 1 for a in codes.arrays)))


def test_minus_one_is_silence_behind_which_the_network_begins_afresh(codec) -> None:
    spec = codec.spec
    codes = codec.encode(tone(codec, 40 * spec.frame_samples))
    frames = codes.frames(spec)
    quiet = slice(frames // 4, frames // 2)
    arrays = []
    for array, book in zip(codes.arrays, spec.codebooks, strict=True):
        changed = array.clone()
        changed[:, quiet.start * book.codes_per_frame : quiet.stop * book.codes_per_frame] = -1
        arrays.append(changed)
    sound = codec.decode(Codes(tuple(arrays)))
    assert sound.dtype == torch.float32
    low, high = spec.start(quiet.start), spec.start(quiet.stop)
    assert not sound[..., low:high].any()
    decoder = codec.decoder(origin=quiet.stop)
    after = torch.cat([decoder.push(codes.between(spec, quiet.stop, frames)), decoder.flush()], -1)
    assert torch.equal(sound[..., high:], after)
    assert sound.shape[-1] == frames * spec.frame_samples
    assert not codec.decode(Codes(tuple(torch.full_like(a, -1) for a in codes.arrays))).any()
    both = codec.decode(Codes(tuple(torch.cat([a, b]) for a, b in zip(codes.arrays, arrays, strict=True))))
    assert torch.equal(both[1:], sound)
    assert torch.allclose(both[:1], codec.decode(codes), atol=1e-5)
    with pytest.raises(ValueError, match=r"silent \(-1\) only in part"):
        codec.decode(Codes((arrays[0], *codes.arrays[1:])))
    half = codes.arrays[-1].clone()
    half[:, 0] = -1
    with pytest.raises(ValueError, match=r"silent \(-1\) only in part"):
        codec.decode(Codes((*codes.arrays[:-1], half)))


@pytest.mark.parametrize("name", MODELS)
def test_codes_reach_from_0_to_the_last_entry_of_their_codebook(name: str) -> None:
    spec = MODELS[name].spec
    for last, book in enumerate(spec.codebooks):
        arrays = [np.zeros((1, 2 * other.codes_per_frame), int) for other in spec.codebooks[: last + 1]]
        for code, silence, fits in (
            ((1 << book.bits) - 1, False, True),
            (1 << book.bits, True, False),
            (-1, True, True),
            (-1, False, False),
            (-2, True, False),
        ):
            arrays[-1][:, -1] = code
            with (
                nullcontext()
                if fits
                else pytest.raises(ValueError, match=f"codebook {last} of {name}: codes must")
            ):
                check_codes(spec, arrays, silence=silence)


@pytest.mark.parametrize("silent", list(product([False, True], repeat=3)))
def test_sound_ends_where_the_last_segment_does_even_if_it_is_short(silent: tuple[bool, ...]) -> None:
    spec = MODELS["encodec_48khz"].spec
    assert spec.segment
    unit = spec.segment.frames
    frames = np.repeat(silent, unit)[: 2 * unit + 1]
    found = runs(spec, [np.where(frames, -1, 5)[None]] * 2)
    assert all(not frames[low:high].any() for low, high in found)
    assert sum(high - low for low, high in found) == np.count_nonzero(~frames)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@pytest.mark.parametrize("frames", [150, 151, 300, 301])
@pytest.mark.parametrize("quiet", ["first", "last"])
def test_segments_beside_a_silent_one_sound_as_they_do_alone(frames: int, quiet: str) -> None:
    """Also one that is as long as it may be at the end, and lasts longer than up to where another would begin."""
    with narrow_codecs() as codecs:
        codec = codecs["encodec_48khz"]
        spec, unit = codec.spec, 150
        border = unit if quiet == "first" else (frames - 1) // unit * unit
        silent, heard = (0, border), (border, frames)
        if quiet == "last":
            silent, heard = heard, silent
        arrays = tuple(torch.full((1, frames), 5 + book) for book in range(2))
        codes = Codes(arrays, torch.ones(1, -(-frames // unit)))
        alone = codec.decode(codes.between(spec, *heard)) if heard[0] < heard[1] else torch.zeros(1, 2, 0)
        length = codec.decode(codes).shape[-1]
        for array in arrays:
            array[:, silent[0] : silent[1]] = -1
        sound = codec.decode(codes)
    at = spec.start(heard[0])
    assert sound.shape[-1] == length
    assert torch.equal(sound[..., at : at + alone.shape[-1]], alone[..., : sound.shape[-1] - at])
    assert not sound[..., :at].any()
    assert not sound[..., at + alone.shape[-1] :].any()


def test_a_device_is_a_name_or_an_object() -> None:
    assert nac.load("nac_24khz", device=torch.device("cpu")).device == torch.device("cpu")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(wrong: float) -> None:
    samples = np.zeros((1, 1, 4800), np.float32)
    samples[0, 0, 100] = wrong
    with pytest.raises(nac.NacError, match="not NaN or infinity"):
        nac.load("nac_24khz").encode(samples)


def test_what_is_no_array_of_codes_and_an_empty_batch_are_refused() -> None:
    codec = nac.load("nac_24khz")
    with pytest.raises(nac.NacError, match=r"codes \[B, K, T\] are needed, not list"):
        codec.decode([[1, 2, 3]])  # type: ignore[arg-type]
    with pytest.raises(nac.NacError, match="B of at least 1"):
        codec.encode(np.zeros((0, 1, 4800), np.float32))


def test_numpy_arrays_in_any_order_are_taken() -> None:
    codec = nac.load("nac_24khz")
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 4800)).astype(np.float32)
    wanted = np.asarray(codec.encode(samples).tensor)
    for same in (samples[..., ::-1].copy()[..., ::-1], samples.astype(">f4")):
        assert np.array_equal(np.asarray(codec.encode(same).tensor), wanted)
