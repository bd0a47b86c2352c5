"""How many threads take the steps of an LSTM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from nac.codecs.layers import lstm
from nac.codecs.layers.lstm import Rows, State

CALLS, STEPS = 100, 20


@pytest.mark.parametrize(("busy", "most"), [(True, 8), (False, CALLS)])
def test_threads_that_wait_for_one_another_are_seldom_tried_on_a_busy_machine(
    busy: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []  # threads of each stretch of steps
    clock = SimpleNamespace(now=0.0)

    @contextmanager
    def two() -> Iterator[int]:
        yield 2

    @contextmanager
    def noted(number: int) -> Iterator[None]:
        used.append(number)
        yield

    def steps(gates: Tensor, packed: Tensor, hidden: Tensor, memory: Tensor, out: Tensor) -> State:
        clock.now += 2 if (used[-1] > 1) == busy else 1
        return hidden, memory

    for name, instead in (("idle", two), ("openmp_threads", noted), ("lstm_steps", steps)):
        monkeypatch.setattr(lstm, name, instead)
    monkeypatch.setattr(lstm, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    rows = Rows(torch.randn(8, 2))
    if rows._packed is None:
        pytest.skip("this PyTorch packs no weights")
    rows._thread_invariant[2] = True
    state = torch.zeros(1, 2), torch.zeros(1, 2)
    for _ in range(CALLS):
        rows.steps(torch.zeros(STEPS, 1, 8), state, torch.zeros(STEPS, 1, 2))
    with_two = used.count(2)
    assert 1 <= with_two <= most if busy else with_two == 2 * CALLS
