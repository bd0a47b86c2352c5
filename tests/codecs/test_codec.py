"""What a codec says of itself, and takes and gives, whatever its family."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from narrow_codecs import NAMES, narrow_codecs
from toy_codec import ToyCodec

import nac
from nac.codecs.base import Codec
from nac.codecs.registry import MODELS
from nac.spec import Codebook, Segment


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield made


# As their papers and model cards have them: Hz, codebooks, entries, frames a second, kbit/s.
KNOWN = {
    "encodec_24khz": (24000, 32, 1024, 75, 24),
    "encodec_48khz": (48000, 16, 1024, 150, 24),
    "dac_44khz": (44100, 9, 1024, 44100 / 512, 44100 / 512 * 0.09),
    "dac_16khz": (16000, 12, 1024, 50, 6),
    "snac_24khz": (24000, 3, 4096, 24000 / 2048, 24000 / 2048 * 0.084),
    "soundstream_16khz": (16000, 46, 16, 50, 9.2),
    "nac_24khz": (24000, 16, 1024, 75, 12),
    "nac_48khz": (48000, 16, 1024, 75, 12),
}


@pytest.mark.parametrize("name", [*NAMES, "nac_24khz", "nac_48khz"])
def test_properties_are_those_of_the_model(codecs: dict[str, Codec], name: str) -> None:
    codec = codecs[name] if name in codecs else nac.load(name)
    spec = MODELS[name].spec
    assert codec.hop_length * codec.frame_rate == codec.sample_rate
    assert (codec.channels, codec.num_codebooks) == (spec.channels, len(spec.codebooks))
    assert name in repr(codec)
    if name in KNOWN:
        found = codec.sample_rate, codec.num_codebooks, codec.codebook_size, codec.frame_rate, codec.kbps
        assert found == pytest.approx(KNOWN[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_bitrate_chooses_codebooks(codecs: dict[str, Codec], name: str) -> None:
    codec = codecs[name]
    audio = torch.randn(1, codec.channels, codec.sample_rate)
    two = codec.spec.kbps(2)
    assert len(codec.encode(audio, kbps=two).arrays) == 2
    assert len(codec.encode(audio, kbps=two * 0.999).arrays) == 1
    assert len(codec.encode(audio, kbps=1e6).arrays) == codec.num_codebooks
    for wrong in (0.001, 0, -1, float("nan")):
        with pytest.raises(nac.NacError):
            codec.encode(audio, kbps=wrong)
    with pytest.raises(nac.NacError, match="not both"):
        codec.encode(audio, 2, kbps=two)


@pytest.mark.parametrize("name", NAMES)
def test_codes_are_one_tensor_where_they_can_be(codecs: dict[str, Codec], name: str) -> None:
    codec = codecs[name]
    audio = torch.randn(2, codec.channels, codec.sample_rate // 2)
    codes = codec.encode(audio)
    if len({book.codes_per_frame for book in codec.spec.codebooks}) > 1:
        with pytest.raises(ValueError, match="different rates"):
            _ = codes.tensor
        return
    tensor = codes.tensor
    assert tensor.shape == (2, codec.num_codebooks, codes.frames(codec.spec))
    assert int(tensor.max()) < codec.codebook_size
    again = nac.Codes.of(tensor, codes.scale)
    assert torch.equal(codec.decode(again), codec.decode(codes))
    if codes.scale is None:
        assert torch.equal(codec.decode(tensor), codec.decode(codes))
        assert torch.equal(codec.decode(tensor[:, :1]), codec.decode(codes.prefix(1)))


def test_other_shapes_are_no_codes() -> None:
    for shape in ((4, 75), (1, 0, 75), (1, 1, 4, 75)):
        with pytest.raises(ValueError, match="are needed"):
            nac.Codes.of(torch.zeros(shape, dtype=torch.int64))
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(nac.Codes.of(array).tensor, array)


def test_parts_rows_and_prefixes_of_codes_have_their_own_scales() -> None:
    """A part those of every segment it has a frame of; joined at the borders of segments, parts are the whole."""
    spec = replace(ToyCodec().spec, segment=Segment(4, 4), codebooks=(Codebook(8, 1), Codebook(8, 3)))
    for frames in (3, 4, 9):
        arrays = tuple(torch.arange(2 * frames * unit).reshape(2, -1) for unit in (1, 3))
        scale = torch.arange(10, 10 + 2 * -(-frames // 4)).reshape(2, -1).float()
        codes = nac.Codes(arrays, scale)
        coarse = codes.prefix(1)
        assert len(coarse.arrays) == 1
        assert torch.equal(coarse.scale, scale)
        joined = nac.Codes.join(
            [codes.between(spec, 4 * n, min(4 * n + 4, frames)) for n in range(-(-frames // 4))]
        )
        assert all(torch.equal(*pair) for pair in zip(joined.arrays, arrays, strict=True))
        assert torch.equal(joined.scale, scale)
        for row in range(2):
            alone = codes.row(row)
            assert [part.tolist() for part in alone.arrays] == [array[row : row + 1].tolist() for array in arrays]
            assert alone.scale.tolist() == [scale[row].tolist()]
        for first, end in combinations(range(frames + 1), 2):
            segments = sorted({frame // 4 for frame in range(first, end)})
            for part in (codes.between(spec, first, end), *[codes.between(spec, first)] * (end == frames)):
                assert torch.equal(part.arrays[0], arrays[0][:, first:end])
                assert torch.equal(part.arrays[1], arrays[1][:, 3 * first : 3 * end])
                assert torch.equal(part.scale, scale[:, segments])


@pytest.mark.parametrize("length", [0, 1, 100, 3 * 40 + 1, 240])
@pytest.mark.parametrize("silent", [False, True])
def test_as_many_samples_as_asked_for_are_decoded(length: int, silent: bool) -> None:
    codes = torch.full((2, 2, 40 * 6), 7)
    if silent:
        codes[1, :, 40 * 2 : 40 * 3] = -1
    codec = ToyCodec()
    whole = codec.decode(codes)
    assert whole.shape[-1] == 240
    assert torch.equal(codec.decode(codes, length), whole[..., :length])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_of_pytorch_stays_the_callers(threads: int) -> None:
    class Failing(ToyCodec):
        def decode_frames(self, arrays: tuple[torch.Tensor, ...], first: int) -> torch.Tensor:
            raise RuntimeError("fails")

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codec = Failing()
        codes = codec.encode(torch.zeros(1, 1, 4000))
        assert torch.get_num_threads() == threads
        with pytest.raises(RuntimeError, match="fails"):
            codec.decode(codes)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_codec_moves_to_a_device(codecs: dict[str, Codec]) -> None:
    codec = nac.load("nac_24khz")
    assert codec.to("cpu") is codec.to(torch.device("cpu")) is codec
    moved = codec.to("auto")
    assert moved.spec == codec.spec
    if not torch.cuda.is_available():
        with pytest.raises(nac.ModelError, match="no CUDA device"):
            codec.to("cuda")
        with pytest.raises(nac.ModelError, match="unknown device 'moon'"):
            codec.to("moon")
    with pytest.raises(nac.ModelError, match=r"not made by nac\.load"):
        codecs["dac_16khz"].to("cuda")


def test_a_moved_codec_has_the_same_weights(tmp_path) -> None:
    from safetensors.numpy import load_file, save_file

    from nac.weights import models

    official = models.path("nac_24khz")
    own = tmp_path / official.name
    tensors = load_file(official)
    save_file(tensors, own)
    codec = nac.load("nac_24khz", weights=own)
    assert codec.to("auto").spec == codec.spec
    name = next(name for name in tensors if name.endswith("weight"))
    save_file({**tensors, name: tensors[name] * 2}, own)
    with pytest.raises(nac.ModelError, match="have changed since it was loaded"):
        codec.to("auto")


def test_models_lists_what_there_is() -> None:
    found = {model.name: model for model in nac.models()}
    assert set(found) >= set(KNOWN)
    assert found["nac_24khz"].present
    assert found["snac_24khz"].sample_rate == 24000
