"""The interface that every codec family implements.

A codec encodes audio as *frames* of integer codes, and decodes them. A frame is the shortest time step in which
every codebook has a whole number of codes: one hop for EnCodec, DAC and SoundStream, the stride of the coarsest
codebook for SNAC. Codebooks are ordered from coarse to fine. The first *n* of them can be decoded alone, and *n*
sets the bitrate.

To add a family, subclass :class:`nac.codecs.windows.WindowedCodec` if the network's receptive field is finite,
else :class:`Codec`. A codec computes with PyTorch tensors or with numpy arrays. This module does not import torch,
so that specifications can be read, and codecs in numpy used, without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeVar

from nac.bitrate import allocate
from nac.codecs import checks, devices
from nac.codecs import parallel as workers
from nac.codecs.batches import Batches, Job
from nac.errors import ArgumentError, ArgumentTypeError, ModelError
from nac.spec import CodecSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = npt.NDArray[Any]
A = TypeVar("A", default="Tensor")
"""The array type of a codec: tensors or numpy arrays."""


def join(parts: Sequence[A]) -> A:
    """Concatenate arrays of one type along the last dimension into a new one."""
    if isinstance(parts[0], np.ndarray):
        return cast(A, np.concatenate(cast("Sequence[Array]", parts), axis=-1))
    import torch

    return cast(A, torch.cat(cast("list[Tensor]", list(parts)), dim=-1))


def stack(rows: Sequence[A]) -> A:
    """Stack arrays [B, T] of one type into a new one [B, rows, T]."""
    if isinstance(rows[0], np.ndarray):
        return cast(A, np.stack(cast("Sequence[Array]", rows), axis=1))
    import torch

    return cast(A, torch.stack(cast("list[Tensor]", list(rows)), dim=1))


def zeros(like: A, shape: tuple[int, ...], kind: type[np.float32] | type[np.int64]) -> A:
    """Return zeros of the same array type, on the same device."""
    if isinstance(like, np.ndarray):
        return cast(A, np.zeros(shape, kind))
    import torch

    dtype = torch.float32 if kind is np.float32 else torch.int64
    return cast(A, torch.zeros(shape, dtype=dtype, device=cast("Tensor", like).device))


@dataclass(frozen=True)
class Codes(Generic[A]):
    """Codes of a batch of equally long signals.

    Parameters
    ----------
    arrays : tuple of tensors [B, frames * codes_per_frame]
        One int64 tensor for each codebook, coarse to fine.
    scale : tensor [B, segments], optional
        The float32 loudness of each segment, for codecs that have one.

    Examples
    --------
    >>> import nac, torch
    >>> codes = nac.load("nac_24khz").encode(torch.zeros(2, 1, 24000), kbps=3)
    >>> codes.tensor.shape
    torch.Size([2, 4, 75])
    >>> nac.Codes.of(codes.tensor[:, :2]).tensor.shape
    torch.Size([2, 2, 75])
    """

    arrays: tuple[A, ...]
    scale: A | None = None

    def frames(self, spec: CodecSpec) -> int:
        """Return the number of frames."""
        return cast(Any, self.arrays[0]).shape[-1] // spec.codebooks[0].codes_per_frame  # type: ignore[no-any-return]

    def overhang(self, spec: CodecSpec) -> bool:
        """Return whether the last frame is another segment's, which then has one more scale."""
        if self.scale is None or spec.segment is None:
            return False
        whole, rest = divmod(self.frames(spec), spec.segment.frames)
        return not rest and cast(Any, self.scale).shape[-1] > whole

    @classmethod
    def of(cls, tensor: A, scale: A | None = None) -> Codes[A]:
        """Make Codes from one tensor or array [B, K, T]: K codebooks with one rate, coarse to fine.

        ``scale``: float32 [B, segments], for codecs that have one. Raises ArgumentError for another shape.
        """
        array = cast(Any, tensor)
        if not hasattr(array, "shape"):
            raise ArgumentTypeError(f"codes [B, K, T] are needed, not {type(array).__name__}")
        if len(shape := list(array.shape)) != 3 or not shape[1]:
            raise ArgumentError(f"codes [B, K, T] are needed, not {shape}")
        return cls(tuple(array[:, book] for book in range(array.shape[1])), scale)

    @property
    def tensor(self) -> A:
        """All codes in one tensor [B, K, T], like ``audio_codes`` in transformers.

        Raises ArgumentError if the codebooks have different rates (SNAC): use nac.flatten for these.
        """
        if len({cast(Any, array).shape for array in self.arrays}) > 1:
            raise ArgumentError(
                "the codebooks have different rates, so their codes are not one tensor: use nac.flatten"
            )
        return stack(self.arrays)

    def prefix(self, codebooks: int) -> Codes[A]:
        """Return the codes of the coarsest ``codebooks`` codebooks only."""
        return Codes(self.arrays[:codebooks], self.scale)

    def row(self, number: int) -> Codes[A]:
        """Return one signal of the batch, as a batch of one."""
        arrays = tuple(cast(Any, array)[number : number + 1] for array in self.arrays)
        return Codes(arrays, None if self.scale is None else cast(Any, self.scale)[number : number + 1])

    def between(self, spec: CodecSpec, first: int, end: int | None = None) -> Codes[A]:
        """Return the codes of the frames from ``first`` up to ``end`` or the last, with their segments' scales."""
        arrays = tuple(
            cast(Any, array)[:, first * book.codes_per_frame : None if end is None else end * book.codes_per_frame]
            for array, book in zip(self.arrays, spec.codebooks, strict=False)
        )
        if self.scale is None or spec.segment is None:
            return Codes(arrays, self.scale)
        unit = spec.segment.frames
        scale = cast(Any, self.scale)[:, first // unit : None if end is None else -(-end // unit)]
        return Codes(arrays, scale)

    @staticmethod
    def join(parts: Sequence[Codes[A]]) -> Codes[A]:
        """Concatenate successive parts of one signal."""
        arrays = tuple(join(layers) for layers in zip(*(part.arrays for part in parts), strict=True))
        scales = [part.scale for part in parts if part.scale is not None]
        return Codes(arrays, join(scales) if scales else None)


class Encoder(Protocol[A]):
    """A streaming encoder. The results of ``push`` and ``flush``, joined, are the result of ``Codec.encode``.

    If a codec is on a GPU and the signal is on the host, so are the codes: many streams then share batches.
    """

    def push(self, audio: A) -> Codes[A]:
        """Encode the next samples, float32 [B, C, n], any n. Returns the frames that are complete, maybe none."""
        ...

    def flush(self) -> Codes[A]:
        """End the signal. Returns the remaining frames."""
        ...


class Decoder(Protocol[A]):
    """A streaming decoder. The results of ``push`` and ``flush``, joined, are the result of ``Codec.decode``.

    If a codec is on a GPU and the codes are on the host, so is the signal.
    """

    def push(self, codes: Codes[A]) -> A:
        """Decode any number of frames. Returns the samples that are final, float32 [B, C, n]."""
        ...

    def flush(self) -> A:
        """End the signal. Returns the remaining samples, up to the end of the last frame."""
        ...


class Codec(ABC, Generic[A]):
    """A network with its weights, which encodes and decodes. Use :func:`nac.load` to make one.

    A codec is thread-safe. ``spec``: its specification; ``device``: the device on which it computes; ``fast``:
    whether it decodes in half precision.

    Examples
    --------
    >>> import nac, torch
    >>> codec = nac.load("nac_24khz")
    >>> codec.sample_rate, codec.channels, codec.hop_length, codec.frame_rate
    (24000, 1, 320, 75.0)
    >>> codec.num_codebooks, codec.codebook_size, codec.kbps
    (16, 1024, 12.0)
    >>> codes = codec.encode(torch.zeros(1, 1, 24000), kbps=6)
    >>> codes.tensor.shape
    torch.Size([1, 8, 75])
    >>> codec.decode(codes).shape
    torch.Size([1, 1, 24000])
    """

    spec: CodecSpec
    device: torch.device
    fast: bool = False
    _reload: Callable[[str], Codec[A]] | None = None
    """Returns the same codec on the device with this name."""

    @property
    def sample_rate(self) -> int:
        """The sample rate of its input and output, in Hz."""
        return self.spec.sample_rate

    @property
    def channels(self) -> int:
        """The number of channels of its input and output."""
        return self.spec.channels

    @property
    def hop_length(self) -> int:
        """Samples per channel in a frame."""
        return self.spec.frame_samples

    @property
    def frame_rate(self) -> float:
        """Frames per second: the code rate of the coarsest codebook."""
        return self.spec.sample_rate / self.spec.frame_samples

    @property
    def num_codebooks(self) -> int:
        """The number of codebooks."""
        return len(self.spec.codebooks)

    @property
    def codebook_size(self) -> int:
        """The number of entries of the largest codebook; codes are less than this."""
        return 1 << max(book.bits for book in self.spec.codebooks)

    @property
    def kbps(self) -> float:
        """The bitrate of all codebooks in kbit/s; ``spec.kbps(n)`` is that of the first ``n``."""
        return self.spec.kbps(self.num_codebooks)

    def __repr__(self) -> str:
        about = f"{self.sample_rate} Hz, {self.num_codebooks} codebooks of {self.codebook_size}"
        return f"<nac.Codec {self.spec.name}: {about}, {self.frame_rate:g} frames/s>"

    def to(self, device: str | torch.device) -> Codec[A]:
        """Return the same codec on another device. This object is not changed.

        Parameters
        ----------
        device : str or torch.device
            "auto", "cpu", "cuda", "cuda:N" or "mps".

        Returns
        -------
        Codec
            This object, if it is on that device already.

        Raises
        ------
        ModelError
            If the device does not exist, the weights are missing now or have changed, or the codec was not made by
            :func:`nac.load`.
        """
        if str(self.device) == str(device):
            return self
        if self._reload is None:
            raise ModelError(f"cannot move {self.spec.name} from {self.device}: it was not made by nac.load")
        moved = self._reload(str(device))
        if moved.spec != self.spec:
            raise ModelError(f"the weights of {self.spec.name} have changed since it was loaded: load it again")
        return moved

    def encode(self, audio: A | Array, codebooks: int | None = None, *, kbps: float | None = None) -> Codes[A]:
        """Encode a whole signal.

        Parameters
        ----------
        audio : tensor or numpy array of floats, [B, C, N]
            Samples at ``sample_rate``, C = ``channels``, nominally from -1 to 1.
        codebooks : int, optional
            The number of codebooks to use, from the coarsest on; by default all.
        kbps : float, optional
            Instead of ``codebooks``: the maximum bitrate in kbit/s.

        Returns
        -------
        Codes
            Codes in the codec's array type: tensors, or numpy arrays.

        Raises
        ------
        ValueError
            If samples are integers, NaN or infinite, the shape is wrong, or the number of codebooks or the bitrate
            is out of range.
        """
        self._check_audio(audio)
        checks.check_finite(self.spec, audio)
        if kbps is not None:
            (codebooks,) = allocate(self.spec, self.channels, kbps=kbps, codebooks=codebooks)
        return self._encode_whole(self._array(audio, np.float32), codebooks)

    def decode(self, codes: Codes[A] | Codes[Array] | A | Array, length: int | None = None) -> A:
        """Decode codes to a whole signal.

        Parameters
        ----------
        codes : Codes, or tensor or numpy array [B, K, T]
            The result of :meth:`encode`, or integers with the same frames in every codebook. Frames whose codes
            are all -1 are silent, and the network is reset after them, as in a .nac file.
        length : int, optional
            The number of samples per channel to return; by default all samples of the frames.

        Returns
        -------
        tensor or array
            Samples [B, C, N], float32.

        Raises
        ------
        ValueError
            If codes are not integers, are out of range, have different lengths, or are silent only in some
            codebooks.
        """
        raw: Codes[Any] = codes if isinstance(codes, Codes) else Codes.of(codes)
        self._check_codes(raw, silence=True)
        silent = any(array.shape[-1] and int(array.min()) < 0 for array in raw.arrays)
        arrays = tuple(self._array(array, np.int64) for array in raw.arrays)
        scale = None if raw.scale is None else self._array(raw.scale, np.float32)
        converted = Codes(arrays, scale)
        if not silent:
            return cast(A, cast(Any, self._decode_whole(converted))[..., :length])
        rows = [self._decode_runs(converted.row(number)) for number in range(cast(Any, arrays[0]).shape[0])]
        return self._array(np.concatenate(rows)[..., :length], np.float32)

    def _encode_whole(self, audio: A, codebooks: int | None) -> Codes[A]:
        """Encode a whole signal."""
        encoder = self.encoder(codebooks)
        return Codes.join([encoder.push(audio), encoder.flush()])

    def _decode_whole(self, codes: Codes[A], first: int = 0) -> A:
        """Decode a whole signal whose first frame has the number ``first``."""
        decoder = self.decoder(origin=first)
        return join([decoder.push(codes), decoder.flush()])

    def _decode_runs(self, codes: Codes[A]) -> Array:
        """Decode one signal with silent frames. Returns samples [1, C, N]."""
        spec = self.spec
        frames = codes.frames(spec)
        samples = np.zeros((1, spec.channels, spec.end(frames, overhang=codes.overhang(spec))), np.float32)
        for first, end in checks.runs(spec, [self._numpy(array) for array in codes.arrays]):
            run = codes.between(spec, first, None if end == frames else end)  # the last has the overhang's scale
            audio = self._numpy(self._decode_whole(run, first))
            start = spec.start(first)
            stop = min(start + audio.shape[-1], samples.shape[-1])
            samples[..., start:stop] = audio[..., : stop - start]
        return samples

    @abstractmethod
    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder[A]:
        """Return a streaming encoder for a signal whose first frame has the number ``origin``.

        The number only affects rounding, because windows are aligned to absolute frame numbers.
        """

    @abstractmethod
    def decoder(self, *, origin: int = 0, start: int | None = None) -> Decoder[A]:
        """Return a streaming decoder for a signal whose first frame has the number ``origin``.

        With ``start``, the output starts at that frame, and the first frame pushed must be number
        ``preroll(start, origin)``. The samples are exactly those of decoding from the origin.
        """

    @abstractmethod
    def preroll(self, frame: int, origin: int = 0) -> int:
        """Return the first frame that a decoder needs for exact output from ``frame`` on."""

    def _array(self, values: Array | A, kind: type[np.float32] | type[np.int64], device: Any = None) -> A:
        """Convert to the codec's array type, on its device or on ``device``."""
        import torch

        dtype = torch.float32 if kind is np.float32 else torch.int64
        if isinstance(values, np.ndarray):  # PyTorch supports neither negative strides nor another byte order
            values = np.ascontiguousarray(values, kind)
        return cast(A, torch.as_tensor(values, dtype=dtype, device=device or self.device).detach())

    def _signal(self, values: Array | A, kind: type[np.float32] | type[np.int64]) -> A:
        """The same for a stream: for a GPU, what is on the host stays there until its batch is copied."""
        on_host = isinstance(values, np.ndarray) or cast(Any, values).device.type == "cpu"
        return self._array(values, kind, "cpu" if on_host and self._on_gpu else None)

    def _there(self, values: Array) -> A:
        """Copy integers to the device during a computation, without waiting for it."""
        return cast(A, self._batches.gpu.take([cast("Tensor", self._array(values, np.int64, "cpu"))]))

    def _numpy(self, array: A) -> Array:
        """Convert from the codec's array type to a numpy array."""
        return cast("Tensor", array).cpu().numpy()

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Context for computing: no gradients, and on a CPU one thread in PyTorch.

        Sums over several threads are rounded differently; :mod:`nac.codecs.parallel` uses the other cores.
        """
        import torch

        threads = torch.get_num_threads()
        if not self._on_gpu:
            torch.set_num_threads(1)  # even from 1: that is OpenMP's number, and MKL's may be another
        try:
            with torch.inference_mode():
                yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)

    def _run(self, jobs: Sequence[Job[A]]) -> list[tuple[A, ...]]:
        """Run jobs that do not depend on each other, within :meth:`_inference`."""
        if self._on_gpu:
            results = self._batches(cast(Any, jobs))
            if self.fast:
                checks.check_range(self.spec, results)
            return cast("list[tuple[A, ...]]", results)
        return workers.each(jobs, self._inference)

    @property
    def _on_gpu(self) -> bool:
        """Whether it computes on a GPU, in batches of many windows."""
        return devices.on_gpu(self)

    @cached_property
    def _batches(self) -> Batches:
        return Batches(devices.Gpu(self.device), self._inference, self.spec.name)

    def _check_audio(self, audio: A | Array) -> None:
        """Raise ValueError unless these are float samples [B, C, N] for this codec."""
        checks.check_audio(self.spec, audio)

    def _check_codes(self, codes: Codes[A] | Codes[Array], *, silence: bool = False) -> None:
        """Raise ValueError unless these are codes of this codec or, with ``silence``, -1."""
        checks.check_codes(self.spec, codes.arrays, silence=silence)
        if self.spec.has_scale and codes.scale is None:
            raise ValueError(f"{self.spec.name} needs a scale for each segment")
