"""nac bench: what it counts, and that it says what it measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from narrow_codecs import narrow_codecs
from toy_command import nac

from nac.codecs.layers import kernels
from nac.codecs.layers.convolutions import kernel
from nac.evaluate import bench


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds of small matrices, and within this process all but the measurement of memory."""
    memory, in_process = bench._memory, bench._in_process

    def here(function: Callable[..., Any], *args: object) -> Any:
        return in_process(function, *args) if function is memory else function(*args)

    monkeypatch.setattr(bench, "_in_process", here)
    monkeypatch.setattr(bench, "SECONDS", 0.02)
    monkeypatch.setattr(bench, "SHAPES", ((1024, 512, 512),))


def test_operations_are_counted() -> None:
    x, weight = torch.ones(1, 3, 10), torch.ones(5, 3, 4)
    with torch.inference_mode():
        assert bench.count_operations(lambda: torch.ones(2, 3) @ torch.ones(3, 4)) == 2 * 2 * 3 * 4
        assert bench.count_operations(lambda: torch.nn.functional.conv1d(x, weight)) == 2 * 5 * 7 * 3 * 4
        up = bench.count_operations(lambda: torch.nn.functional.conv_transpose1d(x, weight.transpose(0, 1)))
        assert up == 2 * 3 * 10 * 5 * 4
        grouped = bench.count_operations(lambda: torch.nn.functional.conv1d(x, weight[:3, :1], groups=3))
        assert grouped == 2 * 3 * 7 * 4


def test_operations_of_all_windows_are_counted() -> None:
    with narrow_codecs() as codecs:
        codec = codecs["snac_24khz"]
    unit = codec.spec.frame_samples * codec.encode_plan.window  # type: ignore[attr-defined]
    few, many = (bench.count_operations(lambda n=n: codec.encode(torch.zeros(1, 1, n * unit))) for n in (1, 4))
    assert many > 3 * few


def test_packed_products_are_counted_as_others() -> None:
    x, weight = torch.ones(1, 10, 48), torch.ones(64, 48, 3)
    packed, taps = kernel(weight, None), kernel(weight[..., :1], None)
    with torch.inference_mode():
        assert bench.count_operations(lambda: kernels.convolve(x, packed)) == 2 * 64 * 8 * 48 * 3
        assert bench.count_operations(lambda: kernels.convolve(x, taps)) == 2 * 64 * 10 * 48


def test_the_peak_is_the_best_of_all_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    with narrow_codecs() as codecs:
        codec = codecs["snac_24khz"]
    monkeypatch.setattr(bench, "SHAPES", ((512, 256, 256), (300, 256, 256)))
    most = 2 * 512 * 256 * 256
    fast, slow = (lambda: None), (lambda: None)
    seconds = {fast: 0.125, slow: 8.0}
    monkeypatch.setattr(bench, "_best", lambda run: [seconds.get(run, 1.0)])  # 1.0 for numpy's
    monkeypatch.setattr(bench, "_products", lambda *_: [slow, fast])
    assert bench.peak(codec) == most / 0.125
    monkeypatch.setattr(bench, "_products", lambda *_: [slow])
    assert bench.peak(codec) == most / 1.0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["nac_24khz", "nac_48khz"])
def test_a_built_in_model_is_measured(name: str) -> None:
    row = json.loads(nac("bench", "-m", name, "--lengths", "0.5", "--json").stdout)
    assert row["model"] == name
    assert row["memory"] < 200e6  # what importing PyTorch alone would take
    for direction in ("encode", "decode"):
        assert row[direction]["speed"] > 0
        assert 0 < row[direction]["share"] < 1.5
        assert row[direction]["ratio"] is None


@pytest.mark.usefixtures("quick")
def test_a_reference_gets_the_same_weights_and_gives_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snac", reason="snac, the reference of SNAC, is absent")
    monkeypatch.setattr(bench, "_memory", lambda *_: 1)
    words = ("-m", "snac_24khz", "--lengths", "0.2", "--random", "--reference", "--json")
    row = json.loads(nac("bench", *words).stdout)
    assert row["reference"] == "snac"
    assert row["same_codes"] > 0.99
    assert row["encode"]["ratio"] > 0


def test_wrong_usage_is_told() -> None:
    nac("bench", "--reference", code=2)
    done = nac("bench", "-m", "snac_24", "--random", code=1)
    assert "did you mean snac_24khz" in done.stderr
