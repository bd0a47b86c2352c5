"""The parts of the vectors: headers, chunks, and whole files with any of their fields replaced."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nac.container import Chunk, Header, SampleFormat, Writer
from nac.container.codebooks import Coding
from nac.container.fields import text, varint
from nac.container.header import SIGNATURE
from nac.container.records import CHUNK, END, checksum, frame
from nac.spec import Codebook, Segment

Vector = tuple[bytes, dict[str, Any]]
"""A file, and what a reader must find in it."""

MONO = Header(
    model="example",
    fingerprint="0123456789abcdef",
    sample_rate=16000,
    frame_samples=320,
    codebooks=(Codebook(4),) * 3,
    network_channels=1,
    stereo_pair=False,
    stream_codebooks=(3,),
    original_sample_rate=48000,
    channels=1,
    sample_format=SampleFormat.S16,
    samples=9000,
)
PAIR = replace(MONO, stereo_pair=True, channels=2, stream_codebooks=(3, 1))
SNAC = replace(
    MONO,
    sample_rate=44100,
    original_sample_rate=44100,
    frame_samples=3072,
    codebooks=tuple(Codebook(12, codes) for codes in (1, 2, 4, 8)),
    stream_codebooks=(4,),
    samples=3 * 3072,
)
SEGMENTED = replace(
    MONO,
    sample_rate=48000,
    codebooks=(Codebook(10),) * 2,
    network_channels=2,
    channels=2,
    stream_codebooks=(2,),
    segment=Segment(4, 800),
    has_scale=True,
    samples=2 * 800 + 700,
)


@dataclass
class Part:
    """The description of one chunk, whose codes come from a fixed pseudorandom sequence by default."""

    first_frame: int
    frames: int
    absent: tuple[int, ...] = ()
    angle: int = 0
    segments: int = 0
    coding: Coding = "packed"
    period: int = 0
    noisy: int = 1
    again: tuple[tuple[int, ...], ...] = ()

    def codes(self, header: Header) -> list[list[list[int]]]:
        """Return codes [stream][codebook][n], none for an absent stream."""
        streams: list[list[list[int]]] = []
        for stream, count in enumerate(header.stream_codebooks):
            count *= stream not in self.absent
            streams.append(
                [
                    self._layer(self.frames * book.codes_per_frame, book.bits, (self.first_frame, stream, number))
                    for number, book in enumerate(header.codebooks[:count])
                ]
            )
        return streams

    def _layer(self, count: int, bits: int, seed: tuple[int, ...]) -> list[int]:
        """Return pseudorandom codes. With ``period``, all but every eleventh repeat, except in codebook ``noisy``.

        With ``again``, repeat its codes instead, a row for each codebook.
        """
        if self.again:
            row = self.again[seed[-1]]
            return [row[i % len(row)] for i in range(count)]
        codes = _sequence(count, bits, seed)
        if not self.period or seed[-1] == self.noisy:
            return codes
        return [codes[i if i % 11 == 7 else i % self.period] for i in range(count)]

    def scales(self, header: Header) -> list[list[float]]:
        """Return scales [stream][segment], exact in float32."""
        return [
            [(self.first_frame + stream + segment + 1) / 64 for segment in range(self.segments)]
            if header.has_scale and count and stream not in self.absent
            else []
            for stream, count in enumerate(header.stream_codebooks)
        ]


def _sequence(count: int, bits: int, seed: tuple[int, ...]) -> list[int]:
    """Return pseudorandom numbers that depend only on the arguments."""
    state, numbers = 1 + sum(part * 7919**place for place, part in enumerate(seed)), []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        numbers.append(state >> 64 - bits)
    return numbers


def build(header: Header, parts: list[Part], samples: int | None = None) -> Vector:
    """Return a file, and what a reader must find in it."""
    samples = header.samples if samples is None else samples
    assert samples is not None
    file, chunks = io.BytesIO(), []
    writer = Writer(file, header)
    for part in parts:
        codes, scales = part.codes(header), part.scales(header)
        arrays = [[np.array(layer) for layer in stream] or None for stream in codes]
        given = [np.float32(row) if row else None for row in scales] if header.has_scale else None
        chunk = Chunk.pack(
            header, part.first_frame, part.frames, arrays, angle=part.angle, scales=given, coding=part.coding
        )
        writer.write(chunk)
        chunks.append(
            {
                "first_frame": part.first_frame,
                "frames": part.frames,
                "angle": part.angle,
                "scales": scales,
                "codes": codes,
            }
        )
    writer.finish(samples)
    return file.getvalue(), {"error": None, "samples": samples, "header": asdict(header), "chunks": chunks}


def flip(data: bytes, position: int) -> bytes:
    """Return the bytes with one bit changed."""
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


HEADER_FIELDS = {
    "flags": b"\x11",
    "model": text("example"),
    "fingerprint": bytes.fromhex("0123456789abcdef"),
    "codec_rate": b"\x04",
    "frame_samples": varint(320),
    "codebooks": b"\3\4\1",
    "segment": b"",
    "layout": b"\x20",
    "original_rate": b"\x09",
    "channels": b"\1",
    "counts": b"\3",
    "samples": varint(9000),
    "start": b"",
    "gain": b"",
    "tags": b"",
}
"""The header MONO, field by field."""
CHUNK_FIELDS = {
    "first_frame": b"\0",
    "frames": b"\5",
    "form": b"\0",
    "mask": b"",
    "angle": b"",
    "tables": b"",
    "savings": b"",
    "scales": b"",
    "layers": b"",
}
"""A chunk for it, but for its codes."""


def raw_header(**fields: bytes) -> bytes:
    """Return the header MONO with other bytes in some fields, and a correct checksum."""
    body = b"".join((HEADER_FIELDS | fields).values())
    head = SIGNATURE + b"\1" + varint(len(body))
    return head + body + checksum(head, body)


def raw_chunk(**fields: bytes) -> bytes:
    """Return a chunk's record: five frames of zeros, with other bytes in some fields."""
    return frame(CHUNK, b"".join((CHUNK_FIELDS | {"layers": bytes(8)} | fields).values()))


def raw_end(samples: bytes = b"\0", index: bytes = b"", distance: int = 0) -> bytes:
    """Return an end's record. ``distance``: added to the correct distance."""
    body = samples + index
    length = len(frame(END, body + bytes(4)))
    return frame(END, body + struct.pack("<I", length + distance))


def raw_file(header: bytes, chunks: Sequence[bytes], end: bytes | None = None) -> bytes:
    """Return a file of these parts. By default, the end is the correct one for chunks of five frames each."""
    index = b"".join(varint(len(chunk)) + b"\5" for chunk in chunks[:-1])
    return header + b"".join(chunks) + (raw_end(index=index) if end is None else end)


def zeros(header: Header, *chunks: tuple[int, int], samples: int | None = None) -> dict[str, Any]:
    """Return what a reader must find if all codes are zeros. ``chunks``: first frame and frames of each."""
    return {
        "error": None,
        "samples": header.samples if samples is None else samples,
        "header": asdict(header),
        "chunks": [
            {
                "first_frame": first,
                "frames": frames,
                "angle": 0,
                "scales": [[] for _ in header.stream_codebooks],
                "codes": [
                    [[0] * (frames * book.codes_per_frame) for book in header.codebooks[:count]]
                    for count in header.stream_codebooks
                ],
            }
            for first, frames in chunks
        ],
    }
