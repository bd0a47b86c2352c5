"""Convolutions by oneDNN and without it, as TorchScript and without it, by one thread and by several."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from narrow_codecs import NAMES, narrow_codecs
from torch import Tensor
from torch.nn import functional

from nac.codecs import parallel
from nac.codecs.base import Codec
from nac.codecs.layers import compiled, kernels, onednn
from nac.codecs.layers.convolutions import Conv, Convolved, ToAudio, Transposed
from nac.codecs.layers.tiles import tiles


@pytest.fixture(params=["packed", "taps"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "taps":
        monkeypatch.setattr(onednn, "works", lambda: False)
    elif not onednn.works():
        pytest.skip("this PyTorch packs no weights")
    return str(request.param)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


SHAPES = [
    # channels in and out, kernel, stride, dilation, steps
    (1, 32, 7, 1, 1, 900),
    (32, 48, 7, 1, 3, 700),
    (96, 96, 7, 1, 9, 40),  # fewer steps than its weights are packed for
    (48, 64, 1, 1, 1, 1500),
    (24, 64, 8, 4, 1, 1201),
    (64, 16, 3, 1, 1, 3),
]


@torch.inference_mode()
@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_is_pytorchs(by: str, shape: tuple[int, ...]) -> None:
    inner, outer, kernel, stride, dilation, steps = shape
    weight, bias = numbers(outer, inner, kernel) / (inner * kernel) ** 0.5, numbers(outer)
    reach = dilation * (kernel - 1)
    pad = reach // 2, reach - reach // 2
    x = numbers(1, steps, inner)
    found = Convolved(Conv(weight, bias, stride=stride, dilation=dilation, pad=pad))(x)
    padded = functional.pad(x.transpose(1, 2), pad)
    expected = functional.conv1d(padded, weight, bias, stride, 0, dilation).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_transposed_one_and_one_to_audio_are_pytorchs(by: str) -> None:
    x, weight, bias = numbers(1, 700, 24), numbers(24, 12, 10) / 5, numbers(12)
    found = Convolved(Transposed(weight, bias, trim=2, short=0))(x)
    expected = functional.conv_transpose1d(x.transpose(1, 2), weight, bias, stride=5).transpose(1, 2)
    torch.testing.assert_close(found, expected[:, 2 : 2 + found.shape[1]], rtol=0, atol=1e-4)
    weight, bias = numbers(2, 24, 7) / 13, numbers(2)
    found = Convolved(ToAudio(weight, bias, pad=(3, 3)))(x)
    expected = functional.conv1d(x.transpose(1, 2), weight, bias, padding=3).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_activations_are_what_they_are_called() -> None:
    x, alpha = numbers(1, 3000, 24), numbers(24).abs() + 0.1
    snake = kernels.Activation(kernels.SNAKE, alpha, 1 / alpha)
    found = kernels.activate(x, snake, torch.empty_like(x), 100)
    torch.testing.assert_close(found, x + (alpha * x).sin() ** 2 / alpha, rtol=1e-5, atol=1e-6)
    elu = kernels.Activation(kernels.ELU, alpha, alpha)
    torch.testing.assert_close(kernels.activate(x, elu, torch.empty_like(x), 70), functional.elu(x))


@pytest.fixture(scope="module")
def without_packing() -> Iterator[dict[str, Codec]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn, "works", lambda: False)
        with narrow_codecs() as made:
            yield made


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_packed_weights_are_the_same(
    codecs: dict[str, Codec], without_packing: dict[str, Codec], name: str
) -> None:
    codec, plain = codecs[name], without_packing[name]
    audio = numbers(1, codec.spec.channels, 5 * codec.spec.frame_samples * codec.spec.frame_multiple) * 0.3
    codes = codec.encode(audio)
    equal = [(a == b).float().mean() for a, b in zip(codes.arrays, plain.encode(audio).arrays, strict=True)]
    assert sum(equal) / len(equal) > 0.95  # entries of narrow networks are near to one another
    torch.testing.assert_close(codec.decode(codes), plain.decode(codes), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_torchscript_gives_the_same_bits(
    codecs: dict[str, Codec], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = codecs[name]
    audio = numbers(1, codec.spec.channels, 5 * codec.spec.frame_samples * codec.spec.frame_multiple) * 0.3
    codes = codec.encode(audio)
    sound = codec.decode(codes)
    monkeypatch.setattr(compiled.compiled, "__call__", lambda self, *args: self._function(*args))
    assert all(torch.equal(a, b) for a, b in zip(codes.arrays, codec.encode(audio).arrays, strict=True))
    assert torch.equal(sound, codec.decode(codes))


def test_tiles_are_a_matter_of_length_alone() -> None:
    for length in (1, 63, 64, 511, 512, 5000, 123457):
        spans = tiles(length, 4096, 4)
        assert spans[0].low == 0
        assert spans[-1].high == length - 1
        assert all(a.high + 1 == b.low and b.low % 4 == 0 for a, b in pairwise(spans))


def test_jobs_share_jobs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "count", lambda: 3)
    monkeypatch.setattr(parallel, "_pool", parallel._Pool())

    def outer(number: int) -> list[int]:
        return parallel.parts([lambda i=i: 10 * number + i for i in range(5)])  # type: ignore[misc]

    found = parallel.each([lambda n=n: outer(n) for n in range(4)])  # type: ignore[misc]
    assert found == [[10 * n + i for i in range(5)] for n in range(4)]


def test_an_error_of_a_jobs_job_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "count", lambda: 2)
    monkeypatch.setattr(parallel, "_pool", parallel._Pool())

    def fail() -> None:
        raise ValueError("inner")

    with pytest.raises(ValueError, match="inner"):
        parallel.each([lambda: parallel.parts([fail, fail])] * 3)
    assert parallel.each([lambda: 1] * 3) == [1, 1, 1]
