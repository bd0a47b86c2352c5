"""Mimi (Défossez et al. 2024, arXiv:2410.00037, section 3.3).

SEANet convolutions with a transformer on either side of a split quantiser, all causal. Attention looks back over
250 steps in each of eight layers, so an output depends on 80 s of input: a decoder that starts 80 s earlier
returns the same samples as for the whole signal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nac.codecs import checkpoints
from nac.codecs.base import Codec
from nac.codecs.devices import is_gpu, on_gpu
from nac.codecs.fingerprint import RANDOM
from nac.codecs.layers import rvq, seanet
from nac.codecs.layers.causal import AT_ONCE, CausalCodec, Stage, Stream, StreamLayer, as_float, run
from nac.codecs.layers.convolutions import kernel
from nac.codecs.layers.kernels import Kernel, add_convolved, convolve
from nac.codecs.layers.seanet import Padded, Shape
from nac.codecs.layers.weights import RandomWeights, Weights
from nac.codecs.reference import Reference
from nac.codecs.windows import Plan
from nac.spec import CodecSpec

SHAPE = Shape((4, 5, 6, 8), 64, 512, last=3, edges=seanet.zeros, shortcut=False, lstm=False)
LAYERS, HEADS, INNER = 8, 8, 2048  # of a transformer
WINDOW = 250  # steps in the attention's window, including the current one
STEPS = 2  # steps of the transformers per frame
CODEBOOK = 256  # dimensions of a codebook's entries
# Frames per block, and per tile of the convolutions at high rates, as measured. Those have large signals; layers
# at low rates have large weights, which are better read once for many frames.
BLOCK, TILE = 32, 4


class Tiles:
    """Layers that process a block in tiles of ``size`` steps, so that results stay in a core's cache."""

    def __init__(self, layers: Sequence[StreamLayer], size: int) -> None:
        self._layers, self._size = layers, size

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        if on_gpu(x):
            return run(self._layers, x, stream)
        first, last, results = stream.first, stream.last, []
        parts = torch.split(x, self._size, 1)
        for number, part in enumerate(parts, 1):
            stream.last = last and number == len(parts)
            results.append(run(self._layers, part, stream))
            stream.first = False
        stream.first = first
        return torch.cat(results, 1)


class Positions:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), and the attention mask.

    Positions are counted from the first step in the window, because only their differences matter. So rounding
    errors do not grow with the length of a signal.
    """

    def __init__(self, width: int, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """``width``: of a head."""
        most = STEPS * BLOCK * (AT_ONCE if is_gpu(device) else 1)
        frequencies = 10000.0 ** -(torch.arange(0, width, 2) / width)
        angles = torch.arange(WINDOW - 1 + most)[:, None] * frequencies
        self._cos, self._sin = (table.to(device, dtype) for table in (angles.cos(), angles.sin()))
        distance = torch.arange(most)[:, None] - torch.arange(1 - WINDOW, most)
        hidden = torch.zeros(distance.shape).masked_fill((distance < 0) | (distance >= WINDOW), -torch.inf)
        self._hidden = hidden.to(device, dtype)

    def rotate(self, x: Tensor, first: int) -> Tensor:
        """Rotate [..., T, width]; ``first``: the position of the first step."""
        cos, sin = (table[first : first + x.shape[-2]] for table in (self._cos, self._sin))
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def hidden(self, steps: int, before: int) -> Tensor:
        """Return the mask [steps, before + steps]: minus infinity for steps outside the window, else 0."""
        return self._hidden[:steps, WINDOW - 1 - before : WINDOW - 1 + steps]


class Attention:
    """Self-attention over the last steps, with cached keys and values."""

    def __init__(self, weights: Weights, name: str, width: int, scale: Tensor, positions: Positions) -> None:
        """``scale``: a factor for each channel of the result."""
        into = torch.cat([weights.take(f"{name}.{part}_proj.weight", width, width) for part in "qkv"])
        out = weights.take(f"{name}.o_proj.weight", width, width)
        self._into, self._out = _matrix(into), _matrix(out * scale[:, None])
        self._positions = positions

    def __call__(self, x: Tensor, stream: Stream, onto: Tensor) -> Tensor:
        batch, steps, width = x.shape
        heads = convolve(x, self._into).view(batch, steps, 3, HEADS, width // HEADS).permute(0, 2, 3, 1, 4)
        seen = heads[:, 1:] if stream.first else torch.cat([stream.memory[self], heads[:, 1:]], 3)
        stream.memory[self] = seen[:, :, :, max(seen.shape[3] - WINDOW + 1, 0) :].clone()
        before = seen.shape[3] - steps
        query = self._positions.rotate(heads[:, 0], before) * (width // HEADS) ** -0.5
        key, value = self._positions.rotate(seen[:, 0], 0), seen[:, 1]
        weight = (query @ key.mT).add_(self._positions.hidden(steps, before)).softmax(-1)
        mixed = (weight @ value).transpose(1, 2).reshape(batch, steps, width)
        return add_convolved(mixed, self._out, onto)


class Norm:
    """Layer normalisation over the channels of each step."""

    def __init__(self, weights: Weights, name: str, width: int) -> None:
        self._scale, self._shift = (weights.take(f"{name}.{part}", width) for part in ("weight", "bias"))

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[2:], self._scale, self._shift)


class TransformerLayer:
    """Attention and two fully connected layers, each with a preceding normalisation and a skip connection."""

    def __init__(self, weights: Weights, name: str, positions: Positions) -> None:
        width = SHAPE.latent
        self._first = Norm(weights, f"{name}.input_layernorm", width)
        self._second = Norm(weights, f"{name}.post_attention_layernorm", width)
        scales = [weights.take(f"{name}.{part}_layer_scale.scale", width) for part in ("self_attn", "mlp")]
        self._attention = Attention(weights, f"{name}.self_attn", width, scales[0], positions)
        self._expand = _matrix(weights.take(f"{name}.mlp.fc1.weight", INNER, width))
        self._reduce = _matrix(weights.take(f"{name}.mlp.fc2.weight", width, INNER) * scales[1][:, None])

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        x = self._attention(self._first(x), stream, x)
        return add_convolved(functional.gelu(convolve(self._second(x), self._expand)), self._reduce, x)


class DoubleRate:
    """Doubles the number of steps, with a depthwise transposed convolution with kernel 4."""

    def __init__(self, weights: Weights, name: str) -> None:
        width = SHAPE.latent
        self._now, self._before = weights.take(f"{name}.conv.weight", width, 1, 4)[:, 0].t().reshape(2, 2, width)

    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        last = torch.zeros_like(x[:, :1]) if stream.first else stream.memory[self]
        stream.memory[self] = x[:, -1:].clone()
        before = torch.cat([last, x[:, :-1]], 1)
        return torch.addcmul(x[:, :, None] * self._now, before[:, :, None], self._before).flatten(1, 2)


class SplitQuantiser:
    """The semantic codebook, or the acoustic ones, with a projection to few dimensions."""

    def __init__(self, weights: Weights, name: str, sizes: Sequence[int]) -> None:
        width, name = SHAPE.latent, f"quantizer.{name}_residual_vector_quantizer"
        self._into = _matrix(weights.take(f"{name}.input_proj.weight", CODEBOOK, width, 1)[..., 0])
        self._out = _matrix(weights.take(f"{name}.output_proj.weight", width, CODEBOOK, 1)[..., 0])
        self._quantisers = []
        for number, size in enumerate(sizes):
            book = f"{name}.layers.{number}.codebook"
            total = weights.take(f"{book}.embed_sum", size, CODEBOOK)
            usage = weights.take(f"{book}.cluster_usage", size)
            self._quantisers.append(rvq.Euclidean(total / usage.clamp_min(1e-5)[:, None]))

    def encode(self, x: Tensor, codebooks: int) -> tuple[Tensor, ...]:
        return rvq.encode(self._quantisers[:codebooks], convolve(x, self._into))

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        return convolve(rvq.decode(self._quantisers, codes), self._out)


class Mimi(CausalCodec):
    """Mimi at 24 kHz, one channel: a semantic codebook and acoustic ones, both for the same latent vectors.

    ``weights``: named as in transformers, without those needed only for training; otherwise raises ModelError.
    """

    def __init__(self, spec: CodecSpec, weights: Weights) -> None:
        self.spec, self.device, self.block = spec, weights.device, BLOCK
        # A sample depends on this many earlier frames; convolutions add less than 6. With one more block,
        # attention has its full window in every relevant block, so that shapes are the same as for the whole
        # signal.
        reach = LAYERS * (WINDOW - 1) // STEPS + 6
        self.decode_plan = Plan(-(-reach // BLOCK) * BLOCK + BLOCK, 0, BLOCK)
        sizes = [2**book.bits for book in spec.codebooks]
        self._semantic = SplitQuantiser(weights, "semantic", sizes[:1])
        self._acoustic = SplitQuantiser(weights, "acoustic", sizes[1:])
        decoding = weights.of_decoder()
        self.fast, self.decode_dtype = weights.fast, decoding.dtype
        self._encoder = _encoder(weights, spec, _positions(weights))
        self._decoder = _decoder(decoding, spec, _positions(decoding))
        weights.finish()

    def encode_stages(self, codebooks: int) -> Sequence[Stage]:
        def quantise(x: Tensor, stream: Stream) -> Tensor:
            acoustic = self._acoustic.encode(x, codebooks - 1) if codebooks > 1 else ()
            return torch.stack([*self._semantic.encode(x, 1), *acoustic], 1)

        high, low = self._encoder
        return Stage(high), Stage([*low, quantise])

    def decode_stages(self) -> Sequence[Stage]:
        def look_up(codes: Tensor, stream: Stream) -> Tensor:
            semantic, *acoustic = codes.unbind(1)
            x = self._semantic.decode([semantic])
            return (x + self._acoustic.decode(acoustic) if acoustic else x).to(self.decode_dtype)

        low, high = self._decoder
        return Stage([look_up, *low]), Stage([*high, as_float])


def _encoder(
    weights: Weights, spec: CodecSpec, positions: Positions
) -> tuple[list[StreamLayer], list[StreamLayer]]:
    """Return the encoder's layers at high rates and those at low rates."""
    width, convolutions = SHAPE.latent, seanet.encoder(weights, spec.channels, SHAPE)
    high, low = convolutions.front[:5], convolutions.front[5:]  # the first convolution and two strides
    shape = replace(SHAPE, edges=seanet.repeat)
    last = Padded(weights, "downsample", width, width, 2 * STEPS, shape=shape, stride=STEPS, bias=False)
    transformer = _transformer(weights, "encoder_transformer", positions)
    return [Tiles(high, TILE * spec.frame_samples)], [*low, *convolutions.back, *transformer, last]


def _decoder(
    weights: Weights, spec: CodecSpec, positions: Positions
) -> tuple[list[StreamLayer], list[StreamLayer]]:
    """Return the decoder's layers at low rates and those at high rates."""
    first, transformer = DoubleRate(weights, "upsample"), _transformer(weights, "decoder_transformer", positions)
    convolutions = seanet.decoder(weights, spec.channels, SHAPE)
    low, high = convolutions.back[:4], convolutions.back[4:]  # two strides; two strides and the last convolution
    steps = spec.frame_samples // prod(SHAPE.strides[:2])  # steps per frame after the low-rate layers
    return [first, *transformer, *convolutions.front, *low], [Tiles(high, TILE * steps)]


def _positions(weights: Weights) -> Positions:
    return Positions(SHAPE.latent // HEADS, weights.device, weights.dtype)


def _transformer(weights: Weights, name: str, positions: Positions) -> list[StreamLayer]:
    return [TransformerLayer(weights, f"{name}.layers.{i}", positions) for i in range(LAYERS)]


def _matrix(matrix: Tensor) -> Kernel:
    """Make a kernel that multiplies rows with a matrix [out, in]."""
    return kernel(matrix[..., None], None, steps=STEPS * BLOCK)


def load(spec: CodecSpec, path: Path, device: torch.device, *, fast: bool = False) -> Codec:
    """Load the codec from a checkpoint, a file or a folder. Raises ModelError for other weights."""
    return checkpoints.load(spec, path, device, Mimi, canonical, fast=fast)


def canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint's tensors as in transformers, and remove those needed only for training."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = _name(name)
        if name.endswith(".in_proj.weight") and len(tensor) == 3 * SHAPE.latent:
            query, key, value = tensor.chunk(3)
            layer = name.removesuffix("in_proj.weight")
            found |= {f"{layer}q_proj.weight": _halves(query), f"{layer}k_proj.weight": _halves(key)}
            found[f"{layer}v_proj.weight"] = value
        elif not name.endswith(".initialized"):
            found[name] = tensor
    return found


_NAMES = (
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.(?:conv\.|convtr\.)+(?=weight|bias)", ".conv."),
    (r"_transformer\.transformer\.", "_transformer."),
    (r"\.(in|out)_(?:projs\.0\.|proj_|proj\.)(?=weight)", r".\1_proj."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
    (r"\.linear(?=[12]\.)", ".mlp.fc"),
    (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
    (r"\.layer_scale_2\.", ".mlp_layer_scale."),
    (r"\.rvq_first\.", ".semantic_residual_vector_quantizer."),
    (r"\.rvq_rest\.", ".acoustic_residual_vector_quantizer."),
    (r"\.vq\.layers\.(\d+)\._codebook\._?", r".layers.\1.codebook."),
    (r"\.embedding_sum$", ".embed_sum"),
)
"""Substitutions from the authors' names to those in transformers."""


def _name(name: str) -> str:
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name


def _halves(matrix: Tensor) -> Tensor:
    """Reorder outputs for rotary positions: the authors rotate neighbours, transformers the halves of a head."""
    return matrix.view(HEADS, -1, 2, matrix.shape[1]).transpose(1, 2).reshape(matrix.shape)


class _Random(RandomWeights):
    """Random weights with which transformers matter, and the entries of codebooks become smaller."""

    def _random(self, name: str, shape: tuple[int, ...]) -> Tensor:
        drawn = super()._random(name, shape)
        if name.endswith("cluster_usage"):
            return torch.rand(shape, generator=self._generator) + 0.5
        if name.endswith("layer_scale.scale"):
            return drawn + 0.3
        if match := re.search(r"acoustic.*layers\.(\d+)\.codebook", name):
            return drawn * 0.9 ** int(match[1])
        return drawn


def random(
    spec: CodecSpec, device: torch.device, seed: int = 0, *, fast: bool = False
) -> tuple[Codec, dict[str, Tensor]]:
    """Make the codec with random weights. Returns it and the weights by name."""
    weights = _Random(device, seed, fast=fast)
    return Mimi(spec.with_fingerprint(RANDOM), weights), weights.tensors


class MimiReference(Reference):
    """transformers' MimiModel."""

    @staticmethod
    def network(spec: CodecSpec) -> nn.Module:
        from transformers import MimiConfig, MimiModel

        return MimiModel(MimiConfig())

    @torch.inference_mode()
    def encode(self, audio: Tensor) -> Any:
        return self.model.encode(audio).audio_codes

    @torch.inference_mode()
    def decode(self, codes: Any) -> Any:
        return self.model.decode(codes).audio_values

    def layers(self, codes: Any) -> Sequence[Tensor]:
        layers: Sequence[Tensor] = codes.unbind(1)
        return layers

    @staticmethod
    def layer(path: str) -> str:
        return re.sub(r"^(?:en|de)coder\.(?:(\w+)_seanet|(\w+_transformer|(?:down|up)sample))\b", r"\1\2", path)
