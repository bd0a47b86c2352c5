"""What is written into a .nac file is read again, in order and in any order."""

import io
from contextlib import nullcontext
from dataclasses import replace

import pytest
from container_files import SPEECH, UNKNOWN, CountingFile, Pipe, files, speech, written
from hypothesis import given
from hypothesis import strategies as st

from nac.container import Chunk, Entry, Index, Reader, Recovery, Writer, verify
from nac.container.index import End
from nac.container.records import CHUNK, frame


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
    with pytest.raises(ValueError, match="the header has"):
        writer.finish(1)
    with pytest.raises(ValueError, match="the frames have 38400"):
        writer.finish(SPEECH.samples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"angle": 1}, "angle"),
        ({"frames": 21}, "codes"),
        ({"scales": ((1.0,),)}, "scales"),
        ({"layers": ((b"",),)}, "layers"),
        ({"layers": ((), ())}, "streams"),
        ({"overhang": True}, "overhang"),
        ({"first_frame": 1 << 40}, "frame"),
    ],
)
def test_a_chunk_that_does_not_fit_the_header_is_refused(change, message):
    _, [chunk] = speech(chunks=1)
    with pytest.raises(ValueError, match=message) if change else nullcontext():
        Writer(io.BytesIO(), SPEECH).write(replace(chunk, **change))


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


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_records_of_later_versions_are_passed_over_wherever_they_are(place, count):
    """Behind the header, between chunks, before the end; read in order, by the index, and without an end."""
    _, chunks = speech()
    parts = [UNKNOWN.to_bytes(), *(frame(CHUNK, chunk.to_bytes(UNKNOWN)) for chunk in chunks)]
    parts.insert(place + 1, frame(0x58, b"something else") * count)
    index, offset = Index(), 0
    for part in parts:
        if part[:1] == b"C":
            index.append(Entry(offset, chunks[len(index)].first_frame))
        offset += len(part)
    data = b"".join(parts) + End(3 * 20 * 960, index.to_bytes()).to_bytes()
    assert verify(io.BytesIO(data)).chunks == 3
    assert list(Reader(Pipe(data)).chunks()) == chunks
    reader = Reader(io.BytesIO(data))
    assert [reader.chunk(number) for number in range(len(reader.index))] == chunks
    assert reader.complete
    assert [item for item in Recovery(io.BytesIO(data[:-5])) if isinstance(item, Chunk)] == chunks
