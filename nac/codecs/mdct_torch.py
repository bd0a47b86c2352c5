"""The network of :mod:`nac.codecs.mdct` in PyTorch, for training and GPUs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nac.codecs import mdct
from nac.codecs.fingerprint import fingerprint
from nac.codecs.mdct import BANDS, COMPANDING, FLOOR, GROUP, HIGHEST, HOP, KERNEL, LOWEST, PATHS, WINDOW
from nac.codecs.windows import Plan, Tensors, WindowedCodec
from nac.spec import CodecSpec


def position_noise(first: int | Tensor, frames: int, device: torch.device | None = None) -> Tensor:
    """The same as :func:`nac.codecs.mdct.position_noise`, made where it is needed.

    For ``first`` int64 [B, 1] it is [B, frames, HOP].
    """
    counter = (torch.arange(frames * HOP, dtype=torch.int64, device=device) + first * HOP) & 0xFFFFFFFF
    for shift, factor in ((16, 0x45D9F3B), (15, 0x119DE1F3), (16, 0x45D9F3B)):
        counter = ((counter ^ (counter >> shift)) * factor) & 0xFFFFFFFF
    uniform = (counter >> 8).float() * 2.0**-24 - 0.5
    return torch.unflatten(uniform * math.sqrt(12), -1, (frames, HOP))


class Block(nn.Module):
    """A ConvNeXt block for frames [B, T, C]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.across = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        # As an image of one column in channels-last layout, which x already has, oneDNN needs no copy.
        image = x.transpose(1, 2)[..., None]
        across = self.across
        y = F.conv2d(image, across.weight[..., None], across.bias, padding=(KERNEL // 2, 0), groups=image.shape[1])
        y = y[..., 0].transpose(1, 2)
        return x + cast(Tensor, self.down(F.gelu(self.up(self.norm(y)))))


class Encoder(nn.Module):
    """Maps shape and gains of frames to the latent, with the sum of a linear map and of ConvNeXt blocks."""

    def __init__(self, latent: int, width: int, blocks: int, expansion: int) -> None:
        super().__init__()
        self.linear = nn.Linear(HOP + len(BANDS), latent)
        self.enter = nn.Linear(2 * HOP + len(BANDS), width)
        self.blocks = nn.Sequential(*[Block(width, expansion * width) for _ in range(blocks)])
        self.leave = nn.Linear(width, latent)

    def forward(self, shape: Tensor, gains: Tensor) -> Tensor:
        """Map ``shape`` [B, T, 2 HOP] and ``gains`` [B, T, bands] to [B, T, latent]."""
        linear = self.linear(torch.cat([shape[..., :HOP], gains], dim=-1))
        deep = self.leave(self.blocks(self.enter(torch.cat([shape, gains], dim=-1))))
        return cast(Tensor, linear + deep)


class Decoder(nn.Module):
    """Maps the latent to shape, gains and noise, with the sum of a linear map and of ConvNeXt blocks."""

    def __init__(self, latent: int, width: int, blocks: int, expansion: int, codebooks: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent, HOP + len(BANDS))
        self.enter = nn.Linear(latent, width)
        self.blocks = nn.Sequential(*[Block(width, expansion * width) for _ in range(blocks)])
        self.leave = nn.Linear(width, HOP + 2 * len(BANDS))
        # The input depends on the number of codebooks.
        self.level = nn.Embedding(codebooks, width)
        self.noise = nn.Embedding(codebooks, len(BANDS))

    def forward(self, latent: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map the latent [B, T, D] of ``codebooks`` int64 [B] to shape [B, T, HOP], gains, noise [B, T, bands]."""
        level = (codebooks - 1)[:, None]
        deep = self.leave(self.blocks(self.enter(latent) + self.level(level)))
        shape, gains = (self.linear(latent) + deep[..., : HOP + len(BANDS)]).split([HOP, len(BANDS)], dim=-1)
        return shape, gains, F.softplus(deep[..., HOP + len(BANDS) :] + self.noise(level))


class Quantizer(nn.Module):
    """A residual vector quantiser: each codebook codes the residual of the coarser ones."""

    codebooks: Tensor

    def __init__(self, codebooks: int, entries: int, latent: int) -> None:
        super().__init__()
        self.register_buffer("codebooks", torch.zeros(codebooks, entries, latent))

    def encode(self, latent: Tensor, codebooks: int) -> Tensor:
        """Quantise the latent [B, T, D] like :class:`mdct.Quantizer`. Returns codes, int64 [codebooks, B, T]."""
        rest, codes = latent.flatten(0, 1), []
        for first in range(0, codebooks, GROUP):
            chosen, rest = self._searched(rest, self.codebooks[first : first + GROUP])
            codes.append(chosen)
        return torch.cat(codes, 1)[:, :codebooks].T.reshape(codebooks, *latent.shape[:2])

    @staticmethod
    def _searched(rest: Tensor, books: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise residuals [N, D] by a group of codebooks. Returns codes [N, group], and the rest [N, D]."""
        frames = torch.arange(len(rest), device=rest.device)[:, None]
        paths, rests, gain = frames.new_zeros(len(rest), 1, 0), rest[:, None], rest.new_zeros(len(rest), 1)
        for book in books:
            nearness = rests @ book.T - 0.5 * book.square().sum(dim=1)
            gains, entries = nearness.topk(PATHS, dim=-1)
            gain, kept = (gain[..., None] + gains).flatten(1).topk(PATHS, dim=-1)
            codes, parents = entries.flatten(1)[frames, kept], kept // PATHS
            paths = torch.cat([paths[frames, parents], codes[..., None]], dim=2)
            rests = rests[frames, parents] - book[codes]
        return paths[:, 0], rests[:, 0]

    def decode(self, codes: Tensor) -> Tensor:
        """Return the latent [B, T, D] for codes [codebooks, B, T]."""
        latent = self.codebooks[0][codes[0]]
        for book, index in zip(self.codebooks[1:], codes[1:], strict=False):
            latent = latent + book[index]
        return latent


class MdctNet(nn.Module):
    """The codec's network; see :mod:`nac.codecs.mdct`."""

    basis: Tensor
    average: Tensor
    spread: Tensor
    weight: Tensor
    ramp: Tensor

    def __init__(
        self,
        latent: int = 144,
        codebooks: int = 16,
        entries: int = 1024,
        encoder: tuple[int, int, int] = (192, 3, 3),
        decoder: tuple[int, int, int] = (256, 6, 3),
    ) -> None:
        """``encoder`` and ``decoder``: width, blocks, expansion."""
        super().__init__()
        self.encoder = Encoder(latent, *encoder)
        self.quantizer = Quantizer(codebooks, entries, latent)
        self.decoder = Decoder(latent, *decoder, codebooks)
        for name in ("lapped_basis", "band_average", "band_spread", "bin_weight", "first_ramp"):
            self.register_buffer(name.split("_")[1], torch.from_numpy(getattr(mdct, name)()), persistent=False)

    def context(self) -> tuple[int, int]:
        """Return how many frames on either side the latent of a frame, and a decoded frame, depend on."""
        # One more, because blocks of samples overlap.
        encoder, decoder = len(self.encoder.blocks), len(self.decoder.blocks)
        return encoder * (KERNEL // 2) + 1, decoder * (KERNEL // 2) + 1

    def transform(self, audio: Tensor) -> Tensor:
        """Compute MDCT and MDST coefficients [B, T, 2 HOP] of audio [B, 1, HOP * T]."""
        blocks = F.pad(audio[:, 0], (HOP // 2, HOP // 2)).unfold(-1, 2 * HOP, HOP)
        return blocks @ self.basis

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Synthesise audio [B, 1, HOP * T] from MDCT coefficients [B, T, HOP]."""
        blocks = coefficients @ self.basis[:, :HOP].T
        early, late = F.pad(blocks[..., :HOP], (0, 0, 0, 1)), F.pad(blocks[..., HOP:], (0, 0, 1, 0))
        audio = (early + late).flatten(1)[:, HOP // 2 : -(HOP // 2)]
        # The first and last half hop have only one block: undo its window.
        one = torch.ones(audio.shape[-1] - HOP, device=audio.device)
        return (audio / torch.cat([self.ramp, one, self.ramp.flip(0)]))[:, None]

    def gains(self, coefficients: Tensor) -> Tensor:
        """Compute the natural logarithms of the bands' amplitudes: [B, T, 2 HOP] to [B, T, bands]."""
        power = 0.5 * (coefficients[..., :HOP].square() + coefficients[..., HOP:].square())
        return 0.5 * torch.log(power @ self.average + FLOOR**2)

    def expansion(self, gains: Tensor) -> Tensor:
        """Convert gains [B, T, bands] to factors [B, T, HOP] that undo the companding of the shape."""
        levels = gains @ self.spread
        rest = (2 * (1 - COMPANDING) * levels).exp().mul(self.weight.square()).mean(dim=-1, keepdim=True)
        return (COMPANDING * levels).exp() * rest.sqrt() / self.weight

    def encode(self, audio: Tensor) -> Tensor:
        """Convert audio [B, 1, HOP * T] to the latent [B, T, D]."""
        coefficients = self.transform(audio)
        gains = self.gains(coefficients)
        expansion = self.expansion(gains)
        shape = coefficients / torch.cat([expansion, expansion], dim=-1)
        return cast(Tensor, self.encoder(shape, gains))

    def synthesize(self, latent: Tensor, codebooks: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Compute MDCT coefficients [B, T, HOP] without and with noise, from latent and unit noise [T, HOP]."""
        shape, gains, amount = self.decoder(latent, codebooks)
        gains = gains.clamp(LOWEST, HIGHEST)
        coded = shape * self.expansion(gains)
        return coded, coded + noise * (amount @ self.spread) * (gains @ self.spread).exp()

    def decode(self, latent: Tensor, codebooks: int, first: int | Tensor = 0) -> Tensor:
        """The quantised latent [B, T, D] of frames ``first`` and on to audio [B, 1, HOP * T]."""
        count = torch.full((latent.shape[0],), codebooks, dtype=torch.int64, device=latent.device)
        noise = position_noise(first, latent.shape[1], latent.device)
        return self.inverse(self.synthesize(latent, count, noise)[1])


class FrameNet(Protocol):
    """The interface of networks for :class:`TorchCodec`."""

    quantizer: Quantizer

    def encode(self, audio: Tensor) -> Tensor: ...
    def decode(self, latent: Tensor, codebooks: int, first: int | Tensor = 0) -> Tensor: ...
    def context(self) -> tuple[int, int]: ...


class TorchCodec(WindowedCodec):
    """A codec with a network for lapped transforms. See :class:`nac.codecs.base.Codec`."""

    def __init__(self, spec: CodecSpec, net: nn.Module, device: torch.device) -> None:
        """``net``: a :class:`FrameNet`."""
        tensors = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
        self.spec = spec.with_fingerprint(fingerprint(tensors))
        self.device = device
        self.net = cast(FrameNet, net.to(device).eval())
        encode, decode = self.net.context()
        self.encode_plan = Plan(encode, encode, WINDOW)
        self.decode_plan = Plan(decode, decode, WINDOW)

    def encode_frames(self, audio: Tensor, codebooks: int) -> Tensors:
        return tuple(self.net.quantizer.encode(self.net.encode(audio), codebooks))

    def decode_frames(self, arrays: Tensors, first: int | Tensor) -> Tensor:
        return self.net.decode(self.net.quantizer.decode(torch.stack(arrays)), len(arrays), first)


def fill(net: nn.Module, spec: CodecSpec, path: Path) -> None:
    """Load the tensors of a safetensors file into a network. Raises ModelError for other weights."""
    tensors = mdct.read(spec, path)
    try:
        net.load_state_dict({name: torch.from_numpy(tensor).float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise mdct.wrong_weights(spec, path, error) from error


def load(spec: CodecSpec, path: Path, device: torch.device) -> TorchCodec:
    """Load the codec from a safetensors file of :class:`MdctNet`. Raises ModelError for other files."""
    net = MdctNet()
    fill(net, spec, path)
    return TorchCodec(spec, net, device)
