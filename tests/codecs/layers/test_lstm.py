"""The LSTM: equal to PyTorch's, and the same bits for pieces, batches and any number of threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nac.codecs import parallel
from nac.codecs.layers import lstm
from nac.codecs.layers.lstm import Lstm
from nac.codecs.layers.weights import RandomWeights

SIZE, LENGTH = 32, 2 * lstm.STEPS + 5


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "count", lambda: request.param)
    monkeypatch.setattr(parallel, "_pool", parallel._Pool())


@pytest.fixture
def one() -> tuple[Lstm, torch.nn.LSTM]:
    """The LSTM and PyTorch's, with the same weights."""
    weights = RandomWeights(torch.device("cpu"), 3)
    made, reference = Lstm(weights, "x", SIZE), torch.nn.LSTM(SIZE, SIZE, 2, batch_first=True)
    reference.load_state_dict({name.removeprefix("x.lstm."): tensor for name, tensor in weights.tensors.items()})
    return made, reference


def inside(made: Lstm, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute within a job, as codecs do, so that idle threads help."""
    (result,) = parallel.each([lambda: made(x, state)], torch.inference_mode)
    return result


@torch.inference_mode()
def test_it_is_pytorchs(one: tuple[Lstm, torch.nn.LSTM], threads: None) -> None:
    made, reference = one
    x = torch.randn(3, LENGTH, SIZE)
    out, state = inside(made, x)
    expected, (hidden, memory) = reference(x)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.permute(1, 2, 0, 3), torch.stack([hidden, memory]), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_pieces_and_rows_do_not_matter(one: tuple[Lstm, torch.nn.LSTM], threads: None) -> None:
    made, _ = one
    x = torch.randn(2, LENGTH, SIZE)
    whole, end = inside(made, x)
    for row in range(2):
        state, parts = None, []
        for piece in torch.split(x[row : row + 1], 7, 1):
            out, state = inside(made, piece, state)
            parts.append(out)
        assert state is not None
        assert torch.equal(torch.cat(parts, 1), whole[row : row + 1])
        assert torch.equal(state, end[row : row + 1])
