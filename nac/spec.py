"""Specification of a codec, which determines the meaning of its codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import index
from typing import NamedTuple

from nac.errors import ArgumentTypeError, ModelChoiceError


def codebook_count(number: int) -> int:
    """A number of codebooks as an int. Raises ArgumentTypeError where it is none."""
    try:
        return index(number)
    except TypeError:
        raise ArgumentTypeError(f"a number of codebooks is a whole one, not {number!r}") from None


class Codebook(NamedTuple):
    """Shape of one codebook's output: ``2**bits`` entries, ``codes_per_frame`` codes per frame."""

    bits: int
    codes_per_frame: int = 1


class Segment(NamedTuple):
    """Independent overlapping pieces (EnCodec 48 kHz): ``frames`` in each, one every ``stride`` samples."""

    frames: int
    stride: int

    def margin(self, frame_samples: int) -> int:
        """Half the overlap: the samples at its ends that are not used where only the middles are (.dac)."""
        return (self.frames * frame_samples - self.stride) // 2


@dataclass(frozen=True)
class CodecSpec:
    """Specification of a codec, which determines the meaning of its codes.

    ``sample_rate`` is in Hz, ``channels`` (1 or 2) is the network's input, ``frame_samples`` is samples per
    channel in a frame. ``has_scale``: each segment has a float32 loudness. ``frame_multiple``: a signal is padded
    to a multiple of this many frames. ``fingerprint``: 16 hexadecimal digits of the weights (see
    :func:`nac.codecs.fingerprint.fingerprint`), empty if no weights are loaded. ``former``: the fingerprint that
    earlier versions computed, if it was different.
    """

    name: str
    family: str
    sample_rate: int
    channels: int
    frame_samples: int
    codebooks: tuple[Codebook, ...]
    has_scale: bool = False
    segment: Segment | None = None
    frame_multiple: int = 1
    fingerprint: str = ""
    former: str = ""

    def with_fingerprint(self, fingerprint: str, former: str = "") -> CodecSpec:
        return replace(self, fingerprint=fingerprint, former=former)

    def frames(self, samples: int) -> int:
        """The number of frames for ``samples`` samples per channel."""
        if self.segment is None:
            block = self.frame_samples * self.frame_multiple
            return -(-samples // block) * self.frame_multiple
        whole, rest = divmod(samples, self.segment.stride)
        full = self.segment.frames * self.frame_samples
        # A segment that starts a stride before the end is shortened.
        frames = 0
        for start in range(max(whole - 1, 0), whole + (rest > 0)):
            frames += -(-min(full, samples - start * self.segment.stride) // self.frame_samples)
        return max(whole - 1, 0) * self.segment.frames + frames

    def start(self, frame: int) -> int:
        """First sample of a frame, per channel, counted from the start of the signal."""
        if self.segment is None:
            return frame * self.frame_samples
        segment, inner = divmod(frame, self.segment.frames)
        return segment * self.segment.stride + inner * self.frame_samples

    def end(self, frames: int, *, overhang: bool = False) -> int:
        """One past the last sample of a signal of ``frames`` frames: the end of its last frame.

        With an ``overhang``, that is the first frame of the next segment, whatever its number.
        """
        return self.start(frames - (not overhang)) + self.frame_samples if frames else 0

    def frame_at(self, sample: int) -> int:
        """The first frame whose codes a sample depends on: the first of its segment, if any."""
        if self.segment is None:
            return sample // self.frame_samples
        return sample // self.segment.stride * self.segment.frames

    def kbps(self, codebooks: int) -> float:
        """Bitrate of one stream with this many codebooks, in kbit/s."""
        bits = sum(bits * codes for bits, codes in self.codebooks[:codebooks])
        return bits * self.sample_rate / self.frame_samples / 1000

    def check_codebooks(self, codebooks: int | None) -> int:
        """The number of codebooks to use: all for None. Raises ModelError if there are fewer."""
        if codebooks is None:
            return len(self.codebooks)
        count = codebook_count(codebooks)
        if not 1 <= count <= len(self.codebooks):
            raise ModelChoiceError(f"{self.name} has 1 to {len(self.codebooks)} codebooks, not {count}")
        return count
