"""Files made to do harm: nothing but a one-line error comes of them, in little memory and time."""

import io
import struct
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from container_files import SPEECH, UNKNOWN, CountingFile, Pipe, headers, speech
from hypothesis import given
from hypothesis import strategies as st

from nac.container import Chunk, Entry, Index, Reader, Recovery, verify
from nac.container.checksums import Checksums
from nac.container.fields import varint
from nac.container.header import SIGNATURE
from nac.container.index import End
from nac.container.records import CHUNK, END, RecordReader, checksum, frame
from nac.errors import DamageError, FormatError
from nac.files.verify import save
from nac.spec import Codebook


def quiet(file, read):
    """Read a file to its end: nothing but FormatError may come of it, in little memory and time."""
    message = ""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        read(file)
    except FormatError as error:
        message = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "\n" not in message
    assert len(message) < 300
    assert peak < 8 << 20
    assert time.monotonic() - begin < 5


def read_in_every_way(data):
    quiet(io.BytesIO(data), verify)
    quiet(Pipe(data, most=1000), lambda pipe: list(Reader(pipe).chunks()))
    quiet(io.BytesIO(data), lambda file: list(Recovery(file)))
    quiet(io.BytesIO(data), lambda file: Reader(file).samples)


@given(st.binary(max_size=300), st.integers(0, 5))
def test_garbage_is_refused(garbage, kind):
    """At any depth: as a file, behind a signature, as a body under a checksum that is right."""
    head = SIGNATURE + b"\1" + varint(len(garbage))
    start = SPEECH.to_bytes()
    read_in_every_way(
        [
            garbage,
            SIGNATURE + b"\1" + garbage,
            head + garbage + checksum(head, garbage),
            start + garbage,
            start + frame(CHUNK, garbage) + frame(END, b"\0" + struct.pack("<I", 11)),
            start + frame(END, garbage + struct.pack("<I", len(frame(END, garbage + bytes(4))))),
        ][kind]
    )


@pytest.mark.parametrize("far", [1 << 62, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("field", ["bytes", "frames"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_index_that_leads_out_of_every_file_is_not_taken(field, far, count):
    """Its steps may be any numbers below 2^64, and add up to more than an offset can be."""
    data = speech()[0]
    end = len(data) - data[-8]
    steps = count * (varint(far) + b"\1" if field == "bytes" else b"\1" + varint(far))
    made = data[:end] + End(3 * 20 * 960, steps).to_bytes()
    read_in_every_way(made)
    quiet(io.BytesIO(made), lambda file: Reader(file).chunk(1))
    if far * count >= 1 << 63:
        assert len(Reader(io.BytesIO(made)).index) == 3  # the chunks were gone through


@given(headers(), st.binary(max_size=80))
def test_garbage_in_a_chunk_is_refused_or_makes_sense(header, garbage):
    try:
        chunk = Chunk.from_bytes(header, garbage)
    except FormatError:
        return
    assert Chunk.from_bytes(header, chunk.to_bytes(header)) == chunk


def test_a_small_file_that_claims_a_week_allocates_nothing():
    week = replace(SPEECH, samples=48000 * 7 * 86400)
    claims = [
        frame(CHUNK, b"\0" + varint(1 << 39) + b"\0"),
        frame(CHUNK, b"\0" + varint(1 << 20) + b"\0"),
        b"C" + varint(1 << 24),
        b"C" + varint((1 << 63) - 1),
        b"E" + varint(1 << 24),
    ]
    for claim in claims:
        data = week.to_bytes() + claim
        assert len(data) < 100
        read_in_every_way(data)


def test_a_length_that_no_frame_number_reaches_is_refused():
    header = replace(SPEECH, frame_samples=1, samples=(1 << 48) - 1)
    data = header.to_bytes() + frame(CHUNK, speech(chunks=1)[1][0].to_bytes(UNKNOWN))
    with pytest.raises(FormatError, match="cannot keep"):
        save(Recovery(io.BytesIO(data)), io.BytesIO())


def test_an_index_that_stands_still_or_goes_into_a_chunk_is_refused():
    data, _ = speech(chunks=3)
    index = Reader(io.BytesIO(data)).index

    def reader(*entries):
        wrong = Index()
        for entry in entries:
            wrong.append(entry)
        end = len(data) - data[-8]
        return Reader(io.BytesIO(data[:end] + End(57600, wrong.to_bytes()).to_bytes()))

    one, two = index[1], index[2]
    for entries in ([one] * 1000, [Entry(one.offset, 0), two], [one, Entry(two.offset, one.first_frame)]):
        still = reader(index[0], *entries)  # not taken; the chunks were gone through
        assert [still.chunk(number).first_frame for number in range(len(still.index))] == [0, 20, 40]
    into = reader(index[0], index[1], Entry(index[1].offset + 5, 40))
    with pytest.raises(DamageError, match="within the chunk"):
        into.chunk(1)


def test_a_file_of_beginnings_of_chunks_is_searched_in_bounded_time():
    """Every few bytes a chunk begins that could be true up to its checksum, and goes on to the end."""
    size, start = 1 << 20, UNKNOWN.to_bytes()
    data = bytearray(start)
    while size - len(data) > 1000:
        frames = size - len(data) - 100
        body = varint(0) + varint(frames) + b"\0"
        data += b"C" + varint(len(body) + 2 * -(-frames * 4 // 8)) + body
    file = CountingFile(bytes(data) + bytes(size - len(data)))
    parts = list(Recovery(file))
    assert not [part for part in parts if isinstance(part, Chunk)]
    assert file.count < 100 * size


def test_a_chunk_behind_a_thousand_false_beginnings_is_found():
    """Each of them is true up to its checksum, and goes on for a megabyte, which is not summed again each time."""
    _, [chunk] = speech(chunks=1)
    false = bytearray()
    for number in range(1000):
        body = varint(number) + varint((1 << 20) - number) + b"\0"
        false += b"C" + varint(len(body) + (1 << 20) - number) + body
    record = frame(CHUNK, chunk.to_bytes(UNKNOWN))
    file = CountingFile(UNKNOWN.to_bytes() + b"\1" + false + bytes(1 << 20) + record + bytes(1 << 17))
    assert [part for part in Recovery(file) if isinstance(part, Chunk)] == [chunk]
    assert file.count < 20 << 20


@given(
    st.binary(min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 1 << 15), st.integers(0, 1 << 15)), max_size=5),
)
def test_the_sum_of_a_stretch_is_that_of_its_bytes(some, stretches):
    data = (some * (1 << 15))[: 1 << 15]
    checksums = Checksums(RecordReader(io.BytesIO(data)))
    for one, other in stretches:
        start, stop = sorted((one, other))
        assert struct.pack("<I", checksums.between(start, stop)) == checksum(data[start:stop])


WIDE = replace(UNKNOWN, channels=255, stream_codebooks=(255,) * 255, codebooks=(Codebook(12),) * 255)
"""As many streams and codebooks as there can be."""


def of_nothing(header, frames):
    """A chunk's body that says that all its layers are range coded, in no bytes."""
    saved = [varint(book.bits * frames * book.codes_per_frame // 8) for book in header.codebooks]
    rows = [varint(count) + b"".join(saved[:count]) for count in header.stream_codebooks]
    return varint(0) + varint(frames) + b"\1" + bytes(4) + b"".join(rows)


@pytest.mark.parametrize("frames", [32, 2048])
def test_many_codes_of_no_bytes_are_refused(frames):
    header = replace(UNKNOWN, channels=200, stream_codebooks=(1,) * 200, codebooks=(Codebook(8),))
    with pytest.raises(FormatError, match="bytes shorter than packed; at most"):
        Chunk.from_bytes(header, of_nothing(header, frames))


def test_codes_of_more_than_any_network_makes_in_a_second_are_not_range_coded():
    """What takes time to unpack must come with as much sound, which takes longer."""
    header = replace(UNKNOWN, codebooks=(Codebook(8, 8),) * 30, stream_codebooks=(30,), frame_samples=320)
    assert header.range_codebooks == 20  # 8 codes, 50 times a second, are 400 a codebook
    codes = [[np.full(800, 3)] * 30]
    chunk = Chunk.pack(header, 0, 100, codes, coding="range")
    body = chunk.to_bytes(header)
    assert [len(layer) for layer in chunk.layers[0]] == [800 // 32] * 20 + [800] * 10
    assert Chunk.from_bytes(header, body) == chunk
    slower = replace(header, frame_samples=480)
    assert slower.range_codebooks == 30
    coded = Chunk.pack(slower, 0, 100, codes, coding="range")
    with pytest.raises(FormatError, match="codebook 30 is range coded; at this rate only the first 20 may be"):
        Chunk.from_bytes(header, coded.to_bytes(slower))
    less = replace(header, stream_codebooks=(21,))
    coded = Chunk.pack(replace(less, frame_samples=480), 0, 100, [codes[0][:21]], coding="range")
    with pytest.raises(FormatError, match="codebook 21 is range coded"):
        Chunk.from_bytes(less, coded.to_bytes(replace(less, frame_samples=480)))


def test_range_coding_constant_codes_keeps_a_byte_for_32_of_them():
    codes = [[np.full(500, 3)] * 2]
    chunk = Chunk.pack(UNKNOWN, 0, 500, codes, coding="range")
    assert [len(layer) for layer in chunk.layers[0]] == [500 // 32] * 2
    again = Chunk.from_bytes(UNKNOWN, chunk.to_bytes(UNKNOWN))
    assert all(np.array_equal(array, codes[0][0]) for array in again.codes(UNKNOWN, 0))


def test_many_short_layers_are_decoded_in_little_memory():
    """Each has room for what it learns, however few codes it has: many at once took gigabytes."""
    header = replace(WIDE, channels=64, stream_codebooks=(40,) * 64)
    chunk = Chunk.from_bytes(header, of_nothing(header, 2))
    tracemalloc.start()
    try:
        found = Chunk.codes_all(header, [chunk], header.stream_codebooks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found[0]) == 64
    assert peak < 100 << 20


@pytest.mark.parametrize("beginning", [b"C\1\1\1\1", b"C\x80\x80\1\1\1\1", b"C\1\1\1\0", b"C\x80\x80\1\1\1\0"])
def test_beginnings_of_chunks_with_all_the_layers_there_can_be_are_searched_in_bounded_time(beginning):
    file = io.BytesIO(WIDE.to_bytes() + beginning * (100_000 // len(beginning)))
    began = time.process_time()
    assert not [part for part in Recovery(file) if isinstance(part, Chunk)]
    assert time.process_time() - began < 10


def test_damage_again_and_again_is_passed_in_bounded_time():
    """Between any two chunks a byte is wrong, so that the next one has to be looked for each time."""
    _, chunks = speech(chunks=2000, frames=2)
    head = UNKNOWN.to_bytes()
    records = [frame(CHUNK, chunk.to_bytes(UNKNOWN)) for chunk in chunks]
    file = CountingFile(head + b"\0".join(records))
    assert sum(isinstance(part, Chunk) for part in Recovery(file)) == 2000
    assert file.count < 2000 * (1 << 14)
