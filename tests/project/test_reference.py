"""`make docs`: everything public is in the pages."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import nac
from nac.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pdoc", reason="pdoc is not installed")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, str(ROOT / "docs" / "reference.py"), str(folder)], check=True, timeout=120)
    return folder


def test_every_public_name_is_described(site: Path) -> None:
    page = (site / "api" / "nac.html").read_text(encoding="utf-8")
    names = set(re.findall(r'id="(\w+)"', page))
    assert set(nac.__all__) <= names


def test_every_command_has_a_page_with_all_of_its_options(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")

    def check(command: click.Command, path: str) -> None:
        assert f'href="{path}.html"' in index
        page = html.unescape((site / f"{path}.html").read_text(encoding="utf-8"))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in page for option in parameter.opts)
        for name, sub in getattr(command, "commands", {}).items():
            check(sub, f"{path}-{name}")

    check(main, "nac")
