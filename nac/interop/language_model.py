"""Decoding .ecdc files coded with EnCodec's language model (arXiv:2210.13438, section 3.3).

A transformer predicts the probabilities of a frame's codes from earlier frames, and an arithmetic decoder decodes
the codes with them. They are computed in floating point, so another machine or another PyTorch may get other
probabilities and thus other codes. The file has no checksum; only leftover bits can be detected.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nac.codecs import checkpoints
from nac.container.records import RecordReader
from nac.errors import FormatError, ModelError
from nac.interop.recording import CodeArray
from nac.weights import cache

FILES = {"encodec_24khz": "encodec_lm_24khz-1608e3c0.th", "encodec_48khz": "encodec_lm_48khz-7add9fc3.th"}
"""The checkpoints that EnCodec's authors published; the part after the hyphen is the beginning of the SHA-256."""
_CONTEXT_SECONDS = 3.5
_HEADS = 8
_RANGE = 1 << 24
_LEAST = 2  # smallest part of the range for any code
_STEP = 1e-8  # probabilities are rounded down to a multiple
_MOST_CODES_A_BIT = 100


def find(model: str, path: Path | None = None) -> Path:
    """The checkpoint at ``path``, or in NAC_WEIGHTS, or from the `encodec` package. Raises ModelError."""
    if path is not None:
        if not path.is_file():
            raise ModelError(f"language model not found at {path}")
        return path
    name, caches = FILES[model], Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [Path(os.environ.get("TORCH_HOME") or caches / "torch") / "hub" / "checkpoints"]
    if weights := os.environ.get("NAC_WEIGHTS"):
        folders = [Path(weights), Path(weights) / model, *folders]
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        raise ModelError(
            f"coded with EnCodec's language model, whose weights, {name}, were not found", remedy="lm"
        )
    if not cache.sha256(found).startswith(found.stem.split("-")[1]):
        raise ModelError(f"{found} is damaged, or its content does not match its name")
    return found


class _Layer(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        known = torch.cat([past, x], 1)
        all_of_it = torch.zeros(
            1, known.shape[1], dtype=torch.bool
        )  # an explicit mask, like the package, for equal rounding
        attended, _ = self.self_attn(x, known, known, attn_mask=all_of_it, need_weights=False)
        x = self.norm1(x + attended)
        out: Tensor = self.norm2(x + self.linear2(functional.gelu(self.linear1(x))))
        return out


class _Transformer(nn.Module):
    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_Layer(width, hidden) for _ in range(layers))


class LanguageModel(nn.Module):
    """``tensors``: from a checkpoint; their shapes give all sizes. ``context``: number of past frames it sees."""

    def __init__(self, tensors: dict[str, Tensor], context: int) -> None:
        super().__init__()
        try:
            entries, self._width = tensors["emb.0.weight"].shape
            hidden = len(tensors["transformer.layers.0.linear1.bias"])
            layers = sum(name.endswith(".norm1.bias") for name in tensors)
            books = sum(name.startswith("emb.") for name in tensors)
            self.transformer = _Transformer(self._width, hidden, layers)
            self.emb = nn.ModuleList(nn.Embedding(entries, self._width) for _ in range(books))
            self.linears = nn.ModuleList(nn.Linear(self._width, entries - 1) for _ in range(books))
            self.load_state_dict(tensors)
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError):
            raise ModelError("not the weights of EnCodec's language model") from None
        self._context = context
        self.eval()

    def start(self) -> list[Tensor]:
        """The initial state."""
        return [torch.zeros(1, 1, self._width) for _ in self.transformer.layers]

    @torch.inference_mode()
    def shares(self, codes: NDArray[np.int64], frame: int, past: list[Tensor]) -> NDArray[np.int64]:
        """Cumulative ranges of the codes for the arithmetic decoder, for a frame: [codebooks, entries].

        ``codes``: of the previous frame, [codebooks]; -1 if there is none. ``past`` is updated.
        """
        x = torch.zeros(())
        for book, code in zip(self.emb, codes + 1, strict=False):
            x = x + book(torch.tensor([[code]]))
        x = self.transformer.norm_in(x) + self._position(frame)
        for i, layer in enumerate(self.transformer.layers):
            before, past[i] = past[i], torch.cat([past[i], x], 1)[:, -self._context :]
            x = layer(x, before)
        scores = torch.stack([linear(x) for linear in self.linears[: len(codes)]], 1).permute(0, 3, 1, 2)
        probable = (torch.softmax(scores, 1)[0, :, :, 0] / _STEP).floor() * _STEP
        parts = ((1 - _LEAST * len(probable) / _RANGE) * _RANGE * probable).floor().long() + _LEAST
        return parts.cumsum(0).T.numpy()

    def _position(self, frame: int) -> Tensor:
        half = self._width // 2
        phase = torch.tensor([[[frame]]]) / (10000 ** (torch.arange(half).view(1, 1, -1) / (half - 1)))
        return torch.cat([torch.cos(phase), torch.sin(phase)], -1)

    def read(self, source: RecordReader, frames: int, codebooks: int) -> CodeArray:
        """A segment's codes, [frames, codebooks]. Raises FormatError, DamageError."""
        if codebooks > len(self.emb):
            raise FormatError(f"{codebooks} codebooks; the language model has {len(self.emb)}")
        left = source.size() - source.position
        source.seek(source.position)
        if frames * codebooks > _MOST_CODES_A_BIT * 8 * left:
            raise FormatError(f"{left} bytes are too few for {frames} frames")
        decoder, past = _Decoder(source), self.start()
        codes = np.full((frames + 1, codebooks), -1)
        for frame in range(frames):
            shares = self.shares(codes[frame - 1], frame, past)
            codes[frame] = [decoder.code(ends) for ends in shares]
        decoder.finish()
        return codes[:frames].astype(np.uint16)


class _Decoder:
    """An arithmetic decoder with interval ``low`` to ``high``, and ``value`` from the bits.

    All three have ``bits`` bits; leading bits that low and high share are dropped.
    """

    def __init__(self, source: RecordReader) -> None:
        self._source = source
        self._byte = self._unread = 0
        self._low = self._high = self._value = self._bits = 0

    def code(self, ends: NDArray[np.int64]) -> int:
        """The next code, from the cumulative ranges."""
        while self._high - self._low + 1 < _RANGE:
            self._low, self._high = 2 * self._low, 2 * self._high + 1
            self._value = 2 * self._value + self._bit()
            self._bits += 1
        scale = (self._high - self._low + 1) / _RANGE
        begins = np.ceil(np.concatenate([[0], ends[:-1]]) * scale)
        code = int(np.searchsorted(begins, self._value - self._low, "right")) - 1
        last = int((ends[code] - 1) * scale)
        if self._value - self._low > last:
            raise FormatError("invalid bits: they match no code")
        self._low, self._high = self._low + int(begins[code]), self._low + last
        while self._bits and self._low >> self._bits - 1 == self._high >> self._bits - 1:
            self._bits -= 1
            mask = (1 << self._bits) - 1
            self._low, self._high, self._value = self._low & mask, self._high & mask, self._value & mask
        return code

    def finish(self) -> None:
        """Raises FormatError unless only zeros fill the last byte."""
        if self._byte:
            raise FormatError("bits left over")

    def _bit(self) -> int:
        if not self._unread:
            self._byte, self._unread = self._source.need(1)[0], 8
        bit = self._byte & 1
        self._byte, self._unread = self._byte >> 1, self._unread - 1
        return bit


def load(model: str, frame_rate: int, path: Path | None = None) -> LanguageModel:
    """The language model for an EnCodec model with so many frames a second. Raises ModelError."""
    tensors, _ = checkpoints.read(find(model, path))
    return LanguageModel(tensors, int(_CONTEXT_SECONDS * frame_rate))
