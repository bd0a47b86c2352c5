"""Measure the networks' speed and memory on this machine, and what share of its peak performance they reach."""

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
    """Test signals of a number of ``seconds``, and the number of them that are processed as one ``batch``."""

    seconds: float
    batch: int = 1


CLIPS = (Clips(1), Clips(3), Clips(10), Clips(30), Clips(3, 8))
SHAPES = ((3072, 3072, 3072), (4096, 768, 768), (8192, 384, 384))
"""Rows, inner and outer size of the matrices that are multiplied to measure the machine's peak performance."""
ROUNDS, SECONDS = 3, 1.0
"""Every measured time is the minimum of at least so many rounds, and of more until they have taken so long.

With a reference, rounds alternate.
"""

# PyTorch is imported only where needed, so that the memory of networks in numpy is measured without it.


@dataclass(frozen=True)
class Speed:
    """Figures for encoding or decoding.

    ``speed``: seconds of audio per second. ``share``: operations per second in the network's matrix products and
    convolutions, relative to :func:`peak`. ``ratio``: speed relative to the reference.
    """

    speed: float
    share: float
    ratio: float | None = None


@dataclass(frozen=True)
class Measured:
    """A model's figures.

    ``weights``: their fingerprint, or "random". ``seconds``: length of each test signal; ``batch``: how many were
    processed at once. ``memory``: peak in bytes of a process that codes only the longest signal, or of its
    allocations on the GPU. ``reference``: the package that it was compared with; ``same_codes``: the share of
    codes that are equal to the reference's.
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
    """Measure models, each in new processes, with their weights or with random ones of official size.

    ``clips``: the test signals. ``names``: by default all models whose weights are on this machine, with
    ``random`` all models. ``reference``: also measure the family's reference package, with the same random
    weights. Raises ModelError.
    """
    if sys.platform == "win32":
        raise ModelError("nac bench does not run on Windows: it measures memory with functions of Unix")
    for name in names:
        registry.find(name)
    for name in names or (registry.models() if random else models.present()):
        memory = _in_process(_memory, name, max(each.seconds for each in clips), random, device)
        yield from _in_process(_measure, name, clips, random, reference, device, memory)


def _in_process(function: Callable[..., T], *args: object) -> T:
    """Call a function in a new process, and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()


def machine() -> str:
    """Return the processor's name and the number of available cores."""
    name = platform.processor() or platform.machine()
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {cores()} cores"


def _memory(name: str, seconds: float, random: bool, device: str) -> int:
    """Return the peak memory of this process, or of its allocations on the GPU, in bytes."""
    codec = _codec(name, random, device)[0]
    codes = codec.encode(_audio(codec, seconds))
    encoding = _allocated(codec)  # now, as the peak is counted anew by each direction
    codec.decode(codes)
    if allocated := max(encoding, _allocated(codec)):
        return allocated
    return _resident()


def _resident() -> int:
    """The most memory of this process in bytes; Linux's ``getrusage`` would count its parent's until the start."""
    with suppress(OSError), Path("/proc/self/status").open() as lines:
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _allocated(codec: Codec[Any]) -> int:
    """The most bytes that were allocated on its GPU lately; 0 without one."""
    if not _device(codec).startswith("cuda"):
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated())


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
        reference, reference_codes = other, other.encode(audio)
        package, same = registry.family(codec.spec.family).package, other.same(codes, reference_codes)
        runs[0].append(lambda: reference.encode(audio))
        runs[1].append(lambda: reference.decode(reference_codes))
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
    """Load a codec. Returns it with its random weights, if a reference can use the same ones."""
    spec = registry.find(name).spec
    if not random or registry.family(spec.family).random is None:
        return models.load(name, device=device, download=False), {}
    return registry.random(spec, models.resolve_device(device))


def _audio(codec: Codec[Any], seconds: float, batch: int = 1) -> Any:
    """Make a test signal [batch, channels, samples] of pulsing chords and noise, a whole number of frames."""
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
    """Return the minimum time of each function in seconds, over alternating rounds."""
    times: list[list[float]] = [[] for _ in runs]
    while len(times[0]) < ROUNDS or sum(map(sum, times)) < SECONDS:
        for taken, run in zip(times, runs, strict=True):
            began = time.perf_counter()
            run()
            if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in times]


def peak(codec: Codec[Any]) -> float:
    """Measure the peak float32 performance, in operations per second on all cores, over all installed libraries.

    The fastest library depends on the processor and on the shapes of the matrices. So square and long ones are
    multiplied with PyTorch (MKL, or the GPU's library), oneDNN and numpy (OpenBLAS).
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
    """Yield functions that multiply two matrices with PyTorch, also with a packed matrix if that is available."""
    import torch

    from nac.codecs.layers import kernels
    from nac.codecs.layers.convolutions import kernel

    x, matrix = (torch.from_numpy(array).to(device) for array in (left, right))
    yield partial(torch.mm, x, matrix)
    packed = kernel(matrix.t().contiguous()[..., None], None, steps=len(x))
    yield partial(kernels.convolve, x[None], packed)


def _operations(name: str, codec: Codec[Any], audio: Any, codes: Any) -> list[int]:
    """Count the operations in the matrix products and convolutions of encoding and of decoding."""
    import torch

    if isinstance(audio, np.ndarray):
        codec = registry.load(codec.spec, models.path(name), torch.device("cpu"))
        audio = torch.from_numpy(audio)
        codes = Codes(tuple(torch.from_numpy(array) for array in codes.arrays))
    return [count_operations(lambda: codec.encode(audio)), count_operations(lambda: codec.decode(codes))]


def count_operations(run: Callable[[], Any]) -> int:
    """Count the multiplications and additions in the matrix products and convolutions that PyTorch executes."""
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
    torch.set_num_threads(1)  # the counter sees only the calls of its own thread
    try:
        with counter:
            run()
    finally:
        torch.set_num_threads(threads)
    return int(counter.count)
