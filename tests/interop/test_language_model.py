"""EnCodec's language model against the same in numpy and double precision, as its package defines it."""

import math

import numpy as np
import pytest
import torch

from nac.interop.language_model import LanguageModel

WIDTH, HIDDEN, HEADS, BOOKS, LAYERS = 16, 32, 8, 3, 2


def weights(seed):
    rng = np.random.default_rng(seed)
    norm, square = {"weight": (WIDTH,), "bias": (WIDTH,)}, {"weight": (WIDTH, WIDTH), "bias": (WIDTH,)}
    layer = {
        "self_attn": {"in_proj_weight": (3 * WIDTH, WIDTH), "in_proj_bias": (3 * WIDTH,)},
        "self_attn.out_proj": square,
        "linear1": {"weight": (HIDDEN, WIDTH), "bias": (HIDDEN,)},
        "linear2": {"weight": (WIDTH, HIDDEN), "bias": (WIDTH,)},
        "norm1": norm,
        "norm2": norm,
    }
    shapes = {f"transformer.layers.{i}.{name}": parts for i in range(LAYERS) for name, parts in layer.items()}
    shapes |= {"transformer.norm_in": norm, **{f"emb.{i}": {"weight": (1025, WIDTH)} for i in range(BOOKS)}}
    shapes |= {f"linears.{i}": {"weight": (1024, WIDTH), "bias": (1024,)} for i in range(BOOKS)}
    return {
        f"{name}.{part}": rng.normal(0, 0.5, size).astype(np.float32)
        for name, parts in shapes.items()
        for part, size in parts.items()
    }


def normed(x, tensors, name):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def attended(x, known, tensors, name):
    """What a frame sees of those ``known`` [n, WIDTH], itself among them."""
    parts = np.split(tensors[f"{name}.in_proj_weight"], 3), np.split(tensors[f"{name}.in_proj_bias"], 3)
    query, keys, values = (rows @ w.T + b for rows, w, b in zip((x[None], known, known), *parts, strict=True))
    heads = []
    for q, k, v in zip(*(np.split(each, HEADS, axis=1) for each in (query, keys, values)), strict=True):
        scores = np.exp(q @ k.T / math.sqrt(WIDTH / HEADS))
        heads.append(scores / scores.sum() @ v)
    joined = np.concatenate(heads, axis=1)[0]
    return joined @ tensors[f"{name}.out_proj.weight"].T + tensors[f"{name}.out_proj.bias"]


def probabilities(codes, tensors, context):
    """Of the codes after each of these frames [frames, BOOKS], -1 for none: [frames, BOOKS, 1024]."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    # Before the first frame each layer sees one of zeros; it counts as one of those looked back at.
    rows = [[np.zeros(WIDTH)] for _ in range(LAYERS)]
    found = []
    for frame, row in enumerate(codes):
        x = sum(tensors[f"emb.{book}.weight"][code + 1] for book, code in enumerate(row))
        phase = frame / 10000 ** (np.arange(WIDTH // 2) / (WIDTH // 2 - 1))
        x = normed(x, tensors, "transformer.norm_in") + np.concatenate([np.cos(phase), np.sin(phase)])
        for i in range(LAYERS):
            name = f"transformer.layers.{i}"
            known = np.array([*rows[i][-context:], x])
            rows[i].append(x)
            x = normed(x + attended(x, known, tensors, f"{name}.self_attn"), tensors, f"{name}.norm1")
            inner = x @ tensors[f"{name}.linear1.weight"].T + tensors[f"{name}.linear1.bias"]
            inner *= np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in inner])
            inner = inner @ tensors[f"{name}.linear2.weight"].T + tensors[f"{name}.linear2.bias"]
            x = normed(x + inner, tensors, f"{name}.norm2")
        scores = [
            np.exp(x @ tensors[f"linears.{b}.weight"].T + tensors[f"linears.{b}.bias"]) for b in range(BOOKS)
        ]
        found.append([each / each.sum() for each in scores])
    return np.array(found)


@pytest.mark.parametrize("context", [1, 4, 9, 100])
def test_the_shares_are_those_of_the_probabilities(context):
    tensors = weights(1)
    model = LanguageModel({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, context)
    codes = np.random.default_rng(2).integers(0, 1024, (12, BOOKS))
    codes[0] = -1
    past = model.start()
    found = [model.shares(row, frame, past) for frame, row in enumerate(codes)]
    # Of 2^24, each code has 2 and its part of what is left.
    wanted = (2 + probabilities(codes, tensors, context) * (2**24 - 2048)).cumsum(axis=2)
    assert np.abs(np.array(found) - wanted).max() < 2000  # single precision, and rounding down 1024 times
    other = (2 + probabilities(codes, tensors, context + 1) * (2**24 - 2048)).cumsum(axis=2)
    assert context > 12 or np.abs(np.array(found) - other).max() > 20000


def test_a_code_that_cannot_come_has_two_shares():
    tensors = weights(1)
    tensors["linears.1.bias"][7] = -500
    model = LanguageModel({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, 4)
    shares = np.diff(model.shares(np.full(BOOKS, -1), 0, model.start()), prepend=0)
    assert (shares[1, 7], shares.min()) == (2, 2)


@pytest.mark.parametrize(("rate", "frames"), [(75, 262), (150, 525)])
def test_it_looks_back_for_three_and_a_half_seconds(rate, frames, tmp_path):
    from safetensors.numpy import save_file

    from nac.interop import language_model

    save_file(weights(1), tmp_path / "lm.safetensors")
    model = language_model.load("encodec_24khz", rate, tmp_path / "lm.safetensors")
    past = model.start()
    for frame in range(frames + 2):
        model.shares(np.array([1, 2, 3]), frame, past)
    assert [layer.shape[1] for layer in past] == [frames] * LAYERS
