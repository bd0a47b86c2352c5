"""Windows of any plan give what the whole signal gives: with the context that is needed, in one's own place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import pytest
import torch
from gpus_place import in_gpus_place
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from nac.codecs.base import Codes
from nac.codecs.batches import Job
from nac.codecs.segmented import Segmented
from nac.codecs.windows import Plan, WindowedCodec
from nac.spec import Codebook, CodecSpec, Segment

HOP = 3


class SumsCodec(WindowedCodec):
    """Adds up groups of frames near each other, in whole numbers: a frame too little or too much is seen.

    What is decoded also depends on the number of the frame, as noise does.
    """

    def __init__(self, encode: Plan, decode: Plan, multiple: int) -> None:
        self.encode_plan, self.decode_plan, self.multiple = encode, decode, multiple
        books = (Codebook(16, 1), Codebook(16, HOP))
        self.spec = CodecSpec("sums", "sums", 16000, 1, HOP, books, frame_multiple=multiple)
        self.device = torch.device("cpu")

    def encode_frames(self, audio: Tensor, codebooks: int) -> tuple[Tensor, ...]:
        assert audio.shape[-1] % (HOP * self.multiple) == 0
        whole = audio[:, 0].to(torch.int64)
        near = self._near(whole.unflatten(1, (-1, HOP)).sum(2), self.encode_plan)
        return (near % 65521, (whole + near.repeat_interleave(HOP, 1)) % 65521)[:codebooks]

    def decode_frames(self, arrays: tuple[Tensor, ...], first: int | Tensor) -> Tensor:
        coarse = arrays[0]
        fine = arrays[1] if len(arrays) > 1 else coarse.repeat_interleave(HOP, 1)
        number = first + torch.arange(coarse.shape[1])
        near = self._near(coarse + fine.unflatten(1, (-1, HOP)).sum(2), self.decode_plan) + number * 7919
        return ((fine + near.repeat_interleave(HOP, 1)) % 65521).to(torch.float32)[:, None]

    def _near(self, frames: Tensor, plan: Plan) -> Tensor:
        """Sums over the group of each frame and those around it, weighted by distance."""
        left, right = plan.left // self.multiple, plan.right // self.multiple
        groups = pad(frames.unflatten(1, (-1, self.multiple)).sum(2), (left, right))
        weights = torch.arange(1, left + right + 2) ** 2
        return (groups.unfold(1, left + right + 1, 1) * weights).sum(2).repeat_interleave(self.multiple, 1)


@st.composite
def plans(draw: st.DrawFn, multiple: int) -> Plan:
    left, right, window = draw(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 6)))
    return Plan(left * multiple, right * multiple, window * multiple)


@st.composite
def codecs(draw: st.DrawFn) -> SumsCodec:
    multiple = draw(st.integers(1, 3))
    return SumsCodec(draw(plans(multiple)), draw(plans(multiple)), multiple)


def sound(samples: int, batch: int = 1) -> Tensor:
    return torch.randint(0, 1000, (batch, 1, samples), generator=torch.Generator().manual_seed(samples)).float()


def pieces(total: int, cuts: list[float]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise([0, *sorted(int(cut * total) for cut in cuts), total])]


def padded(codec: SumsCodec, audio: Tensor) -> Tensor:
    return pad(audio, (0, -audio.shape[-1] % (HOP * codec.multiple)))


@contextmanager
def on(device: str) -> Iterator[None]:
    with in_gpus_place() if device == "gpu" else nullcontext():
        yield


CUTS = st.lists(st.floats(0, 1), max_size=5)
# Shrinking a failure would take a minute.
MANY = settings(max_examples=150, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@MANY
@given(codec=codecs(), samples=st.integers(0, 150), batch=st.integers(1, 2), groups=st.integers(0, 9), cuts=CUTS)
def test_codes_are_those_of_the_whole_signal(
    device: str, codec: SumsCodec, samples: int, batch: int, groups: int, cuts: list[float]
) -> None:
    audio = sound(samples, batch)
    with on(device):
        encoder = codec.encoder(origin=groups * codec.multiple)
        parts = [encoder.push(audio[..., piece]) for piece in pieces(samples, cuts)]
        codes = Codes.join([*parts, encoder.flush()])
    assert codes.frames(codec.spec) == codec.spec.frames(samples)
    if samples:
        wanted = codec.encode_frames(padded(codec, audio), 2)
        assert all(torch.equal(*pair) for pair in zip(codes.arrays, wanted, strict=True))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@MANY
@given(
    codec=codecs(),
    groups=st.integers(1, 50),
    origin=st.integers(0, 9),
    where=st.floats(0, 1, exclude_max=True),
    cuts=CUTS,
)
def test_samples_are_those_of_the_whole_signal_from_anywhere(
    device: str, codec: SumsCodec, groups: int, origin: int, where: float, cuts: list[float]
) -> None:
    frames, origin = groups * codec.multiple, origin * codec.multiple
    arrays = codec.encode_frames(sound(frames * HOP), 2)
    whole = codec.decode_frames(arrays, origin)
    start = origin + int(where * frames)
    first = codec.preroll(start, origin)
    assert origin <= first <= start
    codes = Codes(arrays).between(codec.spec, first - origin)
    left = origin + frames - first
    with on(device):
        decoder = codec.decoder(origin=origin, start=start)
        parts = [decoder.push(codes.between(codec.spec, cut.start, cut.stop)) for cut in pieces(left, cuts)]
        audio = torch.cat([*parts, decoder.flush()], -1)
    assert torch.equal(audio, whole[..., (start - origin) * HOP :])


@MANY
@given(codec=codecs(), groups=st.integers(1, 50), cuts=CUTS)
def test_on_a_gpu_windows_of_long_signals_are_of_two_lengths(
    codec: SumsCodec, groups: int, cuts: list[float]
) -> None:
    """So that those of many signals are one batch: with all their context, or up to the end of the signal.

    The windows at the start, without all the context before them, are others.
    """
    plan, frames, lengths = codec.encode_plan, groups * codec.multiple, list[int]()
    inner = plan.left + plan.window
    assume(plan.right <= plan.window and frames >= inner + plan.right)

    def run(jobs: list[Job[Tensor]]) -> list[tuple[Tensor, ...]]:
        lengths.extend(job.arrays[0].shape[-1] // HOP for job in jobs if job.asides[0] > 0)
        return [job() for job in jobs]

    with on("gpu"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_run", run)
        encoder = codec.encoder()
        for piece in pieces(frames * HOP, cuts):
            encoder.push(sound(frames * HOP)[..., piece])
        encoder.flush()
    assert set(lengths) <= {inner, inner + plan.right}
    assert plan.right == 0 or lengths.count(inner) <= 1


@MANY
@given(
    frames=st.integers(1, 6),
    overlap=st.integers(0, 3 * HOP),
    total=st.integers(1, 30),
    skipped=st.integers(0, 2),
    where=st.floats(0, 1, exclude_max=True),
    batch=st.integers(1, 2),
    cuts=CUTS,
)
def test_segments_lie_where_they_were_and_their_middles_are_heard(
    frames: int, overlap: int, total: int, skipped: int, where: float, batch: int, cuts: list[float]
) -> None:
    """Also of a short last one, from anywhere and in any pieces. One that ends before its middle is not heard."""
    inner = SumsCodec(Plan(1, 1, 4), Plan(1, 2, 4), 1)
    stride = max(frames * HOP - overlap, 1)
    codec = Segmented(inner, Segment(frames, stride))
    codes = Codes(inner.encode_frames(sound(total * HOP, batch), 1))
    alone = [inner.decode_frames((piece,), 0) for piece in torch.split(codes.arrays[0], frames, 1)]
    heard = [part for part in range(len(alone)) if alone[part].shape[-1] > (codec.margin if part else 0)]
    end = heard[-1] * stride + alone[heard[-1]].shape[-1] if heard else 0
    owners = [max(p for p in heard if not p or at >= p * stride + codec.margin) for at in range(end)]
    whole = [alone[part][..., at - part * stride] for at, part in enumerate(owners)]
    origin = skipped * frames
    start = origin + int(where * total)
    first = codec.preroll(start, origin)
    decoder = codec.decoder(origin=origin, start=start)
    given_codes = codes.between(codec.spec, first - origin)
    parts = [
        decoder.push(given_codes.between(codec.spec, cut.start, cut.stop))
        for cut in pieces(origin + total - first, cuts)
    ]
    audio = torch.cat([*parts, decoder.flush()], -1)
    wanted = whole[codec.spec.start(start) - codec.spec.start(origin) :]
    assert audio.shape[-1] == len(wanted)
    assert all(torch.equal(audio[..., at], value) for at, value in enumerate(wanted))
