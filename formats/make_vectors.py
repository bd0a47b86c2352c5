"""Write formats/vectors: small .nac files, each with a .json file of what a reader must find in it.

    python formats/make_vectors.py [FOLDER]

Every run writes the same bytes. The expected values are the input of the files, not a reader's output.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from vector_limits import limits
from vector_parts import MONO, PAIR, SEGMENTED, SNAC, Part, Vector, build, flip

from nac.container.fields import varint
from nac.container.records import CHUNK, checksum, frame
from nac.spec import Codebook

VECTORS = Path(__file__).parent / "vectors"


def good_files() -> dict[str, Vector]:
    """Return valid files, with what a reader must find in them."""
    two = [Part(0, 5), Part(5, 5)]
    unknown = replace(MONO, samples=None)
    widths = replace(MONO, codebooks=tuple(Codebook(bits) for bits in range(1, 17)), stream_codebooks=(16,))
    six = replace(MONO, channels=6, stream_codebooks=(3, 3, 3, 1, 2, 2))
    odd = replace(MONO, network_channels=2, channels=3, stream_codebooks=(3, 2))
    return {
        "mono": build(MONO, two),
        "pair": build(PAIR, [Part(0, 5, angle=32), Part(5, 5, angle=250)]),
        "two-channel-network": build(replace(MONO, network_channels=2, channels=2), two),
        "six-channels": build(six, two),
        "odd-channel": build(odd, two),
        "ten-streams": build(replace(MONO, channels=10, stream_codebooks=(1,) * 10), [Part(0, 10, absent=(0, 8))]),
        "widths": build(replace(widths, samples=7 * 960), [Part(0, 7)]),
        "snac": build(SNAC, [Part(0, 2), Part(2, 1)]),
        "snac-pair": build(
            replace(SNAC, stereo_pair=True, channels=2, stream_codebooks=(4, 2)), [Part(0, 3, angle=96)]
        ),
        "segments": build(SEGMENTED, [Part(0, 8, segments=2), Part(8, 3, segments=1)]),
        "overhang": build(
            replace(SEGMENTED, samples=2 * 800 + 100), [Part(0, 4, segments=1), Part(4, 4, segments=2)]
        ),
        "segments-absent": build(
            replace(SEGMENTED, channels=4, stream_codebooks=(2, 1), samples=800),
            [Part(0, 3, absent=(1,), segments=1)],
        ),
        "segments-pairs": build(
            replace(SEGMENTED, channels=4, stream_codebooks=(2, 1), samples=1600),
            [Part(0, 7, segments=2), Part(8, 3, segments=1)],
        ),
        "silent-stream": build(replace(PAIR, stream_codebooks=(3, 0)), [Part(0, 10, angle=64)]),
        "absent-streams": build(PAIR, [Part(0, 4, absent=(1,)), Part(4, 4, absent=(0, 1)), Part(8, 2)]),
        "unknown-length": build(unknown, two, samples=9599),
        "tags": build(
            replace(MONO, tags=(("title", "Größe"), ("artist", "a"), ("artist", "b"), ("comment", ""))), two
        ),
        "start-gain": build(replace(MONO, start=1000, gain=0.75, samples=4700), [Part(1, 5)]),
        "odd-rates": build(replace(MONO, sample_rate=16001, original_sample_rate=44056, samples=5000), two),
        "empty": build(replace(MONO, samples=0), []),
        "empty-unknown": build(unknown, [], samples=0),
        "lost-frames": build(MONO, [Part(0, 3), Part(7, 3)]),
        **range_coded(),
    }


def range_coded() -> dict[str, Vector]:
    """Return files with range coded layers, most with a packed layer between them."""
    long = [Part(0, 100, period=9, coding="range"), Part(100, 60, period=1, coding="range")]
    widths = replace(MONO, codebooks=tuple(Codebook(bits) for bits in range(1, 17)), stream_codebooks=(16,))
    six = replace(MONO, channels=6, stream_codebooks=(3, 3, 3, 1, 2, 2))
    lyra = replace(MONO, fingerprint="e86727a4bc29fbd2", codebooks=(Codebook(4),) * 46, stream_codebooks=(5,))
    return {
        "range": build(MONO, long),
        "range-pair": build(PAIR, [replace(part, angle=32) for part in long]),
        "range-absent": build(
            six, [Part(0, 90, absent=(1,), period=4, coding="auto"), Part(90, 5, coding="auto")]
        ),
        "range-snac": build(SNAC, [Part(0, 40, period=3, coding="auto")]),
        "range-widths": build(widths, [Part(0, 80, period=5, coding="range")]),
        "range-segments": build(SEGMENTED, [Part(0, 60, segments=15, period=2, coding="auto")]),
        "range-random": build(MONO, [Part(0, 50, coding="range")]),
        "range-tables": build(
            lyra, [Part(0, 150, period=2, coding="range"), Part(150, 40, period=1, coding="range")]
        ),
    }


def unknown_records() -> Vector:
    """Return a file with records of an unknown type, to be ignored, before the first and after the last chunk."""
    file, found = build(MONO, [Part(0, 10)])
    header, end = len(MONO.to_bytes()), len(file) - file[-8]
    extra = frame(0x58, b"from the future")
    return file[:header] + extra + file[header:end] + extra + file[end:], found


def bad_headers() -> dict[str, bytes]:
    """Return files of which nothing can be read, by name."""
    file = build(MONO, [Part(0, 5), Part(5, 5)])[0]
    header = len(MONO.to_bytes())

    def changed(position: int, new: bytes, old: int = 1) -> bytes:
        """Return the file with other bytes in the header's body, and a correct checksum."""
        body = file[10 : header - 4]
        body = body[:position] + new + body[position + old :]
        head = file[:9] + varint(len(body))
        return head + body + checksum(head, body) + file[header:]

    return {
        "empty-file": b"",
        "text": b"This is not a .nac file.\n",
        "text-mode": file.replace(b"\r\n", b"\n"),
        "version-2": file[:8] + b"\2" + file[9:],
        "flip-signature": flip(file, 1),
        "flip-header-length": flip(file, 9),
        "flip-header": flip(file, 20),
        "flip-header-checksum": flip(file, header - 1),
        "cut-in-header": file[:30],
        "huge-header": file[:9] + varint(1 << 62) + file[10:],
        "unknown-flag": changed(0, b"\x91\x01"),
        "unknown-rate": changed(17, bytes([14])),
        "unknown-layout": changed(23, bytes([0x24])),
        "long-varint": changed(0, b"\x91\x00"),
        "header-too-long": changed(header - 14, b"\0", 0),
    }


def bad_chunks() -> dict[str, tuple[bytes, list[int]]]:
    """Return files with an error after the header, and which of the two chunks can be read before it."""
    file = build(MONO, [Part(0, 5), Part(5, 5)])[0]
    first, end = len(MONO.to_bytes()), len(file) - file[-8]
    second = (first + end) // 2

    def changed(position: int, new: bytes) -> bytes:
        """Return the file with another byte in the first chunk's body, and a correct checksum."""
        body = file[first + 2 : second - 4]
        return file[:first] + frame(CHUNK, body[:position] + new + body[position + 1 :]) + file[second:]

    return {
        "cut-in-chunk": (file[: second + 9], [0]),
        "cut-between-chunks": (file[:second], [0]),
        "cut-before-end": (file[:end], [0, 1]),
        "cut-in-end": (file[:-1], [0, 1]),
        "behind-the-end": (file + b"\0", [0, 1]),
        "flip-chunk-type": (flip(file, second), [0]),
        "flip-chunk-length": (flip(file, second + 1), [0]),
        "flip-chunk-body": (flip(file, second + 6), [0]),
        "flip-chunk-checksum": (flip(file, end - 1), [0]),
        "flip-end": (flip(file, end + 3), [0, 1]),
        "chunk-missing": (file[:first] + file[second:], [1]),
        "chunk-twice": (file[:second] + file[first:], [0]),
        "unknown-coding": (changed(2, b"\x02"), []),
        "unknown-form": (changed(2, b"\x40"), []),
        "no-frames": (changed(1, b"\x00"), []),
        "padding": (changed(10, b"\xff"), []),
        "chunk-too-short": (changed(10, b""), []),
        "chunk-too-long": (changed(10, b"\0\0"), []),
        **bad_ranges(),
    }


def bad_ranges() -> dict[str, tuple[bytes, list[int]]]:
    """Return files with an error in the fields at the start of chunks with range coded layers."""
    file = build(MONO, [Part(0, 5), Part(5, 5)])[0]
    first, end = len(MONO.to_bytes()), len(file) - file[-8]

    def instead(frames: int, tables: bytes, savings: bytes, rest: bytes) -> tuple[bytes, list[int]]:
        """Return the file with another chunk in place of its first one."""
        body = varint(0) + varint(frames) + b"\1" + tables + savings + rest
        return file[:first] + frame(CHUNK, body) + file[(first + end) // 2 :], []

    none, layers = bytes(4), bytes(6)
    return {
        "range-nothing": instead(5, none, b"\0", bytes(8)),
        "range-last-zero": instead(5, none, b"\2\1\0", layers),
        "range-many-savings": instead(5, none, b"\4\1\0\0\1", layers),
        "range-saved-more": instead(5, none, b"\1\3", layers),
        "range-too-short": instead(5, none, b"\1\1", layers[:5]),
        "range-padding": instead(5, none, b"\1\1", layers + b"\xff"),
        "range-no-tables": instead(5, b"none", b"\1\1", layers),
        "range-too-many-codes": instead(1 << 14, none, b"\3" + 3 * varint(1 << 13), b""),
    }


def all_files() -> dict[str, Vector]:
    """Return every vector by name: its bytes, and what a reader must find in them."""
    found = build(MONO, [Part(0, 5), Part(5, 5)])[1]
    files = good_files() | {"unknown-records": unknown_records()} | limits()
    for name, data in bad_headers().items():
        files[name] = data, {"error": "header"}
    for name, (data, chunks) in bad_chunks().items():
        readable = [found["chunks"][number] for number in chunks]
        files[name] = data, {"error": "body", "header": found["header"], "chunks": readable}
    return files


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, expected) in all_files().items():
        (folder / f"{name}.nac").write_bytes(data)
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in expected.items())
        (folder / f"{name}.json").write_text(f"{{{lines}}}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else VECTORS)
