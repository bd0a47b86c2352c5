"""A codec without a network: samples rounded to 8 bits by its first codebook, to 16 by both.

It keeps the sound, so that what surrounds a codec (time, level, channels, chunks) can be tested to the sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nac.codecs.windows import Plan, Tensors, WindowedCodec
from nac.spec import Codebook, CodecSpec

HOP = 40


class ToyCodec(WindowedCodec):
    encode_plan = Plan(left=2, right=1, window=16)
    decode_plan = Plan(left=1, right=2, window=8)

    def __init__(self, sample_rate: int = 16000, channels: int = 1, frame_multiple: int = 1) -> None:
        self.spec = CodecSpec(
            name="toy",
            family="toy",
            sample_rate=sample_rate,
            channels=channels,
            frame_samples=HOP,
            codebooks=(Codebook(8, HOP * channels),) * 2,
            frame_multiple=frame_multiple,
            fingerprint="0123456789abcdef",
        )
        self.device = torch.device("cpu")

    def encode_frames(self, audio: Tensor, codebooks: int) -> Tensors:
        batch, channels, _ = audio.shape
        framed = audio.reshape(batch, channels, -1, HOP).transpose(1, 2).reshape(batch, -1)
        whole = (framed * 32768).round().clamp(-32768, 32767).to(torch.int64) + 32768
        return (whole // 256, whole % 256)[:codebooks]

    def decode_frames(self, arrays: Tensors, first: int) -> Tensor:
        fine = arrays[1] if len(arrays) > 1 else torch.full_like(arrays[0], 128)
        whole = (arrays[0] * 256 + fine - 32768).to(torch.float32) / 32768
        batch, channels = whole.shape[0], self.spec.channels
        return whole.reshape(batch, -1, channels, HOP).transpose(1, 2).reshape(batch, channels, -1)
