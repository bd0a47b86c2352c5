"""What nac imports is what pyproject.toml names, and nothing that only happens to be installed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest

from nac.codecs.families import FAMILIES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPMENT = ("mutants", "test", "test-examples", "test-ray")


def name_of(requirement: str) -> str:
    """A requirement's distribution, normalised."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


CORE = {name_of(line) for line in PROJECT["dependencies"]}
OPTIONAL = {
    name_of(line)
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra not in FOR_DEVELOPMENT
    for line in lines
}


@cache
def providers() -> Mapping[str, list[str]]:
    """The distributions that hold each top-level module; finding them reads every file list in the environment."""
    return packages_distributions()


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level modules that a file imports, and whether that is done as soon as it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = set(map(id, tree.body))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            yield name.split(".")[0], id(node) in at_once


# Measures that are used where somebody has installed them; they need a compiler, and so are in no extra.
WHERE_INSTALLED = {"visqol", "pesq"}


@pytest.mark.parametrize("path", sorted((ROOT / "nac").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_what_is_declared_is_imported(path: Path) -> None:
    # Of the packages that a family names, in its module.
    references = {family.package for family in FAMILIES} if path.parts[-2] == "codecs" else set()
    for module, at_once in imports(path):
        if module in sys.stdlib_module_names or module in {"nac", "__future__"} | WHERE_INSTALLED:
            continue
        if module in references and not at_once:
            continue
        if module not in providers():
            pytest.skip(f"{module} is not installed")
        found = {re.sub(r"[-_.]+", "-", name).lower() for name in providers()[module]}
        if at_once:
            assert found & CORE, f"{module} is imported with nac and not among its dependencies"
        else:
            assert found & (CORE | OPTIONAL), f"{module} is imported and named nowhere in pyproject.toml"


def needed(name: str, seen: set[str]) -> set[str]:
    """A distribution and all that it requires, as far as installed."""
    if name not in seen:
        seen.add(name)
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            return seen
        for line in lines:
            if "extra ==" not in line:
                needed(name_of(line), seen)
    return seen


def test_every_module_is_imported_with_nothing_but_the_dependencies(tmp_path: Path) -> None:
    """In an environment that holds the declared distributions, and what these require, and no others."""
    allowed: set[str] = set()
    for name in CORE:
        needed(name, allowed)
    for name in allowed:
        try:
            held = distribution(name)
        except PackageNotFoundError:
            continue
        for top in {file.parts[0] for file in held.files or () if file.parts[0] not in ("..", "__pycache__")}:
            source, link = Path(str(held.locate_file(top))), tmp_path / top
            if source.exists() and not link.exists():
                link.symlink_to(source)
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "nac").rglob("*.py"))
        if path.name != "__main__.py" and not needs_an_extra(path)
    ]
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]\n"
        f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def needs_an_extra(path: Path) -> bool:
    """Whether a module can only be imported with an extra."""
    found = {
        re.sub(r"[-_.]+", "-", name).lower()
        for module, at_once in imports(path)
        if at_once
        for name in providers().get(module, [])
    }
    return bool(found & OPTIONAL - CORE)
