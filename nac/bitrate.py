"""From a bitrate to codebook counts: the streams of a recording, and the codebooks of each."""

from __future__ import annotations

from math import inf

from nac.container.header import Header
from nac.errors import ArgumentTypeError, ModelChoiceError
from nac.spec import CodecSpec, codebook_count


def default_kbps(channels: int) -> float:
    """The default bitrate in kbit/s of the whole file: 8, or 4 per channel of more than two."""
    return max(8.0, 4.0 * channels)


def is_stereo_pair(spec: CodecSpec, channels: int) -> bool:
    """Whether two channels are coded as a rotated pair of streams (see :mod:`nac.audio.stereo`)."""
    return spec.channels == 1 and channels == 2


def stream_count(spec: CodecSpec, channels: int) -> int:
    """The number of streams: one per channel, or one per two channels with a network for two."""
    return -(-channels // spec.channels)


def total_kbps(spec: CodecSpec, counts: tuple[int, ...]) -> float:
    """Bitrate of streams with these codebook counts together, in kbit/s."""
    return sum(spec.kbps(count) for count in counts)


def ladder(spec: CodecSpec, channels: int, *, pair: bool, alone: bool = False) -> list[tuple[int, ...]]:
    """The codebook counts to choose from, each a prefix of the next.

    The second stream of a stereo ``pair`` gets about half as many codebooks as the first, or none where the first
    is ``alone``, and the second silent throughout.
    """
    most = len(spec.codebooks)
    if pair and alone:
        return [(count, 0) for count in range(1, most + 1)]
    if not pair:
        return [(count,) * stream_count(spec, channels) for count in range(1, most + 1)]
    first, second = 1, 0
    steps: list[tuple[int, ...]] = [(first, second)]
    while second < most:
        if first == most or first > 2 * second:
            second += 1
        else:
            first += 1
        steps.append((first, second))
    return steps


def check_bitrate(kbps: float | None, codebooks: int | None) -> None:
    """Raises ArgumentTypeError for what are no numbers, ModelChoiceError for those that no model has."""
    if kbps is not None and not hasattr(kbps, "__float__"):
        raise ArgumentTypeError(f"a bitrate must be a number of kbit/s, not {kbps!r}")
    if codebooks is not None:
        codebook_count(codebooks)
    if kbps is not None and (codebooks is not None or not 0 < kbps < inf):
        raise ModelChoiceError(
            "give kbps or codebooks, not both" if codebooks else f"{kbps} kbit/s is not a possible bitrate"
        )


def allocate(
    spec: CodecSpec,
    channels: int,
    *,
    kbps: float | None = None,
    codebooks: int | None = None,
    pair: bool | None = None,
    alone: bool = False,
) -> tuple[int, ...]:
    """Codebook count of each stream: the most whose bitrate together is at most ``kbps`` (kbit/s).

    ``codebooks`` sets the count of every stream instead. With neither, :func:`default_kbps` is used, or the lowest
    possible bitrate above. ``pair``: whether the streams are a stereo pair; by default wherever possible.
    ``alone``: the first stream has all the sound. Raises ModelError if the bitrate is too low; the message
    contains the lowest.
    """
    check_bitrate(kbps, codebooks)
    if codebooks is not None:
        return (spec.check_codebooks(codebooks),) * stream_count(spec, channels)
    steps = ladder(spec, channels, pair=is_stereo_pair(spec, channels) if pair is None else pair, alone=alone)
    lowest = total_kbps(spec, steps[0])
    if kbps is None:
        kbps = max(default_kbps(channels), lowest)
    # A tolerance for rounding of the sum, so that 6 kbit/s allows 6.0.
    fitting = [step for step in steps if total_kbps(spec, step) <= kbps * (1 + 1e-9)]
    if not fitting:
        many = f"{channels} channel{'s' * (channels > 1)}"
        raise ModelChoiceError(f"{spec.name} needs at least {lowest:.4g} kbit/s for {many}, not {kbps:g}")
    return fitting[-1]


def at_most(header: Header, *, kbps: float | None, codebooks: int | None) -> tuple[int, ...]:
    """A file's codebook counts, reduced to what a bitrate allows; all if none is given."""
    if kbps is None and codebooks is None:
        return header.stream_codebooks
    pair = header.stereo_pair
    alone = pair and header.stream_codebooks[1] == 0
    wanted = allocate(header.spec, header.channels, kbps=kbps, codebooks=codebooks, pair=pair, alone=alone)
    return tuple(map(min, wanted, header.stream_codebooks))
