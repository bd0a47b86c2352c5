"""Errors of the library say what is wrong; what to type is said by the command line."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from nac.cli.hints import HINTS, told
from nac.errors import DamageError, ModelError, NacError, Remedy, reason

PACKAGE = Path(__file__).parents[2] / "nac"


def raised(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts in `raise` statements, with their lines."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Raise):
            for node in ast.walk(statement):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.lineno, node.value


def test_no_error_of_the_library_names_an_option_or_a_command() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "cli"
        for line, text in raised(ast.parse(path.read_text("utf-8")))
        if re.search(r"(^|[ (`])-{1,2}[a-zA-Z]|`nac ", text) and "`ffmpeg" not in text
    ]
    assert found == []


def test_every_remedy_has_a_hint() -> None:
    assert set(HINTS) == set(get_args(Remedy)) - {""}


def test_hints_come_with_errors_and_through_pickles() -> None:
    error = ModelError("absent", remedy="download", model="toy")
    for copy in (error, pickle.loads(pickle.dumps(error))):
        assert told(copy).startswith("absent (`nac models download toy`")
    assert told(error.about("x.nac")).startswith("x.nac: absent (`nac models download toy`")
    assert told(DamageError("bad")) == "bad (`nac verify FILE --recover OUT` saves what is whole)"
    assert told(NacError("plain")) == "plain"


def test_what_is_not_installed_is_no_error_in_nac() -> None:
    with pytest.raises(ImportError) as caught:
        import not_there.at_all  # noqa: F401
    assert reason(caught.value) == "needs not_there, which is not installed: pip install not_there"
    assert "an error in nac" in reason(ImportError("something odd"))
    assert "an error in nac" in reason(ModuleNotFoundError("No module named 'nac.x'", name="nac.x"))
