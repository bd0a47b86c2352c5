"""Files of other codecs to .nac and back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from math import ceil, floor, prod
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow_codecs import narrow_codecs
from safetensors.numpy import save_file

import nac
from nac import NacError, cli
from nac.codecs.registry import MODELS
from nac.codecs.segmented import Segmented
from nac.container import Chunk, Reader, Writer, verify
from nac.container.header import UNKNOWN_WEIGHTS
from nac.interop import dac, ecdc
from nac.interop.convert import Converted, convert
from nac.interop.recording import Recording, header_for, to_nac
from nac.spec import Segment
from nac.weights import cache

DATA = Path(__file__).parents[1] / "data" / "interop"
FILES = sorted(path.name for path in DATA.iterdir() if path.suffix in (".ecdc", ".dac"))
CODES = np.load(DATA / "codes.npz")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights have been loaded here."""
    monkeypatch.setattr(cache, "fingerprint", lambda name: "")


def converted(data: bytes, format: str | None = None, **options: Any) -> tuple[bytes, Converted]:
    out = io.BytesIO()
    result = convert(io.BytesIO(data), out, format=format, **options)
    return out.getvalue(), result


def recording(
    name: str, frames: int, *, codebooks: int = 3, channels: int | None = None, **header: Any
) -> Recording:
    """Random codes of a model."""
    spec, rng = MODELS[name].spec, np.random.default_rng(frames)
    made = header_for(spec, codebooks, channels=channels or spec.channels, samples=frames * spec.frame_samples)
    made = replace(made, **header)
    top = 1 << spec.codebooks[0].bits
    codes = [rng.integers(0, top, (count, frames)).astype(np.uint16) for count in made.stream_codebooks]
    return Recording(made, codes)


def as_nac(made: Recording) -> bytes:
    out = io.BytesIO()
    to_nac(made, out)
    return out.getvalue()


def streams(data: bytes) -> list[np.ndarray[Any, Any]]:
    """Codes [codebooks, frames] of each stream."""
    reader = Reader(io.BytesIO(data))
    chunks = list(reader.chunks())
    count = len(reader.header.stream_codebooks)
    return [np.concatenate([np.stack(c.codes(reader.header, i)) for c in chunks], 1) for i in range(count)]


# Files that the reference packages wrote


@pytest.mark.parametrize("name", FILES)
def test_the_references_files_are_read(name: str) -> None:
    data, result = converted((DATA / name).read_bytes())
    wanted = CODES[f"{name}/codes"]
    assert np.array_equal(np.stack(streams(data)), wanted if wanted.ndim == 3 else wanted[None])
    assert verify(io.BytesIO(data)).gaps == ()
    reader = Reader(io.BytesIO(data))
    if f"{name}/scales" in CODES:
        assert [s for chunk in reader.chunks() for s in chunk.scales[0]] == CODES[f"{name}/scales"].tolist()
    if name.endswith(".ecdc"):
        assert (reader.header.model, str(reader.samples)) == tuple(name.removesuffix(".ecdc").split("-"))
    else:
        assert reader.header.model == f"dac_{name.split('-')[1].removesuffix('.dac')}"
    assert result.format == name.split(".")[-1]


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_is_what_the_references_write(name: str) -> None:
    original = (DATA / name).read_bytes()
    nac_file, _ = converted(original)
    kind = name.split(".")[-1]
    back, result = converted(nac_file, kind)
    if kind == "ecdc":
        assert back == original
        assert result.notes == ()
        return
    theirs, ours = (np.load(io.BytesIO(data), allow_pickle=True)[()] for data in (original, back))
    assert ours["codes"].dtype == theirs["codes"].dtype
    assert np.array_equal(ours["codes"], theirs["codes"])
    loudness = [meta["metadata"].pop("input_db") for meta in (ours, theirs)]
    assert ours["metadata"] == theirs["metadata"]
    assert loudness[0].dtype == loudness[1].dtype
    np.testing.assert_allclose(*loudness, atol=1e-5)


def test_windows_of_a_dac_file_are_segments() -> None:
    header = Reader(io.BytesIO(converted((DATA / "windows-16khz.dac").read_bytes())[0])).header
    assert (header.segment, header.channels, header.stereo_pair) == (Segment(34, 5346), 2, False)
    assert (header.original_sample_rate, header.samples) == (22050, 46305)
    assert header.start == round(2763 * 22050 / 16000)


def test_what_the_unpadded_decoder_loses_follows_from_its_layers() -> None:
    for frame, rates in ((320, (8, 5, 4, 2)), (512, (8, 8, 4, 2))):
        scale, lost, start = frame, 0, 0
        lost, start = 6 * scale, 3 * scale  # the first convolution
        for rate in rates:
            scale //= rate
            padding = (rate + 1) // 2
            lost -= (2 * rate - rate) * scale  # a transposed convolution of twice its stride, not trimmed
            start -= padding * scale
            for dilation in (1, 3, 9):
                lost += 6 * dilation * scale
                start += 3 * dilation * scale
        assert dac._LOST[frame] == (lost + 6, start + 3)


def test_the_usual_windows_follow_from_the_encoders_layers() -> None:
    for sample_rate, rates in ((16000, (2, 4, 5, 8)), (24000, (2, 4, 5, 8)), (44100, (2, 4, 8, 8))):
        found = []
        for seconds in (1, 5):
            steps = ceil(seconds * sample_rate / prod(rates)) * prod(rates) - 6
            for rate in rates:
                steps = (steps - 6 * (1 + 3 + 9) - 2 * rate) // rate + 1
            found.append(steps - 2)
        assert dac._USUAL_WINDOWS[sample_rate] == tuple(found)


# Lyra


def test_lyra_packets() -> None:
    packets = bytes.fromhex("0123456789abcdef fedcba9876543210")
    data, result = converted_lyra(packets, 3.2)
    (codes,) = streams(data)
    assert codes.T.tolist() == [list(range(16)), list(range(15, -1, -1))]
    assert result.seconds == 0.04
    assert Reader(io.BytesIO(data)).header.fingerprint == "e86727a4bc29fbd2"
    assert converted(data, "lyra")[0] == packets


def converted_lyra(data: bytes, kbps: float | None) -> tuple[bytes, Converted]:
    out = io.BytesIO()
    path = Path("song.lyra")
    path.write_bytes(data)
    return_value = convert(path, out, kbps=kbps)
    return out.getvalue(), return_value


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("kbps", "size"), [(3.2, 8), (6, 15), (9.2, 23)])
def test_all_bitrates_of_lyra(kbps: float, size: int) -> None:
    packets = np.random.default_rng(0).bytes(600 * size)
    data, result = converted_lyra(packets, kbps)
    assert result.kbps == pytest.approx(kbps)
    assert nac.open(write("song.nac", data)).chunks == 2
    back, result = converted(data, "lyra")
    assert back == packets
    assert result.notes == ("the bitrate",)


def write(name: str, data: bytes) -> Path:
    path = Path(name)
    path.write_bytes(data)
    return path


def test_the_fingerprint_of_soundstream_is_that_of_its_weights(lyra_weights: Path) -> None:
    assert nac.load("soundstream_16khz", weights=lyra_weights).spec.fingerprint == "e86727a4bc29fbd2"


# There and back, any length


@settings(max_examples=40)
@given(st.data())
def test_there_and_back(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["encodec_24khz", "encodec_48khz", "dac_44khz", "dac_24khz"]))
    spec, kind = MODELS[name].spec, name.split("_")[0].replace("encodec", "ecdc")
    samples = data.draw(st.integers(1, 500_000) | st.integers(47_000, 49_000) | st.integers(95_000, 96_000))
    frames = spec.frames(samples)
    channels = data.draw(st.integers(1, 3)) if kind == "dac" else spec.channels
    made = recording(name, frames, codebooks=data.draw(st.integers(1, 9)), channels=channels, samples=samples)
    if spec.has_scale:
        count = len(list(ecdc.segment_frames(spec, samples)))
        made = replace(made, scales=np.random.default_rng(0).random(count, np.float32))
    first = as_nac(made)
    other, there = converted(first, kind)
    assert set(there.notes) <= {"the model", "its loudness, which .nac does not know (it will play at -16 LUFS)"}
    again, _ = converted(other, model=name if kind == "dac" else None)
    assert again == first


# What gets lost, and what cannot be


def test_what_is_lost_is_told() -> None:
    made = recording(
        "encodec_24khz", 100, original_sample_rate=44100, samples=58_500, tags=(("title", "a"), ("artist", "b"))
    )
    _, result = converted(as_nac(made), "ecdc")
    assert result.notes == ("2 tags", "the sample rate of 44100 Hz")


@pytest.mark.parametrize(("samples", "wanted"), [(58_500, 31_837), (58_799, 32_000), (58_213, 31_681)])
def test_an_ecdc_files_length_is_at_the_codecs_rate(samples: int, wanted: int) -> None:
    """Rounded up: 44100 samples are 24000."""
    data, _ = converted(
        as_nac(recording("encodec_24khz", 100, original_sample_rate=44100, samples=samples)), "ecdc"
    )
    length = int.from_bytes(data[5:9], "big")
    assert json.loads(data[9 : 9 + length])["al"] == wanted


@pytest.mark.parametrize("segments", [1, 9, 10, 11, 20])
@pytest.mark.parametrize("more", [0, 160, 320, 480, 640])
def test_an_ecdc_file_may_end_anywhere_in_segments_and_chunks(segments: int, more: int) -> None:
    """Where two segments overlap at the end, the last one has a frame of its own and a scale."""
    spec = MODELS["encodec_48khz"].spec
    samples = segments * 47_520 + more
    sizes = list(ecdc.segment_frames(spec, samples))
    made = recording("encodec_48khz", sum(sizes), samples=samples)
    scales = np.arange(1, len(sizes) + 1, dtype=np.float32)
    file = io.BytesIO()
    ecdc.write(replace(made, scales=scales), file)
    data, result = converted(file.getvalue())
    assert result.seconds == samples / 48_000
    kept = [scale for chunk in Reader(io.BytesIO(data)).chunks() for scale in chunk.scales[0]]
    assert kept == scales.tolist()
    assert converted(data, "ecdc")[0] == file.getvalue()


@pytest.mark.parametrize("scale", [b"\x7f\xc0\0\0", b"\x7f\x80\0\0", b"\xff\x80\0\0"])
def test_a_scale_of_an_ecdc_file_is_finite(scale: bytes) -> None:
    data = (DATA / "encodec_48khz-47620.ecdc").read_bytes()
    at = 9 + int.from_bytes(data[5:9], "big")
    with pytest.raises(NacError, match=f"invalid scale .* before byte {at + 4}"):
        converted(data[:at] + scale + data[at + 4 :])


def test_bytes_behind_the_end_of_a_dac_file_are_refused() -> None:
    data = (DATA / "whole-16khz.dac").read_bytes()
    with pytest.raises(NacError, match="1 bytes after its end"):
        converted(data + b"\0")


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".ecdc")])
@pytest.mark.parametrize("more", [b"\0", b"ECDC"])
def test_bytes_behind_the_end_of_an_ecdc_file_are_refused(name: str, more: bytes) -> None:
    with pytest.raises(NacError, match="bytes after the end"):
        converted((DATA / name).read_bytes() + more)


def test_other_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = as_nac(recording("encodec_24khz", 100, fingerprint="0123456789abcdef"))
    assert converted(made, "ecdc")[1].notes == ("the weights (0123456789abcdef)",)
    monkeypatch.setattr(cache, "fingerprint", lambda name: "0123456789abcdef")
    assert converted(made, "ecdc")[1].notes == ()


def test_a_start_within_a_frame_is_told() -> None:
    made = recording("encodec_24khz", 100, samples=31_900, start=100)
    data, result = converted(as_nac(made), "ecdc")
    assert result.notes == ("that the first 0.004 s are not wanted",)
    assert converted(data)[1].seconds == 32_000 / 24_000


def test_a_dac_files_loudness_is_the_gain() -> None:
    made = recording("dac_16khz", 20, gain=2.0)
    data, result = converted(as_nac(made), "dac")
    assert result.notes == ("the model",)
    meta = np.load(io.BytesIO(data), allow_pickle=True)[()]["metadata"]
    assert meta["input_db"][0] == pytest.approx(-16 - 6.0206)
    assert Reader(io.BytesIO(converted(data, model="dac_16khz")[0])).header.gain == pytest.approx(2.0)


def test_other_names_of_the_same_pickle() -> None:
    """What we write names numpy's modules as numpy 1 does; every numpy reads that."""
    data, _ = converted(as_nac(recording("dac_16khz", 20)), "dac")
    assert b"numpy.core.multiarray" in data
    assert b"numpy._core" not in data


PAIR: dict[str, Any] = {"channels": 2, "stereo_pair": True, "stream_codebooks": (3, 1)}


@pytest.mark.parametrize(
    ("name", "header", "target", "message"),
    [
        ("dac_44khz", PAIR, "dac", "rotated stereo"),
        ("encodec_24khz", PAIR, "ecdc", "rotated stereo"),
        ("encodec_24khz", {"channels": 2, "stream_codebooks": (3, 3)}, "ecdc", "has 2 streams; .ecdc has one"),
        ("dac_44khz", {"channels": 2, "stream_codebooks": (3, 2)}, "dac", "its streams have 3 and 2 codebooks"),
        ("dac_44khz", {}, "ecdc", "made with dac_44khz; .ecdc holds codes of encodec_24khz, encodec_48khz only"),
        ("nac_24khz", {}, "dac", "made with nac_24khz; .dac holds codes of dac_16khz,"),
        ("soundstream_16khz", {"stream_codebooks": (20,)}, "lyra", "has 4 kbit/s; Lyra has 3.2, 6 and 9.2"),
        ("dac_44khz", {"segment": Segment(20, 10_240)}, "dac", "its segments are not the windows of a .dac file"),
        ("dac_44khz", {"frame_samples": 256}, "dac", "its dac_44khz is not the one that .dac is for"),
    ],
)
def test_what_cannot_be_is_refused(name: str, header: dict[str, Any], target: str, message: str) -> None:
    data = as_nac(recording(name, 20, samples=5000, **header))
    with pytest.raises(NacError) as error:
        converted(data, target)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_sound_and_silence_are_refused() -> None:
    header = replace(recording("dac_44khz", 1).header, samples=None)
    codes = [[np.zeros(5, np.uint16)] * 3]
    for chunks, message in (
        (
            [Chunk.pack(header, 0, 5, codes), Chunk.pack(header, 9, 5, codes)],
            "lost; .dac cannot leave frames",
        ),
        ([Chunk.pack(header, 0, 5, codes), Chunk.pack(header, 5, 5, [None])], "a silent stream has no codes"),
        ([], "has no audio"),
    ):
        out = io.BytesIO()
        writer = Writer(out, header)
        for chunk in chunks:
            writer.write(chunk)
        writer.finish(2000 * bool(chunks))
        with pytest.raises(NacError, match=message):
            converted(out.getvalue(), "dac")


def test_a_dac_file_whose_model_cannot_be_told(folder: Path) -> None:
    header = recording("dac_44khz", 1, samples=30).header
    made = as_nac(Recording(header, [np.zeros((3, 1), np.uint16)]))
    file, _ = converted(made, "dac")
    with pytest.raises(
        NacError, match="fits dac_44khz and dac_16khz and dac_44khz_16kbps and dac_24khz by its 1 fr"
    ):
        converted(file)
    assert converted(file, model="dac_24khz")[1].model == "dac_24khz"


def test_a_damaged_nac_file_gives_nothing(folder: Path) -> None:
    data = bytearray(as_nac(recording("dac_44khz", 2000)))
    data[len(data) // 2] ^= 1
    path = write("song.nac", bytes(data))
    with pytest.raises(nac.DamageError):
        nac.convert(path, folder / "song.dac")
    assert not (folder / "song.dac").exists()


def test_wrong_use_is_told() -> None:
    file = as_nac(recording("dac_44khz", 20))
    other = converted(file, "dac")[0]
    for data, target, message in (
        (file, None, "cannot write ''"),
        (file, "nac", "cannot convert .nac to .nac: one of the two must be .nac"),
        (other, "ecdc", "cannot convert .dac to .ecdc"),
        (b"RIFFxxxx", None, "neither .nac nor .ecdc nor .dac by its first bytes"),
        (b"", None, "neither .nac nor .ecdc nor .dac by its first bytes"),
    ):
        with pytest.raises(NacError, match=message):
            converted(data, target)
    with pytest.raises(NacError, match="already contains its model and bitrate"):
        converted(other, kbps=6)
    with pytest.raises(NacError, match=r"a \.lyra file does not contain its bitrate"):
        converted_lyra(bytes(8), None)
    with pytest.raises(NacError, match="7 bytes are not a multiple of the packet size, 8 bytes"):
        converted_lyra(bytes(7), 3.2)
    with pytest.raises(NacError, match="0 bytes are not a multiple"):
        converted_lyra(b"", 3.2)
    with pytest.raises(NacError, match=r"snac_24khz makes no \.dac files; dac_44khz"):
        converted(other, model="snac_24khz")


# EnCodec's language model


@pytest.fixture
def small_language_model(folder: Path) -> Path:
    """Random weights for three codebooks."""
    rng, width, hidden = np.random.default_rng(0), 16, 32
    norm, square = {"weight": (width,), "bias": (width,)}, (width, width)
    layer = {
        "self_attn": {"in_proj_weight": (3 * width, width), "in_proj_bias": (3 * width,)},
        "self_attn.out_proj": {"weight": square, "bias": (width,)},
        "linear1": {"weight": (hidden, width), "bias": (hidden,)},
        "linear2": {"weight": (width, hidden), "bias": (width,)},
        "norm1": norm,
        "norm2": norm,
    }
    shapes = {f"transformer.layers.{i}.{name}": shape for i in range(2) for name, shape in layer.items()}
    shapes |= {"transformer.norm_in": norm, **{f"emb.{i}": {"weight": (1025, width)} for i in range(3)}}
    shapes |= {f"linears.{i}": {"weight": (1024, width), "bias": (1024,)} for i in range(3)}
    tensors = {
        f"{name}.{part}": rng.normal(0, 0.5, size).astype(np.float32)
        for name, parts in shapes.items()
        for part, size in parts.items()
    }
    save_file(tensors, folder / "lm.safetensors")
    return folder / "lm.safetensors"


def arithmetic(model: Any, codes: Any) -> bytes:
    """Codes [frames, codebooks] as bits, by the probabilities of a language model."""
    low = high = bits = 0
    out, past, previous = [], model.start(), np.full(codes.shape[1], -1)
    for frame, row in enumerate(codes):
        for code, ends in zip(row, model.shares(previous, frame, past), strict=True):
            while high - low + 1 < 1 << 24:
                low, high, bits = 2 * low, 2 * high + 1, bits + 1
            scale = (high - low + 1) / (1 << 24)
            begin = int(ends[code - 1]) if code else 0
            low, high = low + ceil(begin * scale), low + floor((int(ends[code]) - 1) * scale)
            while bits and low >> bits - 1 == high >> bits - 1:
                bits -= 1
                out.append(low >> bits)
                low, high = low & (1 << bits) - 1, high & (1 << bits) - 1
        previous = row
    out += [low >> bit & 1 for bit in reversed(range(bits))]
    return np.packbits(out, bitorder="little").tobytes()


def test_a_file_with_a_language_model(small_language_model: Path) -> None:
    from nac.interop import language_model

    model = language_model.load("encodec_24khz", 75, small_language_model)
    codes = np.random.default_rng(1).integers(0, 1024, (40, 3))
    coded = arithmetic(model, codes)
    file = with_meta(lm=True, al=40 * 320)
    file = file[: file.index(b"}") + 1] + coded
    data, result = converted(file, lm=small_language_model)
    assert np.array_equal(streams(data)[0], codes.T)
    assert any("its language model computed there as it does here" in note for note in result.notes)
    for bad in (file[:-1], file + b"x", file[:-9] + bytes([file[-9] ^ 255]) + file[-8:]):
        with pytest.raises(NacError, match="gives other results on this machine"):
            converted(bad, lm=small_language_model)
    with pytest.raises(NacError, match="20 bytes are too few for 13743895348 frames"):
        converted(with_meta(lm=True, al=1 << 42).partition(b"}")[0] + b"}" + bytes(20), lm=small_language_model)
    with pytest.raises(NacError, match="5 codebooks; the language model has 3"):
        converted(with_meta(lm=True, nc=5), lm=small_language_model)


def test_without_the_language_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAC_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder))
    with pytest.raises(NacError, match=r"whose weights, encodec_lm_24khz-1608e3c0\.th, were not found"):
        converted(with_meta(lm=True))
    write("encodec_lm_24khz-1608e3c0.th", b"other")
    with pytest.raises(NacError, match="its content does not match its name"):
        converted(with_meta(lm=True))
    with pytest.raises(NacError):
        converted(with_meta(lm=True), lm=folder / "encodec_lm_24khz-1608e3c0.th")
    save_file({"a": np.zeros(3, np.float32)}, folder / "other.safetensors")
    with pytest.raises(NacError, match="not the weights of EnCodec's language model"):
        converted(with_meta(lm=True), lm=folder / "other.safetensors")


# Hostile files


class Evil:
    """Runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


def dac_with(value: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(value, object), allow_pickle=True)
    return out.getvalue()


HEAD = dac_with({}).partition(b"\n")[0] + b"\n"


def test_a_pickle_that_runs_a_program_is_refused(folder: Path) -> None:
    good: Any = np.load(DATA / "whole-16khz.dac", allow_pickle=True)[()]
    for bad in (Evil(), {**good, "codes": Evil()}, {**good, "metadata": {**good["metadata"], "extra": Evil()}}):
        data = dac_with(bad)
        with pytest.raises(NacError, match=r"refused, because its pickle .* asks for (posix|nt).system"):
            converted(data)
        assert not (folder / "ran").exists()
    np.load(io.BytesIO(data), allow_pickle=True)  # what the reference does
    assert (folder / "ran").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x07ndarray.tofile\x93.",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n}b.",  # changes a global name's state
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a memo of 32 GB
        b"\x80\x04Nr\x00\x00\x00\x01.",  # and of as much as a machine has, 256 MB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",  # a string of a terabyte
        b"\x80\x04\x8a\xff.",
        b"\x80\x02\x82\x01.",  # an extension
        b"P1\n.",  # something outside
        b"(" * 20_000 + b".",
        b"\x80\x04N." + bytes(1000),
        b"\x80\x04N",
        b"",
        b"0",
        b"\x80\x04]h\x00.",
    ],
)
def test_other_pickles_are_refused(program: bytes, folder: Path) -> None:
    tracemalloc.start()
    with pytest.raises(NacError) as error:
        converted(HEAD + program)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert "\n" not in str(error.value)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(("more", "message"), [(0, "codes or metadata are missing"), (1, "more than 10000 instr")])
def test_a_pickle_has_as_many_instructions_as_it_may_have(more: int, message: str) -> None:
    program = b"\x80\x04](" + b"N" * (9995 + more) + b"e."
    with pytest.raises(NacError, match=message):
        converted(HEAD + program)


def wrong_dacs() -> list[tuple[dict[str, Any], str]]:
    zeros = np.zeros((1, 12, 35), np.uint16)
    return [
        ({"codes": zeros + 2000}, "fit no DAC model"),
        ({"codes": zeros + 1024}, "fit no DAC model"),
        ({"codes": zeros[0]}, "not integers"),
        ({"codes": zeros.astype(float)}, "not integers"),
        ({"codes": np.zeros((1, 99, 35), np.uint16)}, "99 codebooks"),
        ({"codes": np.zeros((2, 12, 35), np.uint16)}, "a batch of recordings"),
        ({"codes": "none"}, "not an array"),
        ({"original_length": 1 << 60}, "an original length from"),
        ({"original_length": 10**7}, "fits no DAC model"),
        ({"original_length": True}, "an original length from"),
        ({"sample_rate": 0}, "a sample rate from"),
        ({"chunk_length": 34}, "not a multiple of its window"),
        ({"chunk_length": 5}, "not a multiple of its window"),  # windows are never padded
        ({"input_db": np.array([np.nan], np.float32)}, "must have one loudness"),
        ({"input_db": np.array([200.5], np.float32)}, "must have one loudness"),
        ({"input_db": np.array([-200.5], np.float32)}, "must have one loudness"),
        ({"input_db": np.zeros(2, np.float32)}, "must have one loudness"),
        ({"dac_version": "2.0.0"}, "another version"),
        ({"padding": 1}, "another version"),
    ]


@pytest.mark.parametrize(("change", "message"), wrong_dacs())
def test_wrong_fields_of_dac_files(change: dict[str, Any], message: str) -> None:
    whole: Any = np.load(DATA / "whole-16khz.dac", allow_pickle=True)[()]
    part = whole if "codes" in change else whole["metadata"]
    part.update(change)
    with pytest.raises(NacError, match=message):
        converted(dac_with(whole))
    part.pop(*change)
    with pytest.raises(NacError, match="codes or metadata are missing"):
        converted(dac_with(whole))


def dac_of(codebooks: int, frames: int, **change: Any) -> bytes:
    """Codes of 0 in a .dac file."""
    whole: Any = np.load(DATA / "whole-16khz.dac", allow_pickle=True)[()]
    whole["codes"] = np.zeros((1, codebooks, frames), np.uint16)
    whole["metadata"] |= {"chunk_length": frames, **change}
    return dac_with(whole)


@pytest.mark.parametrize(("declared", "taken"), [(11200, 11200), (11201, 11200), (11202, None)])
def test_a_dac_file_declares_at_most_what_its_frames_have_and_one_for_rounding(
    declared: int, taken: int | None
) -> None:
    data = dac_of(12, 35, sample_rate=16000, original_length=declared)
    if taken is None:
        with pytest.raises(NacError, match="its frames have 11200"):
            converted(data, model="dac_16khz")
    else:
        assert converted(data, model="dac_16khz")[1].seconds == taken / 16000


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.spec.family == "dac"])
def test_all_codebooks_of_a_dac_model_tell_which_it_is(name: str) -> None:
    """Also in windows that another model has by default."""
    spec = MODELS[name].spec
    data = dac_of(len(spec.codebooks), 10, sample_rate=spec.sample_rate, original_length=10 * spec.frame_samples)
    assert converted(data)[1].model == name
    for window in {34, 59, 72} if len(spec.codebooks) < 18 else ():
        one = dac._segment(spec, window).stride
        data = dac_of(
            len(spec.codebooks), window, sample_rate=spec.sample_rate, original_length=one, padding=False
        )
        assert converted(data)[1].model == name


@pytest.mark.parametrize("loudness", [-200, 200])
def test_a_dac_file_is_as_loud_or_soft_as_it_may_be(loudness: float) -> None:
    data, _ = converted(dac_of(12, 35, sample_rate=16000, original_length=11200, input_db=np.float32(loudness)))
    back: Any = np.load(io.BytesIO(converted(data, "dac")[0]), allow_pickle=True)[()]
    assert back["metadata"]["input_db"] == pytest.approx(loudness, abs=1e-4)


def test_what_other_writers_of_dac_files_do() -> None:
    """numpy's own scalars, other integers, columns first: the same recording."""
    whole: Any = np.load(DATA / "whole-16khz.dac", allow_pickle=True)[()]
    wanted = converted(dac_with(whole))[0]
    for dtype in (np.int64, ">u2", np.int16):
        whole["codes"] = np.asfortranarray(whole["codes"].astype(dtype))
        assert converted(dac_with(whole))[0] == wanted
    whole["metadata"]["input_db"] = np.float32(whole["metadata"]["input_db"][0])
    assert converted(dac_with(whole))[0] == wanted


def meta_length(ecdc: bytes) -> int:
    return int.from_bytes(ecdc[5:9], "big")


def with_meta(**change: Any) -> bytes:
    data = (DATA / "encodec_24khz-24077.ecdc").read_bytes()
    length = meta_length(data)
    meta = json.dumps({**json.loads(data[9 : 9 + length]), **change}).encode()
    return data[:5] + len(meta).to_bytes(4, "big") + meta + data[9 + length :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_meta(m="encodec_99khz"), "not one of the published EnCodec models"),
        (with_meta(m=["x"]), "not one of the published EnCodec models"),
        (with_meta(al=24077.0), "a length from 1 to"),
        (with_meta(al=0), "a length from 1 to"),
        (with_meta(al=1 << 47), "cut short"),
        (with_meta(m="encodec_48khz", al=1 << 47), "cut short"),
        (with_meta(nc=33), "expected a number of codebooks from 1 to 32, not 33"),
        (with_meta(nc=True), "a number of codebooks from"),
        (with_meta(al=23040), "bytes after the end"),
        (b"ECDC\x01" + bytes(4), "version 1 of .ecdc"),
        (b"ECDC\0\xff\xff\xff\xff", "a header of 4294967295 bytes"),
        (b"ECDC\0\0\0\0\x02[]", "not a JSON object"),
        (b"ECDC\0\0\0\xf0\0" + b"[" * 0xF000, "not a JSON object"),
        (b"ECDC\0", "cut short"),
    ],
)
def test_wrong_ecdc_files(data: bytes, message: str) -> None:
    tracemalloc.start()
    with pytest.raises(NacError, match=message):
        converted(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_header_of_an_ecdc_file_is_as_long_as_it_may_be() -> None:
    padding = (1 << 16) - (len(with_meta(x="")) - len(with_meta())) - meta_length(with_meta())
    assert meta_length(with_meta(x=" " * padding)) == 1 << 16
    assert converted(with_meta(x=" " * padding))[0] == converted(with_meta())[0]
    with pytest.raises(NacError, match="a header of 65537 bytes"):
        converted(with_meta(x=" " * (padding + 1)))


@settings(max_examples=300)
@given(st.data())
def test_changed_files_are_refused_or_make_sense(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*FILES, "x.lyra"]))
    content = bytearray(bytes(range(80)) if name == "x.lyra" else (DATA / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 400) | st.integers(0, 5000)) % max(1, len(content))
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == 1:
            content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == 2:
            del content[place : place + data.draw(st.integers(1, 20))]
        else:
            del content[place + 1 :]
    made = b""
    with suppress(NacError):
        made, _ = converted_lyra(bytes(content), 3.2) if name == "x.lyra" else converted(bytes(content))
    if made:
        verify(io.BytesIO(made))


# Decoding what was converted


def test_a_part_of_windows_is_that_part_of_the_whole(folder: Path) -> None:
    write("song.nac", converted((DATA / "windows-16khz.dac").read_bytes())[0])
    with narrow_codecs() as codecs:
        codec = codecs["dac_16khz"]
        whole, rate = nac.read("song.nac", load=lambda name: codec)
        assert whole.shape == (46305, 2)
        assert rate == 22050
        for start in (0.2, 2.0):
            part, _ = nac.read("song.nac", start=start, duration=0.3, load=lambda name: codec)
            first = round(start * rate)
            np.testing.assert_allclose(part, whole[first : first + len(part)], atol=2e-5)
            assert len(part) == min(round(0.3 * rate), len(whole) - first)


def test_windows_can_be_cut(folder: Path) -> None:
    whole = write("song.nac", converted((DATA / "windows-16khz.dac").read_bytes())[0])
    nac.cut(whole, "part.nac", start=1.6, duration=0.1)
    nac.peel(whole, "lower.nac", kbps=2)
    assert nac.info("part.nac").bytes < nac.info(whole).bytes
    assert nac.info("lower.nac").codebooks == [2, 2]
    with narrow_codecs() as codecs:
        part, _ = nac.read("part.nac", load=lambda name: codecs["dac_16khz"])
        wanted, _ = nac.read(whole, start=1.6, duration=0.1, load=lambda name: codecs["dac_16khz"])
    assert np.array_equal(part, wanted)


@pytest.mark.parametrize("window", [18, 20, 25, 34])
def test_parts_of_windows_of_any_length_sound_as_in_the_whole(folder: Path, window: int) -> None:
    """With short ones, a sample is in the middle of one that began several windows before."""
    song = recording("dac_16khz", 8 * window, codebooks=2)
    stride = dac._segment(MODELS["dac_16khz"].spec, window).stride
    made = replace(song, header=replace(song.header, segment=Segment(window, stride), samples=7 * stride))
    write("song.nac", as_nac(made))
    with narrow_codecs() as codecs:
        whole, rate = nac.read("song.nac", load=lambda name: codecs["dac_16khz"])
        for low in (1, 4 * stride + 1, 5 * stride + 2, 6 * stride - 1):
            where = {"start": low / rate, "duration": 100 / rate}
            part, _ = nac.read("song.nac", **where, load=lambda name: codecs["dac_16khz"])
            np.testing.assert_array_equal(part, whole[low : low + 100])
            nac.cut("song.nac", "part.nac", force=True, **where)
            cut, _ = nac.read("part.nac", load=lambda name: codecs["dac_16khz"])
            np.testing.assert_array_equal(cut, part)


def test_cut_windows_are_a_dac_file(folder: Path) -> None:
    whole = write("song.nac", converted((DATA / "windows-16khz.dac").read_bytes())[0])
    nac.cut(whole, "part.nac", start=1.6, duration=0.1)
    result = nac.convert("part.nac", "part.dac")
    assert "first 0.263 s are not wanted" in " ".join(result.notes)
    assert nac.convert("part.dac", "again.nac").model == "dac_16khz"
    (left, right) = CODES["windows-16khz.dac/codes"]
    kept = streams(Path("again.nac").read_bytes())
    assert np.array_equal(kept[0], left[:, 4 * 34 : 6 * 34])
    assert np.array_equal(kept[1], right[:, 4 * 34 : 6 * 34])


def test_windows_lie_where_they_were() -> None:
    """The middle of every window is what the codec makes of it alone, and they follow each other."""
    with narrow_codecs() as codecs:
        inner = codecs["dac_16khz"]
        codec = Segmented(inner, Segment(34, 5346))
        arrays = [np.random.default_rng(i).integers(0, 1024, (1, 102)) for i in range(2)]
        codes = nac.Codes(tuple(inner._array(a, np.int64) for a in arrays))
        audio = codec.decode(codes)
        middle = 17 * 320 - 5346 // 2
        for window in range(3):
            alone = inner.decode(nac.Codes(tuple(a[:, window * 34 : window * 34 + 34] for a in codes.arrays)))
            at = window * 5346 + middle
            assert (audio[..., at : at + 5346] == alone[..., middle : middle + 5346]).all()
        assert audio.shape[-1] == 2 * 5346 + 34 * 320


def test_the_gain_of_a_loud_encoding_is_taken_back(folder: Path) -> None:
    whole = converted((DATA / "whole-16khz.dac").read_bytes())[0]
    assert Reader(io.BytesIO(whole)).header.gain > 1
    with narrow_codecs() as codecs:
        nac.decompress(write("song.nac", whole), "song.wav", load=lambda name: codecs["dac_16khz"])
        read, _ = nac.read("song.nac", load=lambda name: codecs["dac_16khz"])
    import soundfile

    written, _ = soundfile.read("song.wav", always_2d=True)
    np.testing.assert_allclose(written, np.clip(read, -1, 1), atol=2 / 32768)


def test_unknown_weights_are_those_at_hand(folder: Path) -> None:
    write("song.nac", converted((DATA / "whole-16khz.dac").read_bytes())[0])
    info = nac.info("song.nac")
    assert info.fingerprint == UNKNOWN_WEIGHTS
    assert "weights not known" in command("info", "song.nac").stdout


def test_weights_that_were_loaded_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "fingerprint", lambda name: "0123456789abcdef" if name == "dac_16khz" else "")
    data, result = converted((DATA / "whole-16khz.dac").read_bytes())
    assert Reader(io.BytesIO(data)).header.fingerprint == "0123456789abcdef"
    assert not any("weights" in note for note in result.notes)


# The command


def command(*words: str | Path, stdin: bytes | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(cli.main, [os.fspath(w) for w in words], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_the_command_tells_what_it_did(folder: Path) -> None:
    source = DATA / "encodec_24khz-24077.ecdc"
    lines = command("convert", source, "song.nac").stderr.splitlines()
    assert len(lines) == 2
    assert lines[0] == (
        f"{source}: .ecdc does not store: the recording's own sample rate and channels (taken: 24000 Hz, 1); "
        "the weights (taken: those published as encodec_24khz)"
    )
    assert lines[1].startswith(f"{source} -> song.nac: 0:01.0, 351 B -> ")
    assert "song.nac exists" in command("convert", source, "song.nac", code=1).stderr
    row = json.loads(command("convert", "song.nac", "b.ecdc", "--json", "-q").stdout)
    assert (row["format"], row["notes"], row["error"]) == ("ecdc", [], None)
    assert Path("b.ecdc").read_bytes() == source.read_bytes()


def test_the_command_on_pipes() -> None:
    source = (DATA / "whole-16khz.dac").read_bytes()
    made = command("convert", "-", "-", stdin=source).stdout_bytes
    assert made == converted(source)[0]
    back = command("convert", "-", "-", "--format", "dac", "-q", stdin=made).stdout_bytes
    assert converted(back)[0] == made
    assert "nac: -: " in command("convert", "-", "-", stdin=b"RIFF", code=1).stderr


def test_a_long_pipe_is_read_to_its_end(folder: Path) -> None:
    packets = np.random.default_rng(0).bytes(23 * 3000)
    os.mkfifo(folder / "pipe.lyra")
    thread = Thread(target=(folder / "pipe.lyra").write_bytes, args=(packets,), daemon=True)
    thread.start()
    command("convert", "pipe.lyra", "song.nac", "-k", "9.2", "-q")
    assert converted(Path("song.nac").read_bytes(), "lyra")[0] == packets


def test_a_folder_takes_the_inputs_name(folder: Path) -> None:
    (folder / "out").mkdir()
    command("convert", DATA / "whole-16khz.dac", "out")
    assert (folder / "out" / "whole-16khz.nac").exists()


def test_pytorch_stays_out() -> None:
    program = "import sys; from nac.cli import main; main(standalone_mode=False); sys.exit('torch' in sys.modules)"
    for source, target in ((DATA / "windows-44khz.dac", "a.nac"), (Path("a.nac"), "a.dac")):
        words = [sys.executable, "-c", program, "convert", str(source), target]
        environment = {**os.environ, "PYTHONPATH": str(DATA.parents[2])}
        assert subprocess.run(words, env=environment, check=False).returncode == 0
