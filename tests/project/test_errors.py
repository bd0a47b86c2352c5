"""Errors are nac's own, and Python's where Python has a word for them."""

from __future__ import annotations

import errno
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nac
from nac import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, nac.NacError)]
MODEL = "nac_24khz"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has a file, and a folder."""
    monkeypatch.chdir(tmp_path)
    nac.write("x.nac", np.zeros(2400), 24000, model=MODEL)
    Path("folder").mkdir()


def absent(call: Callable[[], object]) -> object:
    return pytest.param(call, FileNotFoundError, errno.ENOENT)


@pytest.mark.parametrize(
    ("call", "kind", "number"),
    [
        absent(lambda: nac.compress("no.wav", "y.nac", model=MODEL)),
        absent(lambda: nac.decompress("no.nac", "y.wav")),
        absent(lambda: nac.read("no.nac")),
        absent(lambda: nac.open("no.nac")),
        absent(lambda: nac.info("no.nac")),
        absent(lambda: nac.read_codes("no.nac")),
        absent(lambda: nac.cut("no.nac", "y.nac")),
        absent(lambda: nac.peel("no.nac", "y.nac", kbps=3)),
        absent(lambda: nac.convert("no.ecdc", "y.nac")),
        absent(lambda: nac.convert_codes("no.npz", "y.nac")),
        absent(lambda: nac.write("no/y.nac", np.zeros(9), 24000, model=MODEL)),
        absent(lambda: nac.load("dac_44khz", weights="no.safetensors")),
        absent(lambda: nac.load("dac_44khz", download=False)),
        (lambda: nac.write("x.nac", np.zeros(9), 24000, model=MODEL), FileExistsError, errno.EEXIST),
        (lambda: nac.open("x.nac", "w", sample_rate=8000, channels=1), FileExistsError, errno.EEXIST),
        (lambda: nac.peel("x.nac", "x.nac", kbps=3, force=False), nac.NacError, None),
        (lambda: nac.read("folder"), IsADirectoryError, errno.EISDIR),
        (
            lambda: nac.write("folder", np.zeros(9), 24000, model=MODEL, force=True),
            IsADirectoryError,
            errno.EISDIR,
        ),
    ],
)
def test_files(call: Callable[[], object], kind: type[Exception], number: int | None) -> None:
    with pytest.raises(nac.NacError) as caught:
        call()
    assert isinstance(caught.value, kind)
    assert getattr(caught.value, "errno", None) == number
    assert "\n" not in str(caught.value)
    assert "[Errno" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read() -> None:
    Path("x.nac").chmod(0)
    Path("folder").chmod(0o500)
    for call in (lambda: nac.read("x.nac"), lambda: nac.compress("x.nac", "y.nac", model=MODEL)):
        with pytest.raises(PermissionError) as caught:
            call()
        assert isinstance(caught.value, nac.NacError)


@pytest.mark.parametrize(
    "call",
    [
        lambda: nac.encode(np.zeros(9), 24000, model=MODEL, kbps=3, codebooks=3),
        lambda: nac.encode(np.zeros(9), 24000, model=MODEL, kbps=0.1),
        lambda: nac.encode(np.zeros(9), 24000, model=MODEL, kbps=float("nan")),
        lambda: nac.encode(np.zeros(9), 24000, model=MODEL, codebooks=17),
        lambda: nac.encode(np.zeros(9), 24000, model="no"),
        lambda: nac.load("no"),
        lambda: nac.load("dac_44khz", device="moon", weights="x.nac"),
        lambda: nac.decompress("x.nac", "y.doc"),
        lambda: nac.convert("x.nac", "y.doc"),
        lambda: nac.convert_codes("x.nac", "y.doc"),
        lambda: nac.read("x.nac", start=-1),
        lambda: nac.read("x.nac", start=2),
        lambda: nac.read_codes("x.nac", duration=float("nan")),
        lambda: nac.read_codes("x.nac", codebooks=0),
        lambda: nac.Dataset(".", seconds=1, frames=1),
        lambda: nac.load(MODEL).encode(np.zeros((1, 2, 9), np.float32)),
    ],
)
def test_values(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        call()
    assert isinstance(caught.value, nac.NacError)


@pytest.mark.parametrize(
    "call",
    [
        lambda file: nac.compress(file, "y.nac", model=MODEL),
        lambda file: nac.compress("x.nac", file, model=MODEL),
        nac.read,
        nac.open,
        nac.info,
        nac.read_codes,
        lambda file: nac.cut(file, "y.nac"),
        lambda file: nac.convert(file, "y.nac"),
        lambda file: nac.write(file, np.zeros(9), 24000, model=MODEL),
        lambda file: nac.open(file, "w", sample_rate=24000, channels=1, model=MODEL),
    ],
)
@pytest.mark.parametrize("file", [None, 3, io.StringIO("x"), b"x", ["x"]])
def test_types(call: Callable[[Any], object], file: object) -> None:
    with pytest.raises(TypeError, match="a path or a binary file object is needed") as caught:
        call(file)
    assert isinstance(caught.value, nac.NacError)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_other_processes_and_take_a_name(kind: type[nac.NacError]) -> None:
    error = kind("went wrong", remedy="force", model="x")
    for same in (error, pickle.loads(pickle.dumps(error))):
        named = same.about("song.nac")
        assert (type(named), str(named), named.remedy, named.model) == (kind, "song.nac: went wrong", "force", "x")
        assert getattr(named, "errno", None) == getattr(error, "errno", None)


def test_the_systems_number_is_kept() -> None:
    error = errors.file_error(OSError(errno.ENOSPC, "No space left on device"), "cannot write x")
    assert (str(error), error.errno) == ("cannot write x: No space left on device", errno.ENOSPC)
    assert error.about("y").errno == errno.ENOSPC
