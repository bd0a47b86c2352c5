"""The test vectors: that they are what their script makes, and that two readers find in them what they hold."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import second_reader
import torch
from container_files import files, written
from hypothesis import given, settings
from hypothesis import strategies as st
from second_layers import WEIGHTS, read_tables
from second_timeline import angle as second_angle
from second_timeline import timeline

import nac
from nac.codecs.windows import Plan, WindowedCodec
from nac.container import Reader, Recovery, verify
from nac.container.fields import varint
from nac.container.records import RecordReader, checksum, frame
from nac.container.tables import tables_for
from nac.errors import DamageError, FormatError

FORMATS = Path(__file__).parents[2] / "formats"
VECTORS = FORMATS / "vectors"
NAMES = sorted(path.stem for path in VECTORS.glob("*.nac"))


def expected(name):
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def data(name):
    return (VECTORS / f"{name}.nac").read_bytes()


WHOLE = [name for name in NAMES if expected(name)["error"] is None]
TIMED = [name for name in NAMES if "timeline" in expected(name)]


MISSING = ["lost-frames", "frame-last", "samples-most"]
MISSING += [name for name in TIMED if expected(name)["timeline"]["missing"]]


def as_json(value):
    return json.loads(json.dumps(value))


def read(file):
    """What Reader finds, in the vectors' terms."""
    found = {"error": "header", "samples": None, "header": None, "chunks": []}
    try:
        reader = Reader(file)
        header = reader.header
        found |= {"error": "body", "header": as_json(asdict(header))}
        for chunk in reader.chunks():
            found["chunks"].append(
                {
                    "first_frame": chunk.first_frame,
                    "frames": chunk.frames,
                    "angle": chunk.angle,
                    "overhang": chunk.overhang,
                    "scales": as_json(chunk.scales),
                    "codes": [
                        [codes.tolist() for codes in chunk.codes(header, stream)]
                        for stream in range(len(header.streams))
                    ],
                }
            )
        found |= {"error": None, "samples": reader.samples}
    except FormatError as error:
        found["reason"] = str(error)
    return found


def test_there_are_vectors_of_every_kind():
    kinds = {expected(name)["error"] for name in NAMES}
    assert kinds == {None, "header", "body"}
    assert len(NAMES) > 200


def test_the_script_makes_the_vectors_byte_for_byte(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(FORMATS.parent)}
    subprocess.run([sys.executable, FORMATS / "make_vectors.py", tmp_path], check=True, env=environment)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in VECTORS.iterdir() if path.suffix in (".nac", ".json")}
    assert made == kept


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reads", [lambda nac: read(io.BytesIO(nac)), second_reader.read], ids=["nac", "second"])
def test_a_reader_finds_what_a_vector_holds(reads, name):
    want, found = expected(name), reads(data(name))
    want.pop("timeline", None)
    for chunk in found["chunks"]:
        del chunk["overhang"]  # seen in where frames begin
    assert {key: found[key] for key in want} == want, found.get("reason")


@pytest.mark.parametrize("name", TIMED)
def test_frames_and_angles_are_where_a_vector_has_them(name):
    want = expected(name)["timeline"]
    found = second_reader.read(data(name))
    spans = timeline(found["header"], found["chunks"])
    assert spans == {key: want[key] for key in spans}
    for sample, angle in want.get("angles", []):
        turn = second_angle(found["header"], found["chunks"], sample) - angle
        assert (turn + 128) % 256 - 128 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", TIMED)
def test_nac_has_frames_where_a_vector_has_them(name):
    want = expected(name)["timeline"]
    reader = Reader(io.BytesIO(data(name)))
    header, chunks = reader.header, list(reader.chunks())
    for chunk, begins in zip(chunks, want["begins"], strict=True):
        frames = list(range(chunk.first_frame, chunk.next_frame))
        frames[-1] += chunk.overhang
        assert [header.spec.start(frame) for frame in frames] == begins
    start = header.start / header.original_sample_rate
    missing = [[(gap.start + start), (gap.end + start)] for gap in reader.gaps]
    assert np.array(missing).ravel() * header.sample_rate == pytest.approx(np.ravel(want["missing"]), abs=1)


def test_nac_rotates_pairs_by_a_vectors_angles():
    """Decoded by a codec that makes ones of the first stream and nothing of the second, a pair shows its angle."""
    want, file = expected("timeline-angles")["timeline"], data("timeline-angles")
    spec = Reader(io.BytesIO(file)).header.spec
    samples, _ = nac.read(io.BytesIO(file), load=lambda _: Ones(spec))
    for sample, angle in want["angles"]:
        left, right = samples[sample]
        found = np.arctan2(right, left) * 128 / np.pi - angle
        assert (found + 128) % 256 - 128 == pytest.approx(0, abs=1e-3)


class Ones(WindowedCodec):
    encode_plan = decode_plan = Plan(left=0, right=0, window=1)

    def __init__(self, spec):
        self.spec, self.device = spec, torch.device("cpu")

    def encode_frames(self, audio, codebooks):
        raise NotImplementedError

    def decode_frames(self, arrays, first):
        frames = arrays[0].shape[-1] // self.spec.codebooks[0].codes_per_frame
        return torch.full((1, 1, frames * self.spec.frame_samples), float(len(arrays) > 1))


@pytest.mark.parametrize("name", WHOLE)
def test_verify_and_recovery_find_all_of_a_whole_file(name):
    want, file = expected(name), data(name)
    found = verify(io.BytesIO(file))
    assert (found.samples, found.chunks) == (want["samples"], len(want["chunks"]))
    assert bool(found.gaps) == (name in MISSING)
    recovery = Recovery(io.BytesIO(file))
    left = [part for part in recovery if part not in found.gaps]
    assert [chunk.first_frame for chunk in left] == [chunk["first_frame"] for chunk in want["chunks"]]
    assert recovery.samples == want["samples"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
def test_verify_refuses_the_others(name):
    with pytest.raises(FormatError):
        verify(io.BytesIO(data(name)))


@pytest.mark.parametrize("name", WHOLE)
def test_chunks_in_any_order_are_those_in_order(name):
    reader = Reader(io.BytesIO(data(name)))
    in_order = list(reader.chunks())
    again = Reader(io.BytesIO(data(name)))
    assert again.complete
    assert [again.chunk(i) for i in reversed(range(len(again.index)))] == in_order[::-1]
    assert list(again.chunks(1)) == in_order[1:]
    assert again.samples == reader.samples


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("version-2", FormatError, "version 2 .* version 1"),
        ("empty-file", FormatError, "not a .nac file"),
        ("text", FormatError, "not a .nac file"),
        ("text-mode", DamageError, "in text mode"),
        ("unknown-flag", FormatError, "unknown flags 0x80"),
        ("unknown-coding", FormatError, "unknown coding 2; this program reads 0 and 1"),
        ("huge-header", DamageError, "header at byte 9 claims"),
        ("flip-chunk-body", DamageError, "damaged within bytes 60 to 76, at 0:00.1"),
        ("cut-in-chunk", DamageError, "cut short at byte 69, at 0:00.1"),
        ("cut-before-end", DamageError, "cut short at byte 77"),
        ("behind-the-end", DamageError, "after the end, from byte 90"),
        ("chunk-missing", DamageError, "missing or added"),
    ],
)
def test_an_error_says_what_and_where(name, error, words):
    with pytest.raises(error, match=words):
        verify(io.BytesIO(data(name)))


def test_the_example_in_the_specification_is_the_vector():
    text = (FORMATS / "nac-v1.md").read_text(encoding="utf-8").split("## 13.")[1]
    columns = re.findall(r"^    ((?:[0-9A-F]{2} ?)+?)(?:  .*)?$", text, re.MULTILINE)
    assert bytes.fromhex("".join(columns)) == data("pair")


def test_the_tables_and_weights_in_the_specification_are_those_there_are():
    text = (FORMATS / "nac-v1.md").read_text(encoding="utf-8").split("## 15.")
    rows = re.findall(
        r"^\| `(\w{8})` \| \w+, (\w{16}) \| ([\d, ]+); ([-\d ]+) \| (\d+) \| (\w{64}) \|$", text[1], re.M
    )
    assert {row[0] for row in rows} == {path.stem for path in (FORMATS / "tables").iterdir()}
    for name, fingerprint, sizes, frames, count, digest in rows:
        packed = (FORMATS / "tables" / f"{name}.safetensors").read_bytes()
        assert (len(packed), hashlib.sha256(packed).hexdigest()) == (int(count), digest)
        assert digest.startswith(name)
        assert tables_for(fingerprint).id == name
        tables = read_tables(name)
        (codebooks, entries), (deep, _, axes) = tables["order"].shape, tables["embedding"].shape
        shapes = [codebooks, deep, entries, tables["high_bias"].shape[1], axes, tables["scale"].shape[1]]
        assert list(map(int, sizes.split(","))) == shapes
        assert list(map(int, frames.split())) == tables["frames"].tolist()
        assert all(sorted(row) == list(range(entries)) for row in tables["order"].tolist())
    weights = WEIGHTS[:449].astype("<u2")
    total, crc = re.search(r"`weight\(448\)` is (\d+); .*? crc\s(\w{8})", text[0], re.S).groups()
    assert (weights.sum(), second_reader.crc32c(weights.tobytes())) == (int(total), int(crc, 16))
    assert WEIGHTS[448:].tolist() == [1] * 32


def test_the_second_reader_stands_alone():
    for name in ("second_reader.py", "second_layers.py", "second_timeline.py"):
        source = (FORMATS.parent / "tests" / "support" / name).read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) nac", source, re.MULTILINE)
        assert len(source.splitlines()) < 200


@given(files())
def test_both_readers_find_the_same_in_any_file(file):
    header, chunks = file
    data = written(replace(header, samples=None, start=0), chunks, 0).getvalue()
    assert second_reader.read(data) == read(io.BytesIO(data))


@settings(max_examples=500)
@given(st.sampled_from(WHOLE), st.data())
def test_both_readers_refuse_the_same(name, draw):
    """Some bytes of a body are others, or more, or fewer, under a checksum that is right."""
    file = data(name)
    source = RecordReader(io.BytesIO(file))
    source.seek(9)
    kinds, bodies = [0], [source.need(source.length(1 << 20, "a header"))]
    source.need(4)
    while source.position < len(file):
        record = source.record()
        kinds.append(record.type)
        bodies.append(record.body)
    number = draw.draw(st.integers(0, len(bodies) - 1))
    body = bodies[number]
    position = draw.draw(st.integers(0, max(0, len(body) - 1)))
    bodies[number] = body[:position] + draw.draw(st.binary(max_size=3)) + body[position + 1 :]
    head = file[:9] + varint(len(bodies[0]))
    changed = head + bodies[0] + checksum(head, bodies[0])
    changed += b"".join(frame(kind, body) for kind, body in zip(kinds[1:], bodies[1:], strict=True))
    found, second = read(io.BytesIO(changed)), second_reader.read(changed)
    reasons = found.pop("reason", None), second.pop("reason", None)
    assert found == second, reasons
