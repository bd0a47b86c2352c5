"""Reading published checkpoints: what is folded, renamed and refused. See also test_references.py."""

from __future__ import annotations

import json
import math
import os
import pickle
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from nac.codecs import checkpoints, dac, encodec, registry
from nac.codecs.base import Codec
from nac.codecs.layers.weights import Weights
from nac.codecs.registry import MODELS
from nac.codecs.snac import noise
from nac.errors import ModelError
from nac.spec import CodecSpec

SPEC = MODELS["snac_24khz"].spec


def load(spec: CodecSpec, path: Path) -> Codec:
    return registry.load(spec, path, torch.device("cpu"))


def begin(spec: CodecSpec, path: Path) -> None:
    """Load a checkpoint up to the network, which is not made."""

    def build(spec: CodecSpec, weights: Weights) -> Codec:
        raise ModelError("reached the network")

    checkpoints.load(spec, path, "cpu", build)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def test_weight_norm_in_both_spellings() -> None:
    norm, direction = random(5, 1, 1), random(5, 3, 7)
    old = checkpoints.folded({"a.weight_g": norm, "a.weight_v": direction, "a.bias": random(5)})
    new = checkpoints.folded(
        {"a.parametrizations.weight.original0": norm, "a.parametrizations.weight.original1": direction}
    )
    assert old.keys() == {"a.weight", "a.bias"}
    assert torch.equal(old["a.weight"], new["a.weight"])
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 5, 7))
    layer.parametrizations.weight.original0.data, layer.parametrizations.weight.original1.data = norm, direction
    torch.testing.assert_close(old["a.weight"], layer.weight.detach(), rtol=1e-6, atol=1e-7)


def test_folded_weights_are_rounded_alike_everywhere() -> None:
    """The length to float32, and the quotient to float64 and to float32: fingerprints depend on it."""
    norm, direction = random(5, 1, 1), random(5, 3, 7)
    found = checkpoints.folded({"a.weight_g": norm, "a.weight_v": direction})["a.weight"]
    for row, scale, result in zip(direction, norm.flatten().tolist(), found, strict=True):
        values = [Fraction(value) for value in row.flatten().tolist()]
        length = Fraction(float(np.float32(math.sqrt(sum(value * value for value in values)))))
        exact = [float(Fraction(scale) * value / length) for value in values]
        assert np.array_equal(result.flatten().numpy(), np.array(exact, np.float32))


def test_canonical_names_stay() -> None:
    names = ["encoder.block.1.block.0.block.1.weight", "decoder.model.1.block.0.alpha", "encoder.block.0.bias"]
    assert list(dac.canonical({name: random(2) for name in names})) == names
    names = ["encoder.layers.0.conv.weight", "decoder.layers.3.norm.bias", "quantizer.layers.0.codebook.embed"]
    assert list(encodec.canonical({name: random(2) for name in names})) == names


def test_what_only_training_needs_is_dropped() -> None:
    buffers = {
        f"quantizer.layers.0.codebook.{name}": random(2) for name in ("inited", "cluster_size", "embed_avg")
    }
    assert encodec.canonical(buffers) == {}


def test_weights_tell_what_is_wrong() -> None:
    weights = Weights({"a": random(2), "b": random(3), "left": random(1)})
    assert weights.take("a", 2).shape == (2,)
    weights.take("b", 4)
    weights.take("c", 5)
    with pytest.raises(ModelError) as error:
        weights.finish()
    assert "missing: c;" in str(error.value)
    assert "unknown: left;" in str(error.value)
    assert "b [3] instead of [4]" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_with_other_tensors(tmp_path: Path) -> None:
    torch.save({"encoder.block.0.weight": random(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"missing: encoder.*more.*wrong shape: encoder.block.0.weight \[1\]"):
        load(SPEC, tmp_path)


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint at all", b"\x08\0\0\0\0\0\0\0{broken]", b"PK\x03\x04 cut"]
)
def test_other_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ModelError, match="is not a readable checkpoint") as error:
        load(SPEC, tmp_path)
    assert "\n" not in str(error.value)


def test_pickles_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plain.bin").write_bytes(pickle.dumps(Malice(), protocol=2))
    torch.save({"state_dict": {"a": random(1)}, "metadata": Malice()}, "zipped.pth")
    for file in ("plain.bin", "zipped.pth"):
        with pytest.raises(ModelError, match="is not a readable checkpoint"):
            load(SPEC, file)
    assert not Path("owned").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": torch.eye(20).to_sparse()}], ids=["a list", "sparse"])
def test_things_that_are_no_tensors_of_plain_numbers(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(ModelError, match="objects other than tensors"):
        load(SPEC, tmp_path)


def test_one_checkpoint_of_a_folder_is_taken_whatever_else_is_there(tmp_path: Path) -> None:
    """A safetensors file before a pickle, and the first name of several."""
    wrong = {"state_dict": {}, "metadata": {"kwargs": {"sample_rate": 1}}}
    for name in ("pytorch_model.bin", "a.pth"):
        torch.save(wrong, tmp_path / name)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: .*sample_rate"):
        load(SPEC, tmp_path)
    for name in ("b.safetensors", "a.safetensors"):
        safetensors.torch.save_file({"a": random(1)}, tmp_path / name)
        with pytest.raises(ModelError, match=f"{name}: reached"):
            begin(SPEC, tmp_path)


def test_bombs_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(1, dtype=torch.float64)
    torch.save({"a": one.expand(1 << 40)}, tmp_path / "shown.bin")
    torch.save({f"a{n}": torch.zeros(10_000) for n in range(20)}, tmp_path / "whole.bin")
    with (
        zipfile.ZipFile(tmp_path / "whole.bin") as whole,
        zipfile.ZipFile(tmp_path / "packed.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert len(checkpoints.read(tmp_path / "whole.bin")[0]) == 20
    for name in ("shown.bin", "packed.bin"):
        with pytest.raises(ModelError, match="bytes would become"):
            checkpoints.read(tmp_path / name)
    torch.save({"a": torch.zeros(1 << 40, device="meta")}, tmp_path / "nowhere.bin")
    torch.save({1: one}, tmp_path / "number.bin")
    for name in ("nowhere.bin", "number.bin"):
        with pytest.raises(ModelError, match="objects other than tensors"):
            checkpoints.read(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="contains no checkpoint"):
        load(SPEC, tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        load(SPEC, tmp_path / "absent")


def test_another_models_hyper_parameters(tmp_path: Path) -> None:
    """The 32 and 44.1 kHz models of SNAC have the same shapes."""
    torch.save({"a": random(1)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"sampling_rate": 32000}))
    with pytest.raises(ModelError, match="not the weights of snac_44khz: sampling_rate is 32000 instead of 44100"):
        load(MODELS["snac_44khz"].spec, tmp_path)
    torch.save({"state_dict": {"a": random(1)}, "metadata": {"kwargs": {"n_codebooks": 32}}}, tmp_path / "a.bin")
    with pytest.raises(ModelError, match="n_codebooks is 32 instead of 12"):
        load(MODELS["dac_16khz"].spec, tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("model", "name", "own", "other"),
    [
        ("snac_44khz", "sampling_rate", 44100, 32000),
        ("dac_16khz", "sample_rate", 16000, 24000),
        ("dac_16khz", "n_codebooks", 12, 32),
        ("encodec_48khz", "audio_channels", 2, 1),
        ("snac_24khz", "vq_strides", [4, 2, 1], [8, 4, 2, 1]),
    ],
)
def test_each_hyper_parameter_is_that_of_the_model(
    tmp_path: Path, model: str, name: str, own: object, other: object
) -> None:
    torch.save({"a": random(1)}, tmp_path / "pytorch_model.bin")
    for value in (own, other):
        (tmp_path / "config.json").write_text(json.dumps({name: value}))
        with pytest.raises(ModelError, match="reached" if value == own else f"{name} is .* instead of"):
            begin(MODELS[model].spec, tmp_path)


def test_noise_is_splitmix64() -> None:
    """The generator again, in unsigned integers."""
    position, count, stream = 12345, 50, 3
    with np.errstate(over="ignore"):
        numbers = np.arange(3 * position + 1, 3 * (position + count) + 1, dtype=np.uint64) + np.uint64(
            stream << 56
        )
        z = numbers * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    sums = z.view(np.uint16).astype(np.int64).reshape(count, 12).sum(1)
    assert torch.equal(noise(position, count, stream), torch.tensor((sums - 393210) / 65536, dtype=torch.float32))


def test_noise_by_position() -> None:
    whole = noise(0, 20000, 1)
    assert torch.equal(noise(777, 1000, 1), whole[777:1777])
    assert abs(whole.mean()) < 0.03
    assert abs(whole.std() - 1) < 0.03
    assert (
        abs(torch.corrcoef(torch.stack([whole, noise(0, 20000, 2), whole.roll(1)]))).fill_diagonal_(0).max() < 0.03
    )
