"""tests/gpu_check.sh without a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "gpu_check.sh"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_one_line_says_so() -> None:
    done = subprocess.run(["bash", SCRIPT, sys.executable], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "no GPU: there is no CUDA device here, or PyTorch does not find it\n"
