"""The container by its properties: what is written is read again, and whatever is damaged is noticed."""

import io
import struct
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nac.codecs.base import Codebook, Segment
from nac.container import Chunk, Entry, Header, Index, Lost, Reader, Recovery, SampleFormat, Writer, verify
from nac.container.bits import pack, unpack
from nac.container.fields import Fields, varint
from nac.container.header import SIGNATURE
from nac.container.records import CHUNK, END, checksum, frame
from nac.container.timeline import clock
from nac.errors import DamageError, FormatError

SPEECH = Header(
    model="soundstream_16khz",
    fingerprint="0123456789abcdef",
    sample_rate=16000,
    frame_samples=320,
    codebooks=(Codebook(4),) * 46,
    network_channels=1,
    stereo_pair=False,
    stream_codebooks=(2,),
    original_sample_rate=48000,
    channels=1,
    samples=480000,
)
UNKNOWN = replace(SPEECH, samples=None)


# Things to test with


class Pipe(io.RawIOBase):
    """Cannot seek, and moves fewer bytes at a time than asked for."""

    def __init__(self, data=b"", most=7):
        self.data, self.most, self.calls = bytearray(data), most, 0

    def readable(self):
        return True

    def writable(self):
        return True

    def read(self, count=-1):
        self.calls += 1
        count = min(count, 1 + self.calls % self.most)
        taken, self.data = bytes(self.data[:count]), self.data[count:]
        return taken

    def write(self, data):
        self.calls += 1
        taken = data[: 1 + self.calls % self.most]
        self.data += taken
        return len(taken)


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rates = st.one_of(st.sampled_from([8000, 44100, 48000, 192000]), st.integers(1, 1 << 24))


@st.composite
def headers(draw):
    """Any header that the format allows."""
    codebooks = draw(st.lists(st.builds(Codebook, st.integers(1, 16), st.integers(1, 8)), min_size=1, max_size=6))
    if draw(st.booleans()):
        codebooks = codebooks[:1] * draw(st.integers(1, 255))
    frame_samples = draw(st.integers(1, 4000))
    segment = None
    if draw(st.booleans()):
        frames = draw(st.integers(1, 8))
        segment = Segment(frames, draw(st.integers(1, frames * frame_samples)))
    pair = draw(st.booleans())
    network = 1 if pair else draw(st.integers(1, 2))
    channels = 2 if pair else draw(st.integers(1, 20))
    streams = 2 if pair else -(-channels // network)
    counts = st.integers(0, min(len(codebooks), 6))
    return Header(
        model=draw(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=30)),
        fingerprint=draw(st.binary(min_size=8, max_size=8)).hex(),
        sample_rate=draw(rates),
        frame_samples=frame_samples,
        codebooks=tuple(codebooks),
        network_channels=network,
        stereo_pair=pair,
        stream_codebooks=tuple(draw(st.lists(counts, min_size=streams, max_size=streams))),
        original_sample_rate=draw(rates),
        channels=channels,
        sample_format=draw(st.sampled_from(SampleFormat)),
        samples=draw(st.none() | st.integers(0, (1 << 48) - 1)),
        start=draw(st.integers(0, 10) | st.integers(0, (1 << 48) - 1)),
        gain=draw(st.just(1.0) | st.floats(0.0078125, 2, width=32)),
        segment=segment,
        has_scale=draw(st.booleans()),
        tags=tuple(draw(st.lists(st.tuples(text, text), max_size=4))),
    )


@st.composite
def files(draw):
    """A header and chunks that go with it, in order, with frames missing here and there."""
    header = draw(headers())
    unit = header.segment.frames if header.segment else 1
    chunks, frame_number = [], draw(st.integers(0, 1000)) * unit
    for _ in range(draw(st.integers(0, 4))):
        chunks.append(draw_chunk(draw, header, frame_number, draw(st.integers(1, 12))))
        frame_number = (
            -(-(frame_number + chunks[-1].frames) // unit) * unit + draw(st.sampled_from([0, 0, 3])) * unit
        )
    return header, chunks


def draw_chunk(draw, header, first_frame, frames):
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    segments = -(-frames // header.segment.frames) if header.segment else 1
    if header.segment and header.has_scale and any(header.stream_codebooks) and draw(st.booleans()):
        frames = segments * header.segment.frames
        segments += 1
    codes = [
        [rng.integers(0, 1 << bits, frames * count) for bits, count in header.codebooks[:books]]
        if stream == 0 or draw(st.booleans())
        else None
        for stream, books in enumerate(header.stream_codebooks)
    ]
    scales = [rng.random(segments, np.float32) for _ in codes] if header.has_scale else None
    angle = draw(st.integers(0, 255)) if header.stereo_pair else 0
    return Chunk.pack(header, first_frame, frames, codes, angle=angle, scales=scales)


def written(header, chunks, samples, file=None):
    file = io.BytesIO() if file is None else file
    writer = Writer(file, header)
    for chunk in chunks:
        writer.write(chunk)
    writer.finish(samples)
    return file


def speech(chunks=3, frames=20, header=UNKNOWN):
    """A small file: its bytes and its chunks."""
    rng = np.random.default_rng(0)
    made = [
        Chunk.pack(
            header,
            number * frames,
            frames,
            [[rng.integers(0, 16, frames) for _ in range(count)] for count in header.stream_codebooks],
        )
        for number in range(chunks)
    ]
    return written(header, made, chunks * frames * 960).getvalue(), made


# Codes


@given(st.integers(1, 16), st.integers(0, 100), st.integers(0, 1 << 32))
def test_codes_are_packed_as_one_row_of_bits(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count)
    row = sum(int(code) << bits * place for place, code in enumerate(codes))
    data = pack(codes, bits)
    assert data == row.to_bytes(-(-bits * count // 8), "little")
    unpacked = unpack(data, bits, count)
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
        unpack(data, 4, 3)


# Fields


@given(st.integers(0, (1 << 64) - 1))
def test_a_varint_comes_back_and_is_as_short_as_can_be(value):
    assert Fields(varint(value), "field").varint() == value
    assert len(varint(value)) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\x80\x00", b"\xff" * 9 + b"\x02", b"\x80" * 20, b"\x80", b""])
def test_a_varint_that_is_long_or_cut_is_refused(data):
    with pytest.raises(FormatError):
        Fields(data, "field").varint()


# Headers


@given(headers())
def test_a_header_comes_back(header):
    assert Reader(io.BytesIO(header.to_bytes())).header == header


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": "x" * 128},
        {"model": "a\x1b[2J"},
        {"model": "\ud800"},
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
    with pytest.raises(FormatError, match="header"):
        replace(SPEECH, **change)


def test_a_header_that_is_too_long_is_refused():
    with pytest.raises(FormatError, match="at most"):
        replace(SPEECH, tags=(("comment", "x" * (1 << 20)),)).to_bytes()


def test_streams_carry_channels_in_order():
    assert SPEECH.streams == ((0,),)
    assert replace(SPEECH, channels=2, stereo_pair=True, stream_codebooks=(2, 1)).streams == ((0, 1), (0, 1))
    assert replace(SPEECH, channels=3, network_channels=2, stream_codebooks=(2, 1)).streams == ((0, 1), (2,))


def test_the_frame_of_a_file_is_small():
    codes = [[np.zeros(500, int)] * 2]
    file = written(SPEECH, [Chunk.pack(SPEECH, 0, 500, codes)], 480000).getvalue()
    assert len(SPEECH.to_bytes()) == 54
    assert len(file) - 500 * 2 * 4 // 8 == 54 + 11 + 11


# Files


@given(files())
def test_chunks_come_back_through_pipes(file):
    header, chunks = file
    header = replace(header, samples=None, start=0)
    pipe = written(header, chunks, 0, Pipe())
    assert pipe.data == written(header, chunks, 0).getvalue()
    reader = Reader(pipe)
    assert (reader.header, reader.samples, reader.complete) == (header, None, False)
    assert list(reader.chunks()) == chunks
    assert (reader.samples, reader.complete) == (0, True)


@given(files(), st.randoms(use_true_random=False))
def test_chunks_come_back_in_any_order(file, random):
    header, chunks = file
    header = replace(header, samples=0)
    reader = Reader(io.BytesIO(written(header, chunks, 0).getvalue()))
    numbers = list(range(len(reader.index)))
    random.shuffle(numbers)
    assert {number: reader.chunk(number) for number in numbers} == dict(enumerate(chunks))
    for chunk in chunks:
        assert chunks[reader.index.find(chunk.first_frame + chunk.frames - 1)] == chunk
    assert verify(io.BytesIO(written(header, chunks, 0).getvalue())).frames == sum(c.frames for c in chunks)


def test_a_file_may_begin_in_the_middle_of_another():
    data, chunks = speech()
    file = io.BytesIO(b"something else" + data)
    file.seek(14)
    reader = Reader(file)
    assert reader.chunk(2) == chunks[2]
    assert list(reader.chunks()) == chunks


def test_the_index_finds_a_chunk_without_reading_the_others():
    data, chunks = speech(chunks=3000)
    file = CountingFile(data)
    reader = Reader(file)
    assert reader.chunk(2345) == chunks[2345]
    end = len(data) - int.from_bytes(data[-8:-4], "little")
    assert file.count < len(data) - end + 300
    before = file.count
    assert reader.chunk(17) == chunks[17]
    assert file.count - before < 40


def test_a_chunk_of_fewer_codebooks_needs_no_decoding():
    _, [chunk] = speech(chunks=1)
    header = UNKNOWN
    fewer = replace(chunk, layers=tuple(layers[:1] for layers in chunk.layers))
    assert fewer.codes(header, 0)[0].tolist() == chunk.codes(header, 0, codebooks=1)[0].tolist()
    assert len(chunk.codes(header, 0, codebooks=1)) == 1
    less = replace(header, stream_codebooks=(1,))
    assert verify(io.BytesIO(written(less, [fewer], 100).getvalue())).chunks == 1


def test_the_writer_refuses_what_does_not_fit():
    _, [first, second] = speech(chunks=2)
    writer = Writer(io.BytesIO(), SPEECH)
    writer.write(second)
    with pytest.raises(ValueError, match="comes after"):
        writer.write(first)
    with pytest.raises(ValueError, match="the header says"):
        writer.finish(1)
    with pytest.raises(ValueError, match="the frames hold 38400"):
        writer.finish(SPEECH.samples)
    for change in (
        {"angle": 1},
        {"frames": 21},
        {"coding": 1},
        {"scales": ((1.0,),)},
        {"layers": ((b"",),)},
        {"layers": ((), ())},
        {"overhang": True},
        {"first_frame": 1 << 40},
    ):
        with pytest.raises(ValueError, match=r"chunk|codes"):
            writer.write(replace(second, first_frame=1000) if not change else replace(second, **change))


@pytest.mark.parametrize("codes", [[], [[[0] * 4]], [[[0] * 4, [0] * 3]], [[[0] * 4, [16] * 4]], [None, None]])
def test_codes_that_do_not_fit_the_header_are_refused(codes):
    with pytest.raises(ValueError, match=r"codes|argument"):
        Chunk.pack(SPEECH, 0, 4, codes)


def test_a_chunk_of_too_many_codes_is_refused():
    layer = bytes((1 << 20) // 2 + 1)
    with pytest.raises(ValueError, match="1 to 1048576 codes"):
        Chunk(0, (1 << 20) + 2, ((layer, layer),)).to_bytes(SPEECH)


def test_a_writer_waits_for_a_pipe_but_not_for_a_blocked_one():
    class Blocked(io.RawIOBase):
        def write(self, data):
            return None

    with pytest.raises(BlockingIOError):
        Writer(Blocked(), SPEECH)


# Damage


DAMAGED = [
    speech()[0],
    speech(header=replace(SPEECH, samples=57600, tags=(("title", "t"),), gain=0.5))[0],
    speech(header=replace(SPEECH, samples=None, channels=2, stream_codebooks=(2, 0), stereo_pair=True))[0],
]


@pytest.mark.parametrize("data", DAMAGED)
def test_every_flipped_bit_is_noticed(data):
    assert verify(io.BytesIO(data))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            verify(io.BytesIO(damaged))
        with pytest.raises(FormatError):
            list(Reader(Pipe(damaged, most=1000)).chunks())


def test_a_cut_file_gives_every_whole_chunk():
    data, chunks = speech()
    ends = [entry.offset for entry in map(Reader(io.BytesIO(data)).index.__getitem__, (1, 2))]
    ends.append(len(data) - data[-8])
    start = len(UNKNOWN.to_bytes())
    for size in range(len(data)):
        file = io.BytesIO(data[:size])
        if size < start:
            with pytest.raises(FormatError):
                Recovery(file)
            continue
        whole = sum(end <= size for end in ends)
        recovery = Recovery(file)
        *found, lost = recovery
        assert found == chunks[:whole]
        assert (lost.first_byte, lost.end_byte) == (([start, *ends])[whole], size)
        assert (lost.first_frame, lost.start, lost.end) == (20 * whole, pytest.approx(0.4 * whole), None)
        assert recovery.samples == whole * 20 * 960
        reader = Reader(io.BytesIO(data[:size]))
        assert (len(reader.index), reader.complete, reader.samples) == (whole, False, None)
        with pytest.raises(DamageError, match=r"cut short at byte \d+"):
            list(reader.chunks(1))


def test_damage_costs_only_the_chunk_it_is_in():
    data, chunks = speech(chunks=4)
    offsets = [Reader(io.BytesIO(data)).index[i].offset for i in range(4)] + [len(data) - data[-8]]
    for position in range(offsets[0], offsets[-1]):
        hit = sum(position >= offset for offset in offsets) - 1
        for damaged in (
            data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :],
            data[:position] + data[position + 1 :],
            data[:position] + b"xyz" + data[position:],
        ):
            found = list(Recovery(io.BytesIO(damaged)))
            inserted = len(damaged) > len(data) and position == offsets[hit]
            kept = chunks if inserted else chunks[:hit] + chunks[hit + 1 :]
            assert [part for part in found if isinstance(part, Chunk)] == kept
            [lost] = [part for part in found if isinstance(part, Lost)]
            assert lost.first_byte == offsets[hit]
            if not inserted:
                assert (lost.start, lost.end) == (pytest.approx(0.4 * hit), pytest.approx(0.4 * (hit + 1)))


def test_what_is_recovered_is_a_whole_file_again():
    header = replace(SPEECH, samples=57600)
    data, _ = speech(header=header)
    damaged = bytearray(data)
    damaged[Reader(io.BytesIO(data)).index[1].offset + 9] ^= 1
    recovery = Recovery(io.BytesIO(damaged))
    out = io.BytesIO()
    writer = Writer(out, replace(recovery.header, samples=None))
    lost = []
    for part in recovery:
        if isinstance(part, Lost):
            lost.append(part)
        else:
            writer.write(part)
    writer.finish(recovery.samples)
    assert [str(part).split(" (")[0] for part in lost] == ["0:00.4-0:00.8 lost"]
    found = verify(io.BytesIO(out.getvalue()))
    assert (found.chunks, found.samples) == (2, 57600)
    assert [(gap.first_frame, gap.end_frame) for gap in found.gaps] == [(20, 40)]


def test_a_damaged_first_chunk_leaves_the_file_incomplete():
    data, _ = speech()
    damaged = bytearray(data)
    damaged[len(UNKNOWN.to_bytes())] ^= 1
    reader = Reader(io.BytesIO(damaged))
    assert (reader.complete, len(reader.index)) == (False, 0)


def test_a_file_that_two_files_make_is_damaged():
    data, chunks = speech()
    with pytest.raises(DamageError, match="behind the end"):
        verify(io.BytesIO(data + data))
    found = list(Recovery(io.BytesIO(data + b"x")))
    assert found[:-1] == chunks
    assert str(found[-1]) == f"no sound lost (bytes {len(data)} to {len(data)})"


def test_more_samples_than_the_frames_hold_are_damage():
    header = replace(SPEECH, samples=20 * 960 + 1)
    _, [chunk] = speech(chunks=1)
    record = frame(CHUNK, chunk.to_bytes(header))
    body = b"\0" + struct.pack("<I", 11)
    with pytest.raises(DamageError, match="the frames hold 19200"):
        verify(io.BytesIO(header.to_bytes() + record + frame(END, body)))


# Hostile files


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


# Small things


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
