"""How fast the networks are on this machine, how much memory they take, and how near they come to its limits."""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from nac.codecs import registry
from nac.codecs.base import Array, Codec, Codes
from nac.codecs.fingerprint import RANDOM
from nac.codecs.parallel import cores
from nac.errors import ModelError
from nac.weights import models

if TYPE_CHECKING:
    from torch import Tensor

    from nac.codecs.reference import Reference

T = TypeVar("T")


class Clips(NamedTuple):
    """Sounds of so many ``seconds``, a ``batch`` of them at once."""

    seconds: float
    batch: int = 1


CLIPS = (Clips(1), Clips(3), Clips(10), Clips(30), Clips(3, 8))
SHAPES = ((3072, 3072, 3072), (4096, 768, 768), (8192, 384, 384))
"""Rows, inner and outer size of matrices that are multiplied to know what the machine can do."""
ROUNDS = 3
"""Every time is the best of so many; with a reference, rounds alternate."""

# PyTorch is imported where it is needed, so that the memory of a network that does without it is its own.


@dataclass(frozen=True)
class Speed:
    """One direction of a network. ``speed``: seconds of audio a second. ``share``: of the most that the machine
    does in float32 (see :func:`peak`), what the network's own products make of it. ``ratio``: to the reference."""

    speed: float
    share: float
    ratio: float | None = None


@dataclass(frozen=True)
class Measured:
    """A model's figures.

    ``weights``: their fingerprint, or "random". ``seconds``: of each sound it was measured with, of which a
    ``batch`` was given at once. ``memory``: peak of a process that does the longest alone, in bytes, or of what
    was allocated on the GPU. ``reference``: the package that it was compared with; ``same_codes``: the part of the
    codes that it gives too.
    """

    model: str
    device: str
    weights: str
    seconds: float
    batch: int
    encode: Speed
    decode: Speed
    memory: int
    reference: str | None = None
    same_codes: float | None = None


def bench(
    names: Sequence[str] = (),
    *,
    clips: Sequence[Clips] = CLIPS,
    random: bool = False,
    reference: bool = False,
    device: str = "auto",
) -> Iterator[Measured]:
    """Measure models, each in processes of its own: with their weights, or with random ones of official size.

    ``clips``: sounds to measure with, one after the other. ``names``: by default all whose weights are here, or
    with ``random`` all there are. ``reference``: compare with the family's reference package too, which gets the
    same random weights. Raises ModelError.
    """
    if sys.platform == "win32":
        raise ModelError("nac bench measures memory by the means of Unix, which are absent here")
    for name in names:
        registry.find(name)
    for name in names or (registry.models() if random else models.present()):
        memory = _apart(_memory, name, max(each.seconds for each in clips), random, device)
        yield from _apart(_measure, name, clips, random, reference, device, memory)


def _apart(function: Callable[..., T], *args: object) -> T:
    """What it gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()


def machine() -> str:
    """The processor's name, and how many cores may be used."""
    name = platform.processor() or platform.machine()
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {cores()} cores"


def _memory(name: str, seconds: float, random: bool, device: str) -> int:
    """The most that this process has held at a time, on the GPU if it computes there; in bytes."""
    codec = _codec(name, random, device)[0]
    codec.decode(codec.encode(_audio(codec, seconds)))
    if _device(codec).startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _measure(
    name: str, clips: Sequence[Clips], random: bool, reference: bool, device: str, memory: int
) -> list[Measured]:
    codec, tensors = _codec(name, random, device)
    other: Reference | None = None
    if reference and tensors:
        from nac.evaluate import references

        other = references.reference(name, tensors)
    most = peak(codec)
    return [_measured(name, codec, other, _audio(codec, *each), most, memory) for each in clips]


def _measured(
    name: str, codec: Codec[Any], other: Reference | None, audio: Any, most: float, memory: int
) -> Measured:
    codes = codec.encode(audio)
    codec.decode(codes)
    runs: list[list[Callable[[], Any]]] = [[lambda: codec.encode(audio)], [lambda: codec.decode(codes)]]
    package = same = None
    if other:
        reference, given = other, other.encode(audio)
        package, same = registry.family(codec.spec.family).package, other.same(codes, given)
        runs[0].append(lambda: reference.encode(audio))
        runs[1].append(lambda: reference.decode(given))
    times = [_best(*both) for both in runs]
    batch, seconds = audio.shape[0], audio.shape[-1] / codec.spec.sample_rate
    work = _operations(name, codec, audio, codes)
    encode, decode = (
        Speed(batch * seconds / own, count / own / most, theirs[0] / own if theirs else None)
        for (own, *theirs), count in zip(times, work, strict=True)
    )
    return Measured(
        model=name,
        device=_device(codec),
        weights="random" if codec.spec.fingerprint == RANDOM else codec.spec.fingerprint,
        seconds=seconds,
        batch=batch,
        encode=encode,
        decode=decode,
        memory=memory,
        reference=package,
        same_codes=same,
    )


def _codec(name: str, random: bool, device: str) -> tuple[Codec[Any], dict[str, Tensor]]:
    """The codec, and its random weights if a reference can have the same."""
    spec = registry.find(name).spec
    if not random or registry.family(spec.family).random is None:
        return models.load(name, device=device, download=False), {}
    return registry.random(spec, models.resolve_device(device))


def _audio(codec: Codec[Any], seconds: float, batch: int = 1) -> Any:
    """Chords that pulse over noise, in whole frames: [batch, channels, samples]."""
    rate, unit = codec.spec.sample_rate, codec.spec.frame_samples
    samples = max(1, round(seconds * rate / unit)) * unit
    random, clock = np.random.default_rng(0), np.arange(samples) / rate
    sound = 0.02 * random.standard_normal((codec.spec.channels, samples))
    for _ in range(6):
        pitch, pulse = random.uniform(80, 2000), random.uniform(0.5, 5)
        sound += 0.08 * np.sin(2 * np.pi * pitch * clock) * np.sin(np.pi * pulse * clock) ** 2
    return codec._array(np.repeat(sound.astype(np.float32)[None], batch, 0), np.float32)


def _device(codec: Codec[Any]) -> str:
    return str(getattr(codec, "device", "cpu"))


def _best(*runs: Callable[[], Any]) -> list[float]:
    """Seconds that each takes, at best of some rounds in turn."""
    times = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for i, run in enumerate(runs):
            began = time.perf_counter()
            run()
            if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
                torch.cuda.synchronize()
            times[i] = min(times[i], time.perf_counter() - began)
    return times


def peak(codec: Codec[Any]) -> float:
    """The most operations a second in float32 that any library at hand does here, on all cores.

    Which is fastest depends on the processor and on the shape: tried are square and long matrices with what
    PyTorch multiplies with (MKL or a GPU's), with oneDNN and with numpy's (OpenBLAS).
    """
    trials: list[tuple[float, Callable[[], Any]]] = []
    for rows, inner, outer in SHAPES:
        left, right = np.ones((rows, inner), np.float32), np.ones((inner, outer), np.float32)
        count = 2.0 * rows * inner * outer
        if not _device(codec).startswith("cuda"):
            trials.append((count, partial(np.matmul, left, right)))
        if "torch" in sys.modules:
            trials += [(count, run) for run in _products(left, right, _device(codec))]
    for _, run in trials:
        run()
    return max(count / _best(run)[0] for count, run in trials)


def _products(left: Array, right: Array, device: str) -> Iterator[Callable[[], Any]]:
    """The product of two matrices by PyTorch's means, the packed one included if it is to be had."""
    import torch

    from nac.codecs.layers import kernels
    from nac.codecs.layers.convolutions import kernel

    x, matrix = (torch.from_numpy(array).to(device) for array in (left, right))
    yield partial(torch.mm, x, matrix)
    packed = kernel(matrix.t().contiguous()[..., None], None, steps=len(x))
    yield partial(kernels.convolve, x[None], packed)


def _operations(name: str, codec: Codec[Any], audio: Any, codes: Any) -> list[int]:
    """Operations in the matrix products and convolutions of encoding and of decoding."""
    import torch

    if isinstance(audio, np.ndarray):
        codec = registry.load(codec.spec, models.path(name), torch.device("cpu"))
        audio = torch.from_numpy(audio)
        codes = Codes(tuple(torch.from_numpy(array) for array in codes.arrays))
    return [count_operations(lambda: codec.encode(audio)), count_operations(lambda: codec.decode(codes))]


def count_operations(run: Callable[[], Any]) -> int:
    """Multiplications and additions in the matrix products and convolutions that PyTorch is asked for."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        count = 0

        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = op(*args, **(kwargs or {}))
            kind = op.__name__.partition(".")[0].strip("_")
            if kind in ("mm", "bmm", "matmul"):
                self.count += 2 * result.numel() * args[0].shape[-1]
            elif kind in ("addmm", "baddbmm"):
                self.count += 2 * result.numel() * args[1].shape[-1]
            elif kind.startswith(("conv_transpose", "conv_tbc")) or (kind == "convolution" and args[6]):
                self.count += 2 * args[0].numel() * args[1][0].numel()
            elif kind.startswith("conv") or kind in ("linear", "linear_pointwise"):
                self.count += 2 * result.numel() * math.prod(args[1].shape[1:])
            return result

    counter = Counter()  # type: ignore[no-untyped-call]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the counter sees what is done by its own thread only
    try:
        with counter:
            run()
    finally:
        torch.set_num_threads(threads)
    return int(counter.count)
