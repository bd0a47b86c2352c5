"""Numbers and counts as people read them, and pictures as their names say."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_command import nac, wav

from nac.cli.report import check_text, many, number, others_text, size
from nac.files.verify import Checked

pytestmark = pytest.mark.usefixtures("toy")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0512, "0.0512"),
        (0.7561, "0.756"),
        (18.04, "18"),
        (5090, "5090"),
        (50912.3, "50900"),
        (2.5e9, "2500000000"),
    ],
)
def test_numbers_have_no_exponents(value: float, text: str) -> None:
    assert number(value) == text


def test_one_of_many() -> None:
    assert [many(count, "chunk") for count in (0, 1, 2)] == ["0 chunks", "1 chunk", "2 chunks"]
    assert others_text(1) == "ignored 1 other file"
    assert others_text(7, [Path(str(n)) for n in range(7)]) == "ignored 7 other files: 0, 1, 2, 3, 4 and 2 more"
    assert size(5e15) == "5000000 GB"
    checked = Checked("x", True, 1.0, 1, [], "", "")
    assert check_text(checked) == "x: whole, 0:01.0 in 1 chunk"


def test_a_file_with_one_of_everything() -> None:
    wav("a.wav", samples=1)
    nac("compress", "a.wav", "--codebooks", "1", "-q")
    text = nac("info", "a.nac").stdout
    assert "(1 sample)" in text
    assert " 1 codebook, " in text
    assert "in 1 chunk, " in text
    assert "e+" not in text


def test_a_plot_is_what_its_name_says() -> None:
    wav("a.wav")
    nac("compress", "a.wav", "-q")
    for name in ("x.png", "x.pdf", "x.PNG"):
        assert "--plot writes SVG" in nac("info", "a.nac", "--plot", name, code=2).stderr
        assert not Path(name).exists()
    for name in ("x.svg", "x.SVG", "x"):
        nac("info", "a.nac", "--plot", name)
        assert Path(name).read_bytes().startswith(b"<svg")
