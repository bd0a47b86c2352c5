"""The table of models, where weights are looked for, and loading."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import HubServer
from toy_models import File, toy

import nac
from nac.bitrate import default_kbps
from nac.codecs import registry
from nac.codecs.family import Packaged
from nac.codecs.registry import MODELS
from nac.errors import ModelError
from nac.weights import cache, models

LYRA = Path(__file__).parents[3] / "shared" / "weights" / "lyra-v2"
BUILTIN = ["nac_24khz", "nac_48khz"]
needs_lyra = pytest.mark.skipif(not LYRA.is_dir(), reason="needs ../shared/weights/lyra-v2")


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without weights or settings."""
    from huggingface_hub import constants

    monkeypatch.setenv("NAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("NAC_WEIGHTS", raising=False)
    monkeypatch.delenv("NAC_MIRROR", raising=False)


def test_the_table_is_complete_and_well_formed() -> None:
    for name, model in MODELS.items():
        assert model.name == name
        assert model.licence
        assert model.sources
        for source in model.sources:
            assert source.files
            assert str(source).startswith("https://") or isinstance(source, Packaged)
            for file in source.files:
                assert re.fullmatch("([0-9a-f]{8}|[0-9a-f]{64})?", file.sha256 or "")


def test_first_sources_are_the_official_addresses() -> None:
    names = {name: [str(source) for source in model.sources] for name, model in MODELS.items()}
    assert names["dac_44khz"] == [
        "https://huggingface.co/descript/dac_44khz",
        "https://github.com/descriptinc/descript-audio-codec/releases/download/0.0.1",
    ]
    assert names["dac_44khz_16kbps"] == [
        "https://github.com/descriptinc/descript-audio-codec/releases/download/1.0.0",
    ]
    assert names["encodec_48khz"] == [
        "https://huggingface.co/facebook/encodec_48khz",
        "https://dl.fbaipublicfiles.com/encodec/v0",
    ]


@pytest.mark.parametrize("name", BUILTIN)
def test_the_package_brings_a_model(name: str) -> None:
    (checked,) = models.verify(name)
    assert checked.against == "published"
    codec = nac.load(name, device="cpu")
    audio = torch.randn(1, 1, 5000, generator=torch.Generator().manual_seed(0)) / 10
    codes = codec.encode(audio)
    for count in (1, 5, 16):  # what fewer codebooks give is the beginning of what more give
        for fewer, all_ in zip(codec.encode(audio, count).arrays, codes.arrays, strict=False):
            assert torch.equal(fewer, all_)


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(ModelError, match="did you mean encodec_24khz"):
        registry.find("EnCodec-24kHz")
    with pytest.raises(
        ModelError, match="unknown model 'mp3': use one of nac_24khz, nac_48khz, soundstream_16khz, encodec_24khz"
    ):
        models.load("mp3")


def test_status_of_an_empty_machine() -> None:
    lines = {line.name: line for line in models.status()}
    assert list(lines) == list(MODELS)
    assert [line.name for line in lines.values() if line.present] == models.present() == BUILTIN
    line = lines["dac_44khz"]
    assert (line.sample_rate, line.channels, line.size, line.licence) == (44100, 1, 306_507_276, "MIT")
    assert line.kbps == pytest.approx((0.861, 7.752), abs=1e-3)


def test_importing_the_table_imports_nothing_heavy() -> None:
    heavy = "torch", "huggingface_hub", "urllib.request"
    code = f"import sys, nac.weights.models; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_own_weights_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.pth").write_bytes(b"")
    assert models.locate("dac_44khz", weights=tmp_path / "own.pth") == tmp_path / "own.pth"
    with pytest.raises(ModelError, match="no weights at"):
        models.locate("dac_44khz", weights=tmp_path / "absent.pth")
    with pytest.raises(ModelError, match="revision"):
        models.locate("dac_44khz", weights=tmp_path / "own.pth", revision="main")
    with pytest.raises(ModelError, match="no revisions"):
        models.locate("soundstream_16khz", revision="main")


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"weights")


LYRA_FILES = [file.name for file in MODELS["soundstream_16khz"].sources[0].files]


def test_nac_weights_holds_folders_named_after_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "weights"
    fill(root / "soundstream_16khz", *LYRA_FILES)
    fill(root / "dac_44khz", "model.safetensors", "config.json")
    fill(root / "dac_16khz", "weights_16khz.pth")
    fill(root / "snac_24khz")
    fill(root / "encodec_24khz", "mine.safetensors")
    monkeypatch.setenv("NAC_WEIGHTS", str(root))
    expected = {
        **{name: models.path(name) for name in BUILTIN},
        "soundstream_16khz": root / "soundstream_16khz",
        "encodec_24khz": root / "encodec_24khz",  # another layout: for the loader to see
        "dac_16khz": root / "dac_16khz" / "weights_16khz.pth",
        "dac_44khz": root / "dac_44khz" / "model.safetensors",
    }
    assert {name: path for name in MODELS if (path := models.locate(name))} == expected
    assert models.present() == list(expected)


def test_nac_weights_is_the_folder_of_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "lyra", *LYRA_FILES)
    monkeypatch.setenv("NAC_WEIGHTS", str(tmp_path / "lyra"))
    assert models.present() == [*BUILTIN, "soundstream_16khz"]
    assert models.locate("soundstream_16khz") == tmp_path / "lyra"

    fill(tmp_path / "dac_24khz", "model.safetensors")
    monkeypatch.setenv("NAC_WEIGHTS", str(tmp_path / "dac_24khz"))
    assert models.present() == [*BUILTIN, "dac_24khz"]

    fill(tmp_path / "some", "model.safetensors")
    monkeypatch.setenv("NAC_WEIGHTS", str(tmp_path / "some"))
    assert models.present() == BUILTIN  # five models call their weights so
    assert models.locate("dac_24khz") == tmp_path / "some" / "model.safetensors"  # but this one was asked for

    monkeypatch.setenv("NAC_WEIGHTS", str(tmp_path / "absent"))
    with pytest.raises(ModelError, match="NAC_WEIGHTS is"):
        models.present()


def test_an_official_name_in_nac_weights_must_hold_the_official_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "snac_24khz", "pytorch_model.bin")
    monkeypatch.setenv("NAC_WEIGHTS", str(tmp_path))
    with pytest.raises(ModelError, match="4b8164cc") as caught:
        models.load("snac_24khz")
    assert caught.value.remedy == "weights"
    with pytest.raises(ModelError, match="not deleted"):
        models.remove("snac_24khz")
    assert (tmp_path / "snac_24khz" / "pytorch_model.bin").exists()


def test_weights_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(Path(models.__file__).read_bytes()).hexdigest()
    for name, sha256 in ("right", digest), ("wrong", "00"):
        source = Packaged("nac/weights", (File("models.py", sha256=sha256),))
        monkeypatch.setitem(MODELS, name, toy(name, source))  # type: ignore[arg-type]
    assert models.download("right") == models.path("right") == Path(models.__file__)
    assert "right" in models.present()
    assert models.verify("right")[0].sha256 == digest
    with pytest.raises(ModelError, match=r"not the published 00: damaged, .*; reinstall nac$"):
        models.verify("wrong")
    with pytest.raises(ModelError, match="not deleted"):
        models.remove("right")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "cuda:", "mps:0", ""])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(ModelError, match="use auto, cpu, cuda, cuda:N or mps"):
        models.resolve_device(name)


def test_devices() -> None:
    import torch

    assert models.resolve_device("cpu") == torch.device("cpu")
    count = torch.cuda.device_count()
    assert models.resolve_device("auto").type == ("cuda" if count else "cpu")
    with pytest.raises(ModelError, match="no CUDA device"):
        models.resolve_device(f"cuda:{count}")
    if torch.backends.mps.is_available():
        assert models.resolve_device("mps").type == "mps"
    else:
        with pytest.raises(ModelError, match="no Metal device"):
            models.resolve_device("mps")
    if count:
        torch.backends.cudnn.allow_tf32 = True
        assert models.resolve_device("cuda").type == "cuda"
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"


def test_gpus_are_counted_from_0(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert models.resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ModelError, match="no CUDA device 2: there are 2"):
        models.resolve_device("cuda:2")


@pytest.mark.network
@needs_lyra
def test_soundstream_is_downloaded_checked_and_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as server:
        for name in LYRA_FILES:
            server.plain[f"soundstream_16khz/{name}"] = (LYRA / name).read_bytes()
        monkeypatch.setenv("NAC_MIRROR", server.url)
        monkeypatch.setenv("NO_PROXY", "*")
        codec = models.load("soundstream_16khz", device="cpu")
        assert len(server.gets()) == 3
        assert [line.against for line in models.verify("soundstream_16khz")] == ["published"] * 3
        # One file of three spoilt: only that one is fetched again.
        (models.path("soundstream_16khz") / "quantizer.tflite").write_bytes(b"")
        with pytest.raises(ModelError, match=r"quantizer\.tflite"):
            models.load("soundstream_16khz", device="cpu")
        models.download("soundstream_16khz")
        assert len(server.gets()) == 4
    (line,) = (line for line in models.status() if line.present and line.name not in BUILTIN)
    assert (line.name, line.fingerprint, line.size) == ("soundstream_16khz", codec.spec.fingerprint, 3_583_372)
    assert len(codec.spec.fingerprint) == 16


@needs_lyra
def test_own_weights_are_loaded_and_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(LYRA, tmp_path / "own")
    codec = models.load("soundstream_16khz", weights=tmp_path / "own", device="cpu")
    monkeypatch.setenv("NAC_WEIGHTS", str(LYRA))
    assert models.load("soundstream_16khz", device="cpu").spec == codec.spec
    assert cache.fingerprint("soundstream_16khz") == ""


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "{}/nac"),
        ("linux", "", "{}/.cache/nac"),
        ("darwin", "", "{}/Library/Caches/nac"),
        ("win32", "LOCALAPPDATA", "{}/nac"),
    ],
)
def test_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, expected: str
) -> None:
    for name in "NAC_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache.folder() == Path(expected.format(tmp_path))


@pytest.mark.parametrize("name", ["nac_24khz", "soundstream_16khz", "dac_16khz", "encodec_24khz"])
def test_a_folder_without_weights_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(ModelError, match=f"^{tmp_path} contains no "):
        models.load(name, weights=tmp_path)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_folder_with_the_weights_of_a_model_in_the_package(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(models.path(name).read_bytes())
    assert models.load(name, weights=tmp_path).spec == models.load(name).spec
    assert models.load(name, weights=models.path(name).parent).spec == models.load(name).spec


def test_auto_goes_by_the_bitrate_of_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many channels at so many times the bitrate are coded by the same model."""
    from nac.bitrate import default_kbps
    from nac.codecs.families import BEST_FIRST

    here = ["nac_24khz", "encodec_24khz", "snac_44khz", "dac_44khz", "dac_44khz_16kbps"]
    monkeypatch.setattr(models, "present", lambda: here)
    borders = [least for least, _ in BEST_FIRST if least]
    for kbps in sorted({2.0, 4.0, 8.0, 16.0} | {border + by for border in borders for by in (-0.001, 0, 0.001)}):
        names = next(names for least, names in BEST_FIRST if kbps >= least)
        best = next(name for name in names if name in here)
        for channels in range(1, 9):
            assert models.choose(channels, 44100, kbps=channels * kbps) == best, (channels, kbps)
    for channels in range(1, 9):
        assert models.choose(channels, 8000) == models.choose(channels, 8000, kbps=default_kbps(channels))


@pytest.mark.parametrize(
    ("kbps", "best"),
    [
        (24, "dac_44khz_16kbps encodec_48khz dac_24khz encodec_24khz"),
        (9, "dac_44khz_16kbps dac_44khz encodec_48khz dac_24khz encodec_24khz"),
        (8.9, "dac_44khz encodec_48khz dac_24khz encodec_24khz snac_44khz"),
        (2.5, "dac_44khz encodec_48khz dac_24khz encodec_24khz"),
        (2.4, "snac_44khz snac_32khz snac_24khz dac_44khz encodec_24khz"),
        (1, "snac_44khz snac_32khz snac_24khz dac_44khz encodec_24khz"),
    ],
)
def test_auto_takes_these_in_this_order(kbps: float, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two channels, at so many kbit/s each; nac's own model is the last that may be taken."""
    here = [*BUILTIN, *best.split()]
    for name in best.split():
        monkeypatch.setattr(models, "present", lambda: here)  # noqa: B023 (called at once)
        assert models.choose(2, 48000, kbps=2 * kbps) == name
        here = [other for other in here if other != name]
    assert models.choose(2, 48000, kbps=2 * kbps) in BUILTIN


@pytest.mark.parametrize(
    ("sample_rate", "name"),
    [(8000, "nac_24khz"), (24000, "nac_24khz"), (24001, "nac_48khz"), (44100, "nac_48khz"), (192000, "nac_48khz")],
)
def test_auto_takes_the_model_in_the_package_that_has_the_whole_band(sample_rate: int, name: str) -> None:
    assert models.present() == BUILTIN
    for channels in range(1, 9):
        assert models.choose(channels, sample_rate, codebooks=16) == name
        for kbps in (None, 0.75 * channels, 3 * channels, 12 * channels, 100):
            assert models.choose(channels, sample_rate, kbps=kbps) == name
    with pytest.raises(ModelError, match=f"{name} needs at least"):
        models.choose(1, sample_rate, kbps=0.5)
    assert nac.info(io.BytesIO(nac.encode(np.zeros(4800, np.float32), sample_rate))).model == name


def test_auto_takes_the_widest_of_those_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "present", lambda: ["soundstream_16khz", "nac_24khz"])
    assert models.choose(1, 48000) == "nac_24khz"
    monkeypatch.setattr(models, "present", lambda: ["soundstream_16khz"])
    assert models.choose(1, 48000) == "soundstream_16khz"


def test_auto_takes_the_best_model_that_can_go_so_low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "present", lambda: ["dac_44khz_16kbps", "snac_24khz"])
    lowest = models.find("dac_44khz_16kbps").spec.kbps(1)
    assert models.choose(1, 48000, kbps=9) == "dac_44khz_16kbps"
    assert models.choose(8, 48000, kbps=8 * 0.99 * lowest) == "snac_24khz"
    monkeypatch.setattr(models, "present", lambda: ["snac_24khz", "dac_44khz_16kbps"])
    with pytest.raises(ModelError, match="snac_24khz needs at least"):  # the one preferred
        models.choose(1, 48000, kbps=0.01)
    monkeypatch.setattr(models, "present", list)
    with pytest.raises(ModelError, match="no model"):
        models.choose(1, 48000)


@pytest.mark.parametrize(("channels", "kbps"), [(1, 8), (2, 8), (3, 12), (6, 24), (255, 1020)])
def test_eight_kbit_are_the_default_or_four_for_each_of_many_channels(channels: int, kbps: float) -> None:
    assert default_kbps(channels) == kbps
