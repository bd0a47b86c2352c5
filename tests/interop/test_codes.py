"""Codes in arrays to files and samples: what was read comes back, what a codec gave decodes as by the codec."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow_codecs import NAMES, narrow_codecs

import nac
from nac.codecs import registry
from nac.codecs.base import Codec, Codes
from nac.container import Reader
from nac.interop.file_codes import of_streams
from nac.interop.recording import from_nac

MODEL = "nac_24khz"


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield made


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, (samples, channels)).astype(np.int16)


def file_of(samples: np.ndarray, rate: int = 24000, **options: Any) -> io.BytesIO:
    return io.BytesIO(nac.encode(samples, rate, **{"model": MODEL, **options}))


def written(codes: Any, **options: Any) -> io.BytesIO:
    out = io.BytesIO()
    nac.write_codes(out, codes, **options)
    out.seek(0)
    return out


def stereo() -> np.ndarray:
    """Eleven seconds, of which the second channel has another sound, that rests for ten."""
    samples = noise(11 * 24000, 1).repeat(2, axis=1)
    samples[-24000:, 1] = noise(24000, 1, seed=1)[:, 0]
    return samples


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_was_read_is_written_back_like_its_file(codecs: dict[str, Codec], name: str, channels: int) -> None:
    codec = codecs[name]
    data = file_of(noise(30_000, channels), 22050, model="auto", codec=codec, tags={"title": "x"})
    codes = nac.read_codes(data)
    data.seek(0)
    assert written(codes, like=data).getvalue() == data.getvalue()


def test_silence_and_stereo_come_back() -> None:
    data = file_of(stereo(), tags={"title": "x"})
    codes = nac.read_codes(data)
    assert (codes[1][0] == -1).any()
    assert written(codes, like=io.BytesIO(data.getvalue())).getvalue() == data.getvalue()
    tensors = [[torch.from_numpy(book) for book in stream] for stream in codes]
    assert written(tensors, like=io.BytesIO(data.getvalue())).getvalue() == data.getvalue()


def test_fewer_codebooks_make_the_file_that_peeling_makes(tmp_path: Path) -> None:
    data = file_of(noise(50_000), kbps=6, coding="packed")
    nac.peel(io.BytesIO(data.getvalue()), tmp_path / "peeled.nac", kbps=3)
    codes = [stream[:4] for stream in nac.read_codes(data)]
    data.seek(0)
    assert written(codes, like=data).getvalue() == (tmp_path / "peeled.nac").read_bytes()


def test_a_part_that_was_cut_is_written_back() -> None:
    part = io.BytesIO()
    nac.cut(file_of(noise(300_000)), part, start=6.1, duration=2.5)
    part.seek(0)
    codes = nac.read_codes(part)
    part.seek(0)
    assert written(codes, like=part).getvalue() == part.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_codec_gave_decodes_as_by_the_codec(codecs: dict[str, Codec], name: str) -> None:
    codec = codecs[name]
    audio = torch.from_numpy(noise(codec.sample_rate * 2 + 77, codec.channels).T.astype(np.float32) / 32768)[None]
    codes = codec.encode(audio)
    samples, rate = nac.decode_codes(codes, codec=codec, samples=audio.shape[-1])
    assert rate == codec.sample_rate
    assert np.array_equal(samples.T, codec.decode(codes, audio.shape[-1])[0].numpy())
    whole, _ = nac.decode_codes(codes, codec=codec)
    assert np.array_equal(whole[: len(samples)], samples)
    longest = codec.decode(codes)[0].numpy().T
    assert np.array_equal(whole, longest[: len(whole)])
    assert len(longest) - len(whole) < codec.hop_length


def test_all_kinds_of_arrays_are_the_same_codes() -> None:
    codec = nac.load(MODEL)
    codes = codec.encode(torch.randn(1, 1, 30_000) * 0.1, kbps=3)
    expected = written(codes, model=MODEL).getvalue()
    matrix = codes.tensor[0]
    same: list[Any] = [
        codes.tensor,
        matrix,
        matrix.numpy(),
        matrix.to(torch.int16),
        matrix.numpy().astype(np.uint16),
        list(matrix),
        [list(matrix)],
        matrix.tolist(),
        [matrix],
        {"stream.0": matrix.numpy()},
    ]
    for kind in same:
        assert written(kind, model=MODEL).getvalue() == expected
    assert written(codes, codec=codec).getvalue() == expected
    back = nac.read_codes(io.BytesIO(expected))
    assert np.array_equal(np.stack(back[0]), matrix.numpy())


def test_a_batch_is_as_many_channels() -> None:
    codec = nac.load(MODEL)
    codes = codec.encode(torch.randn(3, 1, 24000) * 0.1, codebooks=4)
    samples, _ = nac.decode_codes(codes, model=MODEL)
    assert samples.shape == (24000, 3)
    assert np.array_equal(samples.T, codec.decode(codes)[:, 0].numpy())


def test_what_is_known_of_the_recording_is_kept() -> None:
    codes = np.zeros((4, 75), int)
    file = written(codes, model=MODEL, sample_rate=44100, samples=44000)
    info = nac.info(io.BytesIO(file.getvalue()))
    assert (info.sample_rate, info.channels, info.samples) == (44100, 1, 44000)
    samples, rate = nac.decode_codes(codes, model=MODEL, sample_rate=44100, samples=44000, dtype="int16")
    assert (samples.shape, samples.dtype, rate) == ((44000, 1), np.int16, 44100)
    assert np.array_equal(samples, nac.read(file, dtype="int16")[0])
    assert nac.decode_codes(codes, model=MODEL, sample_rate=44100)[0].shape == (44100, 1)


def test_silence_has_no_code() -> None:
    codes = np.full((2, 4, 75), -1)
    codes[0] = 5
    codes[1, :, :30] = 5
    samples, _ = nac.decode_codes(codes, model=MODEL)
    assert samples[9600:, 1].max() == 0
    assert np.array_equal(np.stack(nac.read_codes(written(codes, model=MODEL))[1]), codes[1])


@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_of_nothing_but_silence_is_written_back(channels: int) -> None:
    codes = nac.read_codes(io.BytesIO(nac.encode(np.zeros((24000, channels), np.int16), 24000, model=MODEL)))
    assert (codes[0][0] == -1).all()
    again = nac.read_codes(written(codes, model=MODEL))
    assert [len(books) for books in again] == [len(books) for books in codes]
    assert all((book == -1).all() for books in again for book in books)
    samples, _ = nac.decode_codes(codes, model=MODEL)
    assert samples.shape == (24000, channels)
    assert not samples.any()


@pytest.mark.parametrize(
    ("codes", "options", "error", "message"),
    [
        (np.zeros((4, 75), int), {}, ValueError, "model of the codes is unknown"),
        (np.zeros((4, 75), int), {"model": MODEL, "like": "x.nac"}, ValueError, "model of the codes is unknown"),
        (np.zeros((4, 75)), {"model": MODEL}, TypeError, "float64"),
        (np.zeros(75, int), {"model": MODEL}, ValueError, r"\[75\]"),
        (np.zeros((1, 1, 4, 75), int), {"model": MODEL}, ValueError, r"\[1, 1, 4, 75\]"),
        ([[np.zeros(75, int), np.zeros(74, int)]], {"model": MODEL}, ValueError, "numbers of codes"),
        (np.full((4, 75), 1024), {"model": MODEL}, ValueError, "code 1024 in codebook 0 of stream 0"),
        (np.full((4, 75), -2), {"model": MODEL}, ValueError, "code -2 in"),
        (np.zeros((75, 4), int), {"model": MODEL}, ValueError, "75 codebooks, but nac_24khz has 16"),
        (np.zeros((4, 0), int), {"model": MODEL}, ValueError, "no codes"),
        ([], {"model": MODEL}, ValueError, "no codes"),
        (np.zeros((4, 75), int), {"model": MODEL, "coding": "zip"}, ValueError, "not 'zip'"),
        (np.zeros((4, 75), int), {"model": MODEL, "sample_rate": 10}, ValueError, "10 Hz"),
        (np.zeros((4, 75), int), {"model": MODEL, "sample_rate": 24000.0}, TypeError, "24000.0"),
        (np.zeros((4, 75), int), {"model": MODEL, "samples": 9.0}, TypeError, "9.0"),
        (np.zeros((4, 75), int), {"codec": MODEL}, TypeError, "not 'nac_24khz'"),
        (np.zeros((4, 75), int), {"model": MODEL, "channels": 2}, ValueError, "do not make 2 channels"),
        (np.zeros((4, 75), int), {"model": MODEL, "samples": 24001}, ValueError, "24001 samples"),
        (np.zeros((4, 75), int), {"model": "none"}, nac.ModelError, "unknown model 'none'"),
        (np.zeros((4, 150), int), {"model": "encodec_48khz"}, nac.NacError, "need scales"),
        ("x.npz", {"model": MODEL, "format": "nac"}, nac.NacError, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(
    codes: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        nac.write_codes("y.nac", codes, **options)
    assert isinstance(caught.value, nac.NacError)


def test_what_is_not_like_its_file_is_refused() -> None:
    data = file_of(noise(30_000)).getvalue()
    (stream,) = nac.read_codes(io.BytesIO(data))
    for codes, options, message in (
        ([stream, stream], {}, "2 streams, where the file has 1"),
        ([[book[:-1] for book in stream]], {}, "93 codes of codebook 0, where the file has 94"),
        ([[*stream, stream[0]] * 3], {}, "codebooks, where the file has"),
        ([stream], {"samples": 4}, "come from that file"),
    ):
        with pytest.raises(ValueError, match=message):
            written(codes, like=io.BytesIO(data), **options)


@pytest.mark.parametrize(
    ("frames", "scales", "samples"),
    [
        (100, 1, 100 * 320),
        (150, 2, 47_520 + 160),  # segments of 149 frames and one
        (1600, 11, 10 * 47_520 + 100 * 320),
        (1650, 12, 11 * 47_520 + 160),
    ],
)
def test_segments_with_scales_are_as_long_as_they_can_be(frames: int, scales: int, samples: int) -> None:
    numbers = np.arange(1, scales + 1, dtype=np.float32)
    codes = Codes((np.arange(frames)[None] % 1024,) * 2, numbers[None])
    out = io.BytesIO()
    nac.write_codes(out, codes, model="encodec_48khz")
    reader = Reader(io.BytesIO(out.getvalue()))
    chunks = list(reader.chunks())
    assert reader.samples == samples
    assert [chunk.overhang for chunk in chunks] == [False] * (len(chunks) - 1) + [frames % 150 == 0]
    found = from_nac(Reader(io.BytesIO(out.getvalue())), ".ecdc")
    assert found.scales is not None
    assert found.scales.tolist() == numbers.tolist()
    assert np.array_equal(found.codes[0][1], np.arange(frames) % 1024)


def test_one_stream_alone_has_no_further_segment() -> None:
    spec = registry.find("encodec_48khz").spec
    books, scales = [[np.arange(150)], [np.arange(150)]], [np.ones(1, np.float32), np.ones(2, np.float32)]
    with pytest.raises(nac.NacError, match="need one scale per 150 frames"):
        of_streams(spec, books, scales)
