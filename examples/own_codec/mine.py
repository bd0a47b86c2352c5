"""Add your own codec family: after `pip install examples/own_codec`, `nac compress song.wav -m mine` works.

This one has no network: samples at 8 kHz are companded as in ITU-T G.711 (mu-law) and coded with two codebooks of
4 bits, coarse and fine. A trained network needs the same three parts: a specification, windows, and two functions
that encode and decode. nac adds long files, pipes, seeking, cutting, stereo and bitrates.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from nac import Codec, CodecSpec
from nac.codecs.family import Family, Model, Packaged
from nac.codecs.windows import Plan, Tensors, WindowedCodec
from nac.spec import Codebook

FRAME = 80  # samples: 10 ms
MU = 255

SPEC = CodecSpec(
    name="mine",
    family="mine",
    sample_rate=8000,
    channels=1,
    frame_samples=FRAME,
    codebooks=(Codebook(bits=4, codes_per_frame=FRAME),) * 2,
    fingerprint="6d696e6576657231",  # for a network, computed from its weights: see nac.codecs.fingerprint
)
# Here frames are independent; for a network, left and right are the frames that a frame depends on.
PLAN = Plan(left=0, right=0, window=100)


class Mine(WindowedCodec):
    """Mu-law with two codebooks of 4 bits."""

    encode_plan = decode_plan = PLAN

    def __init__(self, device: torch.device) -> None:
        self.spec, self.device = SPEC, device

    def encode_frames(self, audio: Tensor, codebooks: int) -> Tensors:
        """Encode whole frames of samples [B, 1, n * FRAME] to codes [B, n * FRAME], coarse to fine."""
        x = audio[:, 0].clamp(-1, 1)
        companded = x.sign() * torch.log1p(MU * x.abs()) / math.log1p(MU)
        level = ((companded + 1) * 128).to(torch.int64).clamp(0, 255)
        return (level // 16, level % 16)[:codebooks]

    def decode_frames(self, arrays: Tensors, first: int) -> Tensor:
        """Decode whole frames to samples [B, 1, n * FRAME]; with one codebook, to the middle of its 16 levels."""
        fine = arrays[1] + 0.5 if len(arrays) > 1 else 8
        companded = (arrays[0] * 16 + fine) / 128 - 1
        x = companded.sign() * torch.expm1(companded.abs() * math.log1p(MU)) / MU
        return x.to(torch.float32)[:, None]


def load(spec: CodecSpec, path: Path, device: torch.device) -> Codec:
    """Load the codec; nac calls this. `path` is that of the weights, which this codec does not have."""
    return Mine(device)


FAMILY = Family(
    name="mine",
    models=(Model(SPEC, "telephone speech, 32 or 64 kbit/s", "MIT", (Packaged("mine", ()),), PLAN),),
    load="mine:load",
)
