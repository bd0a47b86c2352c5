"""Channel layouts: which loudspeaker each channel is for, and the channel order of each format.

In nac, channels have the order of WAVE_FORMAT_EXTENSIBLE (also FFmpeg's order), and a layout is its mask: bit *n*
stands for the *n*-th entry of ``SPEAKERS``. Vorbis and Opus have another order (Vorbis I, section 4.3.9; RFC 7845,
section 5.1.1.2). nac reorders channels when it writes them; FFmpeg does so when it reads them.

A .nac file stores the layout in the same tag as FLAC (RFC 9639, section 8.6.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nac.audio.tags import Tags

SPEAKERS = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
"""Front left, front right, front centre, LFE, back left and so on."""
TAG = "waveformatextensible_channel_mask"
USUAL = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
"""Default layout by number of channels in FLAC (RFC 9639, section 9.1.3), Vorbis and Opus."""
_CODED = {
    3: ("FL", "FC", "FR"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FC", "FR", "BL", "BR"),
    6: ("FL", "FC", "FR", "BL", "BR", "LFE"),
    7: ("FL", "FC", "FR", "SL", "SR", "BC", "LFE"),
    8: ("FL", "FC", "FR", "SL", "SR", "BL", "BR", "LFE"),
}
"""Channel order of Vorbis and Opus."""
_OPPOSITE = {"BL": "SL", "BR": "SR", "SL": "BL", "SR": "BR"}
_NAMES = {
    0xB: "2.1",
    0x7: "3.0",
    0x103: "3.0(back)",
    0xF: "3.1",
    0x107: "4.0",
    0x33: "quad",
    0x603: "quad(side)",
    0x10F: "4.1",
    0x37: "5.0",
    0x607: "5.0(side)",
    0x3F: "5.1",
    0x60F: "5.1(side)",
    0x707: "6.0",
    0x13F: "6.1(back)",
    0x70F: "6.1",
    0x637: "7.0",
    0x63F: "7.1",
    0xFF: "7.1(wide)",
}


def speakers(mask: int) -> tuple[str, ...]:
    """The loudspeakers of a layout, in channel order."""
    return tuple(name for bit, name in enumerate(SPEAKERS) if mask >> bit & 1)


def name(mask: int) -> str:
    """The common name of a layout, such as 5.1, or a list of its loudspeakers."""
    return _NAMES.get(mask) or "+".join(speakers(mask))


def of_mask(mask: int, channels: int) -> int:
    """A mask from a file if it has ``channels`` loudspeakers; otherwise 0 (no layout)."""
    return mask if mask >> len(SPEAKERS) == 0 and mask.bit_count() == channels else 0


def of_names(names: Sequence[str]) -> tuple[int, list[int] | None]:
    """The mask for loudspeakers in any order, and the permutation of their channels (None: already in order).

    (0, None) if a name is unknown or occurs twice.
    """
    if not set(names) <= set(SPEAKERS) or len(set(names)) < len(names):
        return 0, None
    bits = [SPEAKERS.index(one) for one in names]
    order = sorted(range(len(bits)), key=bits.__getitem__)
    return sum(1 << bit for bit in bits), None if bits == sorted(bits) else order


def coded_order(mask: int, channels: int) -> list[int] | None:
    """The channel order of a Vorbis or Opus file, as indices into nac's order.

    Without a layout the default one is assumed. A side pair may replace a back pair and vice versa. None if these
    formats cannot store this layout.
    """
    coded = _CODED.get(channels)
    if coded is None:
        return list(range(channels)) if mask in (0, USUAL.get(channels)) else None
    have = speakers(mask or USUAL[channels])
    for wanted in (coded, tuple(_OPPOSITE.get(one, one) for one in coded)):
        if set(wanted) == set(have):
            return [have.index(one) for one in wanted]
    return None


def tagged(tags: Tags, mask: int, channels: int) -> Tags:
    """Tags with the layout added, unless it is plain mono or stereo."""
    rest = tuple(tag for tag in tags if tag[0] != TAG)
    special = mask and (channels > 2 or mask != USUAL[channels])
    return (*rest, (TAG, f"0x{mask:04X}")) if special else rest


def of_tags(tags: Iterable[tuple[str, str]], channels: int) -> int:
    """The layout stored in tags; 0 if there is none."""
    for key, value in tags:
        if key == TAG:
            try:
                return of_mask(int(value, 16), channels)
            except ValueError:
                return 0
    return 0
