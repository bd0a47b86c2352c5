"""docs/scale.md says what docs/scale.py computes, and the simulation what can be known without one."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))
scale = import_module("scale")


def test_the_page_has_the_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scale.py"])
    scale.main()
    page = (DOCS / "scale.md").read_text()
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == 3
    for table in tables:
        assert table in page


def test_few_workers_do_what_they_can() -> None:
    """With nothing to wait for, the speeds add up."""
    model = scale.MODELS[1]
    for archive in scale.Archive("", 300.0), scale.Archive("", 1.0, 300):
        assert scale.simulate(model, 4, 5.0, archive) == pytest.approx(4 * 5.0, rel=0.01)
        assert scale.bound(model, 4, 5.0, archive) == "workers"


@pytest.mark.parametrize(("seconds", "clips"), [(0.5, 1), (300.0, 1), (0.5, 100)])
def test_many_workers_do_what_the_driver_or_the_network_lets_them(seconds: float, clips: int) -> None:
    model, archive = scale.MODELS[0], scale.Archive("", seconds, clips)
    link = scale.LINK / 1000 / (model.source + model.kbps)
    most = min(link, seconds * clips * scale.ASSIGNED)
    assert scale.simulate(model, 5000, 40.0, archive) == pytest.approx(most, rel=0.02)
    assert scale.bound(model, 5000, 40.0, archive) == ("network" if most == link else "driver")
