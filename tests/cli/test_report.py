"""Numbers and counts as people read them, and pictures as their names say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from toy_command import nac, wav

from nac.cli.batch import Job
from nac.cli.report import check_text, many, number, others_text, size
from nac.cli.running import InOrder
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


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (999, "999 B"),
        (999.4, "999 B"),
        (999.5, "1 kB"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1 MB"),
        (999_499_999, "999 MB"),
        (999_600_000, "1 GB"),
    ],
)
def test_a_size_has_the_unit_in_which_it_is_below_a_thousand(count: float, text: str) -> None:
    assert size(count) == text


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


def test_what_was_done_is_told_in_order_though_something_before_it_was_not() -> None:
    jobs = [Job(Path(str(place)), Path("out")) for place in range(5)]
    telling, said = InOrder(jobs), list[int]()
    for place in (4, 0, 2):
        telling.done(jobs[place], [partial(said.append, place), partial(said.append, 10 + place)])
    assert said == [0, 10]
    telling.rest()
    assert said == [0, 10, 2, 12, 4, 14]
