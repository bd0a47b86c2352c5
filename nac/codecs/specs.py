"""The specifications of all known codecs, without their weights and without torch."""

from __future__ import annotations

from nac.codecs.windows import Plan
from nac.spec import Codebook, CodecSpec, Segment


def _dac(name: str, sample_rate: int, hop: int, codebooks: int) -> CodecSpec:
    return CodecSpec(name, "dac", sample_rate, 1, hop, (Codebook(10),) * codebooks)


def _snac(name: str, sample_rate: int, hop: int, strides: tuple[int, ...], frame_multiple: int) -> CodecSpec:
    # A frame is one code of the coarsest codebook; frame_multiple frames fill a window of the local attention.
    codebooks = tuple(Codebook(12, strides[0] // stride) for stride in strides)
    return CodecSpec(name, "snac", sample_rate, 1, hop * strides[0], codebooks, frame_multiple=frame_multiple)


SPECS = {
    spec.name: spec
    for spec in (
        CodecSpec("nac_24khz", "mdct", 24000, 1, 320, (Codebook(10),) * 16),
        CodecSpec("soundstream_16khz", "soundstream", 16000, 1, 320, (Codebook(4),) * 46),
        CodecSpec("encodec_24khz", "encodec", 24000, 1, 320, (Codebook(10),) * 32),
        CodecSpec(
            "encodec_48khz",
            "encodec",
            48000,
            2,
            320,
            (Codebook(10),) * 16,
            has_scale=True,
            segment=Segment(150, 47520),
        ),
        _dac("dac_16khz", 16000, 320, 12),
        _dac("dac_24khz", 24000, 320, 32),
        _dac("dac_44khz", 44100, 512, 9),
        _dac("dac_44khz_16kbps", 44100, 512, 18),
        _snac("snac_24khz", 24000, 512, (4, 2, 1), 1),
        _snac("snac_32khz", 32000, 384, (8, 4, 2, 1), 4),
        _snac("snac_44khz", 44100, 384, (8, 4, 2, 1), 4),
    )
}

DECODE_PLANS = {
    "nac_24khz": Plan(left=19, right=19, window=256),
    "soundstream_16khz": Plan(left=25, right=0, window=250),
    # Its LSTM never forgets altogether: three seconds are taken for all. It is run in blocks of 32 frames.
    "encodec_24khz": Plan(left=224, right=0, window=32),
    # The segment before is faded into a segment, and one more is read, since a signal's end may overhang.
    "encodec_48khz": Plan(left=300, right=0, window=150),
    **dict.fromkeys(("dac_16khz", "dac_24khz", "dac_44khz", "dac_44khz_16kbps"), Plan(10, 10, 192)),
    "snac_24khz": Plan(left=3, right=3, window=32),
    **dict.fromkeys(("snac_32khz", "snac_44khz"), Plan(left=8, right=8, window=32)),
}
"""What each decoder takes to give the same samples as for the whole signal, to the bit, but for encodec_24khz."""
