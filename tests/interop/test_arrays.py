"""Codes as .npz, .npy and .safetensors, and back."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from container_files import UNKNOWN, files, speech, written
from hypothesis import given, settings
from safetensors import safe_open

import nac
from nac import cli
from nac.codecs.registry import MODELS
from nac.container import Chunk, Reader
from nac.errors import FormatError, NacError
from nac.spec import Codebook

VECTORS = sorted((Path(__file__).parents[2] / "formats" / "vectors").glob("*.nac"))

NOT_WRITTEN = {
    *(
        "codebooks-each",
        "flags-in-vain",
        "mask-of-all",
        "rate-in-full",
        "samples-said-twice",
    ),  # the same said longer
    *("record-unknown-empty", "unknown-records"),  # not codes
    *("range-beyond", "range-beyond-tables", "range-shortest"),  # codes said in more bytes than they take
    *("frames-most", "frame-last", "samples-most"),  # next to nothing but missing or silent
}
"""Vectors of which a writer would make other bytes, and those that are too much silence for arrays."""


def there_and_back(data: bytes, format: str) -> bytes:
    arrays, back = io.BytesIO(), io.BytesIO()
    nac.write_codes(io.BytesIO(data), arrays, format=format)
    nac.write_codes(io.BytesIO(arrays.getvalue()), back, format="nac")
    return back.getvalue()


@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_the_vectors_come_back_byte_for_byte(format: str) -> None:
    count = 0
    for path in VECTORS:
        expected = json.loads(path.with_suffix(".json").read_text())
        if expected["error"] is None and path.stem not in NOT_WRITTEN:
            assert there_and_back(path.read_bytes(), format) == path.read_bytes(), path.stem
            count += 1
    assert count > 15


@pytest.mark.parametrize("format", ["npz", "safetensors"])
@settings(max_examples=20)
@given(made=files())
def test_any_file_comes_back(format: str, made: tuple) -> None:
    header, chunks = made
    try:
        file = written(replace(header, samples=None), chunks, 0)
    except ValueError:
        return  # frames that hold no samples, since the start lies behind them
    assert content(there_and_back(file.getvalue(), format)) == content(file.getvalue())


@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_tags_of_one_name_and_codes_of_16_bits_come_back(format: str) -> None:
    tags = (("artist", "one"), ("artist", "other"), ("title", "t"), ("artist", "one"))
    for bits in (15, 16):
        header = replace(UNKNOWN, tags=tags, codebooks=(Codebook(bits),), stream_codebooks=(1,))
        codes = np.array([0, 1, (1 << bits) - 1, 1 << bits - 1] * 5)
        data = written(header, [Chunk.pack(header, 0, 20, [[codes]])], 20 * 960).getvalue()
        assert there_and_back(data, format) == data


def content(data: bytes) -> object:
    reader = Reader(io.BytesIO(data))
    chunks = [
        (
            chunk.first_frame,
            chunk.frames,
            chunk.angle,
            chunk.overhang,
            [list(row) for row in chunk.scales],
            [[array.tolist() for array in chunk.codes(reader.header, s)] for s in range(len(chunk.layers))],
        )
        for chunk in reader.chunks()
    ]
    return reader.header, reader.samples, chunks


def test_what_the_arrays_look_like(tmp_path: Path) -> None:
    data, chunks = speech()
    (tmp_path / "x.nac").write_bytes(data)
    header = Reader(io.BytesIO(data)).header
    expected = np.concatenate([np.stack(chunk.codes(header, 0)) for chunk in chunks], axis=1)
    for name in ("x.npz", "x.safetensors", "x.npy"):
        nac.write_codes(tmp_path / "x.nac", tmp_path / name)
    with np.load(tmp_path / "x.npz") as file:
        assert sorted(file.files) == ["chunks", "header", "stream.0"]
        assert file["stream.0"].dtype == np.int16
        assert np.array_equal(file["stream.0"], expected)
        assert json.loads(str(file["header"]))["model"] == "soundstream_16khz"
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert np.array_equal(file.get_tensor("stream.0"), expected)
        assert json.loads(file.metadata()["header"])["total_samples"] == 57600
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected[None])


def vector(name: str) -> bytes:
    return next(path for path in VECTORS if path.stem == name).read_bytes()


def test_codebooks_of_several_rates_are_arrays_of_their_own() -> None:
    out = io.BytesIO()
    nac.write_codes(io.BytesIO(vector("snac")), out, format="npz")
    arrays = np.load(io.BytesIO(out.getvalue()))
    assert [len(arrays[f"stream.0.codebook.{number}"]) for number in range(4)] == [3, 6, 12, 24]
    with pytest.raises(NacError, match="npz"):
        nac.write_codes(io.BytesIO(vector("snac")), io.BytesIO(), format="npy")
    # Their names do not depend on how many of them a file has.
    few, out = io.BytesIO(), io.BytesIO()
    nac.peel(io.BytesIO(vector("snac")), few, codebooks=1)
    nac.write_codes(io.BytesIO(few.getvalue()), out, format="safetensors")
    found = safetensors.numpy.load(out.getvalue())
    assert {name for name in found if name.startswith("stream")} == {"stream.0.codebook.0"}
    assert np.array_equal(found["stream.0.codebook.0"], arrays["stream.0.codebook.0"])


def test_a_silent_stream_is_minus_one() -> None:
    out = io.BytesIO()
    nac.write_codes(io.BytesIO(vector("absent-streams")), out, format="npy")
    codes = np.load(io.BytesIO(out.getvalue()))
    assert codes.shape == (2, 3, 10)
    assert (codes[0, :, 4:8] == -1).all()
    assert (codes[1, 0, :8] == -1).all()
    assert (codes[1, 1:] == -1).all()
    assert (codes[0, :, :4] >= 0).all()


@pytest.mark.parametrize("name", ["soundstream_16khz", "encodec_24khz", "snac_32khz"])
def test_arrays_of_ones_own_become_files(name: str, tmp_path: Path) -> None:
    spec, random = MODELS[name].spec, np.random.default_rng(0)
    frames = 1100
    books = [
        [random.integers(0, 1 << bits, frames * unit) for bits, unit in spec.codebooks[:count]] for count in (3, 2)
    ]
    for array, unit in zip(books[1], (unit for _, unit in spec.codebooks), strict=False):
        array[100 * unit : 300 * unit] = -1
    arrays = {
        f"stream.{stream}.codebook.{number}": a
        for stream, part in enumerate(books)
        for number, a in enumerate(part)
    }
    np.savez(tmp_path / "x.npz", **arrays)
    nac.write_codes(tmp_path / "x.npz", tmp_path / "x.nac", model=name)
    info = nac.info(tmp_path / "x.nac")
    assert (info.model, info.channels, info.samples) == (name, 2, frames * spec.frame_samples)
    assert (info.sample_rate, info.codebooks) == (spec.sample_rate, [3, 2])
    for found, given_ in zip(nac.read_codes(tmp_path / "x.nac"), books, strict=True):
        for one, other in zip(found, given_, strict=True):
            assert np.array_equal(one, other)
    if name != "snac_32khz":
        np.save(tmp_path / "one.npy", np.stack(books[0]))
        nac.write_codes(tmp_path / "one.npy", tmp_path / "one.nac", model=name)
        assert np.array_equal(nac.read_codes(tmp_path / "one.nac")[0], books[0])


class Evil:
    def __reduce__(self) -> tuple:
        return (print, ("run",))


def test_what_is_no_codes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(data: bytes, match: str, error: type[Exception] = NacError, **options: str) -> None:
        with pytest.raises(error, match=match):
            nac.write_codes(io.BytesIO(data), io.BytesIO(), **{"format": "nac", **options})

    def npy(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    def npz(**arrays: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    pickled = io.BytesIO()
    np.save(pickled, np.array([Evil()], object), allow_pickle=True)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("stream.0.npy", pickled.getvalue())
    for bad in (b"", b"text", pickled.getvalue(), zipped.getvalue(), pickle.dumps(Evil()), npy(np.ones(3, int))):
        refused(bad, "npz", FormatError, model="encodec_24khz")
    codes = np.ones((2, 4), int)
    refused(npy(codes), "does not name the model")
    refused(npy(codes), "unknown model 'nothing'", model="nothing")
    refused(npy(codes), "scales", model="encodec_48khz")
    refused(npy(codes * 1024), "0 to 1023", model="encodec_24khz")
    refused(npy(codes * 0.5), "integers", FormatError, model="encodec_24khz")
    refused(npy(np.ones((33, 4), int)), "codebook", model="encodec_24khz")
    refused(npy(np.ones((1, 3), int)), "multiple of 4", model="snac_32khz")
    refused(npz(other=codes), "stream.0", model="encodec_24khz")
    some_silent = codes.copy()
    some_silent[1, 2] = -1
    refused(npy(some_silent), "not the codes", model="encodec_24khz")
    data, _ = speech()
    refused(data, "exactly one of")
    refused(npy(codes), "exactly one of", format="npz")
    refused(data, "already names its model", format="npz", model="encodec_24khz")
    good = io.BytesIO()
    nac.write_codes(io.BytesIO(data), good, format="npz")
    arrays = dict(np.load(io.BytesIO(good.getvalue())))
    refused(good.getvalue(), "already names the model", model="encodec_24khz")
    refused(npz(**{**arrays, "header": np.array("[]")}), "not the codes", FormatError)
    refused(npz(**{**arrays, "chunks": arrays["chunks"] * -1}), "not the codes", FormatError)
    refused(npz(**{**arrays, "chunks": arrays["chunks"] * 7}), "not the codes", FormatError)
    refused(npz(**{**arrays, "stream.0": arrays["stream.0"][:1]}), "codebooks", FormatError)
    # A segment of one frame cannot end where the one before it is a frame short.
    header = json.loads(str(arrays["header"])) | {"segment": [1, 320]}
    arrays["chunks"][-1, 3] = 1
    refused(npz(**{**arrays, "header": np.array(json.dumps(header))}), "segments of 1 .* overhang", FormatError)
    assert capsys.readouterr().out == ""


def test_bombs_are_refused_in_little_memory() -> None:
    def npy(*shape: int) -> bytes:
        """A header, and nothing behind it."""
        header = repr({"descr": "<i2", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
        return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header

    def npz(content: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("stream.0.npy", content)
        return file.getvalue()

    deep = io.BytesIO()
    np.savez_compressed(deep, header=np.array('{"a":' + "[" * 200_000))
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((1, 100 << 20), np.int8))
    bombs = [npy(1 << 24, 0), npy(1 << 24, 0, 0), npy(1, 1 << 40), npz(npy(1 << 24, 0)), npz(zeros.getvalue())]
    for bomb, model in [*((bomb, "nac_24khz") for bomb in bombs), (deep.getvalue(), None)]:
        tracemalloc.start()
        try:
            with pytest.raises(FormatError):
                nac.write_codes(io.BytesIO(bomb), io.BytesIO(), format="nac", model=model)
            assert tracemalloc.get_traced_memory()[1] < 10 << 20
        finally:
            tracemalloc.stop()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, _ = speech()
    Path("x.nac").write_bytes(data)

    def run(*words: str, stdin: bytes | None = None) -> bytes:
        result = CliRunner().invoke(cli.main, ["codes", *words], input=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout_bytes

    run("x.nac", "-o", "x.npz")
    run("x.npz", "-o", "y.nac")
    assert Path("y.nac").read_bytes() == data
    piped = run("-", "-o", "-", "--format", "safetensors", "-q", stdin=data)
    assert run("-", "-o", "-", "--format", "nac", "-q", stdin=piped) == data


NUMBERS = [
    *("sample_rate", "frame_samples", "network_channels", "original_sample_rate", "channels", "samples", "start"),
    "total_samples",
]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in NUMBERS for value in (0.5, "1", [], 1e30, -1, 10**30)),
        *((name, float(24000)) for name in ("samples", "total_samples")),
        ("stream_codebooks", [1.0]),
        ("codebooks", [[10.0, 1]] * 16),
        ("codebooks", [[10, 1.0]] * 16),
        ("segment", [4, 800.0]),
        ("gain", "loud"),
        ("gain", 1e39),
        ("fingerprint", 7),
        ("tags", [["title", "x", "y"]]),
    ],
)
def test_a_header_with_numbers_that_a_file_cannot_have_is_refused(
    field: str, value: object, tmp_path: Path
) -> None:
    arrays = io.BytesIO()
    data = nac.encode(np.zeros(24000, np.float32) + 0.1, 24000, model="nac_24khz", codebooks=1)
    nac.write_codes(io.BytesIO(data), arrays, format="npz")
    content = dict(np.load(io.BytesIO(arrays.getvalue())))
    header = json.loads(str(content["header"]))
    assert field in header
    changed = io.BytesIO()
    np.savez(changed, **{**content, "header": np.array(json.dumps({**header, field: value}))})
    with pytest.raises(NacError):
        nac.write_codes(io.BytesIO(changed.getvalue()), tmp_path / "out.nac")
    assert not list(tmp_path.iterdir())
