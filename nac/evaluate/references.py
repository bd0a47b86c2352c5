"""The reference implementations, where their packages are installed: to measure and to test against."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from nac.codecs import registry
from nac.codecs.base import Codes
from nac.errors import ModelError
from nac.spec import CodecSpec


def build(name: str) -> nn.Module:
    """The reference network at its official size, with whatever weights its package starts from.

    Raises ModelError where there is none, or its package is not installed.
    """
    return _reference(name).network(registry.find(name).spec).eval()


def reference(name: str, tensors: Mapping[str, Tensor]) -> Reference:
    """The reference of a model with the weights of a network of ours. Raises ModelError as :func:`build` does."""
    return _reference(name)(build(name), tensors)


def _reference(name: str) -> type[Reference]:
    family = registry.family(registry.find(name).spec.family)
    if family.reference is None or family.package is None:
        raise ModelError(f"{name} has no reference implementation that installs as a package")
    if find_spec(family.package) is None:
        raise ModelError(f"the reference of {name} is not installed: pip install {family.package}")
    found: type[Reference] = family.resolve(family.reference)  # type: ignore[assignment]
    return found


class Reference(ABC):
    """A reference with the weights of a network of ours. Audio [1, C, N]; codes are as the package gives them."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        fill(model, tensors)
        self.model: Any = model.to(next(iter(tensors.values())).device)

    @staticmethod
    @abstractmethod
    def network(spec: CodecSpec) -> nn.Module:
        """The network at its official size."""

    @abstractmethod
    def encode(self, audio: Tensor) -> Any:
        """Codes of all codebooks."""

    @abstractmethod
    def decode(self, codes: Any) -> Any:
        """Audio from what :meth:`encode` gave."""

    @abstractmethod
    def layers(self, codes: Any) -> Sequence[Tensor]:
        """One tensor per codebook, [1, T], from what :meth:`encode` gave."""

    def same(self, ours: Codes, theirs: Any) -> float:
        """The part of our codes that the reference gives too."""
        layers = self.layers(theirs)
        pairs = [(a == b[..., : a.shape[-1]]).flatten() for a, b in zip(ours.arrays, layers, strict=True)]
        return float(torch.cat(pairs).float().mean())


class Encodec(Reference):
    """transformers' EncodecModel."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from transformers import EncodecConfig, EncodecModel

        options: dict[str, Any] = {}
        if spec.segment:
            options = {
                "sampling_rate": 48000,
                "audio_channels": 2,
                "normalize": True,
                "chunk_length_s": 1.0,
                "overlap": 0.01,
                "norm_type": "time_group_norm",
                "use_causal_conv": False,
                "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
            }
        return EncodecModel(EncodecConfig(**options))

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio, bandwidth=24.0, return_dict=False)

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        frames, scales, missing = codes
        return self.model.decode(frames, scales, last_frame_pad_length=missing, return_dict=False)[0]

    def layers(self, codes: Any) -> Sequence[Tensor]:
        return torch.cat(list(codes[0]), -1).unbind(1)


class Dac(Reference):
    """transformers' DacModel."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from transformers import DacConfig, DacModel

        strides = [2, 4, 5, 8] if spec.frame_samples == 320 else [2, 4, 8, 8]
        config = DacConfig(
            downsampling_ratios=strides, n_codebooks=len(spec.codebooks), sampling_rate=spec.sample_rate
        )
        if spec.name == "dac_44khz_16kbps":
            config.hidden_size = 128
        return DacModel(config)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio).audio_codes

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        return self.model.decode(audio_codes=codes).audio_values

    def layers(self, codes: Any) -> Sequence[Tensor]:
        layers: Sequence[Tensor] = codes.unbind(1)
        return layers


class Snac(Reference):
    """The package snac."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from snac import SNAC as Network

        network: nn.Module = Network(**snac_config(spec))
        return network

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio)

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        return self.model.decode(codes)

    def layers(self, codes: Any) -> Sequence[Tensor]:
        layers: Sequence[Tensor] = codes
        return layers


SNAC = {
    "snac_24khz": {"encoder_dim": 48, "decoder_dim": 1024, "strides": [2, 4, 8, 8], "vq_strides": [4, 2, 1]},
    "snac_32khz": {"encoder_dim": 64, "decoder_dim": 1536, "strides": [2, 3, 8, 8], "vq_strides": [8, 4, 2, 1]},
    "snac_44khz": {"encoder_dim": 64, "decoder_dim": 1536, "strides": [2, 3, 8, 8], "vq_strides": [8, 4, 2, 1]},
}


def snac_config(spec: CodecSpec) -> dict[str, Any]:
    """What config.json holds of a SNAC model."""
    options: dict[str, Any] = dict(SNAC[spec.name])
    strides = options.pop("strides")
    return {
        "sampling_rate": spec.sample_rate,
        "encoder_rates": strides,
        "decoder_rates": strides[::-1],
        "attn_window_size": None if spec.frame_multiple == 1 else 32,
        "codebook_size": 4096,
        "codebook_dim": 8,
        "noise": True,
        "depthwise": True,
        **options,
    }


def dac_original(layer: str) -> str:
    """The original package's name of a layer of transformers' DAC."""

    def block(match: re.Match[str]) -> str:
        number = f"{'block' if match[1] == 'encoder' else 'model'}.{int(match[2]) + 1}"
        return f"{match[1]}.{number}.block"

    stack = {"encoder": "encoder.block", "decoder": "decoder.model"}
    ends = {"conv1": 0, "snake1": 5, "conv2": 6}
    layer = re.sub(r"^(\w+)\.(conv1|snake1|conv2)$", lambda m: f"{stack[m[1]]}.{ends[m[2]]}", layer)
    layer = re.sub(r"^(encoder|decoder)\.block\.(\d)(?=\.[a-z])", block, layer)
    unit = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}
    shift = -1 if layer.startswith("encoder") else 1
    layer = re.sub(r"res_unit(\d)\.(\w+)$", lambda m: f"{int(m[1]) + shift}.block.{unit[m[2]]}", layer)
    strided = {"snake1": 3, "conv1": 4} if shift < 0 else {"snake1": 0, "conv_t1": 1}
    return re.sub(r"(?<=block\.)(snake1|conv1|conv_t1)$", lambda m: str(strided[m[1]]), layer)


@torch.no_grad()
def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a reference the weights of a network of ours, which has weight norm folded: every one of them."""
    used = set()
    for path, module in model.named_modules():
        normed = getattr(module, "parametrizations", {})
        for leaf in {*module._parameters, *module._buffers, *normed}:
            name = next((n for n in (f"{path}.{leaf}", f"{dac_original(path)}.{leaf}") if n in tensors), None)
            if name is None:
                continue
            if leaf in normed:
                normed[leaf].original1.copy_(tensors[name])
                normed[leaf].original0.copy_(tensors[name].flatten(1).norm(dim=1).view(-1, 1, 1))
            else:
                getattr(module, leaf).copy_(tensors[name])
            used.add(name)
    assert used == set(tensors), f"not in the reference: {sorted(set(tensors) - used)}"
