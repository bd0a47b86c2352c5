"""Whatever is damaged in a .nac file is noticed, and the rest is kept."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from container_files import SPEECH, UNKNOWN, Pipe, speech

from nac.container import Chunk, Index, Lost, Reader, Recovery, Writer, verify
from nac.container.index import End
from nac.container.records import CHUNK, END, frame
from nac.container.timeline import clock
from nac.errors import DamageError, FormatError
from nac.files import verify as check
from nac.spec import Codebook

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
    again = Reader(io.BytesIO(out.getvalue()))
    for _ in range(2):
        assert len(list(again.chunks())) == 2
        assert [(gap.first_frame, gap.end_frame) for gap in again.gaps] == [(20, 40)]


@pytest.mark.parametrize("before", [b"", b"x", bytes(1000)])
def test_a_file_begins_where_the_file_object_is(before):
    data, chunks = speech()

    def behind(rest):
        file = io.BytesIO(before + rest)
        file.seek(len(before))
        return file

    reader = Reader(behind(data))
    assert (reader.complete, reader.damage, len(reader.index)) == (True, None, 3)
    assert [reader.chunk(number) for number in (2, 0)] == [chunks[2], chunks[0]]
    assert list(reader.chunks()) == list(Recovery(behind(data))) == chunks
    assert verify(behind(data)) == verify(io.BytesIO(data))
    *found, lost = Recovery(behind(data[:-9]))
    assert (found, lost) == (chunks, [*Recovery(io.BytesIO(data[:-9]))][-1])


def test_a_damaged_first_chunk_leaves_the_file_incomplete():
    data, _ = speech()
    damaged = bytearray(data)
    damaged[len(UNKNOWN.to_bytes())] ^= 1
    reader = Reader(io.BytesIO(damaged))
    assert (reader.complete, len(reader.index)) == (False, 0)


def test_a_file_that_two_files_make_is_damaged():
    data, chunks = speech()
    with pytest.raises(DamageError, match="after the end"):
        verify(io.BytesIO(data + data))
    found = list(Recovery(io.BytesIO(data + b"x")))
    assert found[:-1] == chunks
    assert str(found[-1]) == f"no sound lost (bytes {len(data)} to {len(data)})"


def test_more_samples_than_the_frames_hold_are_damage():
    header = replace(SPEECH, samples=20 * 960 + 1)
    _, [chunk] = speech(chunks=1)
    record = frame(CHUNK, chunk.to_bytes(header))
    body = b"\0" + struct.pack("<I", 11)
    with pytest.raises(DamageError, match="the frames have 19200"):
        verify(io.BytesIO(header.to_bytes() + record + frame(END, body)))


def test_a_chunk_that_comes_twice_is_given_once():
    data, chunks = speech()
    index = Reader(io.BytesIO(data)).index
    first = data[index[0].offset : index[1].offset]
    twice = data[: index[1].offset] + first + data[index[1].offset :]
    with pytest.raises(DamageError, match="frame 0 comes after frame 19"):
        verify(io.BytesIO(twice))
    one, lost, *others = Recovery(io.BytesIO(twice))
    assert [one, *others] == chunks
    assert str(lost) == f"no sound lost (bytes {index[1].offset} to {index[1].offset + len(first) - 1})"


def test_a_wrong_index_is_noticed_where_it_leads():
    data, chunks = speech()
    index = Reader(io.BytesIO(data)).index
    wrong = Index()
    for entry in (index[0], index[1], index[2]._replace(first_frame=41)):
        wrong.append(entry)
    end = len(data) - data[-8]
    reader = Reader(io.BytesIO(data[:end] + End(57600, wrong.to_bytes()).to_bytes()))
    assert reader.chunk(1) == chunks[1]
    with pytest.raises(DamageError, match="index"):
        reader.chunk(2)
    with pytest.raises(DamageError, match="index"):
        list(reader.chunks())


@pytest.mark.parametrize("seed", range(12))
def test_holes_cost_the_chunks_they_are_in_and_are_told_by_time(seed):
    """Five minutes in chunks of ten seconds, of which random stretches of 512 bytes are zeros or noise."""
    rng = np.random.default_rng(seed)
    header = replace(UNKNOWN, stream_codebooks=(46,))
    data, chunks = speech(chunks=30, frames=500, header=header)
    offsets = [entry.offset for entry in map(Reader(io.BytesIO(data)).index.__getitem__, range(30))]
    damaged, hit = bytearray(data), set()
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(offsets[0], len(data) - 1000))
        damaged[at : at + 512] = bytes(512) if seed % 2 else rng.bytes(512)
        hit |= {sum(offset <= byte for offset in offsets) - 1 for byte in (at, at + 511)}
    assert not check.check(io.BytesIO(damaged)).ok
    found = list(Recovery(io.BytesIO(damaged)))
    assert [part for part in found if isinstance(part, Chunk)] == [c for i, c in enumerate(chunks) if i not in hit]
    # Neighbours that are lost are one stretch.
    starts = sorted(i for i in hit if i - 1 not in hit)
    ends = sorted(i + 1 for i in hit if i + 1 not in hit)
    message = [str(part).split(" (")[0] for part in found if isinstance(part, Lost)]
    assert message == [f"{clock(10 * a)}-{clock(10 * b)} lost" for a, b in zip(starts, ends, strict=True)]
    out = io.BytesIO()
    saved, lost = check.save(Recovery(io.BytesIO(damaged)), out)
    assert (saved, len(lost)) == (30 - len(hit), len(starts))
    assert verify(io.BytesIO(out.getvalue())).chunks == saved + (29 in hit)


@pytest.mark.parametrize(
    ("first", "frames", "books"),
    [
        *((first, 5, (Codebook(4),)) for first in (0, 127, 128, 1 << 14, 1 << 21, 1 << 28, 1 << 35)),
        ((1 << 40) - 6, 5, (Codebook(4),)),
        *((0, frames, (Codebook(1),)) for frames in (127, 128, (1 << 14) - 1, 1 << 14, 1 << 20)),
        *((0, frames, (Codebook(16),) * 9) for frames in (1 << 10, 1 << 14, 1 << 17)),  # up to two megabytes
    ],
)
def test_any_chunk_behind_damage_is_found(first, frames, books):
    header = replace(UNKNOWN, codebooks=books, stream_codebooks=(len(books),))
    codes = [[np.arange(frames) % 2] * len(books)]
    chunk = Chunk.pack(header, first, frames, codes, coding="packed")
    record = frame(CHUNK, chunk.to_bytes(header))
    damaged = header.to_bytes() + b"damage" + record
    lost, found, _ = Recovery(io.BytesIO(damaged))
    assert found == chunk
    assert lost.end_byte - lost.first_byte == len(b"damage")


@pytest.mark.parametrize("codebooks", [2, 46])
def test_a_chunk_behind_damage_is_found_wherever_it_begins(codebooks):
    """Also where a block of the search ends, within its list of range coded layers."""
    header = replace(UNKNOWN, stream_codebooks=(codebooks,))
    chunk = Chunk.pack(header, 0, 500, [[np.full(500, 3)] * codebooks], coding="range")
    assert chunk.is_coded(header)
    record = frame(CHUNK, chunk.to_bytes(header))
    for before in [*range(1, 4), *range(3890, 4110), *range(12190, 12300)]:
        data = header.to_bytes() + bytes(before) + record
        found = [item for item in Recovery(io.BytesIO(data)) if isinstance(item, Chunk)]
        assert found == [chunk], before
