"""Uncompressed formats: each with every kind of sample that libsndfile writes, read as libsndfile reads it, and
those that only others write."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sound_files import RATE, chunk, read_source, riff

from nac.audio.reading import open_source
from nac.container.header import SampleFormat
from nac.errors import AudioError

KINDS = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "IRCAM", "PVF", "AVR", "SVX")
CASES = [
    (form, kind, endian)
    for form in FORMATS
    for kind in sorted(KINDS & set(soundfile.available_subtypes(form)))
    for endian in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(form, kind, endian)
]


@pytest.mark.parametrize(("form", "kind", "endian"), CASES, ids="-".join)
def test_samples_are_those_that_libsndfile_reads(form: str, kind: str, endian: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (3001, 1 if form == "SVX" else 2))
    soundfile.write(path, noise, 22050, subtype=kind, endian=endian, format=form)
    with open_source(path) as source:
        assert (source.sample_rate, source.channels) == (22050, noise.shape[1])
        found = np.concatenate(list(source.blocks))
    wanted, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert np.abs(wanted - noise).max() < 0.05  # the file is what it should be
    assert np.array_equal(found, wanted)


def aiff(code: bytes, bits: int, sound: bytes, *, rate: bytes = bytes.fromhex("400cfa00000000000000")) -> bytes:
    """An AIFF-C of one channel."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack(">I", len(body)) + body + bytes(len(body) % 2)

    common = struct.pack(">HIH", 1, len(sound) // -(-bits // 8), bits) + rate + code + bytes(2)
    body = b"AIFC" + chunk(b"COMM", common) + chunk(b"SSND", bytes(8) + sound)
    return b"FORM" + struct.pack(">I", len(body)) + body


HALVES = np.array([-1, -0.5, 0, 0.25, 0.5], np.float64)


@pytest.mark.parametrize(
    ("code", "bits", "kind", "form"),
    [
        (b"NONE", 12, ">i2", SampleFormat.S16),  # in the upper bits of two bytes
        (b"NONE", 32, ">i4", SampleFormat.S32),
        (b"twos", 16, ">i2", SampleFormat.S16),
        (b"sowt", 16, "<i2", SampleFormat.S16),
        (b"in32", 32, ">i4", SampleFormat.S32),
        (b"23ni", 32, "<i4", SampleFormat.S32),
        (b"fl32", 32, ">f4", SampleFormat.F32),
        (b"FL32", 32, ">f4", SampleFormat.F32),
        (b"fl64", 64, ">f8", SampleFormat.F64),
        (b"FL64", 64, ">f8", SampleFormat.F64),
        (b"raw ", 8, "u1", SampleFormat.U8),
        (b"NONE", 8, "i1", SampleFormat.U8),
        (b"in24", 24, ">", SampleFormat.S24),
        (b"42ni", 24, "<", SampleFormat.S24),
        (b"42n1", 24, "<", SampleFormat.S24),
    ],
)
def test_samples_of_an_aiff_have_the_kind_that_their_code_names(
    code: bytes, bits: int, kind: str, form: SampleFormat
) -> None:
    if len(kind) == 1:
        whole = (HALVES * 2**23).astype(f"{kind}i4").view(np.uint8).reshape(-1, 4)
        sound = (whole[:, :3] if kind == "<" else whole[:, 1:]).tobytes()
    elif "f" in kind:
        sound = HALVES.astype(kind).tobytes()
    else:
        full = 2 ** (8 * np.dtype(kind).itemsize - 1)
        sound = (HALVES * full + (full if kind == "u1" else 0)).astype(kind).tobytes()
    samples, source = read_source(io.BytesIO(aiff(code, bits, sound)))
    assert samples[:, 0].tolist() == HALVES.tolist()
    assert source.sample_format == form


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 192_000, 1 << 24])
@pytest.mark.parametrize("form", ["AIFF", "CAF", "W64", "AU", "RF64"])
def test_every_rate_is_read_as_it_is(form: str, rate: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(100), rate, format=form, subtype="PCM_16")
    assert read_source(file)[1].sample_rate == rate


@pytest.mark.parametrize("each", [2, 3, 4])
def test_a_wav_of_fewer_bits_than_its_samples_have_place_for_has_them_in_the_upper_ones(each: int) -> None:
    """As WAVE_FORMAT_EXTENSIBLE says."""
    full = (HALVES * 2**31).astype("<i4").view(np.uint8).reshape(-1, 4)[:, 4 - each :].tobytes()
    for bits in (8 * each - 4, 8 * each):
        form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, each * RATE, each, bits))
        samples, source = read_source(io.BytesIO(riff(form, chunk(b"data", full))))
        assert samples[:, 0].tolist() == HALVES.tolist()
        assert source.sample_format == {2: SampleFormat.S16, 3: SampleFormat.S24, 4: SampleFormat.S32}[each]


@pytest.mark.parametrize(
    "start", ["", "\n", "\n\n", "\nx\n", "\n   1024\nend_head\n", "\n1024\nsample_n_bytes -i 3\n"]
)
def test_a_header_of_sphere_that_is_broken_is_no_audio(start: str) -> None:
    with pytest.raises(AudioError):
        read_source(io.BytesIO(f"NIST_1A{start}".encode() + bytes(3000)))


@pytest.mark.parametrize("rate", [0.0, -1.0, 0.5, 2.0**31, 1e300, float("inf"), float("-inf"), float("nan")])
def test_a_caf_of_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    form = struct.pack(">d4s5I", rate, b"lpcm", 0, 2, 1, 1, 16)
    parts = (b"desc", form), (b"data", bytes(204))
    file = b"caff\0\1\0\0" + b"".join(name + struct.pack(">Q", len(body)) + body for name, body in parts)
    with pytest.raises(AudioError):
        read_source(io.BytesIO(file))


@pytest.mark.parametrize("each", [2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_of_sphere_have_the_order_of_bytes_that_its_header_spells(each: int, order: str) -> None:
    """01 or 012 or 0123 begins with the lowest byte, 10 or 210 or 3210 with the highest."""
    spelt = "0123"[:each] if order == "<" else "3210"[-each:]
    lines = "channel_count -i 1", f"sample_n_bytes -i {each}", f"sample_rate -i {RATE}", "sample_count -i 5"
    lines += f"sample_byte_format -s{each} {spelt}", "end_head"
    head = "\n".join(["NIST_1A", "   1024", *lines, ""]).encode().ljust(1024)
    whole = (HALVES * 2**31).astype(f"{order}i4").view(np.uint8).reshape(-1, 4)
    sound = whole[:, 4 - each :] if order == "<" else whole[:, :each]
    assert read_source(io.BytesIO(head + sound.tobytes()))[0][:, 0].tolist() == HALVES.tolist()


def test_integers_of_64_bits_have_their_full_range() -> None:
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 8 * RATE, 8, 64))
    sound = (HALVES * 2**62).astype("<i8") * 2
    samples, _ = read_source(io.BytesIO(riff(form, chunk(b"data", sound.tobytes()))))
    assert samples[:, 0].tolist() == HALVES.tolist()
