"""What the pages say that the program knows better, and where their links lead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nac.codecs.registry import MODELS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("https://"):
            name, _, heading = target.partition("#")
            found = (page.parent / name).resolve() if name else page
            assert found.exists(), target
            if heading:
                titles = re.findall(r"^#+ (.*)$", found.read_text(), re.M)
                assert heading in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_table_of_models_is_right() -> None:
    text = (ROOT / "docs" / "choosing-a-model.md").read_text()
    rows = {
        cells[0]: cells
        for cells in (line.strip("| ").split(" | ") for line in text.splitlines())
        if len(cells) == 6
    }
    for name, model in MODELS.items():
        spec = model.spec
        bandwidth, kbps, codes, _, licence = rows[name][1:]
        assert bandwidth == f"{spec.sample_rate // 2000} kHz"
        numbers = [float(number) for number in re.findall(r"[\d.]+", kbps)[:2]]
        assert numbers == pytest.approx([spec.kbps(1), spec.kbps(len(spec.codebooks))], rel=0.08)
        frames = spec.sample_rate / spec.frame_samples
        counts = [float(number) for number in re.findall(r"[\d.]+", codes)[:2]]
        whole = frames * sum(book.codes_per_frame for book in spec.codebooks)
        assert counts == pytest.approx([frames * spec.codebooks[0].codes_per_frame, whole], abs=0.51)
        assert licence == ("not stated" if "not stated" in model.licence else model.licence)
