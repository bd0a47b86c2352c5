"""Range coded layers: they come back, never cost more than packed ones, and anything decodes to something."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from container_files import SPEECH, headers, written
from hypothesis import given, settings
from hypothesis import strategies as st
from second_layers import read_layer, read_tables

from nac import peel
from nac.container import Chunk, Reader, verify
from nac.container import codebooks as coded_layers
from nac.container import range_coder as ranges
from nac.container.chunk import Draft
from nac.container.layer_decoding import decode
from nac.container.layer_encoding import encode
from nac.container.probability_model import LayerId
from nac.container.tables import CURRENT, FOLDER, find_tables
from nac.errors import FormatError
from nac.spec import Codebook

TABLES = sorted(path.stem for path in FOLDER.iterdir())
LYRA = replace(SPEECH, fingerprint="e86727a4bc29fbd2", samples=None, stream_codebooks=(20,))


def recording(frames, books, bits, seed, novelty):
    """Codes [1, books, frames] that repeat themselves but for a part that is new."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << bits, (books, frames))
    period = int(rng.integers(1, max(2, frames // 2)))
    again = rng.random((books, frames)) > novelty
    return np.where(again, codes[:, np.arange(frames) % period], codes)[None]


novelties = st.sampled_from([0.0, 0.02, 0.5, 1.0])


@pytest.mark.parametrize("name", [None, *TABLES])
@settings(max_examples=25)
@given(data=st.data(), frames=st.integers(1, 60), novelty=novelties, seed=st.integers(0, 2**32))
def test_any_codes_come_back(name, data, frames, novelty, seed):
    tables = find_tables(name) if name else None
    bits = tables.order.shape[1].bit_length() - 1 if tables else data.draw(st.integers(1, 12))
    books = data.draw(st.integers(1, 7))
    codes = recording(frames, books, bits, seed, novelty)
    numbers = data.draw(st.sets(st.integers(0, books - 1), min_size=1))
    layers = encode(codes, bits, [LayerId(number, 0) for number in numbers], tables)
    known = codes.copy()
    known[0, list(numbers)] = 0
    assert (decode(known, bits, layers, tables) == codes).all()


@pytest.mark.parametrize("name", [None, *TABLES])
@settings(max_examples=25)
@given(rows=st.lists(st.binary(max_size=40), min_size=1, max_size=4), frames=st.integers(1, 60))
def test_any_bytes_decode_to_codes(name, rows, frames):
    tables = find_tables(name) if name else None
    bits = tables.order.shape[1].bit_length() - 1 if tables else 5
    layers = {LayerId(number, 0): row for number, row in enumerate(rows)}
    codes = decode(np.zeros((1, len(rows), frames), np.int64), bits, layers, tables)
    assert codes.min() >= 0
    assert codes.max() < 1 << bits


@settings(max_examples=25)
@given(frames=st.integers(2, 60), seed=st.integers(0, 2**32), name=st.sampled_from([None, *TABLES]))
def test_a_layer_is_the_same_with_and_without_finer_ones(frames, seed, name):
    tables = find_tables(name) if name else None
    bits = tables.order.shape[1].bit_length() - 1 if tables else 6
    codes = recording(frames, 5, bits, seed, 0.3)
    whole = encode(codes, bits, [LayerId(number, 0) for number in range(5)], tables)
    for count in range(1, 5):
        fewer = encode(codes[:, :count], bits, [LayerId(number, 0) for number in range(count)], tables)
        assert fewer == {lane: layer for lane, layer in whole.items() if lane.codebook < count}


@pytest.mark.parametrize("name", [None, *TABLES])
@pytest.mark.parametrize("frames", [3, 150])
def test_the_second_reader_decodes_layers(name, frames):
    tables = find_tables(name) if name else None
    bits = tables.order.shape[1].bit_length() - 1 if tables else 9
    books = tables.order.shape[0] + 1 if tables else 2
    numbers = (0, 1, len(tables.embedding), books - 1) if tables else (0, 1)
    codes = recording(frames, books, bits, 3, 0.3)
    layers = encode(codes, bits, [LayerId(number, 0) for number in numbers], tables)
    for lane, layer in layers.items():
        coarser = codes[0, : lane.codebook].tolist()
        second = read_layer(layer, coarser, lane.codebook, frames, bits, name and read_tables(name))
        assert second == codes[0, lane.codebook].tolist()


def test_tables_for_codes_of_other_bits_count_as_none():
    codes = recording(100, 3, 7, 1, 0.1)
    lanes = [LayerId(number, 0) for number in range(3)]
    for name in TABLES:
        layers = encode(codes, 7, lanes, find_tables(name))
        assert layers == encode(codes, 7, lanes, None)
        assert (decode(0 * codes, 7, layers, find_tables(name)) == codes).all()
        assert read_layer(layers[lanes[0]], [], 0, 100, 7, read_tables(name)) == codes[0, 0].tolist()


def test_few_layers_are_coded_as_many():
    widths = np.random.default_rng(1).integers(1, 1 << 20, (60, 200)) ** 2
    spans = np.stack([widths * 0, widths, widths + 1])
    spans[0, :, ::2], spans[2, :, ::3] = 1, 1 << 41
    many = ranges.encode(spans)
    assert many == [ranges.encode(spans[:, [n]])[0] for n in range(60)]
    sums = np.array([7.0, 12.0, 1 << 40])[None].repeat(60, axis=0)
    side_by_side, alone = ranges.decoder(many), [ranges.decoder([layer]) for layer in many]
    for _ in range(50):
        found = [one.symbols(np.array([0]), sums[:1])[0] for one in alone]
        assert side_by_side.symbols(np.arange(60), sums).tolist() == found


@settings(max_examples=20)
@given(rows=st.lists(st.binary(max_size=14), min_size=60, max_size=60), top=st.booleans())
def test_any_bytes_are_decoded_in_many_layers_as_alone(rows, top):
    """Behind its last byte a layer goes on with zeros, not with the next layer; and none grows beyond 64 bits."""
    rows = [b"\xff" * len(row) for row in rows] if top else rows
    sums = np.array([3.0, 5.0, 900.0, 901.0])[None]
    many, alone = ranges.decoder(rows), [ranges.decoder([row]) for row in rows]
    for _ in range(150):
        found = [one.symbols(np.array([0]), sums)[0] for one in alone]
        assert many.symbols(np.arange(60), sums.repeat(60, axis=0)).tolist() == found


def test_a_layer_is_range_coded_from_the_first_byte_it_saves():
    """Its saving has to be above what it costs: 4 bytes for the tables' name, 1 for the stream, 1 for itself."""
    header = replace(SPEECH, samples=None, stream_codebooks=(1,))
    rng, seen = np.random.default_rng(4), set()
    for length in range(20, 60):
        for new in range(0, length, 2):
            row = np.where(np.arange(length) < new, rng.integers(0, 16, length), 3)
            [coded] = encode(row[None, None], 4, [LayerId(0, 0)], None).values()
            saved = 4 * length // 8 - max(len(coded), length // 32)
            [[layer]] = Chunk.pack(header, 0, length, [[row]], coding="range").layers
            assert len(layer) == (4 * length // 8 - saved if saved > 6 else -(-4 * length // 8))
            seen.add(saved)
    assert {6, 7} <= seen


@pytest.mark.parametrize(("again", "tried"), [(8, False), (9, False), (10, True), (11, True)])
def test_a_layer_is_tried_where_more_than_one_in_eight_short_runs_was_there_before(again, tried):
    """Of 64 runs of two codes, of 8 bits each, the first one comes ``again`` times."""
    row = np.concatenate([np.zeros(again, int), np.arange(65 - again)])
    runs = set(zip(row[:-1].tolist(), row[1:].tolist(), strict=True))
    assert (len(row), len(runs)) == (65, 65 - again)
    assert coded_layers._repeats(row, 8) == tried


@settings(max_examples=15)
@given(header=headers(), frames=st.integers(1, 40), novelty=novelties, seed=st.integers(0, 2**32))
def test_a_chunk_is_never_larger_than_packed(header, frames, novelty, seed):
    counts = tuple(min(count, 4) for count in header.stream_codebooks)
    header = replace(header, segment=None, has_scale=False, stream_codebooks=counts)
    codes = [
        [recording(frames * b.codes_per_frame, 1, b.bits, seed + n, novelty)[0, 0] for n, b in enumerate(books)]
        for books in (header.codebooks[:count] for count in header.stream_codebooks)
    ]
    sizes = {}
    for coding in ("packed", "auto", "range"):
        chunk = Chunk.pack(header, 0, frames, codes, coding=coding)
        body = chunk.to_bytes(header)
        assert Chunk.from_bytes(header, body) == chunk
        for stream, arrays in enumerate(codes):
            assert [a.tolist() for a in chunk.codes(header, stream)] == [a.tolist() for a in arrays]
        sizes[coding] = len(body)
    assert sizes["auto"] <= sizes["packed"] + 1
    assert sizes["range"] <= sizes["packed"] + 1


@pytest.mark.parametrize(("bits", "rate", "books"), [(4, 50, 20), (10, 75, 8), (12, 12, 1)])
@pytest.mark.parametrize("period", [1, 7, 60])
def test_silence_and_repetition_shrink_to_almost_nothing(bits, rate, books, period):
    header = replace(SPEECH, codebooks=(Codebook(bits),) * books, stream_codebooks=(books,))
    frames = 10 * rate
    one = np.random.default_rng(1).integers(0, 1 << bits, (books, period))
    codes = [one[:, np.arange(frames) % period]]
    coded = Chunk.pack(header, 0, frames, codes)
    once = bits * books * period // 8
    # A layer keeps a byte for every 32 codes.
    assert len(coded.to_bytes(header)) < 1.15 * once + (7 + frames // 32) * books + 15


def lyra(chunks=3, frames=200):
    rng = np.random.default_rng(5)
    return [
        Chunk.pack(LYRA, n * frames, frames, [rng.integers(0, 3, (20, frames)) % rng.integers(1, 4, (20, 1))])
        for n in range(chunks)
    ]


@pytest.mark.parametrize("header", [LYRA, replace(SPEECH, samples=None)], ids=["tables", "none"])
def test_chunks_together_are_as_each_alone(header):
    header = replace(header, channels=3, stream_codebooks=(5, 2, 4), stereo_pair=False)
    bits, drafts, first = header.codebooks[0].bits, [], 0
    for seed, frames in enumerate((130, 130, 40, 130, 1)):
        codes = recording(frames, 5, bits, seed, 0.05)[0]
        streams = [codes[:5], None if seed == 1 else codes[:2], codes[1:5]]
        drafts.append(Draft(first, frames, streams, angle=0))
        first += frames
    alone = [Chunk.pack(header, d.first_frame, d.frames, d.codes) for d in drafts]
    assert Chunk.pack_all(header, drafts) == alone
    assert any(chunk.is_coded(header) for chunk in alone)
    for draft, chunk, found in zip(
        drafts, alone, Chunk.codes_all(header, alone, header.stream_codebooks), strict=True
    ):
        for stream, (meant, arrays) in enumerate(zip(draft.codes, found, strict=True)):
            assert np.array_equal(np.array(arrays), np.array([] if meant is None else meant))
            assert np.array_equal(np.array(arrays), np.array(chunk.codes(header, stream)))


@pytest.mark.parametrize(
    "name", ["range", "range-tables", "range-absent", "overhang", "segments-absent", "absent-streams"]
)
def test_peeling_to_packed_codes_needs_no_tables_any_more(name, tmp_path):
    vector = Path(__file__).parents[2] / "formats" / "vectors" / f"{name}.nac"
    peel(vector, tmp_path / "packed.nac", coding="packed")
    peel(tmp_path / "packed.nac", tmp_path / "again.nac", coding="range")
    with vector.open("rb") as one, (tmp_path / "packed.nac").open("rb") as two:
        before, after = Reader(one), Reader(two)
        for chunk, packed in zip(before.chunks(), after.chunks(), strict=True):
            assert not packed.is_coded(after.header)
            assert packed.tables == "00000000"
            assert replace(packed, layers=(), tables="") == replace(chunk, layers=(), tables="")
            for stream in range(len(chunk.layers)):
                assert np.array_equal(chunk.codes(before.header, stream), packed.codes(after.header, stream))
    if name in ("range", "range-tables"):
        assert (tmp_path / "again.nac").read_bytes() == vector.read_bytes()


@pytest.mark.parametrize("codebooks", [1, 7, 19])
def test_peeling_gives_what_compressing_with_fewer_codebooks_gives(tmp_path, codebooks):
    chunks = lyra()
    whole = written(LYRA, chunks, 9600).getvalue()
    assert any(chunk.is_coded(LYRA) for chunk in chunks)
    (tmp_path / "whole.nac").write_bytes(whole)
    peel(tmp_path / "whole.nac", tmp_path / "less.nac", codebooks=codebooks)
    less = replace(LYRA, stream_codebooks=(codebooks,))
    direct = [Chunk.pack(less, c.first_frame, c.frames, [c.codes(LYRA, 0, codebooks)]) for c in chunks]
    assert (tmp_path / "less.nac").read_bytes() == written(less, direct, 9600).getvalue()


def test_the_number_of_threads_changes_nothing(tmp_path):
    program = (
        "import sys; sys.path[:0] = ['tests/support', 'tests/container']\n"
        "from test_range_coding import *; import hashlib\n"
        "data = written(LYRA, lyra(), 9600).getvalue()\n"
        "codes = [c.codes(LYRA, 0) for c in Reader(io.BytesIO(data)).chunks()]\n"
        "print(hashlib.sha256(data + str(np.array(codes).tolist()).encode()).hexdigest())"
    )
    found = set()
    for threads in ("1", "4"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", program]
        found.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert len(found) == 1


def test_a_file_with_tables_that_are_not_here_is_whole_but_gives_no_codes():
    [chunk] = lyra(1)
    other = replace(chunk, tables="0badcafe")
    data = written(LYRA, [other], 9600).getvalue()
    assert verify(io.BytesIO(data)).chunks == 1
    with pytest.raises(FormatError, match="tables 0badcafe, which this version of nac lacks"):
        other.codes(LYRA, 0)


def test_damaged_layers_never_reach_the_coder(monkeypatch):
    data = bytearray(written(LYRA, lyra(1), 9600).getvalue())
    data[-40] ^= 1
    monkeypatch.setattr(coded_layers.layer_decoding, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(FormatError, match="damaged"):
        [chunk.codes(LYRA, 0) for chunk in Reader(io.BytesIO(data)).chunks()]


def test_every_table_in_use_is_in_the_package_as_the_format_has_it():
    assert set(CURRENT.values()) <= set(TABLES)
    theirs = Path(__file__).parents[2] / "formats" / "tables"
    assert {path.name: path.read_bytes() for path in theirs.glob("*.safetensors")} == {
        path.name: path.read_bytes() for path in FOLDER.iterdir()
    }
    for name in TABLES:
        tables = find_tables(name)
        assert tables.trust.min() >= 8
        # Single precision holds every sum: of what the network is given, of what it finds, of levels' differences.
        largest = np.tile(abs(tables.embedding.astype(int)).max(axis=1).cumsum(axis=0), len(tables.frames))
        sums = np.einsum("ki,kir->kr", largest, abs(tables.mix.astype(int))) + abs(tables.mix_bias)
        assert sums.max() < 2**24
        assert 0 <= tables.scale.min() <= tables.scale.max() <= 2**28
        for out, bias in ((tables.high, tables.high_bias), (tables.low, tables.low_bias)):
            assert bias.max() == 0
            assert abs(out.astype(int)).sum(axis=2).max() * 1023 + 64 * abs(bias.astype(int)).max() < 2**23
