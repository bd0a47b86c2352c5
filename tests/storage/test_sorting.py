"""More names than may be in memory come out in order."""

from __future__ import annotations

import random

import pytest

from nac.storage import sorting


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "BUFFERED", 7)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 13, 14, 15, 100])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_any_number_of_names_is_sorted(count: int, width: int) -> None:
    """Also those with a newline or what is no UTF-8, and the empty one."""
    names = ["", "a", "a\nb", "é", "\udcff", "z" * 300]
    chance = random.Random(count)
    rows = [
        tuple(f"{chance.choice(names)}{number % 9}"[: number % 50] for _ in range(width))
        for number in range(count)
    ]
    sorter = sorting.Sorter()
    for row in rows:
        sorter.add(*row)
    assert list(sorter) == sorted(rows)


@pytest.mark.parametrize("piece", [1, 2, 5, 1 << 14])
def test_names_of_any_length_lie_on_the_disk(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the pieces in which they are read back."""
    monkeypatch.setattr(sorting, "_READ", piece)
    rows = [("x" * (number * 7 % 40), str(number)) for number in range(50)]
    sorter = sorting.Sorter()
    for row in rows:
        sorter.add(*row)
    assert list(sorter) == sorted(rows)


def test_no_more_is_in_memory_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    written = sorting._written
    monkeypatch.setattr(sorting, "_written", lambda names: runs.append(len(names)) or written(names))
    sorter = sorting.Sorter()
    for number in range(30):
        sorter.add(str(number))
    assert runs == [7] * 4
    assert len(list(sorter)) == 30
