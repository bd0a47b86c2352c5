"""Checkpoints as they are published: names, shapes, dtypes, extra tensors, and how they are written.

The official files were not at hand. Of those that are safetensors the size is known, and it is that of the
reference's tensors to the byte, header included; of the others the number of tensors is known.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import oracles
import pytest
import soundfile
import torch
from narrow_codecs import narrow_codecs
from safetensors.torch import save_file
from torch import Tensor

import nac
from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.family import Hub
from nac.codecs.registry import MODELS
from nac.evaluate import references

PUBLISHED = [
    (name, file)
    for name, model in MODELS.items()
    for source in model.sources
    if isinstance(source, Hub)
    for file in source.files
    if file.name.endswith(".safetensors")
]


def inventory(name: str) -> dict[str, Tensor]:
    """The tensors of the reference without their values, under the names that are published on the Hub."""
    pytest.importorskip(registry.family(MODELS[name].spec.family).package or "")
    with torch.device("meta"):
        model = references.build(name)
    layer = references.kind(name).layer if name == "mimi" else str
    paths = {key: f"{layer(key.rpartition('.')[0])}.{key.rpartition('.')[2]}" for key in model.state_dict()}
    return oracles.original({paths[key]: tensor for key, tensor in model.state_dict().items()})


def size_in_safetensors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> int:
    """Bytes of a file with these tensors: a length, a header in JSON, spaces up to a multiple of 8, the values."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, tensor in sorted(tensors.items()):
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + end


@pytest.mark.parametrize(("name", "file"), PUBLISHED, ids=[f"{name}-{file.name}" for name, file in PUBLISHED])
def test_published_files_are_as_large_as_the_references_tensors(name: str, file: nac.codecs.family.File) -> None:
    tensors = inventory(name)
    metadata = {"format": "pt"}
    if file.name.startswith("tokenizer"):  # the authors' own
        metadata = {}
        theirs = {
            oracles.mimi_original(key): value for key, value in tensors.items() if not re.search("[qkv]_proj", key)
        }
        for key in [key for key in tensors if "q_proj" in key]:
            theirs[oracles.mimi_original(key).replace("q_proj.weight", "in_proj_weight")] = tensors[key].repeat(
                3, 1
            )
        tensors = theirs
    assert size_in_safetensors(tensors, metadata) == (file.size or file.about)


@pytest.mark.parametrize(
    ("name", "count"),
    [("dac_16khz", 322), ("dac_24khz", 462), ("dac_44khz", 301), ("snac_24khz", 269), ("snac_44khz", 286)],
)
def test_pickled_files_hold_as_many_tensors(name: str, count: int) -> None:
    """DAC's on the Hub are folded, its others are not: for each convolution there is one tensor more."""
    tensors = inventory(name)
    normed = [key for key, tensor in tensors.items() if key.endswith(".weight") and tensor.ndim == 3]
    assert len(tensors) + (len(normed) if name.startswith("dac") else 0) == count


def as_published(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm not folded, and with what only training needs."""
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer = key.removesuffix(".weight")
        if key.endswith(".weight") and tensor.ndim == 3:
            norm = tensor.flatten(1).norm(dim=1).view(-1, 1, 1)
            found |= {f"{layer}.weight_g": norm, f"{layer}.weight_v": tensor * 1.3}
        else:
            found[key] = tensor
        if name.startswith("encodec") and key.endswith("codebook.embed"):
            book = key.removesuffix("embed")
            found |= {
                f"{book}inited": torch.ones(1),
                f"{book}cluster_size": tensor[:, 0],
                f"{book}embed_avg": tensor,
            }
    return found


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_checkpoints_load(tmp_path: Path, legacy: bool) -> None:
    """In both of PyTorch's formats, and in half precision."""
    with narrow_codecs() as codecs:
        for name in ("encodec_24khz", "dac_16khz", "snac_24khz", "mimi"):
            spec = MODELS[name].spec
            tensors = registry.random(spec)[1]
            file = tmp_path / f"{name}.th"
            torch.save(as_published(name, tensors), file, _use_new_zipfile_serialization=not legacy)
            assert zipfile.is_zipfile(file) is not legacy
            again = registry.load(spec, file, torch.device("cpu"))
            audio = oracles.synthetic(9000, spec.sample_rate)
            codes = codecs[name].encode(audio)
            torch.testing.assert_close(again.decode(codes), codecs[name].decode(codes), rtol=0, atol=1e-4)
            half = {key: tensor.half() for key, tensor in tensors.items()}
            torch.save(half, file, _use_new_zipfile_serialization=not legacy)
            assert registry.load(spec, file, torch.device("cpu")).decode(codes).dtype == torch.float32


def test_files_made_with_one_source_of_dac_decode_with_the_other(tmp_path: Path) -> None:
    """Folded on the Hub by another rounding than ours, not folded elsewhere: one fingerprint."""
    with narrow_codecs():
        spec = MODELS["dac_16khz"].spec
        whole = as_published("dac_16khz", registry.random(spec)[1])
        folded = {key: tensor for key, tensor in whole.items() if not key.endswith(("_g", "_v"))}
        for key in [key for key in whole if key.endswith("_v")]:
            norm, v = whole[key.replace("_v", "_g")], whole[key]
            folded[key.removesuffix("_v")] = v * (norm / v.flatten(1).norm(dim=1).view(-1, 1, 1))
        torch.save({"state_dict": whole, "metadata": {"kwargs": {"n_codebooks": 12}}}, tmp_path / "weights.pth")
        save_file(folded, tmp_path / "model.safetensors")
        names = ("model.safetensors", "weights.pth")
        hub, other = (registry.load(spec, tmp_path / name, torch.device("cpu")) for name in names)
        assert hub.spec.fingerprint == other.spec.fingerprint
        assert hub.spec.former != other.spec.former  # the values differ, by rounding
        data = compressed(hub)
        sound, _ = nac.read(io.BytesIO(data), load=lambda _: other)
        assert np.abs(sound - nac.read(io.BytesIO(data), load=lambda _: hub)[0]).max() < 1e-4
        joined = io.BytesIO()
        nac.cat([io.BytesIO(data), io.BytesIO(compressed(other))], joined)

        # A file of an earlier version holds the fingerprint of the values.
        assert nac.info(io.BytesIO(data)).fingerprint == hub.spec.fingerprint
        new, former = hub.spec, hub.spec.former
        hub.spec = new.with_fingerprint(former)
        old = compressed(hub)
        hub.spec = new
        nac.read(io.BytesIO(old), load=lambda _: hub)
        with pytest.raises(nac.ModelError, match=f"made with dac_16khz weights {former}"):
            nac.read(io.BytesIO(old), load=lambda _: other)

        # Other weights are other weights, in a convolution or in a bias.
        for key in ("encoder.block.0.weight", "encoder.block.0.bias"):
            changed = {**folded, key: folded[key] * -1}
            save_file(changed, tmp_path / "changed.safetensors")
            strange = registry.load(spec, tmp_path / "changed.safetensors", torch.device("cpu"))
            assert strange.spec.fingerprint != hub.spec.fingerprint


def compressed(codec: Codec) -> bytes:
    wav, out = io.BytesIO(), io.BytesIO()
    soundfile.write(wav, oracles.synthetic(8000, 16000)[0, 0].numpy(), 16000, format="WAV")
    wav.seek(0)
    nac.compress(wav, out, model=codec.spec.name, codebooks=12, load=lambda _: codec)
    return out.getvalue()
