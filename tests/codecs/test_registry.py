"""Families of codecs: nac's own, and those that other packages offer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nac.codecs import registry
from nac.codecs.family import Family
from nac.errors import ModelError

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_codec"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example is installed, as pip leaves it."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "own_codec"
    shutil.copytree(EXAMPLE, source)  # pip builds in it
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", str(site), str(source)], capture_output=True, text=True, check=False)
    if done.returncode:  # without pip in this environment
        (site / "mine.py").write_bytes((EXAMPLE / "mine.py").read_bytes())
        folder = site / "nac_mine-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: nac-mine\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("[nac.codecs]\nmine = mine:FAMILY\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}


def nac(environment: dict[str, str], *words: str | Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "nac", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_family_of_ones_own_compresses_cuts_and_decompresses(installed: dict[str, str], tmp_path: Path) -> None:
    clock = np.arange(16000) / 8000
    sound = 0.5 * np.sin(2 * np.pi * 440 * clock) * np.minimum(1, clock)
    soundfile.write(tmp_path / "tone.wav", sound, 8000)
    assert "mine" in nac(installed, "models")
    nac(installed, "compress", tmp_path / "tone.wav", "-m", "mine", "-k", "64", "-q")
    assert "2 codebooks, 64 kbit/s" in nac(installed, "info", tmp_path / "tone.nac")
    nac(installed, "decompress", tmp_path / "tone.nac", "-o", tmp_path / "back.wav", "-q")
    back, rate = soundfile.read(tmp_path / "back.wav")
    assert (rate, len(back)) == (8000, 16000)
    assert np.square(back - sound).mean() < 1e-3 * np.square(sound).mean()
    nac(installed, "cut", tmp_path / "tone.nac", "--start", "0.5", "--duration", "0.5", "-o", tmp_path / "cut.nac")
    nac(installed, "decompress", tmp_path / "cut.nac", "-o", tmp_path / "cut.wav", "-q")
    assert np.array_equal(soundfile.read(tmp_path / "cut.wav")[0], back[4000:8000])
    nac(installed, "peel", tmp_path / "tone.nac", "-k", "32", "-o", tmp_path / "less.nac", "-q")
    nac(installed, "decompress", tmp_path / "less.nac", "-o", tmp_path / "less.wav", "-q")
    assert len(soundfile.read(tmp_path / "less.wav")[0]) == 16000


def test_the_example_is_short() -> None:
    assert len((EXAMPLE / "mine.py").read_text(encoding="utf-8").splitlines()) < 100


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ModelError, match="unknown family of codecs 'wavenet'"):
        registry.family("wavenet")
    stranger = replace(registry.find("dac_16khz").spec, family="wavenet")
    with pytest.raises(ModelError, match="wavenet"):
        registry.load(stranger, Path(), None)
    with pytest.raises(ModelError, match="did you mean dac_16khz"):
        registry.find("dac_16kh")


def test_names_that_are_taken_are_refused() -> None:
    with pytest.raises(ModelError, match="a codec named dac is already registered"):
        registry.register(registry.family("dac"))
    model = registry.find("dac_16khz")
    with pytest.raises(ModelError, match="a codec named dac_16khz is already registered"):
        registry.register(Family("new", (model,), load="nac.codecs.dac:load"))
    renamed = replace(model, spec=replace(model.spec, name="new_16khz"))
    with pytest.raises(ModelError, match="new_16khz has family 'dac'"):
        registry.register(Family("new", (renamed,), load="nac.codecs.dac:load"))


def test_every_family_says_what_the_rest_must_know() -> None:
    for family in registry.FAMILIES.values():
        assert callable(family.resolve(family.load))
        if family.random is not None:
            assert callable(family.resolve(family.random))
        if family.reference is not None:
            assert family.package
            assert callable(family.resolve(family.reference))


def test_a_package_that_cannot_be_imported_is_reported_and_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[nac.codecs]\nbroken = broken_codec:FAMILY\n")
    said = nac({**os.environ, "PYTHONPATH": str(tmp_path)}, "models")
    assert "nac_24khz" in said
    assert "broken_codec:FAMILY cannot be imported" in said
    assert "Traceback" not in said


class Offered:
    """An entry point of an installed package."""

    value = "other_codec:FAMILY"

    def __init__(self, load: Callable[[], object]) -> None:
        self.load = load


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    monkeypatch.setattr(registry, "FAMILIES", dict(registry.FAMILIES))
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))

    def offer(*loads: Callable[[], object]) -> None:
        monkeypatch.setattr(registry, "entry_points", lambda group: [Offered(load) for load in loads])
        registry._discover.cache_clear()

    yield offer
    registry._discover.cache_clear()


def other(name: str) -> Family:
    """A family of two models."""
    model = registry.find("dac_16khz")
    specs = [replace(model.spec, name=f"{name}_{rate}khz", family=name) for rate in (16, 24)]
    return Family(name, tuple(replace(model, spec=spec) for spec in specs), load="nac.codecs.dac:load")


@pytest.mark.parametrize("ask", ["family", "find", "models"])
def test_codecs_of_packages_are_found_whoever_asks_first(offer: Callable[..., None], ask: str) -> None:
    offer(lambda: other("one"), lambda: other("two"))
    for name in ("one", "two"):
        if ask == "family":
            assert registry.family(name).name == name
        elif ask == "find":
            assert registry.find(f"{name}_24khz").spec.family == name
        else:
            assert {f"{name}_16khz", f"{name}_24khz"} <= registry.models().keys()


@pytest.mark.parametrize(
    "error",
    [ImportError("no numpy"), AttributeError("no FAMILY"), SyntaxError("old"), ValueError("x"), OSError("y")],
)
def test_whatever_a_package_raises_the_others_are_there(
    offer: Callable[..., None], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> object:
        raise error

    offer(lambda: other("one"), fails, lambda: "not a family", lambda: other("dac"), lambda: other("two"))
    found = registry.models()
    assert {"one_16khz", "two_16khz", "dac_16khz", "nac_24khz"} <= found.keys()
    assert registry.find("dac_16khz").spec.family == "dac"
    assert len(caplog.records) == 3
    assert str(error) in caplog.text
