"""Segments with scales: parts of chunks, ends that are lost, overhangs; each with numbers of its own."""

import io
from dataclasses import replace

import numpy as np
import pytest
from container_files import written

from nac.container import Chunk, Header, Lost, Reader, Recovery, Writer, verify
from nac.container.chunk import chunk_frames
from nac.container.records import CHUNK, frame
from nac.container.timeline import silent_end
from nac.errors import FormatError
from nac.files.verify import save
from nac.spec import Codebook, Segment

HEADER = Header(
    model="example",
    fingerprint="0" * 16,
    sample_rate=48000,
    frame_samples=320,
    codebooks=(Codebook(10),) * 2,
    network_channels=2,
    stereo_pair=False,
    stream_codebooks=(2, 1),
    original_sample_rate=48000,
    channels=4,
    segment=Segment(4, 800),
    has_scale=True,
)


def chunk(first: int, frames: int, segments: int, absent: bool = False) -> Chunk:
    """Codes that say their frame, scales that say their segment."""
    numbers = np.arange(first, first + frames)
    codes = [[numbers % 1024, numbers % 7], None if absent else [numbers % 3]]
    scales = [first // 4 + np.arange(segments, dtype=np.float32) + stream / 2 for stream in range(2)]
    return Chunk.pack(
        HEADER, first, frames, codes, scales=[scales[0], None if absent else scales[1]], coding="packed"
    )


@pytest.mark.parametrize(
    ("whole", "start", "stop", "segments", "overhang"),
    [
        (chunk(8, 11, 3), 0, None, (2.0, 3.0, 4.0), False),
        (chunk(8, 11, 3), 12, None, (3.0, 4.0), False),
        (chunk(8, 11, 3), 16, None, (4.0,), False),
        (chunk(8, 11, 3), 12, 16, (3.0,), False),
        (chunk(8, 11, 3), 0, 12, (2.0,), False),
        (chunk(8, 11, 3), 0, 1000, (2.0, 3.0, 4.0), False),
        (chunk(8, 8, 3), 12, None, (3.0, 4.0), True),
        (chunk(8, 8, 3), 0, 12, (2.0,), False),
        (chunk(8, 8, 3), 12, 16, (3.0, 4.0), True),
    ],
)
def test_a_part_has_the_scales_of_its_segments(whole, start, stop, segments, overhang):
    part = whole.part(HEADER, start, stop)
    first, end = max(start, 8), min(stop or 1000, whole.next_frame)
    assert (part.first_frame, part.next_frame, part.overhang) == (first, end, overhang)
    assert part.scales == (segments, tuple(scale + 0.5 for scale in segments))
    assert part.codes(HEADER, 0)[0].tolist() == list(range(first, end))
    assert part.codes(HEADER, 1)[0].tolist() == [frame % 3 for frame in range(first, end)]
    assert Chunk.from_bytes(HEADER, part.to_bytes(HEADER)) == part


@pytest.mark.parametrize(
    "scales",
    [((1.0, 2.0), (1.0, 2.0, 3.0)), ((1.0,) * 3, (1.0,) * 4), ((1.0,) * 3, ()), ((1.0,) * 3,), ()],
)
def test_a_stream_with_codes_has_as_many_scales_as_segments(scales):
    with pytest.raises(ValueError, match="scales for each stream"):
        replace(chunk(8, 11, 3), scales=scales).to_bytes(HEADER)
    with pytest.raises(ValueError, match="scales for each stream"):  # a silent stream has none
        replace(chunk(8, 11, 3, absent=True), scales=((1.0,) * 3,) * 2).to_bytes(HEADER)


def test_a_part_of_a_silent_stream_has_no_scales():
    part = chunk(8, 11, 3, absent=True).part(HEADER, 16)
    assert part.scales == ((4.0,), ())
    assert not part.present(1)


@pytest.mark.parametrize("segment", [None, Segment(4, 800), Segment(4, 1280), Segment(1, 320)])
@pytest.mark.parametrize("held", [0, 3, 4, 5, 8])
def test_a_silent_end_holds_the_last_sample_whatever_comes_before(held, segment):
    """It begins with a segment, behind the chunks there are, and has no more frames than hold the sample."""
    header = replace(HEADER, segment=segment, has_scale=False)
    unit = segment.frames if segment else 1
    before = Chunk.pack(header, 0, held, [[[0] * held] * 2, None], coding="packed") if held else None
    for samples in [*range(1, 3500, 37), 320, 321, 800, 801, 1120, 1121, 1600, 1601, 2080, 2081]:
        out = io.BytesIO()
        writer = Writer(out, header)
        if before:
            writer.write(before)
        long_enough = samples <= writer.samples
        writer.extend(samples)
        writer.finish(samples)
        assert verify(io.BytesIO(out.getvalue())).samples == samples
        chunks = list(Reader(io.BytesIO(out.getvalue())).chunks())
        if long_enough:
            assert len(chunks) == bool(before)
            continue
        end = chunks[-1]
        assert end.first_frame % unit == 0
        assert not any(map(end.present, range(2)))
        stride = segment.stride if segment else header.frame_samples
        in_time = (samples - 1) // stride * unit  # first frame of the segment with the last sample
        if in_time >= held:
            assert end.first_frame == in_time
            assert end.frames == 1 + (samples - 1) % stride // header.frame_samples
        else:  # that segment is cut short
            assert (end.first_frame, end.frames) == (in_time + unit, 1)


@pytest.mark.parametrize(
    ("segment", "multiple", "frame_samples", "frames"),
    [
        (None, 1, 320, 1500),
        (None, 1, 1 << 20, 1),  # 22 seconds a frame
        (None, 32, 320, 1504),
        (Segment(150, 47520), 1, 320, 1500),
        (Segment(449, 449 * 320), 1, 320, 3 * 449),
        (Segment(2250, 2250 * 320), 1, 320, 2250),  # 15 seconds
        (Segment(4500, 4500 * 320), 1, 320, 4500),  # 30 seconds
    ],
)
def test_a_chunk_has_about_ten_seconds_and_at_least_one_segment(segment, multiple, frame_samples, frames):
    spec = replace(HEADER.spec, segment=segment, frame_multiple=multiple, frame_samples=frame_samples)
    assert chunk_frames(spec) == frames


@pytest.mark.parametrize(
    ("made", "samples"),
    [
        (chunk(0, 4, 1), 1280),  # a segment of 4 x 320
        (chunk(0, 7, 2), 800 + 960),
        (chunk(0, 8, 2), 800 + 1280),
        (chunk(0, 8, 3), 1600 + 320),  # the last of 4, 3 and 1 frames
    ],
)
def test_a_file_has_the_samples_up_to_the_end_of_its_last_segment(made, samples):
    written(HEADER, [made], samples)
    with pytest.raises(ValueError, match=f"{samples + 1} samples, but the frames have {samples}"):
        written(HEADER, [made], samples + 1)


def test_part_of_a_sample_at_the_end_is_one():
    """A frame of 100 samples at 48 kHz is 91.875 at 44.1 kHz."""
    header = replace(HEADER, frame_samples=100, segment=None, has_scale=False, original_sample_rate=44100)
    one = Chunk.pack(header, 0, 1, [[[1], [2]], [[3]]])
    written(header, [one], 92)
    with pytest.raises(ValueError, match="the frames have 92"):
        written(header, [one], 93)


def test_the_second_stream_alone_may_have_an_overhang():
    scales = np.arange(3, dtype=np.float32)
    made = Chunk.pack(HEADER, 0, 8, [None, [np.arange(8)]], scales=[None, scales])
    assert made.overhang
    assert made.scales == ((), (0.0, 1.0, 2.0))
    assert Chunk.from_bytes(HEADER, made.to_bytes(HEADER)) == made


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize(("frames", "segments"), [(8, 2), (8, 3), (7, 2)])
def test_a_chunk_with_scales_is_found_behind_damage(frames, segments, absent):
    there = chunk(8, frames, segments, absent)
    damaged = HEADER.to_bytes() + b"damage" + frame(CHUNK, there.to_bytes(HEADER))
    _, found, _ = Recovery(io.BytesIO(damaged))
    assert found == there


@pytest.mark.parametrize("known", [False, True])
def test_a_last_chunk_that_is_missing_whole_is_reported_and_its_time_kept(known):
    """The end says a length that the chunks do not have, and no byte between them is wrong."""
    header = replace(HEADER, samples=3500 if known else None)
    chunks = [chunk(0, 4, 1), chunk(4, 6, 2), chunk(12, 5, 2)]
    data = written(header, chunks, 3500).getvalue()
    index = Reader(io.BytesIO(data)).index
    end = len(data) - data[-8]
    cut = data[: index[2].offset] + data[end:]
    *found, lost = Recovery(io.BytesIO(cut))
    assert found == chunks[:2]
    assert isinstance(lost, Lost)
    assert (lost.first_frame, lost.end_frame) == (10, None)
    assert (lost.start, lost.end) == (pytest.approx(2240 / 48000), pytest.approx(3500 / 48000))
    out = io.BytesIO()
    saved, message = save(Recovery(io.BytesIO(cut)), out)
    assert (saved, len(message)) == (2, 1)
    assert verify(io.BytesIO(out.getvalue())).samples == (3500 if known else 2240)


def test_an_end_that_no_frame_reaches_is_refused():
    with pytest.raises(FormatError, match="cannot keep"):
        silent_end(replace(HEADER, frame_samples=1, segment=None, has_scale=False), 1 << 41, 0)
