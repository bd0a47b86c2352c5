"""A small network between a lapped transform and its inverse, for any audio at 24 kHz.

Encoder and decoder run at the frame rate, so that nearly all work is matrix products. The encoder computes the
MDCT and MDST of each frame (Princen, Johnson and Bradley 1987, "Subband/transform coding using filter bank designs
based on time domain aliasing cancellation"), splits them into band gains and companded shape, and maps these to a
latent, with the sum of a linear map and of ConvNeXt blocks (Liu et al. 2022, arXiv:2201.03545; at the frame rate
as in Vocos, Siuzdak 2023, arXiv:2306.00814). A residual vector quantiser (Zeghidour et al. 2021, arXiv:2107.03312,
section III-C) codes the latent. The decoder's outputs are gains, shape, and the level of noise that replaces what
was not coded.

Frame t covers samples 320 t to 320 t + 319; its block of 640 samples has 160 more on either side.

This is the implementation in numpy, for CPUs: it starts in a fraction of the time that importing PyTorch takes.
:mod:`nac.codecs.mdct_torch` is the one for training and GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from nac.codecs.base import Array
from nac.codecs.fingerprint import fingerprint
from nac.codecs.layers.numpy_codec import NumpyCodec
from nac.codecs.windows import Plan
from nac.errors import ModelError
from nac.spec import CodecSpec

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

HOP = 320
KERNEL = 7
#: frames per window
WINDOW = 256
#: codebooks whose codes are chosen together, and the paths through them that are followed
GROUP, PATHS = 4, 3
#: widths of the gain bands in MDCT bins of 37.5 Hz, roughly the frequency resolution of hearing
BANDS = (*[2] * 10, *[3] * 4, *[4] * 3, 5, 5, 6, 6, 8, 8, 10, 10, 13, 13, 16, 16, 20, 24, 28, 40, 48)
#: the lowest amplitude of gains, just below the last of 16 bits
FLOOR = 1e-5
#: the share of a band's level in dB that companding removes from the shape
COMPANDING = 0.5
#: limits for gains, as natural logarithms
LOWEST, HIGHEST = -12.0, 3.0


def lapped_basis() -> Floats:
    """Return the MDCT and MDST basis with sine window, orthonormal under overlap-add: [2 HOP, 2 HOP]."""
    n, k = np.arange(2 * HOP)[:, None], np.arange(HOP)
    window = np.sin(math.pi / (2 * HOP) * (n + 0.5))
    phase = math.pi / HOP * (n + 0.5 + HOP / 2) * (k + 0.5)
    basis: Floats = (window * math.sqrt(2 / HOP) * np.concatenate([np.cos(phase), np.sin(phase)], 1)).astype("f4")
    return basis


def first_ramp() -> Floats:
    """Return the squared window of a signal's first half hop, which has only one block; reversed for its last."""
    ramp: Floats = (np.sin(math.pi / (2 * HOP) * (np.arange(HOP // 2, HOP) + 0.5)) ** 2).astype(np.float32)
    return ramp


def band_average() -> Floats:
    """Return a matrix [HOP, bands] that computes the mean over the bins of each band."""
    average = np.zeros((HOP, len(BANDS)), np.float32)
    start = 0
    for band, width in enumerate(BANDS):
        average[start : start + width, band] = 1 / width
        start += width
    return average


def band_spread() -> Floats:
    """Return a matrix [bands, HOP] that interpolates linearly from the middles of the bands to bins."""
    bins = np.arange(HOP, dtype=np.float32)
    middles = bins @ band_average()
    right = np.searchsorted(middles, bins).clip(1, len(BANDS) - 1)
    part = ((bins - middles[right - 1]) / (middles[right] - middles[right - 1])).clip(0, 1)
    spread = np.zeros((len(BANDS), HOP), np.float32)
    spread[right - 1, np.arange(HOP)] = 1 - part
    spread[right, np.arange(HOP)] = part
    return spread


def bin_weight() -> Floats:
    """Return weights of bins [HOP], lower for high frequencies, which hearing resolves less finely."""
    weight: Floats = ((1 + np.arange(HOP) * (24000 / 2 / HOP) / 1500) ** -0.5).astype(np.float32)
    return weight


def position_noise(first: int, frames: int, hop: int = HOP) -> Floats:
    """Return uniform noise [frames, hop] with unit power that depends only on the absolute frame number."""
    counter = np.arange(first * hop, (first + frames) * hop, dtype=np.uint64).astype(np.uint32)
    for shift, factor in ((16, 0x45D9F3B), (15, 0x119DE1F3), (16, 0x45D9F3B)):
        counter ^= counter >> np.uint32(shift)
        counter *= np.uint32(factor)
    uniform: Floats = (counter >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24) - np.float32(0.5)
    uniform *= np.float32(math.sqrt(12))
    return uniform.reshape(frames, hop)


def gelu(x: Floats) -> None:
    """Apply GELU in place, with the error function of Abramowitz and Stegun 1964, formula 7.1.26."""
    scale = np.float32(math.sqrt(0.5))
    for part in np.split(x, range(16, len(x), 16)):  # parts that fit in the cache
        z = np.abs(part)
        z *= scale
        t = z * np.float32(0.3275911)
        t += np.float32(1)
        np.reciprocal(t, out=t)
        tail = t * np.float32(1.061405429)
        for term in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail += np.float32(term)
            tail *= t
        z *= z
        np.negative(z, out=z)
        tail *= np.exp(z, out=z)
        # Half of this is the probability beyond |x|.
        np.multiply(tail, np.abs(part) * np.float32(0.5), out=tail)
        np.maximum(part, 0, out=part)
        part -= tail


class Weights:
    """The tensors of a checkpoint by name."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def take(self, name: str, *shape: int) -> Floats:
        """Return a tensor as float32. Raises ValueError if it is missing or has another shape."""
        tensor: Floats = self._checked(name, shape).astype(np.float32)
        return tensor

    def transposed(self, name: str, *shape: int) -> Floats:
        """Return a matrix like :meth:`take`, but transposed, which in one step is faster."""
        matrix: Floats = self._checked(name, shape).T.astype(np.float32, order="C")
        return matrix

    def _checked(self, name: str, shape: tuple[int, ...]) -> Array:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.shape != shape:
            found = "is missing" if tensor is None else f"has the shape {list(tensor.shape)}, not {list(shape)}"
            raise ValueError(f"{name} {found}")
        return tensor

    def size(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._tensors[name].shape if name in self._tensors else (0, 0, 0)

    def count(self, name: str) -> int:
        """Return the number of blocks with a name."""
        numbers = [int(n[len(name) + 1 :].split(".")[0]) for n in self._tensors if n.startswith(name + ".")]
        return max(numbers, default=-1) + 1


class Linear:
    """A linear layer for frames: [T, inner] to [T, outer]."""

    def __init__(self, weights: Weights, name: str, inner: int, outer: int) -> None:
        self._weight = weights.transposed(f"{name}.weight", outer, inner)
        self._bias = weights.take(f"{name}.bias", outer)

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x @ self._weight
        y += self._bias
        return y


class Block:
    """A ConvNeXt block for frames [T, C]."""

    def __init__(self, weights: Weights, name: str, width: int) -> None:
        hidden = weights.size(f"{name}.up.weight")[0]
        self._across = np.ascontiguousarray(weights.take(f"{name}.across.weight", width, 1, KERNEL)[:, 0].T)
        self._across_bias = weights.take(f"{name}.across.bias", width)
        self._norm, self._norm_bias = (weights.take(f"{name}.norm.{part}", width) for part in ("weight", "bias"))
        self._up = Linear(weights, f"{name}.up", width, hidden)
        self._down = Linear(weights, f"{name}.down", hidden, width)

    def __call__(self, x: Floats) -> Floats:
        y = self._normalized(self._convolved(x))
        y = self._up(y)
        gelu(y)
        y = self._down(y)
        y += x
        return y

    def _convolved(self, x: Floats) -> Floats:
        padded = np.pad(x, ((KERNEL // 2, KERNEL // 2), (0, 0)))
        y = np.tile(self._across_bias, (len(x), 1))
        for shift, weight in enumerate(self._across):
            y += padded[shift : shift + len(x)] * weight
        return y

    def _normalized(self, y: Floats) -> Floats:
        y -= y.mean(axis=1, keepdims=True)
        power = np.einsum("tc,tc->t", y, y) / np.float32(y.shape[1])
        y *= (1 / np.sqrt(power + np.float32(1e-5)))[:, None]
        y *= self._norm
        y += self._norm_bias
        return y


class Half:
    """An encoder or decoder: the sum of a linear map and of ConvNeXt blocks."""

    def __init__(self, weights: Weights, name: str, linear: tuple[int, int], deep: tuple[int, int]) -> None:
        """``linear`` and ``deep``: input and output sizes of the linear map and of the blocks."""
        self.width = width = weights.size(f"{name}.enter.weight")[0]
        self.linear = Linear(weights, f"{name}.linear", *linear)
        self.enter = Linear(weights, f"{name}.enter", deep[0], width)
        self.blocks = [Block(weights, f"{name}.blocks.{i}", width) for i in range(weights.count(f"{name}.blocks"))]
        self.leave = Linear(weights, f"{name}.leave", width, deep[1])

    def deep(self, x: Floats, level: Floats | None = None) -> Floats:
        """Apply the blocks. ``level``: added to their input."""
        x = self.enter(x)
        if level is not None:
            x += level
        for block in self.blocks:
            x = block(x)
        return self.leave(x)

    @property
    def context(self) -> int:
        """The number of frames on either side that an output depends on."""
        # One more, because blocks of samples overlap.
        return len(self.blocks) * (KERNEL // 2) + 1


class Quantizer:
    """A residual vector quantiser: each codebook codes the residual of the coarser ones."""

    def __init__(self, weights: Weights) -> None:
        self.count, entries, self.latent = weights.size("quantizer.codebooks")
        self.books = weights.take("quantizer.codebooks", self.count, entries, self.latent)
        self._columns = [np.ascontiguousarray(book.T) for book in self.books]
        self._half_norms = 0.5 * np.square(self.books).sum(axis=2)

    def encode(self, rest: Floats, codebooks: int) -> list[Integers]:
        """Quantise the latent [T, D]. Returns codes [T], one array per codebook.

        The codes of a group of codebooks are chosen together, whatever the number of codebooks asked for. So the
        bitrate of a file can be reduced by removing the codes of the finest codebooks.
        """
        codes: list[Integers] = []
        for first in range(0, codebooks, GROUP):
            chosen, rest = self._searched(rest, first)
            codes.extend(chosen.T)
        return codes[:codebooks]

    def _searched(self, rest: Floats, first: int) -> tuple[Integers, Floats]:
        """Quantise residuals [T, D] by the codebooks from ``first`` on. Returns codes [T, group], and the rest.

        Beam search: what the nearest entry leaves may be hard to code for the next codebook, so the best paths
        through the codebooks of the group are followed.
        """
        frames = np.arange(len(rest))[:, None]
        # of each path: codes, what they leave, and by how much half of its square has fallen
        paths, rests = np.zeros((*frames.shape, 0), np.int64), rest[:, None]
        gain = np.zeros(frames.shape, np.float32)
        for number in range(first, min(first + GROUP, self.count)):
            nearness = rests.reshape(-1, self.latent) @ self._columns[number]
            nearness -= self._half_norms[number]
            entries, gains = best(nearness, PATHS)
            gains = (gain[..., None] + gains.reshape(*gain.shape, PATHS)).reshape(len(rest), -1)
            kept = gains.argsort(axis=1, kind="stable")[:, : -PATHS - 1 : -1]
            codes, parents = entries.reshape(len(rest), -1)[frames, kept], kept // PATHS
            paths = np.concatenate([paths[frames, parents], codes[..., None]], axis=2)
            rests = rests[frames, parents] - self.books[number][codes]
            gain = gains[frames, kept]
        return paths[:, 0], rests[:, 0]

    def decode(self, codes: tuple[Integers, ...]) -> Floats:
        """Return the latent [T, D] for the codes [T] of some codebooks."""
        latent: Floats = self.books[0][codes[0]]
        for book, index in zip(self.books[1:], codes[1:], strict=False):
            latent += book[index]
        return latent


def best(scores: Floats, count: int) -> tuple[Integers, Floats]:
    """Return the columns [N, count] of the highest ``scores`` [N, columns], which are overwritten, and these."""
    rows, columns, highest = np.arange(len(scores)), [], []
    for _ in range(count):
        columns.append(scores.argmax(axis=1))
        highest.append(scores[rows, columns[-1]])
        scores[rows, columns[-1]] = -np.inf
    return np.stack(columns, axis=1), np.stack(highest, axis=1)


class Network:
    """The network for one signal at a time: samples [HOP * T], codes [T] of each codebook."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        """``tensors``: named as in :class:`nac.codecs.mdct_torch.MdctNet`; otherwise raises ValueError."""
        weights, bands = Weights(tensors), len(BANDS)
        self.quantizer = Quantizer(weights)
        count, latent = self.quantizer.count, self.quantizer.latent
        self.encoder = Half(weights, "encoder", (HOP + bands, latent), (2 * HOP + bands, latent))
        self.decoder = Half(weights, "decoder", (latent, HOP + bands), (latent, HOP + 2 * bands))
        # The decoder's input depends on the number of codebooks.
        self._level = weights.take("decoder.level.weight", count, self.decoder.width)
        self._noise = weights.take("decoder.noise.weight", count, bands)
        self._basis = lapped_basis()
        self._inverse = np.ascontiguousarray(self._basis[:, :HOP].T)
        self._average, self._spread, self._weight = band_average(), band_spread(), bin_weight()

    def encode(self, samples: Floats, codebooks: int) -> list[Integers]:
        """Encode samples. Returns codes [T], one array per codebook."""
        coefficients = self._transform(samples)
        power = np.square(coefficients[:, :HOP])
        power += np.square(coefficients[:, HOP:])
        power *= np.float32(0.5)
        gains = np.float32(0.5) * np.log(power @ self._average + np.float32(FLOOR**2))
        scale = 1 / self._expansion(gains)
        shape = np.concatenate([coefficients[:, :HOP] * scale, coefficients[:, HOP:] * scale, gains], axis=1)
        rest = self.encoder.linear(np.concatenate([shape[:, :HOP], gains], axis=1))
        rest += self.encoder.deep(shape)
        return self.quantizer.encode(rest, codebooks)

    def decode(self, codes: tuple[Integers, ...], first: int) -> Floats:
        """Decode the codes of frames from ``first`` on."""
        latent, count = self.quantizer.decode(codes), len(codes)
        bands = len(BANDS)
        deep = self.decoder.deep(latent, self._level[count - 1])
        plain = self.decoder.linear(latent)
        plain += deep[:, :-bands]
        gains = plain[:, HOP:].clip(LOWEST, HIGHEST)
        amount = np.logaddexp(deep[:, -bands:] + self._noise[count - 1], np.float32(0))
        noise = position_noise(first, len(latent))
        noise *= amount @ self._spread
        noise *= np.exp(gains @ self._spread)
        coefficients = plain[:, :HOP] * self._expansion(gains)
        coefficients += noise
        return self._overlapped(coefficients @ self._inverse)

    def _transform(self, samples: Floats) -> Floats:
        """Compute the MDCT and MDST coefficients [T, 2 HOP] of samples."""
        padded = np.pad(samples, HOP // 2)
        return np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP] @ self._basis

    @staticmethod
    def _overlapped(blocks: Floats) -> Floats:
        """Overlap-add blocks [T, 2 HOP] with a distance of half a block. Returns samples [HOP * T]."""
        hops = np.zeros((len(blocks) + 1, HOP), np.float32)
        hops[:-1] = blocks[:, :HOP]
        hops[1:] += blocks[:, HOP:]
        samples = hops.reshape(-1)[HOP // 2 : -(HOP // 2)]
        ramp = first_ramp()
        samples[: HOP // 2] /= ramp
        samples[-(HOP // 2) :] /= ramp[::-1]
        return samples

    def _expansion(self, gains: Floats) -> Floats:
        """Convert gains [T, bands] to factors [T, HOP] that undo the companding of the shape."""
        levels = gains @ self._spread
        levels *= np.float32(COMPANDING)
        np.exp(levels, out=levels)
        # The rest of the level is the other half in dB, so its square is the value just computed.
        rest = np.square(levels) @ np.square(self._weight)[:, None] / np.float32(HOP)
        levels *= np.sqrt(rest)
        levels /= self._weight
        return levels


class Coder(Protocol):
    """A network in numpy for one signal at a time: samples [hop * T], codes [T] of each codebook."""

    encoder: Half
    decoder: Half

    def encode(self, samples: Floats, codebooks: int) -> list[Integers]: ...

    def decode(self, codes: tuple[Integers, ...], first: int) -> Floats: ...


class MdctCodec(NumpyCodec):
    """See :class:`nac.codecs.base.Codec`."""

    def __init__(self, spec: CodecSpec, network: Coder, tensors: Mapping[str, Array]) -> None:
        self.network = network
        self.spec = spec.with_fingerprint(fingerprint(tensors))
        encode, decode = network.encoder.context, network.decoder.context
        self.encode_plan, self.decode_plan = Plan(encode, encode, WINDOW), Plan(decode, decode, WINDOW)

    def encode_frames(self, audio: Array, codebooks: int) -> tuple[Array, ...]:
        rows = [self.network.encode(row, codebooks) for row in audio[:, 0]]
        return tuple(np.stack(layer) for layer in zip(*rows, strict=True))

    def decode_frames(self, arrays: tuple[Array, ...], first: int | Array) -> Array:
        assert isinstance(first, int)
        return np.stack([self.network.decode(codes, first)[None] for codes in zip(*arrays, strict=True)])


def read(spec: CodecSpec, path: Path) -> dict[str, Any]:
    """Read the tensors of a safetensors file, or of a folder's with the model's name, else of its first one.

    Raises ModelError.
    """
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"), key=lambda file: (file.stem != spec.name, file))
        if not files:
            raise ModelError(f"{path} contains no weights of {spec.name} (*.safetensors)")
        path = files[0]
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise wrong_weights(spec, path, error) from error


def wrong_weights(spec: CodecSpec, path: Path, error: Exception) -> ModelError:
    """Return the error for a file with other weights."""
    return ModelError(f"{path} does not contain the weights of {spec.name}: {error}")


def load(spec: CodecSpec, path: Path, network: Callable[[Mapping[str, Array]], Coder] = Network) -> MdctCodec:
    """Load the codec from a safetensors file, for the CPU. Raises ModelError for other weights."""
    tensors = read(spec, path)
    try:
        return MdctCodec(spec, network(tensors), tensors)
    except ValueError as error:
        raise wrong_weights(spec, path, error) from error
