"""A wrapper with PyTorch tensors for codecs that compute in numpy."""

from __future__ import annotations

import torch
from torch import Tensor

from nac.codecs.base import Array, Codec, Codes, Decoder, Encoder


class TensorCodec(Codec):
    """A codec in numpy whose inputs and outputs are tensors."""

    def __init__(self, inner: Codec[Array]) -> None:
        self._inner = inner
        self.spec, self.device = inner.spec, torch.device("cpu")

    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder:
        return TensorEncoder(self._inner.encoder(codebooks, origin=origin))

    def decoder(self, *, origin: int = 0, start: int | None = None) -> Decoder:
        return TensorDecoder(self._inner.decoder(origin=origin, start=start))

    def preroll(self, frame: int, origin: int = 0) -> int:
        return self._inner.preroll(frame, origin)


class TensorEncoder:
    """See :class:`nac.codecs.base.Encoder`."""

    def __init__(self, inner: Encoder[Array]) -> None:
        self._inner = inner

    def push(self, audio: Tensor) -> Codes:
        return self._tensors(self._inner.push(audio.detach().cpu().numpy()))

    def flush(self) -> Codes:
        return self._tensors(self._inner.flush())

    @staticmethod
    def _tensors(codes: Codes[Array]) -> Codes:
        return Codes(tuple(torch.from_numpy(array) for array in codes.arrays))


class TensorDecoder:
    """See :class:`nac.codecs.base.Decoder`."""

    def __init__(self, inner: Decoder[Array]) -> None:
        self._inner = inner

    def push(self, codes: Codes) -> Tensor:
        return torch.from_numpy(self._inner.push(Codes(tuple(array.cpu().numpy() for array in codes.arrays))))

    def flush(self) -> Tensor:
        return torch.from_numpy(self._inner.flush())
