"""Arrays to .nac and back: the same bytes and samples as by way of files, at once, from many threads."""

from __future__ import annotations

import gc
import io
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from narrow_codecs import narrow_codecs
from toy_codec import ToyCodec

import nac
from nac.files import decoding
from nac.weights import loaded, models

MODEL = "nac_24khz"
SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT", "float64": "DOUBLE"}


def sound(shape: tuple[int, ...], dtype: str, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    """Noise with a tone, filling a part of what the type can hold."""
    random = np.random.default_rng(seed)
    whole = 0.5 * np.sin(np.arange(shape[0]) / 9).reshape(-1, *[1] * (len(shape) - 1))
    whole = peak * (whole + 0.5 * random.uniform(-1, 1, shape))
    return (whole * np.iinfo(dtype).max if dtype.startswith("int") else whole).astype(dtype)


def by_file(samples: np.ndarray, rate: int, folder: Path, **options: Any) -> bytes:
    wav, out = folder / "x.wav", folder / "x.nac"
    soundfile.write(wav, samples, rate, subtype=SUBTYPES[samples.dtype.name])
    nac.compress(wav, out, force=True, **options)
    return out.read_bytes()


@pytest.mark.parametrize("dtype", SUBTYPES)
@pytest.mark.parametrize("shape", [(30_000,), (30_000, 1), (70_001, 2), (9_000, 3), (0,), (0, 2)])
def test_an_array_gives_the_bytes_of_the_wav_file_that_holds_it(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    samples = sound(shape, dtype)
    options: dict[str, Any] = {"model": MODEL, "kbps": 6}
    expected = by_file(samples, 22050, tmp_path, **options)
    assert nac.encode(samples, 22050, **options) == expected
    assert nac.encode(torch.from_numpy(samples), np.int64(22050), **options) == expected
    result = nac.write(tmp_path / "y.nac", samples, 22050, **options)
    assert (tmp_path / "y.nac").read_bytes() == expected
    assert (result.model, result.seconds, result.bytes_out) == (MODEL, shape[0] / 22050, len(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_beyond_full_scale_and_no_numbers(
    tmp_path: Path, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    samples = sound((20_000, 2), dtype, peak=3)
    expected = by_file(samples, 24000, tmp_path, model=MODEL)
    assert nac.encode(samples, 24000, model=MODEL) == expected
    back, _ = nac.decode(expected)
    assert np.abs(back).max() > 1.5
    caplog.clear()
    samples[100] = np.nan, np.inf
    data = nac.encode(samples, 24000, model=MODEL)
    assert "2 NaN or infinite samples" in caplog.text
    assert data == by_file(samples, 24000, tmp_path, model=MODEL)


def test_options_are_those_of_compress(tmp_path: Path) -> None:
    samples = sound((30_000, 2), "int16")
    for options in ({"mono": True}, {"codebooks": 3}, {"kbps": 12, "coding": "packed"}):
        expected = by_file(samples, 16000, tmp_path, model=MODEL, **options)
        assert nac.encode(samples, 16000, model=MODEL, **options) == expected


def test_other_strides_and_byte_orders_are_the_same_samples() -> None:
    samples = sound((20_000, 2), "int16")
    expected = nac.encode(samples, 24000, model=MODEL)
    for same in (np.asfortranarray(samples), samples.astype(">i2"), samples[::-1].copy()[::-1]):
        assert nac.encode(same, 24000, model=MODEL) == expected
    assert nac.encode([0.25, -0.25], 24000, model=MODEL) == nac.encode(np.array([0.25, -0.25]), 24000, model=MODEL)


def test_tags_come_back() -> None:
    data = nac.encode(np.zeros(2400), 24000, model=MODEL, tags={"TITLE": "Rain", "artist": "Ølund"})
    assert nac.info(io.BytesIO(data)).tags == {"title": "Rain", "artist": "Ølund"}


@pytest.mark.parametrize(
    ("samples", "rate", "error", "message"),
    [
        (np.zeros(9, np.int64), 8000, TypeError, "int64"),
        (np.zeros(9, np.uint8), 8000, TypeError, "uint8"),
        (np.zeros(9, bool), 8000, TypeError, "bool"),
        (torch.zeros(9, dtype=torch.bfloat16), 8000, TypeError, "bfloat16"),
        ("song.wav", 8000, TypeError, "not a str"),
        (b"RIFF", 8000, TypeError, "not a bytes"),
        (Path("song.wav"), 8000, TypeError, "not a PosixPath"),
        (None, 8000, TypeError, "not a NoneType"),
        ({"array": np.zeros(9), "sampling_rate": 8000}, 8000, TypeError, "not a dict"),
        (torch.zeros(9, device="meta"), 8000, TypeError, "meta"),
        (np.zeros((2, 3, 4)), 8000, ValueError, r"\[2, 3, 4\]"),
        (np.float32(1), 8000, ValueError, r"\[\]"),
        (np.zeros((9, 0)), 8000, ValueError, r"\[9, 0\]"),
        (np.zeros((2, 24000)), 8000, ValueError, r"looks like \[channels, n\]"),
        ([[0.0], [0.0, 1.0]], 8000, ValueError, "one shape"),
        (np.zeros(9), 44100.5, TypeError, "44100.5"),
        (np.zeros(9), None, TypeError, "None"),
        (np.zeros(9), -8000, ValueError, "-8000"),
        (np.zeros(9), 999, ValueError, "1000 to 16777216"),
        (np.zeros(9), 1 << 25, ValueError, "1000 to 16777216"),
    ],
)
def test_what_is_no_recording_is_refused(samples: Any, rate: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        nac.encode(samples, rate, model=MODEL)
    assert isinstance(caught.value, nac.NacError)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coding": "zip"}, ValueError, "auto, packed or range, not 'zip'"),
        ({"kbps": "3"}, TypeError, "kbit/s, not '3'"),
        ({"codebooks": "2"}, TypeError, "codebooks is a whole one, not '2'"),
        ({"codebooks": 2.0}, TypeError, "codebooks is a whole one, not 2.0"),
        ({"model": None}, TypeError, "model.s name is needed, not None"),
        ({"model": ToyCodec()}, TypeError, "model.s name is needed"),
        ({"model": "auto", "codec": MODEL}, TypeError, "codec that nac.load gave is needed, not 'nac_24khz'"),
        ({"tags": ["title"]}, TypeError, "tags"),
    ],
)
@pytest.mark.parametrize("model", [MODEL, "auto"])
def test_an_option_that_cannot_be_is_refused(
    options: dict[str, Any], error: type[Exception], message: str, model: str
) -> None:
    """At once, by a file that is written block by block too, though nothing be written to it."""
    asked = {"model": model, **options}
    with pytest.raises(error, match=message) as caught:
        nac.encode(np.zeros(9, np.int16), 24000, **asked)
    assert isinstance(caught.value, nac.NacError)
    assert "\n" not in str(caught.value)
    with pytest.raises(error, match=message):
        nac.open(io.BytesIO(), "w", sample_rate=24000, channels=1, **asked)


@pytest.mark.parametrize("data", ["song.nac", Path("song.nac"), None, 3, io.BytesIO(b"x")])
def test_what_is_no_bytes_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=r"the bytes of a \.nac file are needed") as caught:
        nac.decode(data)
    assert isinstance(caught.value, nac.NacError)


def test_a_codec_at_hand_is_used() -> None:
    samples = sound((30_000,), "int16")
    codec = nac.load(MODEL)
    data = nac.encode(samples, 24000, codec=codec, kbps=6)
    assert data == nac.encode(samples, 24000, model=MODEL, kbps=6)
    assert np.array_equal(nac.decode(data, codec=codec)[0], nac.decode(data)[0])
    with pytest.raises(ValueError, match="snac_24khz"):
        nac.encode(samples, 24000, codec=codec, model="snac_24khz")
    with narrow_codecs() as others, pytest.raises(nac.ModelError, match="cannot decode"):
        nac.decode(data, codec=others["dac_16khz"])


@pytest.mark.parametrize("dtype", SUBTYPES)
def test_decode_gives_types_as_soundfile_does(dtype: str, tmp_path: Path) -> None:
    data = nac.encode(sound((30_000, 2), "int16"), 24000, model=MODEL, kbps=12)
    back, rate = nac.decode(data, dtype=dtype)
    assert (back.dtype, back.shape, rate) == (np.dtype(dtype), (30_000, 2), 24000)
    nac.decompress(io.BytesIO(data), tmp_path / "x.wav")
    heard, _ = soundfile.read(tmp_path / "x.wav", dtype=dtype)
    if dtype == "int16":
        assert np.array_equal(back, heard)
    else:
        scale = 1 if dtype.startswith("float") else 2.0**31
        assert np.abs(back.astype(np.float64) - heard).max() <= 0.51 / 32768 * scale
    with pytest.raises(TypeError, match="uint8"):
        nac.decode(data, dtype="uint8")  # type: ignore[arg-type]


def test_integers_are_set_to_full_scale() -> None:
    loud = np.repeat(np.array([[1.0], [-1.0]], np.float32), 2400, axis=0) * 4
    data = nac.encode(loud, 24000, model=MODEL, kbps=12)
    for dtype in ("int16", "int32"):
        back, _ = nac.decode(data, dtype=dtype)
        assert (back.min(), back.max()) == (np.iinfo(dtype).min, np.iinfo(dtype).max)


def test_a_stretch_is_that_of_the_whole() -> None:
    data = nac.encode(sound((60_000,), "int16"), 24000, model=MODEL)
    whole, _ = nac.decode(data)
    part, _ = nac.decode(memoryview(data), start=1.25, duration=0.5)
    assert np.array_equal(part, whole[30_000:42_000])


# Codecs that stay loaded


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that are loaded, as they are loaded."""
    seen: list[str] = []
    load = models.load

    def counting(name: str, **options: Any) -> Any:
        seen.append(name)
        return load(name, **options)

    monkeypatch.setattr(models, "load", counting)
    loaded.forget()
    return seen


LOADING: dict[str, Callable[..., object]] = {
    "write": lambda _, **how: nac.write(io.BytesIO(), np.zeros(9), 16000, **how),
    "encode": lambda _, **how: nac.encode(np.zeros(9), 16000, **how),
    "open to write": lambda _, **how: nac.open(io.BytesIO(), "w", sample_rate=16000, channels=1, **how).close(),
    "compress": lambda data, **how: nac.compress(Path("a.wav"), io.BytesIO(), **how),
    "decompress": lambda data, **how: nac.decompress(io.BytesIO(data), io.BytesIO(), **how),
    "read": lambda data, **how: nac.read(io.BytesIO(data), **how),
    "decode": lambda data, **how: nac.decode(data, **how),
    "open to read": lambda data, **how: nac.open(io.BytesIO(data), **how).read(),
}


@pytest.mark.parametrize("name", LOADING)
def test_weights_are_downloaded_to_write_and_all_options_reach_the_model(
    name: str, toy: ToyCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = nac.encode(np.zeros(9), 16000)
    soundfile.write("a.wav", np.zeros(9), 16000)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(decoding, "loaded", lambda model, **how: asked.update(how) or toy)
    how: dict[str, Any] = {"weights": "w.safetensors", "device": "cuda:1"}
    if name in ("decompress", "read"):
        how["fast"] = True
    LOADING[name](data, **how)
    downloads = name in ("write", "encode", "open to write", "compress")
    assert asked == {"fast": False, **how, "download": downloads}


def test_many_calls_load_a_model_once_and_do_not_grow(loads: list[str]) -> None:
    samples = sound((480,), "int16")
    for _ in range(20):
        nac.decode(nac.encode(samples, 24000, model=MODEL, kbps=3))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(100):
        nac.decode(nac.encode(samples, 24000, model=MODEL, kbps=3))
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert loads == [MODEL]
    assert after - before < 50_000  # of which a call of a hundredth could be no more than 500 bytes


def test_eight_threads_at_once_load_once_and_agree(loads: list[str]) -> None:
    recordings = [sound((5_000 + 997 * number, 1 + number % 2), "int16", seed=number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            made = list(pool.map(lambda samples: nac.encode(samples, 24000, model=MODEL, kbps=6), recordings))
            heard = [samples for samples, _ in pool.map(nac.decode, made)]
    assert loads == [MODEL]
    for samples, data, back in zip(recordings, made, heard, strict=True):
        assert data == nac.encode(samples, 24000, model=MODEL, kbps=6)
        assert np.array_equal(back, nac.decode(data)[0])


def test_eight_threads_share_a_codec_of_pytorch() -> None:
    with narrow_codecs() as codecs:
        codec = codecs["encodec_24khz"]
        recordings = [sound((9_000 + 997 * number,), "int16", seed=number) for number in range(8)]
        expected = [nac.encode(samples, 24000, codec=codec) for samples in recordings]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda samples: nac.encode(samples, 24000, codec=codec), recordings)) == expected


def test_two_codecs_stay_loaded() -> None:
    kept, made = loaded.CodecCache(2), list[str]()

    def get(key: str) -> Any:
        return kept.get((key,), lambda: made.append(key) or ToyCodec())  # type: ignore[func-returns-value]

    first = get("a")
    assert get("b") is not first
    assert get("a") is first
    get("c")
    assert get("a") is first  # used later than b
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"]


def test_a_model_that_could_not_be_loaded_is_tried_again() -> None:
    kept = loaded.CodecCache(2)

    def fail() -> Any:
        raise nac.ModelError("no")

    for _ in range(2):
        with pytest.raises(nac.ModelError):
            kept.get(("a",), fail)
    codec = ToyCodec()
    assert kept.get(("a",), lambda: codec) is codec


def test_weights_that_changed_are_loaded_anew(tmp_path: Path, loads: list[str]) -> None:
    from safetensors.numpy import load_file, save_file

    official = models.path(MODEL)
    weights, tensors = tmp_path / official.name, load_file(official)
    samples = sound((4_000,), "int16")
    save_file(tensors, weights)
    os.utime(weights, ns=(10**18, 10**18))
    for _ in range(2):
        data = nac.encode(samples, 24000, model=MODEL, weights=weights)
    assert loads == [MODEL]
    name = next(name for name in tensors if name.endswith("weight"))
    save_file({**tensors, name: tensors[name] * 2}, weights)
    os.utime(weights, ns=(10**18, 10**18))  # of the same size and date
    other = nac.encode(samples, 24000, model=MODEL, weights=weights)
    assert loads == [MODEL, MODEL]
    assert nac.info(io.BytesIO(other)).fingerprint != nac.info(io.BytesIO(data)).fingerprint


def test_samples_may_be_as_loud_as_their_gain_can_be_stored() -> None:
    loud = np.array([9.9e29, -9.9e29, 0.5], np.float32)
    out = io.BytesIO()
    nac.write(out, loud, 16000, model="nac_24khz")
    assert nac.info(io.BytesIO(out.getvalue())).seconds == 3 / 16000
    with pytest.raises(nac.NacError, match=r"a sample of 1\.49e\+30"):
        nac.write(io.BytesIO(), loud * np.float32(1.5), 16000, model="nac_24khz")


@pytest.mark.parametrize("channels", [1, 255])
def test_channels_in_the_place_of_samples_are_told(channels: int) -> None:
    with pytest.raises(nac.NacError, match="looks like"):
        nac.write(io.BytesIO(), np.zeros((channels, 256)), 16000, model="nac_24khz")


@pytest.mark.parametrize("peak", [1.0000001, 1.1, 1.7, 3.0, 1e6])
def test_a_level_brings_the_peak_within_full_scale_and_hardly_below_it(toy: ToyCodec, peak: float) -> None:
    loudest = float(np.float32(peak))
    data = nac.encode(np.array([0.0, loudest], np.float32), 16000)
    assert 1 - 1e-6 < nac.NacFile(io.BytesIO(data)).header.gain * loudest <= 1
