"""The reference implementations at their official sizes, with random weights that make lively codes.

Plain random weights give nearly the same code all the time. Here every convolution is scaled, in one pass from
input to output, so that its output has unit variance on sounds; the last one of a decoder to 0.2. Snake's alphas
lie in 0.3 to 2, codebooks are normal, EnCodec's a factor of 0.75 smaller from one to the next.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from nac.codecs.base import Codes
from nac.codecs.registry import MODELS
from nac.codecs.snac import noise, published_config
from nac.evaluate import references

AUDIO = Path(__file__).resolve().parents[3] / "shared" / "audio"


def synthetic(samples: int, rate: int, channels: int = 1, seed: int = 0) -> Tensor:
    """Tones that glide and pulse over noise, float32 [1, channels, samples]."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    sound = 0.01 * rng.standard_normal((channels, samples))
    for channel in sound:
        for _ in range(8):
            low, glide, pulse = rng.uniform(80, rate / 6), rng.uniform(-0.4, 0.4), rng.uniform(1, 9)
            tone = np.sin(2 * np.pi * low * time * (1 + glide * time) + rng.uniform(0, 6))
            channel += rng.uniform(0.01, 0.12) * tone * np.clip(np.sin(2 * np.pi * pulse * time), 0, 1)
    return torch.tensor(sound, dtype=torch.float32)[None]


def recording(name: str, rate: int, start: float, samples: int) -> Tensor:
    """Part of a recording from second ``start`` on, float32 [1, channels, samples]; skips if it is not there."""
    soundfile = pytest.importorskip("soundfile")
    path = AUDIO / name
    if not path.exists():
        pytest.skip(f"the recording {name} is not there")
    with soundfile.SoundFile(path) as file:
        file.seek(int(start * file.samplerate))
        data = file.read(int(samples * file.samplerate / rate) + 2, dtype="float32", always_2d=True).T
        at = np.arange(samples) * file.samplerate / rate
    channels = [np.interp(at, np.arange(data.shape[1]), channel) for channel in data]
    return torch.tensor(np.stack(channels), dtype=torch.float32)[None]


def enliven(model: nn.Module, last: nn.Module, run: Callable[[], object]) -> None:
    """Draw all weights from a seed, then scale the convolutions while ``run`` passes sound through the model."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            normal = torch.randn(tensor.shape, generator=generator)
            if name.endswith("alpha"):
                tensor.copy_(0.3 + 1.7 * torch.rand(tensor.shape, generator=generator))
            elif name.endswith(("codebook.weight", "embed")):
                tensor.copy_(normal)
            elif name.endswith(("original0", "norm.weight")):
                tensor.copy_(1 + 0.1 * normal)
            elif "bias" in name:
                tensor.copy_(0.05 * normal)
            elif "weight" in name:
                tensor.copy_(normal / math.sqrt(tensor[0].numel()))

    def scale(module: nn.Module, _: object, out: Tensor) -> Tensor:
        handles.pop(module).remove()
        factor = (0.2 if module is last else 1.0) / max(out.std().item(), 1e-9)
        normed = hasattr(module, "parametrizations")
        with torch.no_grad():
            (module.parametrizations.weight.original0 if normed else module.weight).mul_(factor)
            if module.bias is not None:
                module.bias.mul_(factor)
        return out * factor

    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)]
    handles = {module: module.register_forward_hook(scale) for module in convolutions}
    with torch.inference_mode():
        run()
    assert not handles, "a convolution that nothing passed through"


class Oracle(ABC):
    """A reference model behind our conventions: codes as in :class:`nac.codecs.base.Codes`, audio [B, C, N]."""

    def __init__(self, name: str) -> None:
        self.name, self.spec = name, MODELS[name].spec

    model: Any

    @abstractmethod
    def encode(self, audio: Tensor) -> Codes:
        """With all codebooks."""

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor: ...

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """The checkpoint as it is published on the Hub."""

    def save_original(self, folder: Path) -> Path:
        """The checkpoint as the authors published it elsewhere."""
        raise NotImplementedError

    @abstractmethod
    def latents(self, audio: Tensor) -> Tensor:
        """What is quantised, [1, D, T]."""

    @abstractmethod
    def distances(self, book: int, rest: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Distances [T, entries] of what coarser codebooks left; and what codes [1, T] take away from it."""

    def assert_near_ties(self, audio: Tensor, ours: Codes, theirs: Codes) -> None:
        """Every code that differs, but those after another in the same frame, was a choice between equals."""
        if all(torch.equal(a, b) for a, b in zip(ours.arrays, theirs.arrays, strict=True)):
            return  # and what they were chosen for, which takes another pass through the encoder, is not asked
        rest = self.latents(audio)
        innocent = torch.ones(theirs.frames(self.spec), dtype=torch.bool)
        for book, (a, b) in enumerate(zip(ours.arrays, theirs.arrays, strict=True)):
            distances, decode = self.distances(book, rest)
            differs = (a != b)[0].view(len(innocent), -1)
            for step in (differs & innocent[:, None]).flatten().nonzero()[:, 0]:
                to_a, to_b = distances[step, a[0, step]], distances[step, b[0, step]]
                assert abs(to_a - to_b) <= 1e-4 * to_b, f"codebook {book}, step {step}: {to_a} against {to_b}"
            innocent &= ~differs.any(1)
            rest = rest - decode(b)


def original(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight norm as the original packages save it."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    return {re.sub("|".join(names), lambda match: names[match[0]], name): t for name, t in tensors.items()}


class Encodec(Oracle):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        pytest.importorskip("transformers", reason="transformers, the reference of EnCodec, is absent")
        self.model = references.build(name)
        rate = self.spec.sample_rate
        sound = synthetic(rate // 2, rate, self.spec.channels)
        last = self.model.decoder.layers[-1].conv
        enliven(self.model, last, lambda: self.model(sound, bandwidth=24.0))
        for book, layer in enumerate(self.model.quantizer.layers):
            layer.codebook.embed.mul_(0.75**book)

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Codes:
        segments, scales, padding = self.model.encode(audio, bandwidth=24.0, return_dict=False)
        codes = torch.cat(list(segments), -1)
        codes = codes[..., : codes.shape[-1] - padding]
        return Codes(tuple(codes.unbind(1)), torch.cat(scales, 1) if self.spec.has_scale else None)

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Tensor:
        stacked = torch.stack(codes.arrays, 1)
        if codes.scale is None:
            return self.model.decode(stacked[None], [None], return_dict=False)[0]
        missing = -stacked.shape[-1] % 150
        padded = functional.pad(stacked, (0, missing)).unflatten(2, (-1, 150)).permute(2, 0, 1, 3)
        scales = list(codes.scale.unsqueeze(2).unbind(1))
        return self.model.decode(padded, scales, last_frame_pad_length=missing, return_dict=False)[0]

    @torch.inference_mode()
    def latents(self, audio: Tensor) -> Tensor:
        if self.spec.segment is None:
            return self.model.encoder(audio)
        parts = []
        for start in range(0, audio.shape[-1], 47520):
            part = audio[..., start : start + 48000]
            parts.append(self.model.encoder(part / (part.mean(1, True).square().mean(-1, True).sqrt() + 1e-8)))
        return torch.cat(parts, -1)

    @torch.inference_mode()
    def distances(self, book: int, rest: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        layer = self.model.quantizer.layers[book]
        return torch.cdist(rest[0].T.double(), layer.codebook.embed.double()), layer.decode

    def save(self, folder: Path) -> Path:
        safetensors = pytest.importorskip("safetensors.torch")
        file = folder / "model.safetensors"
        safetensors.save_file({k: v.contiguous() for k, v in original(self.model.state_dict()).items()}, file)
        return file

    def save_original(self, folder: Path) -> Path:
        """As the original package's checkpoint."""
        renamed = {}
        for name, tensor in original(self.model.state_dict()).items():
            name = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
            up = re.match(r"decoder\.model\.(3|6|9|12)\.", name)
            name = re.sub(r"(?<=\.)conv\.(?=weight|bias)", "convtr.convtr." if up else "conv.conv.", name)
            name = re.sub(r"(?<=\.)norm\.", "convtr.norm." if up else "conv.norm.", name)
            name = name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
            renamed[name] = tensor
        file = folder / f"{self.name}.th"
        torch.save(renamed, file)
        return file


class Directional(Oracle):
    """What DAC and SNAC share."""

    quantisers: Any
    strides: list[int]

    @torch.inference_mode()
    def distances(self, book: int, rest: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        quantiser, stride = self.quantisers[book], self.strides[book]
        sought = quantiser.in_proj(functional.avg_pool1d(rest, stride, stride))[0].T.double()
        entries = quantiser.codebook.weight.double()

        def decode(codes: Tensor) -> Tensor:
            with torch.inference_mode():
                return quantiser.out_proj(quantiser.codebook(codes).mT).repeat_interleave(stride, -1)

        return torch.cdist(functional.normalize(sought), functional.normalize(entries)), decode


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


class Dac(Directional):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        pytest.importorskip("transformers", reason="transformers, the reference of DAC, is absent")
        self.model = references.build(name)
        sound = synthetic(self.spec.frame_samples * 30, self.spec.sample_rate)
        enliven(self.model, self.model.decoder.conv2, lambda: self.model(sound))
        self.quantisers, self.strides = self.model.quantizer.quantizers, [1] * len(self.spec.codebooks)

    def _pad(self, audio: Tensor) -> Tensor:
        return functional.pad(audio, (0, -audio.shape[-1] % self.spec.frame_samples))

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Codes:
        return Codes(tuple(self.model.encode(self._pad(audio)).audio_codes.unbind(1)))

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Tensor:
        """At 16 and 24 kHz 8 samples short."""
        return self.model.decode(audio_codes=torch.stack(codes.arrays, 1)).audio_values.unsqueeze(1)

    @torch.inference_mode()
    def latents(self, audio: Tensor) -> Tensor:
        return self.model.encoder(self._pad(audio))

    def save(self, folder: Path) -> Path:
        safetensors = pytest.importorskip("safetensors.torch")
        file = folder / "model.safetensors"
        safetensors.save_file(self.model.state_dict(), file)
        return file

    def save_original(self, folder: Path) -> Path:
        """As the original package's checkpoint, weight norm not folded; norms are those of the weights."""
        tensors = {}
        for name, tensor in self.model.state_dict().items():
            layer, _, kind = name.rpartition(".")
            layer = dac_original(layer)
            if kind == "weight" and tensor.ndim == 3:
                tensors[f"{layer}.weight_g"] = tensor.flatten(1).norm(dim=1).view(-1, 1, 1)
                tensors[f"{layer}.weight_v"] = tensor * 1.7
            else:
                tensors[f"{layer}.{kind}"] = tensor
        kwargs = {"sample_rate": self.spec.sample_rate, "n_codebooks": len(self.spec.codebooks), "codebook_dim": 8}
        file = folder / "weights.pth"
        torch.save({"state_dict": tensors, "metadata": {"kwargs": kwargs, "tag": "latest"}}, file)
        return file


class Snac(Directional):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        reason = "snac, the reference of SNAC, is absent"
        pytest.importorskip("snac", reason=reason)
        layers = pytest.importorskip("snac.layers", reason=reason)
        self.config = published_config(MODELS[name].spec)
        self.model = references.build(name)

        def same_noise(stream: int) -> Callable[[nn.Module, Tensor], Tensor]:
            return lambda block, x: x + noise(0, x.shape[-1], stream) * block.linear(x)

        blocks = [module for module in self.model.modules() if isinstance(module, layers.NoiseBlock)]
        for stream, block in enumerate(blocks):
            block.forward = MethodType(same_noise(stream), block)
        sound = synthetic(self.model.hop_length * 64, self.spec.sample_rate)
        last = [module for module in self.model.decoder.modules() if isinstance(module, nn.Conv1d)][-1]
        enliven(self.model, last, lambda: self.model(sound))
        self.quantisers, self.strides = self.model.quantizer.quantizers, self.config["vq_strides"]

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Codes:
        return Codes(tuple(self.model.encode(audio)))

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Tensor:
        return self.model.decode(list(codes.arrays))

    @torch.inference_mode()
    def latents(self, audio: Tensor) -> Tensor:
        return self.model.encoder(self.model.preprocess(audio))

    def save(self, folder: Path) -> Path:
        (folder / "config.json").write_text(json.dumps(self.config))
        torch.save(self.model.state_dict(), folder / "pytorch_model.bin")
        return folder


class Mimi(Oracle):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        pytest.importorskip("transformers", reason="transformers, the reference of Mimi, is absent")
        self.model = references.build(name)
        generator = torch.Generator().manual_seed(2)
        self.halves = [
            self.model.quantizer.semantic_residual_vector_quantizer,
            self.model.quantizer.acoustic_residual_vector_quantizer,
        ]
        self.books = [layer.codebook for half in self.halves for layer in half.layers]
        for number, book in enumerate(self.books):
            book.cluster_usage.copy_(torch.rand(2048, generator=generator) * 50)  # some are hardly used
            entries = torch.randn(2048, 256, generator=generator) * 0.9 ** max(number - 1, 0)
            book.embed_sum.copy_(entries * book.cluster_usage[:, None])
        for module in self.model.modules():
            if hasattr(module, "scale"):
                module.scale.data.copy_(0.3 + 0.1 * torch.randn(512, generator=generator))
        sound = synthetic(self.spec.sample_rate, self.spec.sample_rate)
        enliven(self.model, self.model.decoder.decoder_seanet.layers[-1].conv, lambda: self.model(sound))

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Codes:
        return Codes(tuple(self.model.encode(audio).audio_codes.unbind(1)))

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Tensor:
        return self.model.decode(torch.stack(codes.arrays, 1)).audio_values

    @torch.inference_mode()
    def latents(self, audio: Tensor) -> Tensor:
        """In the few dimensions of the semantic codebook, then in those of the acoustic ones."""
        latents = self.model.encoder(audio).latents
        return torch.cat([half.input_proj(latents) for half in self.halves], 1)

    @torch.inference_mode()
    def distances(self, book: int, rest: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        own = slice(256, None) if book else slice(256)

        def decode(codes: Tensor) -> Tensor:
            taken = torch.zeros_like(rest)
            taken[:, own] = self.books[book].decode(codes).mT
            return taken

        return torch.cdist(rest[0, own].T.double(), self.books[book].embed.double()), decode

    def save(self, folder: Path) -> Path:
        self.model.save_pretrained(folder)
        return folder

    def save_original(self, folder: Path) -> Path:
        """Under the authors' names, rotary pairs side by side, queries, keys and values in one matrix."""
        self.model.save_pretrained(folder)
        hub = load_file(folder / "model.safetensors")
        tensors = {
            mimi_original(name): tensor for name, tensor in hub.items() if not re.search("[qkv]_proj", name)
        }
        for name in [name for name in hub if name.endswith("q_proj.weight")]:
            three = [hub[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            pairs = [part.view(8, 2, 32, 512).transpose(1, 2).reshape(512, 512) for part in three[:2]]
            tensors[mimi_original(name).replace("q_proj.weight", "in_proj_weight")] = torch.cat([*pairs, three[2]])
        file = folder / "tokenizer-e351c8d8-checkpoint125.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
        return file


def mimi_original(name: str) -> str:
    """The authors' name of one of transformers' tensors."""
    side, _, rest = name.partition(".")
    if side in ("encoder", "decoder"):
        up = side == "decoder" and re.match(r"layers\.(2|5|8|11)\.", rest)
        inner = "convtr.convtr." if up else "conv.conv."
        return f"{side}.{rest.replace('layers', 'model', 1).replace('conv.', inner)}"
    if side in ("downsample", "upsample"):
        return f"{side}.{'.'.join(['conv' if side == 'downsample' else 'convtr'] * 3)}.weight"
    if side == "quantizer":
        half, _, rest = rest.partition("_residual_vector_quantizer.")
        rest = re.sub(r"layers\.(\d+)\.codebook\.", r"vq.layers.\1._codebook.", rest)
        rest = rest.replace("initialized", "_initialized").replace("embed_sum", "embedding_sum")
        return f"quantizer.rvq_{'first' if half == 'semantic' else 'rest'}.{rest}"
    theirs = {
        "self_attn.o_proj.weight": "self_attn.out_proj.weight",
        "input_layernorm": "norm1",
        "post_attention_layernorm": "norm2",
        "mlp.fc": "linear",
        "self_attn_layer_scale": "layer_scale_1",
        "mlp_layer_scale": "layer_scale_2",
    }
    for ours, name in theirs.items():
        rest = rest.replace(ours, name)
    return f"{side}.transformer.{rest}"


FAMILIES: dict[str, Callable[[str], Oracle]] = {"encodec": Encodec, "dac": Dac, "snac": Snac, "mimi": Mimi}


def oracle(name: str) -> Oracle:
    return FAMILIES[MODELS[name].spec.family](name)
