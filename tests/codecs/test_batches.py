"""Rows of many signals at once: stacked where they are alike, in order, each with its own error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import pytest
import torch
from gpus_place import in_gpus_place
from narrow_codecs import NAMES, narrow_codecs
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toy_codec import ToyCodec

from nac.codecs import batches
from nac.codecs.base import Codec, Codes
from nac.codecs.batches import FIRST, MOST, UNMEASURED, Batches, Job
from nac.codecs.devices import Gpu
from nac.codecs.windows import Plan
from nac.errors import NacError

T = TypeVar("T")
CPU = torch.device("cpu")


class SmallGpu(Gpu):
    """The processor with so many bytes, which cannot be filled."""

    def __init__(self, memory: int = 0) -> None:
        super().__init__(CPU)
        self.memory, self.need, self.released = memory, 0, 0

    def free(self) -> int:
        return self.memory

    def measured(self, run: Callable[[], T]) -> tuple[T, int]:
        return run(), self.need

    def release(self) -> None:
        self.released += 1


FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


class Doubled:
    """A function that notes its batches, fails where a number is negative, and holds so many rows at most."""

    def __init__(self, holds: int = 1000, full: str = FULL) -> None:
        self.holds, self.full, self.sizes = holds, full, list[int]()

    def __call__(self, arrays: tuple[Tensor, ...], asides: Sequence[Any]) -> tuple[Tensor, ...]:
        (x,) = arrays
        assert len(x) == len(asides)
        if len(x) > self.holds:
            raise RuntimeError(self.full)
        if x.min() < 0:
            raise ValueError(f"negative: {asides}")
        self.sizes.append(len(x))
        return x * 2, x[:, 0] + torch.tensor(asides)


def rows(*numbers: float, steps: int = 3) -> Tensor:
    return torch.tensor(numbers)[:, None].repeat(1, steps)


def job(function: Doubled, *numbers: float, steps: int = 3) -> Job[Tensor]:
    return Job(function, (rows(*numbers, steps=steps),), [10 * number for number in numbers])


def made(memory: int = 0) -> tuple[Batches, SmallGpu]:
    gpu = SmallGpu(memory)
    return Batches(gpu, nullcontext, "toy"), gpu


def check(results: Sequence[tuple[Tensor, ...]], jobs: Sequence[Job[Tensor]]) -> None:
    for (double, added), done in zip(results, jobs, strict=True):
        assert torch.equal(double, done.arrays[0] * 2)
        assert torch.equal(added, done.arrays[0][:, 0] * 11)


def test_rows_that_are_alike_are_done_as_one_and_come_back_in_order() -> None:
    do, other = Doubled(), Doubled()
    run, _ = made()
    jobs = [job(do, 1), job(do, 2, 3, steps=5), job(other, 4), job(do, 5), job(do, 6, steps=5)]
    check(run(jobs), jobs)
    assert do.sizes == [2, 3]
    assert other.sizes == [1]
    assert run([]) == []


def test_a_row_that_fails_takes_no_other_with_it() -> None:
    do, (run, _) = Doubled(), made()
    jobs = [job(do, number) for number in (1, -2, 3)]
    with pytest.raises(ValueError, match=r"negative: \[-20\]"):
        run(jobs)
    outcomes = run._gathered([[one] for one in jobs])
    assert isinstance(outcomes[1][0], ValueError)
    check([*outcomes[0], *outcomes[2]], [jobs[0], jobs[2]])  # type: ignore[list-item]


@pytest.mark.parametrize(("holds", "sizes"), [(3, [2, 2, 2, 2, 2]), (1, [1] * 10)])
def test_where_memory_runs_out_batches_become_smaller(holds: int, sizes: list[int]) -> None:
    do, (run, gpu) = Doubled(holds), made()
    jobs = [job(do, number) for number in range(10)]
    run._limit(batches._rows(jobs[0])[0]).tried = True  # so that nothing is measured anew
    check(run(jobs), jobs)
    assert do.sizes == sizes
    assert gpu.released == (1 if holds == 3 else 2)


@pytest.mark.parametrize("full", [FULL, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"])
def test_memory_that_holds_not_one_row_is_told_in_a_line(full: str) -> None:
    do, (run, _) = Doubled(holds=0, full=full), made()
    with pytest.raises(NacError, match=r"^cpu has too little memory free for toy$"):
        run([job(do, 1), job(do, 2)])


@pytest.mark.parametrize(
    ("memory", "need", "sizes"),
    [
        (0, 0, [FIRST, UNMEASURED, UNMEASURED]),
        (1 << 40, 100, [FIRST, 20 - FIRST]),
        (1000, 100 * FIRST, [FIRST, 7, 7, 2]),  # of 70 % of it
        (50, 100 * FIRST, [FIRST] + [1] * 16),
    ],
)
def test_as_many_at_once_as_the_memory_holds_that_is_free(memory: int, need: int, sizes: list[int]) -> None:
    do, (run, gpu) = Doubled(), made(memory)
    gpu.need = need
    jobs = [job(do, number) for number in range(20)]
    check(run(jobs), jobs)
    assert do.sizes == sizes
    do.sizes.clear()
    run([job(do, *range(2 * MOST + 1))])
    assert max(do.sizes) <= MOST


def test_what_several_threads_want_is_gathered_and_everybody_gets_his_own() -> None:
    begun, release = threading.Event(), threading.Event()

    class Slow(Doubled):
        def __call__(self, arrays: tuple[Tensor, ...], asides: Sequence[Any]) -> tuple[Tensor, ...]:
            begun.set()
            release.wait(10)
            return super().__call__(arrays, asides)

    do, (run, _) = Slow(), made()
    found: dict[int, object] = {}

    def call(number: int) -> None:
        try:
            found[number] = run([job(do, number)])
        except ValueError as error:
            found[number] = str(error)

    callers = [threading.Thread(target=call, args=(number,)) for number in (1, 2, -3, 4)]
    callers[0].start()
    begun.wait(10)
    for count, caller in enumerate(callers[1:], 1):
        caller.start()
        while len(run._together._waiting) < count:
            threading.Event().wait(0.001)
    release.set()
    for caller in callers:
        caller.join(10)
    assert found.pop(-3) == "negative: [-30]"
    for number, results in found.items():
        check(results, [job(do, number)])  # type: ignore[arg-type]
    assert sorted(do.sizes) == [1, 1, 1]  # of the three at once one failed, so each was done by itself


def test_results_for_the_host_are_awaited() -> None:
    """Copies from a GPU go on while the program does, and what is there before their end is something else."""

    class LateGpu(SmallGpu):
        late: list[tuple[Tensor, Tensor]]

        def give(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            empty = tuple(torch.full_like(tensor, -1) for tensor in tensors)
            self.late += zip(empty, tensors, strict=True)
            return empty

        def wait(self) -> None:
            for empty, tensor in self.late:
                empty.copy_(tensor)

    gpu = LateGpu()
    gpu.late = []
    jobs = [job(Doubled(), 1), job(Doubled(), 2, 3), job(Doubled(), 4, steps=5)]
    check(Batches(gpu, nullcontext, "toy")(jobs), jobs)


# The networks


@pytest.fixture(scope="module")
def codecs() -> Iterator[dict[str, Codec]]:
    with in_gpus_place(), narrow_codecs() as found:
        yield found


def sound(codec: Codec, seconds: float, batch: int = 1, seed: int = 1) -> Tensor:
    shape = batch, codec.channels, int(seconds * codec.sample_rate)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


@pytest.mark.parametrize("name", NAMES)
def test_codes_of_a_batch_are_those_of_each_by_itself(codecs: dict[str, Codec], name: str) -> None:
    """Equal here, to the bit. On a GPU near-ties may go another way, where rounding depends on a shape."""
    codec = codecs[name]
    audio = sound(codec, 1.7, 3)
    codes = codec.encode(audio)
    decoded = codec.decode(codes)
    for number in range(3):
        alone = codec.encode(audio[number : number + 1])
        assert all(torch.equal(*pair) for pair in zip(alone.arrays, codes.row(number).arrays, strict=True))
        torch.testing.assert_close(codec.decode(alone), decoded[number : number + 1], atol=1e-4, rtol=0)


class Asked(TorchDispatchMode):
    """Fails where Python asks for a number, for which it would wait on a GPU."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.__name__.partition(".")[0]
        assert name not in (
            "_local_scalar_dense",
            "is_nonzero",
            "nonzero",
            "equal",
            "masked_select",
            "_unique2",
        ), name
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_for_the_gpu_while_a_batch_is_computed(
    codecs: dict[str, Codec], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, seen = codecs[name], list[int]()

    def measured(run: Callable[[], T]) -> tuple[T, int]:
        with Asked():  # type: ignore[no-untyped-call]
            result = run()
        seen.append(1)
        return result, 0

    monkeypatch.setattr(codec._batches.gpu, "measured", measured)
    codec._batches._limits.clear()
    codec.decode(codec.encode(sound(codec, 4)))
    assert len(seen) == 2  # the first batch each way


class NotedCodec(ToyCodec):
    """Notes the rows of its batches."""

    encode_plan = Plan(left=2, right=1, window=16)
    decode_plan = Plan(left=1, right=2, window=16)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def encode_frames(self, audio: Tensor, codebooks: int) -> tuple[Tensor, ...]:
        self.rows.append(len(audio))
        return super().encode_frames(audio, codebooks)

    def decode_frames(self, arrays: tuple[Tensor, ...], first: int | Tensor) -> Tensor:
        self.rows.append(len(arrays[0]))
        return super().decode_frames(arrays, 0)


@pytest.mark.parametrize("frames", [1, 16, 17, 18, 19, 20, 35, 36, 40, 100])
def test_the_last_windows_have_the_shape_of_the_others(frames: int) -> None:
    """And give the same, however the signal comes."""
    with in_gpus_place():
        codec = NotedCodec()
        audio = torch.randn(1, 1, 40 * frames, generator=torch.Generator().manual_seed(frames)).clamp(-3, 3) / 4
        codes = codec.encode(audio)
        plain = ToyCodec.encode_frames(codec, audio, 2)
        assert all(torch.equal(*pair) for pair in zip(codes.arrays, plain, strict=True))
        encoder = codec.encoder()
        parts = [encoder.push(part) for part in torch.split(audio, 333, -1)]
        assert torch.equal(Codes.join([*parts, encoder.flush()]).tensor, codes.tensor)
        assert torch.equal(codec.decode(codes), ToyCodec.decode_frames(codec, codes.arrays, 0))
        for start in range(0, frames, 7):
            decoder, first = codec.decoder(start=start), codec.preroll(start)
            some = codes.between(codec.spec, first, frames)
            part = torch.cat([decoder.push(some), decoder.flush()], -1)
            assert torch.equal(part, codec.decode(codes)[..., 40 * start :])


def test_signals_of_several_lengths_are_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the first window all windows are alike: three batches for the inner ones, the first and the last."""
    jobs: list[Job[Tensor]] = []

    def run(some: list[Job[Tensor]]) -> list[tuple[Tensor, ...]]:
        jobs.extend(some)
        return [one() for one in some]

    with in_gpus_place():
        codec = NotedCodec()
        monkeypatch.setattr(codec, "_run", run)
        for frames in range(60, 68):
            codec.encode(torch.zeros(1, 1, 40 * frames))
    assert len(jobs) > 4 * 8
    assert len({row.kind for one in jobs for row in batches._rows(one)}) == 3
