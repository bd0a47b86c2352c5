"""The small parts of the container: codes, numbers, headers, index."""

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from container_files import SPEECH, headers, written
from hypothesis import given
from hypothesis import strategies as st

from nac.container import Chunk, Entry, Index, Reader
from nac.container.bits import pack, unpack
from nac.container.fields import Fields, varint
from nac.container.timeline import clock
from nac.errors import FormatError
from nac.spec import Codebook, Segment


@given(st.integers(1, 16), st.integers(0, 100), st.integers(0, 1 << 32))
def test_codes_are_packed_as_one_row_of_bits(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count)
    row = sum(int(code) << bits * place for place, code in enumerate(codes))
    data = pack(codes, bits)
    assert data == row.to_bytes(-(-bits * count // 8), "little")
    unpacked = unpack([data], bits, count)[0]
    assert unpacked.dtype == np.uint16
    assert unpacked.tolist() == codes.tolist()


@pytest.mark.parametrize(
    ("codes", "bits"), [([16], 4), ([-1], 4), ([0.5], 4), ([[1]], 4), ([1], 0), ([1], 17), ([65536], 16)]
)
def test_codes_that_do_not_fit_are_refused(codes, bits):
    with pytest.raises(ValueError, match="codes"):
        pack(np.array(codes), bits)


@pytest.mark.parametrize("data", [b"\x21", b"\x21\x03\x00", b"\x21\x13"])
def test_packed_codes_of_a_wrong_length_or_with_padding_are_refused(data):
    with pytest.raises(FormatError):
        unpack([data], 4, 3)


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_comes_back_and_is_as_short_as_can_be(value):
    assert Fields(varint(value), "field").varint() == value
    assert len(varint(value)) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x80\x00", b"\xff" * 9 + b"\x02", b"\x80" * 20, b"\x80", b""])
def test_a_varint_that_is_long_or_cut_is_refused(data):
    with pytest.raises(FormatError):
        Fields(data, "field").varint()


@given(headers())
def test_a_header_comes_back(header):
    assert Reader(io.BytesIO(header.to_bytes())).header == header


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": "x" * 128},
        {"model": "é" * 64},
        {"model": "a\x1b[2J"},
        {"model": "a\x9b2J"},
        {"model": "\ud800"},
        {"tags": (("title", "\ud800"),)},
        {"fingerprint": "0123"},
        {"fingerprint": "0123456789ABCDEF"},
        {"sample_rate": 0},
        {"original_sample_rate": (1 << 24) + 1},
        {"frame_samples": 0},
        {"codebooks": ()},
        {"codebooks": (Codebook(17),)},
        {"codebooks": (Codebook(4, 0),)},
        {"segment": Segment(4, 4 * 320 + 1)},
        {"segment": Segment(0, 1)},
        {"network_channels": 3},
        {"stereo_pair": True},
        {"channels": 0},
        {"channels": 256},
        {"stream_codebooks": (1, 1)},
        {"stream_codebooks": (47,)},
        {"samples": -1},
        {"samples": 1 << 48},
        {"start": -1},
        {"gain": 0.0},
        {"gain": -1.0},
        {"gain": float("nan")},
        {"gain": float("inf")},
    ],
    ids=str,
)
def test_a_header_that_the_format_cannot_say_is_refused(change):
    with pytest.raises(FormatError, match=r"header|UTF-8"):
        replace(SPEECH, **change)


@pytest.mark.parametrize("model", ["é" * 63 + "x", "a\xa0b", "a~ "])
def test_a_model_has_any_name_of_127_bytes_without_control_characters(model):
    header = replace(SPEECH, model=model)
    assert Reader(io.BytesIO(header.to_bytes())).header == header


def test_a_header_that_is_too_long_is_refused():
    with pytest.raises(FormatError, match="at most"):
        replace(SPEECH, tags=(("comment", "x" * (1 << 20)),)).to_bytes()


def test_streams_carry_channels_in_order():
    assert SPEECH.streams == ((0,),)
    assert replace(SPEECH, channels=2, stereo_pair=True, stream_codebooks=(2, 1)).streams == ((0, 1), (0, 1))
    assert replace(SPEECH, channels=3, network_channels=2, stream_codebooks=(2, 1)).streams == ((0, 1), (2,))


def test_the_frame_of_a_file_is_small():
    codes = [[np.zeros(500, int)] * 2]
    file = written(SPEECH, [Chunk.pack(SPEECH, 0, 500, codes, coding="packed")], 480000).getvalue()
    assert len(SPEECH.to_bytes()) == 54
    assert len(file) - 500 * 2 * 4 // 8 == 54 + 11 + 11


def test_clock():
    assert [clock(t) for t in (0, 9.96, 59.96, 61.5, 3600 + 62.24)] == [
        "0:00.0",
        "0:10.0",
        "1:00.0",
        "1:01.5",
        "1:01:02.2",
    ]


def test_index_entries():
    index = Index()
    for entry in (Entry(50, 0), Entry(80, 500), Entry(2000, 1000)):
        index.append(entry)
    assert [index.find(frame) for frame in (0, 499, 500, 999, 1000, 10**9)] == [0, 0, 1, 1, 2, 2]
    assert Index.from_bytes(index[0], index.to_bytes())[2] == Entry(2000, 1000)


def test_the_container_needs_no_torch():
    code = "import sys, nac.container; assert not {'torch', 'soundfile', 'soxr'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
