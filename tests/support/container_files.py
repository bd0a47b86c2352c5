"""What the tests of the container read and write: headers, chunks and files of every shape."""

import io
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from nac.container import Chunk, Header, SampleFormat, Writer
from nac.spec import Codebook, Segment

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
rates = st.one_of(st.sampled_from([8000, 44100, 48000, 192000]), st.integers(1000, 1 << 24))


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
    several = header.segment is not None and header.segment.frames > 1
    if several and header.has_scale and any(header.stream_codebooks) and draw(st.booleans()):
        frames = segments * header.segment.frames
        segments += 1
    # Of few codes some are range coded, of all codes none.
    few = draw(st.sampled_from([1, 2, 1 << 16]))
    codes = [
        [rng.integers(0, min(few, 1 << bits), frames * count) for bits, count in header.codebooks[:books]]
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
            coding="packed",
        )
        for number in range(chunks)
    ]
    return written(header, made, chunks * frames * 960).getvalue(), made
