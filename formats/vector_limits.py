"""Vectors at the limits, just allowed and just refused, for each rule of the specification; and rare cases."""

from __future__ import annotations

import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file
from vector_parts import (
    MONO,
    PAIR,
    SEGMENTED,
    Part,
    Vector,
    build,
    flip,
    raw_chunk,
    raw_end,
    raw_file,
    raw_header,
    zeros,
)

from nac.container import Header
from nac.container.fields import text, varint
from nac.container.records import checksum, frame
from nac.spec import Codebook, Segment

TABLES = Path(__file__).parent / "tables"
NAC_24KHZ = "8e801a4aba759eb6"
"""Weights for which there are tables, of 16 codebooks of 10 bits."""
TWO = raw_chunk(), raw_chunk(first_frame=b"\5")
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
LOUD = (
    (295, 295, 613, 48),
    (232, 368, 703, 368),
    (214, 214, 396, 214),
    (82, 82, 641, 82),
    (151, 426, 698, 426),
    (933, 955, 570, 955),
    (733, 822, 735, 822),
)
"""Codes with which a value of *h* (section 14) reaches its maximum, in the last of these codebooks."""
NAN, INFINITE = struct.pack("<I", 0x7FC00000), struct.pack("<f", float("inf"))


def limits() -> dict[str, Vector]:
    """Return every vector at a limit, by name."""
    files = good_headers() | good_chunks() | good_ends() | ranges() | timelines()
    for name, data in bad_headers().items():
        files[name] = data, {"error": "header"}
    return files | bad_chunks() | bad_ends() | bad_ranges()


def refused(header: Header, data: bytes, *readable: tuple[int, int]) -> Vector:
    """Return a file in which something after the header is refused, after some chunks of zeros."""
    return data, {"error": "body", "header": asdict(header), "chunks": zeros(header, *readable)["chunks"]}


# Headers


def good_headers() -> dict[str, Vector]:
    """Return headers at their limits, of files without samples."""

    def alone(change: dict[str, Any], **fields: bytes) -> Vector:
        header = replace(MONO, **{"samples": 0, **change})
        return raw_file(raw_header(**{"samples": b"\0", **fields}), []), zeros(header)

    one, whole = varint(1), varint(1 << 20)
    longest = Segment(1 << 20, 320 << 20)
    gains = {
        name: struct.unpack("<f", bits)[0]
        for name, bits in (("least", b"\xef\xe3\x6c\0"), ("most", b"\x99\x76\x96\x7e"))
    }
    return {
        "model-longest": alone({"model": "m" * 127}, model=text("m" * 127)),
        "model-no-control": alone({"model": " ~\xa0é"}, model=text(" ~\xa0é")),
        "rate-in-full": alone({}, codec_rate=b"\0" + varint(16000)),
        "rates-least": alone(
            {"sample_rate": 1000, "original_sample_rate": 1000},
            codec_rate=b"\0" + varint(1000),
            original_rate=b"\0" + varint(1000),
        ),
        "rates-most": alone(
            {"sample_rate": 1 << 24, "original_sample_rate": 1 << 24},
            codec_rate=b"\0" + varint(1 << 24),
            original_rate=b"\0" + varint(1 << 24),
        ),
        **{
            f"rate-{rate}": alone(
                {"sample_rate": rate, "original_sample_rate": RATES[-number]},
                codec_rate=bytes([number]),
                original_rate=bytes([len(RATES) + 1 - number]),
            )
            for number, rate in enumerate(RATES, 1)
        },
        "frame-shortest": alone({"frame_samples": 1}, frame_samples=one),
        "frame-longest": alone({"frame_samples": 1 << 20}, frame_samples=whole),
        "codebooks-most": alone(
            {"codebooks": (Codebook(16),) * 255, "stream_codebooks": (255,)},
            codebooks=varint(255) + b"\x10\1",
            counts=varint(255),
        ),
        "codebooks-each": alone({}, flags=b"\x01", codebooks=b"\3" + b"\4\1" * 3),
        "codes-most": alone({"codebooks": (Codebook(1, 1 << 20),) * 3}, codebooks=b"\3\1" + whole),
        "segment-longest": alone({"segment": longest}, flags=b"\x15", segment=whole + varint(320 << 20)),
        "stride-shortest": alone({"segment": Segment(4, 1)}, flags=b"\x15", segment=b"\4\1"),
        "channels-most": alone(
            {"channels": 255, "stream_codebooks": (3, 0, 1) * 85}, channels=varint(255), counts=b"\3\0\1" * 85
        ),
        "streams-without-codebooks": alone({"stream_codebooks": (0,)}, counts=b"\0"),
        "start-most": alone({"start": (1 << 48) - 1}, flags=b"\x31", start=varint((1 << 48) - 1)),
        "gain-least": alone({"gain": gains["least"]}, flags=b"\x51", gain=b"\xef\xe3\x6c\0"),
        "gain-most": alone({"gain": gains["most"]}, flags=b"\x51", gain=b"\x99\x76\x96\x7e"),
        "flags-in-vain": alone({}, flags=b"\x53", gain=struct.pack("<f", 1), tags=b"\0"),
        "tags-any": alone(
            {"tags": (("", "\0"), ("TITLE", "x" * 200))}, flags=b"\x13", tags=b"\2\0\1\0\5TITLE" + text("x" * 200)
        ),
    }


def bad_headers() -> dict[str, bytes]:
    """Return headers just beyond their limits."""

    def alone(**fields: bytes) -> bytes:
        return raw_file(raw_header(**{"samples": b"\0", **fields}), [])

    def tagged(tags: bytes) -> bytes:
        return alone(flags=b"\x13", tags=tags)

    too_many, none = varint((1 << 20) + 1), b"\0"
    body = raw_header(samples=b"\0")[9:-4]
    return {
        "signature-of-others": checked(b"\x89NAC\r\n\x1a\r\1" + body) + raw_end(),
        "version-0": checked(b"\x89NAC\r\n\x1a\n\0" + body) + raw_end(),
        "version-2-whole": checked(b"\x89NAC\r\n\x1a\n\2" + body) + raw_end(),
        "model-empty": alone(model=none),
        "model-too-long": alone(model=text("m" * 128)),
        "model-control": alone(model=text("a\x1f")),
        "model-delete": alone(model=text("a\x7f")),
        "model-control-late": alone(model=text("a\x9f")),
        "model-not-utf-8": alone(model=b"\2\xc3\x28"),
        "tag-not-utf-8": tagged(b"\1\1a\1\xff"),
        "tag-surrogate": tagged(b"\1\3\xed\xa0\x80\0"),
        "tag-needless-bytes": tagged(b"\1\2\xc0\x80\0"),
        "tags-too-few": tagged(b"\2\1a\1b"),
        "codec-rate-too-low": alone(codec_rate=b"\0" + varint(999)),
        "codec-rate-too-high": alone(codec_rate=b"\0" + varint((1 << 24) + 1)),
        "original-rate-too-low": alone(original_rate=b"\0" + varint(999)),
        "original-rate-too-high": alone(original_rate=b"\0" + varint((1 << 24) + 1)),
        "frame-of-nothing": alone(frame_samples=none),
        "frame-too-long": alone(frame_samples=too_many),
        "codebooks-none": alone(codebooks=b"\0\4\1", counts=none),
        "codebooks-too-many": alone(codebooks=varint(256) + b"\4\1"),
        "bits-none": alone(codebooks=b"\3\0\1"),
        "bits-too-many": alone(codebooks=b"\3\x11\1"),
        "bits-too-many-in-the-last": alone(flags=b"\x01", codebooks=b"\3\4\1\4\1\x11\1"),
        "codes-none": alone(codebooks=b"\3\4\0"),
        "codes-too-many": alone(codebooks=b"\3\4" + too_many),
        "segment-of-nothing": alone(flags=b"\x15", segment=b"\0\1"),
        "segment-too-long": alone(flags=b"\x15", segment=too_many + b"\1"),
        "stride-none": alone(flags=b"\x15", segment=b"\4\0"),
        "stride-too-long": alone(flags=b"\x15", segment=b"\4" + varint(4 * 320 + 1)),
        "layout-bit-3": alone(layout=b"\x28"),
        "sample-format-8": alone(layout=b"\x80"),
        "pair-of-one-channel": alone(layout=b"\x21", counts=b"\3\3"),
        "pair-of-three-channels": alone(layout=b"\x21", channels=b"\3", counts=b"\3\3"),
        "pair-of-a-stereo-network": alone(layout=b"\x23", channels=b"\2", counts=b"\3\3"),
        "channels-none": alone(channels=none, counts=b""),
        "channels-too-many": alone(channels=varint(256), counts=b"\1" * 256),
        "count-too-high": alone(counts=b"\4"),
        "count-too-high-in-the-second": alone(channels=b"\2", counts=b"\3\4"),
        "samples-too-many": alone(samples=varint(1 << 48)),
        "number-above-64-bits": alone(samples=b"\xa8\xc6" + b"\x80" * 7 + b"\2"),
        "number-of-eleven-bytes": alone(samples=b"\x80" * 10 + b"\1"),
        "number-in-vain": alone(frame_samples=b"\xc0\x82\0"),
        "start-of-nothing": alone(flags=b"\x31", start=none),
        "start-too-late": alone(flags=b"\x31", start=varint(1 << 48)),
        "gain-none": alone(flags=b"\x51", gain=bytes(4)),
        "gain-negative": alone(flags=b"\x51", gain=struct.pack("<f", -1)),
        "gain-too-small": alone(flags=b"\x51", gain=b"\xee\xe3\x6c\0"),
        "gain-too-large": alone(flags=b"\x51", gain=b"\x9a\x76\x96\x7e"),
        "gain-infinite": alone(flags=b"\x51", gain=INFINITE),
        "gain-not-a-number": alone(flags=b"\x51", gain=NAN),
    }


def checked(data: bytes) -> bytes:
    """Return the bytes with their checksum."""
    return data + checksum(data)


# Chunks

SCALED = replace(MONO, has_scale=True)
STREAMS = replace(MONO, channels=3, stream_codebooks=(3, 0, 1))
STREAMS_RAW = {"channels": b"\3", "counts": b"\3\0\1"}
SEGMENTS = replace(MONO, segment=Segment(4, 800), samples=5000)
SEGMENTS_RAW = {"flags": b"\x15", "segment": b"\4" + varint(800), "samples": varint(5000)}
UNEVEN = replace(MONO, codebooks=(Codebook(4, 1), Codebook(4, 4)), stream_codebooks=(1,))
UNEVEN_RAW = {"flags": b"\1", "codebooks": b"\2\4\1\4\4", "counts": b"\1"}


def silent(first: int, frames: int) -> bytes:
    """Return a chunk without any stream."""
    return raw_chunk(first_frame=varint(first), frames=varint(frames), form=b"\x10", mask=b"\0", layers=b"")


def all_silent(header: Header, data: bytes, first: int, frames: int) -> Vector:
    """Return a file with only a silent chunk."""
    found = zeros(header, (first, 0))
    found["chunks"][0] |= {"frames": frames, "codes": [[] for _ in header.stream_codebooks]}
    return data, found


def good_chunks() -> dict[str, Vector]:
    """Return chunks at their limits."""
    long = replace(MONO, samples=(1 << 48) - 1)
    last = -(-long.samples // 960) - 1
    scales = struct.pack("<f", -0.5)
    scaled = zeros(SCALED, (0, 5), (5, 5))
    for chunk in scaled["chunks"]:
        chunk["scales"] = [[-0.5]]
    streams = zeros(STREAMS, (0, 10))
    streams["chunks"][0]["codes"][2] = []
    return {
        "frames-most": all_silent(MONO, raw_file(raw_header(), [silent(0, 1 << 20)]), 0, 1 << 20),
        "frames-most-of-the-finest": all_silent(
            UNEVEN, raw_file(raw_header(**UNEVEN_RAW), [silent(0, 1 << 18)]), 0, 1 << 18
        ),
        "frame-last": all_silent(MONO, raw_file(raw_header(), [silent((1 << 40) - 2, 1)]), (1 << 40) - 2, 1),
        "samples-most": all_silent(
            long, raw_file(raw_header(samples=varint(long.samples)), [silent(last, 1)]), last, 1
        ),
        "mask-of-all": (
            raw_file(raw_header(), [raw_chunk(form=b"\x10", mask=b"\1"), raw_chunk(first_frame=b"\5")]),
            zeros(MONO, (0, 5), (5, 5)),
        ),
        "mask-of-one": (
            raw_file(
                raw_header(**STREAMS_RAW),
                [raw_chunk(frames=b"\x0a", form=b"\x10", mask=b"\1", layers=bytes(15))],
            ),
            streams,
        ),
        "scale-without-segments": (
            raw_file(
                raw_header(flags=b"\x19"), [raw_chunk(scales=scales), raw_chunk(first_frame=b"\5", scales=scales)]
            ),
            scaled,
        ),
    }


def bad_chunks() -> dict[str, Vector]:
    """Return chunks just beyond their limits: the first of two, or the second if the case needs a first one."""

    def first(header: Header = MONO, raw: dict[str, bytes] | None = None, **fields: bytes) -> Vector:
        return refused(header, raw_file(raw_header(**raw or {}), [raw_chunk(**fields), TWO[1]]))

    def second(header: Header = MONO, raw: dict[str, bytes] | None = None, **fields: bytes) -> Vector:
        return refused(header, raw_file(raw_header(**raw or {}), [TWO[0], raw_chunk(**fields)]), (0, 5))

    def rest(header: Header, first: int, frames: int, raw: dict[str, bytes] | None = None) -> Vector:
        return refused(header, raw_file(raw_header(**raw or {}), [silent(first, frames)]))

    one = replace(SEGMENTS, segment=Segment(1, 320)), SEGMENTS_RAW | {"segment": b"\1" + varint(320)}
    return {
        "frames-too-many": rest(MONO, 0, (1 << 20) + 1),
        "frames-too-many-of-the-finest": rest(UNEVEN, 0, (1 << 18) + 1, UNEVEN_RAW),
        "frame-too-late": rest(MONO, (1 << 40) - 1, 1),
        "no-frames-of-no-stream": rest(MONO, 0, 0),
        "number-in-vain-in-a-chunk": first(frames=b"\x85\0"),
        "form-bit-7": first(form=b"\x80"),
        "coding-4": first(form=b"\4"),
        "coding-8": first(form=b"\x08"),
        "coding-15": first(form=b"\x0f"),
        **{
            f"coding-{coding}-like-1": first(
                form=bytes([coding]), tables=bytes(4), savings=b"\1\1", layers=bytes(6)
            )
            for coding in (2, 3, 4, 5, 8, 9)
        },
        "mask-beyond-the-streams": first(form=b"\x10", mask=b"\3"),
        "mask-of-count-0": first(STREAMS, STREAMS_RAW, form=b"\x10", mask=b"\3"),
        "overhang-without-segments": first(form=b"\x20"),
        "overhang-of-segments-of-one": first(*one, form=b"\x20"),
        "overhang-of-a-part": first(SEGMENTS, SEGMENTS_RAW, form=b"\x20"),
        "chunk-within-a-segment": first(SEGMENTS, SEGMENTS_RAW, first_frame=b"\2"),
        "chunk-overlaps": second(first_frame=b"\4"),
        "scale-not-a-number": first(SCALED, {"flags": b"\x19"}, scales=NAN),
        "scale-infinite": first(SCALED, {"flags": b"\x19"}, scales=INFINITE),
        "record-unknown-damaged": refused(
            MONO, raw_file(raw_header(), [flip(frame(0x58, b"from the future"), 9), *TWO])
        ),
    }


# Ends


def good_ends() -> dict[str, Vector]:
    """Return valid ends, including those with the largest possible number of samples."""
    index = varint(len(TWO[0])) + b"\5"
    most, odd = replace(MONO, samples=9600), replace(MONO, sample_rate=16001, original_sample_rate=44056)
    rates = {"codec_rate": b"\0" + varint(16001), "original_rate": b"\0" + varint(44056)}
    # The last of 3200 samples at 16001 Hz begins at 3199; 8810 samples at 44056 Hz before 3200 of them.
    found = zeros(MONO, (0, 5), (5, 5))
    return {
        "samples-said-twice": (raw_file(raw_header(), TWO, raw_end(varint(9001), index)), found),
        "samples-all": (raw_file(raw_header(samples=varint(9600)), TWO), zeros(most, (0, 5), (5, 5))),
        "samples-all-at-odd-rates": (
            raw_file(raw_header(**rates, samples=varint(8811)), TWO),
            zeros(replace(odd, samples=8811), (0, 5), (5, 5)),
        ),
        "samples-all-after-a-start": (
            raw_file(raw_header(flags=b"\x31", samples=varint(8600), start=varint(1000)), TWO),
            zeros(replace(MONO, samples=8600, start=1000), (0, 5), (5, 5)),
        ),
        "samples-all-after-a-start-unknown": (
            raw_file(
                raw_header(flags=b"\x30", samples=b"", start=varint(1000)), TWO, raw_end(varint(8601), index)
            ),
            zeros(replace(MONO, samples=None, start=1000), (0, 5), (5, 5), samples=8600),
        ),
        "samples-all-of-segments": build(
            replace(SEGMENTED, samples=800 + 3 * 320), [Part(0, 4, segments=1), Part(4, 3, segments=1)]
        ),
        "samples-all-of-an-overhang": build(replace(SEGMENTED, samples=2 * 800 + 320), [Part(0, 8, segments=3)]),
        "record-unknown-empty": (raw_file(raw_header(), [*TWO, frame(0x58, b"")], raw_end(index=index)), found),
    }


def bad_ends() -> dict[str, Vector]:
    """Return ends that contradict the header or the chunks, after two valid chunks."""
    step = varint(len(TWO[0]))
    both = ((0, 5), (5, 5))

    def end(header: Header = MONO, raw: dict[str, bytes] | None = None, **fields: Any) -> Vector:
        fields = {"index": step + b"\5", **fields}
        return refused(header, raw_file(raw_header(**raw or {}), TWO, raw_end(**fields)), *both)

    def samples(count: int, header: Header = MONO, **raw: bytes) -> Vector:
        return end(replace(header, samples=count), raw | {"samples": varint(count)})

    odd = replace(MONO, sample_rate=16001, original_sample_rate=44056)
    unknown = replace(MONO, samples=None), {"flags": b"\x10", "samples": b""}
    segments, overhang = (
        build(replace(SEGMENTED, samples=1), parts)
        for parts in ([Part(0, 4, segments=1), Part(4, 3, segments=1)], [Part(0, 8, segments=3)])
    )
    return {
        "end-contradicts": end(samples=varint(9002)),
        "end-says-none": end(samples=b"\1"),
        "samples-unknown": end(*unknown),
        "samples-beyond": samples(9601),
        "samples-beyond-unknown": end(*unknown, samples=varint(9602)),
        "samples-beyond-at-odd-rates": samples(
            8812, odd, codec_rate=b"\0" + varint(16001), original_rate=b"\0" + varint(44056)
        ),
        "samples-beyond-after-a-start": end(
            replace(MONO, samples=8601, start=1000),
            {"flags": b"\x31", "samples": varint(8601), "start": varint(1000)},
        ),
        "samples-beyond-segments": _lengthened(*segments, 800 + 3 * 320 + 1),
        "samples-beyond-an-overhang": _lengthened(*overhang, 2 * 800 + 320 + 1),
        "samples-of-nothing": refused(
            replace(MONO, samples=1),
            raw_file(raw_header(samples=b"\1"), []),
        ),
        "index-of-nothing": refused(
            replace(MONO, samples=0), raw_file(raw_header(samples=b"\0"), [], raw_end(index=b"\1\1"))
        ),
        "index-too-short": end(index=b""),
        "index-too-long": end(index=step + b"\5" + step + b"\5"),
        "index-half-a-pair": end(index=step),
        "index-of-other-bytes": end(index=varint(len(TWO[0]) + 1) + b"\5"),
        "index-of-other-frames": end(index=step + b"\6"),
        "end-too-long": end(index=step + b"\5\x11\0\0\0"),
        "distance-too-short": end(distance=-1),
        "distance-too-long": end(distance=1),
    }


def _lengthened(data: bytes, found: dict[str, Any], samples: int) -> Vector:
    """Return a file that is valid for one sample, with a header that declares more."""
    header = replace(SEGMENTED, samples=samples)
    data = header.to_bytes() + data[len(replace(header, samples=1).to_bytes()) :]
    return data, {"error": "body", "header": asdict(header), "chunks": found["chunks"]}


# Range coding


def ranges() -> dict[str, Vector]:
    """Return range coded layers with and without tables, to which rarely used rules apply."""
    tables = replace(MONO, fingerprint=NAC_24KHZ, codebooks=(Codebook(10),) * 18, stream_codebooks=(18,))
    runs = replace(tables, codebooks=(Codebook(4), *(Codebook(10),) * 3, Codebook(9)), stream_codebooks=(5,))
    other = replace(tables, codebooks=(Codebook(8),) * 3, stream_codebooks=(3,))
    narrow = replace(MONO, codebooks=(Codebook(2),), stream_codebooks=(1,))
    wide = replace(MONO, codebooks=(Codebook(12),), stream_codebooks=(1,))
    dense = replace(MONO, frame_samples=500, codebooks=(Codebook(4, 256),), stream_codebooks=(1,), samples=1500)
    most = replace(MONO, codebooks=(Codebook(2),) * 140, stream_codebooks=(140,))
    again = replace(MONO, codebooks=tuple(Codebook(bits) for bits in (4, 5, 4, 4)), stream_codebooks=(4,))

    def coded(header: Header, *frames: int, period: int = 3, noisy: int = 1) -> Vector:
        parts, first = [], 0
        for count in frames:
            parts.append(Part(first, count, period=period, noisy=noisy, coding="range"))
            first += count
        return build(replace(header, samples=1), parts)

    return {
        "range-tables-many-codebooks": coded(tables, 68, period=2),
        "range-tables-blocks": coded(replace(tables, stream_codebooks=(9,)), 64, 65, 1),
        "range-tables-packed-first": coded(replace(tables, stream_codebooks=(4,)), 90, noisy=0, period=1),
        "range-tables-packed-before": coded(replace(tables, stream_codebooks=(10,)), 70, noisy=7, period=1),
        "range-tables-runs": coded(runs, 70, noisy=2),
        "range-tables-other-bits": coded(other, 130),
        "range-runs-alike": coded(again, 80, noisy=9),
        "range-most-savings": coded(most, 60, period=1, noisy=200),
        "range-packed-first": coded(MONO, 120, noisy=0),
        "range-longest": build(replace(narrow, samples=1), [Part(0, 2048, again=((1,),), coding="range")]),
        "range-shortest": shortest(replace(narrow, samples=1)),
        "range-tables-loud": build(
            replace(tables, stream_codebooks=(7,), samples=1), [Part(0, 64, again=LOUD, coding="range")]
        ),
        "range-widest": coded(wide, 60, noisy=9),
        "range-densest": coded(dense, 3, period=1, noisy=9),
        "range-beyond": beyond(replace(MONO, codebooks=(Codebook(4),) * 60, stream_codebooks=(60,)), b""),
        "range-beyond-tables": beyond(
            replace(tables, stream_codebooks=(17,), codebooks=(Codebook(10),) * 17), b"\x8f\xaf\x63\x18"
        ),
    }


def shortest(header: Header) -> Vector:
    """Return a layer with only one byte for every 32 codes, all of them zero."""
    chunk = raw_chunk(
        frames=varint(95), form=b"\1", tables=bytes(4), savings=b"\1" + varint(95 * 2 // 8 - 2), layers=bytes(2)
    )
    return raw_file(header.to_bytes(), [chunk]), zeros(header, (0, 95))


def beyond(header: Header, name: bytes) -> Vector:
    """Return layers with all bits set, which no writer produces: every symbol is the largest possible one."""
    frames, count = 40, len(header.codebooks)
    size = header.codebooks[0].bits * frames // 8 - 1
    codes = [(1 << header.codebooks[0].bits) - 1] * count
    if name:
        order = load_file(TABLES / f"{name.hex()}.safetensors")["order"]
        codes[: len(order)] = [int(row[-1]) for row in order]
    chunk = raw_chunk(
        frames=varint(frames),
        form=b"\1",
        tables=name or bytes(4),
        savings=varint(count) + b"\1" * count,
        layers=b"\xff" * size * count,
    )
    found = zeros(header, (0, frames))
    found["chunks"][0]["codes"] = [[[code] * frames for code in codes]]
    return raw_file(header.to_bytes(), [chunk]), found


def bad_ranges() -> dict[str, Vector]:
    """Return range coded layers just beyond their limits."""

    def coded(header: Header, frames: int, savings: bytes, layers: bytes) -> Vector:
        header = replace(header, samples=1)
        chunk = raw_chunk(frames=varint(frames), form=b"\1", tables=bytes(4), savings=savings, layers=layers)
        return refused(header, raw_file(header.to_bytes(), [chunk]))

    narrow = replace(MONO, codebooks=(Codebook(2),), stream_codebooks=(1,))
    thirteen = replace(MONO, codebooks=(Codebook(13),), stream_codebooks=(1,))
    dense = replace(MONO, frame_samples=500, codebooks=(Codebook(4, 257),), stream_codebooks=(1,))
    finer = replace(dense, codebooks=(Codebook(4, 256), Codebook(4)), stream_codebooks=(2,))
    return {
        "range-too-long": coded(narrow, 2049, b"\1" + varint(448), bytes(64)),
        "range-shorter-than-shortest": coded(narrow, 95, b"\1" + varint(22), bytes(1)),
        "range-too-wide": coded(thirteen, 60, b"\1" + varint(90), bytes(7)),
        "range-too-dense": coded(dense, 1, b"\1" + varint(100), bytes(28)),
        "range-too-dense-in-the-last": coded(finer, 8, b"\2\0\1", bytes(8 * 128 + 3)),
    }


# Time


def timelines() -> dict[str, Vector]:
    """Return files with their timelines: starts of frames, missing ranges, and angles."""

    def timed(vector: Vector, **timeline: Any) -> Vector:
        data, found = vector
        return data, found | {"timeline": timeline}

    late = replace(MONO, start=1920, samples=100)
    rotated = replace(PAIR, sample_rate=11025, original_sample_rate=11025, frame_samples=100, samples=1200)
    turns = [(0, 3, 250), (3, 1, 6), (4, 3, 134), (8, 2, 20), (10, 2, 244)]
    return {
        "timeline": timed(
            build(replace(MONO, samples=1), [Part(2, 3), Part(5, 1), Part(9, 2)]),
            begins=[[640, 960, 1280], [1600], [2880, 3200]],
            end=3520,
            missing=[[0, 640], [1920, 2880]],
        ),
        "timeline-start": timed(build(late, [Part(2, 3)]), begins=[[640, 960, 1280]], end=1600, missing=[]),
        "timeline-start-missing": timed(
            build(replace(late, start=1919), [Part(2, 3)]),
            begins=[[640, 960, 1280]],
            end=1600,
            missing=[[1919 / 3, 640]],
        ),
        "timeline-segments": timed(
            build(
                replace(SEGMENTED, samples=1),
                [Part(0, 4, segments=1), Part(4, 6, segments=2), Part(12, 4, segments=1), Part(20, 3, segments=1)],
            ),
            begins=[
                [0, 320, 640, 960],
                [800, 1120, 1440, 1760, 1600, 1920],
                [2400, 2720, 3040, 3360],
                [4000, 4320, 4640],
            ],
            end=4960,
            missing=[[2240, 2400], [3680, 4000]],
        ),
        "timeline-overhang": timed(
            build(replace(SEGMENTED, samples=1), [Part(0, 8, segments=3), Part(16, 8, segments=2)]),
            begins=[[0, 320, 640, 960, 800, 1120, 1440, 1600], [3200, 3520, 3840, 4160, 4000, 4320, 4640, 4960]],
            end=5280,
            missing=[[1920, 3200]],
        ),
        "timeline-angles": timed(
            build(rotated, [Part(first, frames, angle=angle) for first, frames, angle in turns]),
            begins=[[0, 100, 200], [300], [400, 500, 600], [800, 900], [1000, 1100]],
            end=1200,
            missing=[[700, 800]],
            # 220 samples from one angle to the next, the shorter way round; the second chunk is too short.
            angles=[
                [0, 250],
                [299, 250],
                [300, 250 + 12 / 220],
                [399, 250 + 12 * 100 / 220 - 256],
                [400, 6 - 128 / 220],
                [510, 6 - 128 * 111 / 220],
                [619, 134],
                [620, 134],
                [699, 134],
                [800, 20],
                [999, 20],
                [1000, 20 - 32 / 220],
                [1199, 20 - 32 * 200 / 220],
            ],
        ),
    }
