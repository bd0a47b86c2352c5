"""The public interface is documented: numpydoc sections, and examples that run."""

from __future__ import annotations

import doctest
import inspect
import re
import shutil
from pathlib import Path

import pytest

import nac

AUDIO = Path(__file__).parents[2] / "examples" / "audio"
FUNCTIONS = [name for name in nac.__all__ if inspect.isfunction(getattr(nac, name))]
WITH_EXAMPLES = [name for name in nac.__all__ if ">>>" in (getattr(nac, name).__doc__ or "")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of an example: song.flac, and song.nac made of it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(AUDIO / "speech.flac", "song.flac")
    nac.compress("song.flac", "song.nac", model="nac_24khz", kbps=6)
    return tmp_path


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_what_they_take_give_and_raise(name: str) -> None:
    function = getattr(nac, name)
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    for section in ("Parameters", "Raises", "Examples"):
        if (section == "Raises" and name in DO_NOT_FAIL) or (section == "Parameters" and not signature.parameters):
            continue
        assert f"\n{section}\n{'-' * len(section)}\n" in text, f"nac.{name} has no section {section}"
    if signature.return_annotation not in (None, "None"):
        assert "\nReturns\n-------\n" in text, f"nac.{name} does not say what it returns"
    described = text.partition("Parameters\n----------\n")[2].split("\n\n")[0] if signature.parameters else ""
    heads = [line.split(" : ")[0] for line in described.split("\n") if re.match(r"\S.* : ", line)]
    names = {part.strip(" *") for head in heads for part in head.split(",")}
    assert names == set(signature.parameters), f"nac.{name} describes {names}"


DO_NOT_FAIL = {"delay"}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str, folder: Path) -> None:
    finder = doctest.DocTestFinder(recurse=True)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    )
    said: list[str] = []
    for test in finder.find(getattr(nac, name), name, globs={}):
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_everything_public_is_documented() -> None:
    for name in nac.__all__:
        if name != "__version__":
            assert (getattr(nac, name).__doc__ or "").strip(), name
