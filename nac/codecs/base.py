"""The interface that every codec family implements.

A codec turns audio into *frames* of integer codes and back. A frame is the smallest step at which every
codebook has whole codes: one hop for EnCodec, DAC and SoundStream, the stride of the coarsest codebook for SNAC.
Codebooks are ordered from coarse to fine, and every prefix of them decodes: their number sets the bitrate.

To add a family, subclass :class:`nac.codecs.windows.WindowedCodec` if the network's receptive field is finite,
else :class:`Codec`. A codec computes with PyTorch's tensors or with numpy's arrays. This module does not import
torch, so that specifications can be read, and codecs of the second kind run, without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

import numpy as np
import numpy.typing as npt
from typing_extensions import ParamSpec, TypeVar

from nac.bitrate import allocate
from nac.codecs import checks
from nac.codecs import parallel as workers
from nac.errors import ArgumentError, ArgumentTypeError, ModelError
from nac.spec import CodecSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = npt.NDArray[Any]
P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", default="Tensor")
"""What a codec computes with: tensors or numpy arrays."""


def join(parts: Sequence[A]) -> A:
    """Arrays of one kind, one after the other along the last dimension, as a new one."""
    if isinstance(parts[0], np.ndarray):
        return cast(A, np.concatenate(cast("Sequence[Array]", parts), axis=-1))
    import torch

    return cast(A, torch.cat(cast("list[Tensor]", list(parts)), dim=-1))


def stack(rows: Sequence[A]) -> A:
    """Arrays of one kind and shape [B, T] as a new one [B, rows, T]."""
    if isinstance(rows[0], np.ndarray):
        return cast(A, np.stack(cast("Sequence[Array]", rows), axis=1))
    import torch

    return cast(A, torch.stack(cast("list[Tensor]", list(rows)), dim=1))


@dataclass(frozen=True)
class Codes(Generic[A]):
    """Codes of a batch of equally long signals.

    Parameters
    ----------
    arrays : tuple of tensors [B, frames * codes_per_frame]
        One of int64 for each codebook, coarse to fine.
    scale : tensor [B, segments], optional
        Of float32, for codecs that have one.

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
        """Number of frames."""
        return cast(Any, self.arrays[0]).shape[-1] // spec.codebooks[0].codes_per_frame  # type: ignore[no-any-return]

    @classmethod
    def of(cls, tensor: A, scale: A | None = None) -> Codes[A]:
        """Codes from one tensor or array, [B, K, T]: K codebooks, coarse to fine, of one rate.

        ``scale``: float32 [B, segments], for codecs that have one. Raises ArgumentError for another shape.
        """
        whole = cast(Any, tensor)
        if not hasattr(whole, "shape"):
            raise ArgumentTypeError(f"codes [B, K, T] are needed, not {type(whole).__name__}")
        if len(shape := list(whole.shape)) != 3 or not shape[1]:
            raise ArgumentError(f"codes [B, K, T] are needed, not {shape}")
        return cls(tuple(whole[:, book] for book in range(whole.shape[1])), scale)

    @property
    def tensor(self) -> A:
        """All codes as one, [B, K, T], as ``audio_codes`` of the models in transformers.

        Raises ArgumentError where a frame has more codes of one codebook than of another (SNAC): nac.flatten
        makes one row of those.
        """
        if len({cast(Any, array).shape for array in self.arrays}) > 1:
            raise ArgumentError("these codebooks have several rates: their codes are no one tensor")
        return stack(self.arrays)

    def prefix(self, codebooks: int) -> Codes[A]:
        """The same codes with the coarsest ``codebooks`` codebooks only."""
        return Codes(self.arrays[:codebooks], self.scale)

    def row(self, number: int) -> Codes[A]:
        """One signal of the batch, as a batch of one."""
        arrays = tuple(cast(Any, array)[number : number + 1] for array in self.arrays)
        return Codes(arrays, None if self.scale is None else cast(Any, self.scale)[number : number + 1])

    def between(self, spec: CodecSpec, first: int, end: int | None = None) -> Codes[A]:
        """The codes of the frames from ``first`` up to ``end`` or the last, with the scales of segments that begin
        there.
        """
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
        """Successive parts of one signal as one."""
        arrays = tuple(join(layers) for layers in zip(*(part.arrays for part in parts), strict=True))
        scales = [part.scale for part in parts if part.scale is not None]
        return Codes(arrays, join(scales) if scales else None)


class Encoder(Protocol[A]):
    """A signal on its way to codes. What ``push`` and ``flush`` give, joined, is what ``Codec.encode`` gives."""

    def push(self, audio: A) -> Codes[A]:
        """Take the next samples, float32 [B, C, n], any n; give the frames that are now certain, maybe none."""
        ...

    def flush(self) -> Codes[A]:
        """End the signal and give the remaining frames."""
        ...


class Decoder(Protocol[A]):
    """Codes on their way to a signal. What ``push`` and ``flush`` give, joined, is what ``Codec.decode`` gives."""

    def push(self, codes: Codes[A]) -> A:
        """Take the next frames, any number; give the samples that are now certain, float32 [B, C, n]."""
        ...

    def flush(self) -> A:
        """End the signal and give the remaining samples, up to the end of the last frame."""
        ...


class Codec(ABC, Generic[A]):
    """A network with its weights, ready to encode and decode. Made by :func:`nac.load`.

    Any number of threads may use one at the same time. ``spec`` says all about it, ``device`` where it computes.

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
    _reload: Callable[[str], Codec[A]] | None = None
    """Gives the same codec on the device of that name."""

    @property
    def sample_rate(self) -> int:
        """Of the signals it takes and gives, in Hz."""
        return self.spec.sample_rate

    @property
    def channels(self) -> int:
        """Of the signals it takes and gives."""
        return self.spec.channels

    @property
    def hop_length(self) -> int:
        """Samples per channel that a frame stands for."""
        return self.spec.frame_samples

    @property
    def frame_rate(self) -> float:
        """Frames per second: the least codes per second that a codebook has."""
        return self.spec.sample_rate / self.spec.frame_samples

    @property
    def num_codebooks(self) -> int:
        """The number of codebooks that there are, coarse to fine; any fewer of them decode too."""
        return len(self.spec.codebooks)

    @property
    def codebook_size(self) -> int:
        """Entries of a codebook: codes are from 0 up to that. Of the largest, where they differ."""
        return 1 << max(book.bits for book in self.spec.codebooks)

    @property
    def kbps(self) -> float:
        """Bitrate with all codebooks, in kbit/s; ``spec.kbps(n)`` is that with ``n``."""
        return self.spec.kbps(self.num_codebooks)

    def __repr__(self) -> str:
        about = f"{self.sample_rate} Hz, {self.num_codebooks} codebooks of {self.codebook_size}"
        return f"<nac.Codec {self.spec.name}: {about}, {self.frame_rate:g} frames/s>"

    def to(self, device: str | torch.device) -> Codec[A]:
        """The same codec on another device; this one stays where it is.

        Parameters
        ----------
        device : str or torch.device
            "auto", "cpu", "cuda", "cuda:N" or "mps".

        Returns
        -------
        Codec
            This one, where it is there already.

        Raises
        ------
        ModelError
            If there is no such device, if its weights are not there any more, or if :func:`nac.load` did not make
            this codec.
        """
        if str(self.device) == str(device):
            return self
        if self._reload is None:
            raise ModelError(f"this {self.spec.name} was not made by nac.load, and stays on {self.device}")
        moved = self._reload(str(device))
        if moved.spec != self.spec:
            raise ModelError(f"the weights of {self.spec.name} are not those any more that it was made with")
        return moved

    def encode(self, audio: A | Array, codebooks: int | None = None, *, kbps: float | None = None) -> Codes[A]:
        """Encode a whole signal.

        Parameters
        ----------
        audio : tensor or numpy array of floats, [B, C, N]
            At ``sample_rate``, C = ``channels``, nominally within -1 to 1.
        codebooks : int, optional
            How many, coarse to fine; all by default.
        kbps : float, optional
            Instead: as many as have at most so many kbit/s.

        Returns
        -------
        Codes
            What the codec computes with: tensors, or numpy arrays.

        Raises
        ------
        ValueError
            For integers, NaN and infinities, another shape, or a number of codebooks or a bitrate that cannot be.
        """
        self._check_audio(audio)
        checks.check_finite(self.spec, audio)
        if kbps is not None:
            (codebooks,) = allocate(self.spec, self.channels, kbps=kbps, codebooks=codebooks)
        encoder = self.encoder(codebooks)
        return Codes.join([encoder.push(self._array(audio, np.float32)), encoder.flush()])

    def decode(self, codes: Codes[A] | Codes[Array] | A | Array, length: int | None = None) -> A:
        """Decode codes to a whole signal.

        Parameters
        ----------
        codes : Codes, or tensor or numpy array [B, K, T]
            As :meth:`encode` gives them: integers, the same frames in every codebook. Frames whose codes are all
            -1 are silent, and the network begins afresh behind them, as in a .nac file.
        length : int, optional
            Samples per channel wanted; by default all that the frames hold.

        Returns
        -------
        tensor or array
            Samples [B, C, N], float32.

        Raises
        ------
        ValueError
            For codes that are no integers, out of range, not equally long, or silent in some codebooks only.
        """
        given: Codes[Any] = codes if isinstance(codes, Codes) else Codes.of(codes)
        self._check_codes(given, silence=True)
        arrays = tuple(self._array(array, np.int64) for array in given.arrays)
        scale = None if given.scale is None else self._array(given.scale, np.float32)
        taken = Codes(arrays, scale)
        if not any(array.shape[-1] and int(array.min()) < 0 for array in cast(Any, arrays)):
            decoder = self.decoder()
            return cast(A, cast(Any, join([decoder.push(taken), decoder.flush()]))[..., :length])
        rows = [self._decode_runs(taken.row(number)) for number in range(cast(Any, arrays[0]).shape[0])]
        return self._array(np.concatenate(rows)[..., :length], np.float32)

    def _decode_runs(self, codes: Codes[A]) -> Array:
        """One signal with silent frames, [1, C, N]."""
        spec = self.spec
        whole = np.zeros((1, spec.channels, spec.start(codes.frames(spec))), np.float32)
        for first, end in checks.runs(spec, [self._numpy(array) for array in codes.arrays]):
            decoder = self.decoder(origin=first)
            audio = self._numpy(join([decoder.push(codes.between(spec, first, end)), decoder.flush()]))
            start = spec.start(first)
            stop = min(start + audio.shape[-1], whole.shape[-1])
            whole[..., start:stop] = audio[..., : stop - start]
        return whole

    @abstractmethod
    def encoder(self, codebooks: int | None = None, *, origin: int = 0) -> Encoder[A]:
        """A streaming encoder for a signal whose first frame has the number ``origin``.

        The number matters only for rounding: windows lie on a grid of absolute frame numbers.
        """

    @abstractmethod
    def decoder(self, *, origin: int = 0, start: int | None = None) -> Decoder[A]:
        """A streaming decoder for a signal whose first frame has the number ``origin``.

        With ``start``, the output begins at that frame, and the first frame pushed must be number
        ``preroll(start, origin)``: exactly the samples that decoding from the origin gives there.
        """

    @abstractmethod
    def preroll(self, frame: int, origin: int = 0) -> int:
        """The first frame a decoder has to be given for its output to be exact from ``frame`` on."""

    def _array(self, values: Array | A, kind: type[np.float32] | type[np.int64]) -> A:
        """Numbers as what this codec computes with, where it computes."""
        import torch

        dtype = torch.float32 if kind is np.float32 else torch.int64
        if isinstance(values, np.ndarray):  # PyTorch takes none that run backwards, nor another machine's numbers
            values = np.ascontiguousarray(values, kind)
        return cast(A, torch.as_tensor(values, dtype=dtype, device=self.device).detach())

    def _numpy(self, array: A) -> Array:
        """What this codec gave, as a numpy array."""
        return cast("Tensor", array).cpu().numpy()

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """What to compute within: no gradients, and on the processor one thread, whatever there are besides.

        Sums over several threads are rounded otherwise; :mod:`nac.codecs.parallel` makes use of the other cores.
        """
        import torch

        threads = torch.get_num_threads()
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # even from 1: that is OpenMP's number, and MKL's may be another
        try:
            with torch.inference_mode():
                yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)

    def _within(self, job: Callable[P, R]) -> Callable[P, R]:
        """The same, done within :meth:`_inference` by whatever thread."""

        def done(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._inference():
                return job(*args, **kwargs)

        return done

    def _run(self, jobs: Sequence[Callable[[], R]]) -> list[R]:
        """Do pieces of work that do not depend on each other, within :meth:`_inference`."""
        if not self._on_gpu:
            return workers.each(jobs, self._inference)
        with self._inference():
            return [job() for job in jobs]

    @property
    def _on_gpu(self) -> bool:
        """Whether it computes on a GPU, which does everything in turn."""
        return self.device.type != "cpu"

    def _check_audio(self, audio: A | Array) -> None:
        """Raise ValueError unless these are float samples [B, C, N] for this codec."""
        checks.check_audio(self.spec, audio)

    def _check_codes(self, codes: Codes[A] | Codes[Array], *, silence: bool = False) -> None:
        """Raise ValueError unless these are codes of this codec or, with ``silence``, -1."""
        checks.check_codes(self.spec, codes.arrays, silence=silence)
        if self.spec.has_scale and codes.scale is None:
            raise ValueError(f"{self.spec.name} needs a scale for each segment")
