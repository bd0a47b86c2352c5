"""A short run of the fuzzing: what is in tests/fuzz for hours, for seconds."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import TARGETS, seeds  # noqa: E402


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_beginnings(name: str) -> None:
    target, _ = TARGETS[name]
    for seed in seeds(name):
        target(seed)
        for size in random.Random(0).sample(range(len(seed)), min(len(seed), 3)):
            target(seed[:size])


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=5000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_seeds_with_some_bytes_changed(name: str, data: st.DataObject) -> None:
    target, _ = TARGETS[name]
    changed = bytearray(data.draw(st.sampled_from(seeds(name))))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(changed)))
        changed[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    target(bytes(changed))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("name", ["unchecked"])
def test_atheris(name: str, tmp_path: Path) -> None:
    command = [sys.executable, FUZZ / "run.py", name, "-runs=1000", "-seed=1", "-timeout=10"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Done 1000 runs" in result.stderr
    assert list(tmp_path.iterdir()) == []
