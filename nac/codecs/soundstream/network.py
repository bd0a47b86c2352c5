"""SoundStream's encoder, quantiser and decoder, made from the files' parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nac.codecs.fingerprint import fingerprint
from nac.codecs.layers import rvq
from nac.codecs.layers.spans import context
from nac.codecs.layers.tiles import each
from nac.codecs.layers.weights import Weights
from nac.codecs.soundstream.files import ENTRIES, FEATURES, QUANTISER, Parameters
from nac.codecs.soundstream.layers import (
    Chain,
    Convolution,
    Depthwise,
    LeakyReLU,
    LyraLayer,
    QuantisedTransposed,
    Residual,
    Transposed,
    chain,
)
from nac.codecs.windows import Plan, Tensors, WindowedCodec
from nac.errors import ModelError
from nac.spec import CodecSpec

WINDOW = 250  # frames, 5 s, as measured: shorter windows spend more time on context, longer ones need more memory


class Builder:
    """Makes layers from parameters."""

    def __init__(self, parameters: Mapping[str, Parameters], device: torch.device) -> None:
        self._parameters, self._device = parameters, device

    def tensor(self, values: Any) -> Tensor:
        return torch.tensor(np.array(values, np.float32), device=self._device)

    def encoder(self) -> Chain:
        """Make the encoder: audio [B, 1, n * 320] to features [B, 64, n] (section III-A)."""
        parts: list[LyraLayer] = [
            self.convolution("encoder.first", stride=16),
            *self.units("encoder.0"),
            self.activation("encoder.0.act"),
            self.convolution("encoder.0.down", stride=5),
            *self.units("encoder.1"),
            self.activation("encoder.1.act"),
            self.convolution("encoder.1.down", stride=2),
            *self.units("encoder.2", following="encoder.2.act"),
            self.activation("encoder.2.act"),
            self.convolution("encoder.2.down", stride=2),
            self.activation("encoder.act"),
            self.convolution("encoder.bottleneck"),
        ]
        return chain(parts, to_float=True)

    def decoder(self) -> Chain:
        """Make the decoder: features [B, 64, n] to audio [B, 1, n * 320] (section III-B)."""
        parts: list[LyraLayer] = [
            self.convolution("decoder.bottleneck"),
            self.activation("decoder.0.act"),
            self.quantised_transposed("decoder.0.up", groups=4, block=1),
            *self.units("decoder.0", following="decoder.1.act"),
            self.activation("decoder.1.act"),
            self.quantised_transposed("decoder.1.up", groups=2, block=2),
            *self.units("decoder.1"),
            self.activation("decoder.2.act"),
            self.transposed("decoder.2.up", stride=5),
            *self.units("decoder.2"),
            self.activation("decoder.last.act"),
            self.transposed("decoder.last", stride=16),
        ]
        return chain(parts)

    def quantisers(self) -> list[rvq.Euclidean]:
        entries = Weights({e.name: self.tensor(self._parameters[e.name].weight) for e in QUANTISER}, self._device)
        return [rvq.Euclidean(entries.take(e.name, ENTRIES, FEATURES)) for e in QUANTISER]

    def units(self, name: str, following: str = "") -> Iterator[LyraLayer]:
        """Yield three residual units; their sums have the quantisation of the activation that follows."""
        for i, dilation in enumerate((1, 3, 9)):
            steps: list[LyraLayer] = [
                self.activation(f"{name}.res{i}.act0"),
                self.convolution(f"{name}.res{i}.depthwise", dilation=dilation),
                self.convolution(f"{name}.res{i}.pointwise"),
                self.activation(f"{name}.res{i}.act1"),
                self.convolution(f"{name}.res{i}.output"),
            ]
            source = steps[0].source
            after = self.activation(f"{name}.res{i + 1}.act0" if i < 2 else following)
            target = None if source is None else after.source
            yield Residual(chain(steps, source, to_float=source is None), source, target)

    def activation(self, name: str) -> LeakyReLU:
        """Make an activation, in float32 if the files contain no quantisation for it."""
        parameters = self._parameters.get(name, Parameters())
        return LeakyReLU(parameters.source, parameters.target)

    def convolution(self, name: str, stride: int = 1, dilation: int = 1) -> Convolution:
        p = self._parameters[name]
        ratio = None if p.target is None else self.tensor(p.ratio[:, None])
        layer = Depthwise if name.endswith("depthwise") else Convolution
        return layer(self.tensor(p.weight), self.tensor(p.bias), stride, dilation, p.source, p.target, ratio)

    def transposed(self, name: str, stride: int) -> Transposed:
        p = self._parameters[name]
        weight, bias = self._rows([p]), self.tensor(p.bias)[:, None, None]
        return Transposed(weight, bias, stride, p.weight.shape[-1])

    def quantised_transposed(self, name: str, groups: int, block: int) -> QuantisedTransposed:
        """Make one layer from all groups, which are separate operators in the file."""
        parts = [self._parameters[f"{name}{group}"] for group in range(groups)]
        overlaps = [self._parameters[f"{name}{group}.overlap"].weight for group in range(groups)]
        targets = [part.target for part in parts if part.target is not None]
        if any(part.source != parts[0].source for part in parts):
            raise ModelError(f"the groups of {name} have different quantisations")

        def channels(values: Sequence[Any]) -> Tensor:
            """Expand one value, or a row of values, per group to [out, 1, 1, 1]."""
            rows = [np.broadcast_to(value, part.bias.shape) for value, part in zip(values, parts, strict=True)]
            return self.tensor(np.concatenate(rows)[:, None, None, None])

        return QuantisedTransposed(
            weight=self._rows(parts),
            bias=channels([part.bias for part in parts]),
            stride=2,
            kernel=4,
            source=parts[0].source,
            block=block,
            overlap=channels(overlaps),
            ratio=channels([part.ratio for part in parts]),
            low=channels([target.limits[0] for target in targets]),
            high=channels([target.limits[1] for target in targets]),
            scale=channels([target.scale for target in targets]),
        )

    def _rows(self, groups: Sequence[Parameters]) -> Tensor:
        """Convert weights [in, out, kernel] of each group to [groups, out * kernel, in]."""
        return self.tensor([p.weight.reshape(p.weight.shape[0], -1).T for p in groups])


class SoundStream(WindowedCodec):
    """See :class:`nac.codecs.base.Codec`. ``parameters``: by the names in ENCODER, QUANTISER and DECODER."""

    def __init__(self, spec: CodecSpec, parameters: Mapping[str, Parameters], device: torch.device) -> None:
        tensors = {f"{name}.{key}": t for name, p in parameters.items() for key, t in p.tensors()}
        self.spec = spec.with_fingerprint(fingerprint(tensors))
        self.device = device
        build = Builder(parameters, device)
        self._encoder, self._quantisers, self._decoder = build.encoder(), build.quantisers(), build.decoder()
        hop = self.spec.frame_samples
        self.encode_plan = Plan(*context(self._encoder.needs, in_units=hop, out_units=1), WINDOW)
        self.decode_plan = Plan(*context(self._decoder.needs, in_units=1, out_units=hop), WINDOW)

    def encode_frames(self, audio: Tensor, codebooks: int) -> Tensors:
        return each(lambda audio: self.quantise(self.features(audio), codebooks), audio)

    def decode_frames(self, arrays: Tensors, first: int | Tensor) -> Tensor:
        (audio,) = each(lambda *arrays: (self.synthesise(self.dequantise(arrays)),), *arrays)
        return audio

    def features(self, audio: Tensor) -> Tensor:
        """Convert audio, float32 [B, 1, n * 320], to features [B, 64, n]."""
        return self._encoder(audio)

    def quantise(self, features: Tensor, codebooks: int) -> Tensors:
        """Quantise features. Returns codes [B, n] of each codebook."""
        return rvq.encode(self._quantisers[:codebooks], features.transpose(1, 2))

    def dequantise(self, arrays: Tensors) -> Tensor:
        """Return the features for codes: the sum of the entries, coarse to fine."""
        features = torch.zeros(*arrays[0].shape, FEATURES, device=self.device)
        for quantiser, codes in zip(self._quantisers, arrays, strict=False):
            features += quantiser.decode(codes)
        return features.transpose(1, 2)

    def synthesise(self, features: Tensor) -> Tensor:
        """Convert features [B, 64, n] to audio [B, 1, n * 320], which may slightly exceed -1 to 1."""
        return self._decoder(features)
