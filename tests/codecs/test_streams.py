"""Networks in parts: the same numbers, to the bit, however a signal is cut, wherever decoding starts.

The networks have their layers but few channels, so that many cases can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import pytest
import seeded_fullband
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from narrow_codecs import NAMES, narrow_codecs
from threadpoolctl import ThreadpoolController
from torch import Tensor

from nac.codecs.base import Codec, Codes
from nac.codecs.layers.one_thread import OneThread
from nac.codecs.registry import MODELS
from nac.codecs.tensors import TensorCodec

T = TypeVar("T")


STREAMED = [*NAMES, "nac_48khz"]


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    with narrow_codecs() as made:
        yield made | {"nac_48khz": TensorCodec(seeded_fullband.codec(window=16))}


def pieces(total: int, cuts: list[float]) -> list[slice]:
    edges = [0, *sorted(int(cut * total) for cut in cuts), total]
    return [slice(a, b) for a, b in pairwise(edges)]


def sound(channels: int, samples: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(batch, channels, samples, generator=generator) * 0.3


def samples_of(name: str, length: float = 1.0) -> int:
    """Up to some windows, blocks or groups of each."""
    frames = {"encodec": 80, "dac": 40, "snac": 22, "mimi": 200, "fullband": 90}[MODELS[name].spec.family]
    return 1 + int(length * (3.2 * 48000 if name == "encodec_48khz" else frames * MODELS[name].spec.frame_samples))


# Shrinking a failure would take minutes.
QUICK = settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
CUTS = st.lists(st.floats(0, 1), max_size=6)


@pytest.mark.parametrize("name", STREAMED)
@QUICK
@given(length=st.floats(0, 1), cuts=CUTS, batch=st.integers(1, 2), code_cuts=CUTS)
def test_blocks_of_any_size(
    codecs: dict[str, Codec], name: str, length: float, cuts: list[float], batch: int, code_cuts: list[float]
) -> None:
    codec = codecs[name]
    spec = codec.spec
    audio = sound(spec.channels, samples_of(name, length), batch)
    codes = codec.encode(audio)
    assert codes.frames(spec) == spec.frames(audio.shape[-1])
    encoder = codec.encoder()
    parts = Codes.join(
        [*(encoder.push(audio[..., cut]) for cut in pieces(audio.shape[-1], cuts)), encoder.flush()]
    )
    assert_equal(parts, codes)
    for item in range(batch):
        assert_equal(codec.encode(audio[item : item + 1]), select(codes, item))
    decoder, frames = codec.decoder(), codes.frames(spec)
    decoded = codec.decode(codes)
    given_codes = [cut_codes(codec, codes, piece) for piece in pieces(frames, code_cuts)]
    assert torch.equal(torch.cat([*(decoder.push(part) for part in given_codes), decoder.flush()], -1), decoded)


@pytest.mark.parametrize("name", STREAMED)
@QUICK
@given(where=st.floats(0, 1, exclude_max=True))
def test_decoding_from_anywhere(codecs: dict[str, Codec], name: str, where: float) -> None:
    codec = codecs[name]
    spec = codec.spec
    codes = codec.encode(sound(spec.channels, samples_of(name)), 3)
    frames = codes.frames(spec)
    start = int(where * frames)
    first = codec.preroll(start)
    assert first <= start
    decoder = codec.decoder(start=start)
    part = torch.cat([decoder.push(cut_codes(codec, codes, slice(first, frames))), decoder.flush()], -1)
    assert torch.equal(part, codec.decode(codes)[..., spec.start(start) :])


@pytest.mark.parametrize("name", STREAMED)
def test_any_number_of_threads(codecs: dict[str, Codec], name: str) -> None:
    codec, before = codecs[name], torch.get_num_threads()
    audio, results = sound(codec.spec.channels, samples_of(name, 0.4)), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            codes = codec.encode(audio)
            results.append((codes, codec.decode(codes)))
    finally:
        torch.set_num_threads(before)
    assert_equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_a_thread_where_openmp_and_mkl_differ(codecs: dict[str, Codec]) -> None:
    """As other libraries leave it behind: MKL would multiply small matrices in another way."""
    codec = codecs["snac_24khz"]
    codes = codec.encode(sound(1, samples_of("snac_24khz", 0.4)))

    def decode() -> Tensor:
        torch.set_num_threads(2)
        assert torch.get_num_threads() == 2  # which makes the number the thread's own
        with ThreadpoolController().select(user_api="openmp").limit(limits=1), codec._inference():
            return codec.decode_frames(codes.arrays, 0)

    assert torch.equal(in_a_new_thread(decode), codec.decode(codes))


def test_numpys_network_leaves_openmp_alone() -> None:
    """The number of its threads is each thread's own, not to be restored by one to what it was in another."""
    before, one = torch.get_num_threads(), OneThread()

    def leave() -> int:
        torch.set_num_threads(1)
        assert torch.get_num_threads() == 1  # which makes the number the thread's own
        one.__exit__()
        return torch.get_num_threads()

    torch.set_num_threads(2)
    one.__enter__()
    assert in_a_new_thread(leave) == 1
    torch.set_num_threads(before)


def test_segments_of_149_frames_and_1(codecs: dict[str, Codec]) -> None:
    """The only signals at 48 kHz whose segments cannot be told from the number of frames alone."""
    codec = codecs["encodec_48khz"]
    for samples, segments in ((47520, 1), (47521, 2), (47680, 2), (47681, 2), (48000, 2), (95040 + 1, 3)):
        codes = codec.encode(sound(2, samples))
        assert codes.scale is not None
        assert codes.scale.shape[-1] == segments
        assert codes.frames(codec.spec) == codec.spec.frames(samples)
        assert codec.decode(codes, samples).shape[-1] == samples


@pytest.mark.parametrize("inner", [-2, -1, 0, 1, 2, 3])
def test_decoding_may_start_in_and_beside_a_cross_fade(codecs: dict[str, Codec], inner: int) -> None:
    """That at 48 kHz is a frame and a half, so the second frame of a segment has a part in it."""
    codec = codecs["encodec_48khz"]
    codes = codec.encode(sound(2, 3 * 47520))
    whole = codec.decode(codes)
    for segment in (1, 2):
        start = segment * 150 + inner
        first = codec.preroll(start)
        part = codec.decoder(start=start)
        found = [part.push(cut_codes(codec, codes, slice(first, codes.frames(codec.spec)))), part.flush()]
        assert torch.equal(torch.cat(found, -1), whole[..., codec.spec.start(start) :])


def test_nothing_in_nothing_out(codecs: dict[str, Codec]) -> None:
    for codec in codecs.values():
        codes = codec.encode(sound(codec.spec.channels, 0))
        assert codes.frames(codec.spec) == 0
        assert codec.decode(codes).shape == (1, codec.spec.channels, 0)


def in_a_new_thread(job: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result()


def cut_codes(codec: Codec, codes: Codes, piece: slice) -> Codes:
    """Frames of a signal, with the scales of the segments that begin there."""
    books = codec.spec.codebooks
    arrays = tuple(
        array[:, piece.start * book.codes_per_frame : piece.stop * book.codes_per_frame]
        for array, book in zip(codes.arrays, books, strict=False)
    )
    if codes.scale is None or codec.spec.segment is None:
        return Codes(arrays)
    frames = codec.spec.segment.frames
    last = codes.scale.shape[-1] if piece.stop == codes.frames(codec.spec) else -(-piece.stop // frames)
    return Codes(arrays, codes.scale[:, -(-piece.start // frames) : last])


def select(codes: Codes, item: int) -> Codes:
    arrays = tuple(array[item : item + 1] for array in codes.arrays)
    return Codes(arrays, None if codes.scale is None else codes.scale[item : item + 1])


def assert_equal(a: Codes, b: Codes) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a.arrays, b.arrays, strict=True))
    assert (a.scale is None and b.scale is None) or torch.equal(a.scale, b.scale)
