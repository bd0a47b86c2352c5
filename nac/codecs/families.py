"""nac's own families of codecs: what identifies each model, where its weights are published, how it is loaded."""

from __future__ import annotations

from nac.codecs.family import Family, File, Hub, Model, Packaged, Web
from nac.codecs.windows import Plan
from nac.spec import Codebook, CodecSpec, Segment

MDCT = Family(
    "mdct",
    (
        Model(
            CodecSpec("nac_24khz", "mdct", 24000, 1, 320, (Codebook(10),) * 16),
            "any sound, small and fast; comes with nac",
            "MIT",
            (
                Packaged(
                    "nac/codecs/builtin",
                    (
                        File(
                            "nac_24khz.safetensors",
                            11_634_204,
                            "dc8491e8edb64ab3a6edb9a745d9bb57015a28d9fa5bd0df07824447237eb272",
                        ),
                    ),
                ),
            ),
            Plan(left=19, right=19, window=256),
        ),
    ),
    load="nac.codecs.mdct_torch:load",
    numpy="nac.codecs.mdct:load",
)

_LYRA = (
    File(
        "soundstream_encoder.tflite", 1_779_200, "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1"
    ),
    File("quantizer.tflite", 329_012, "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c"),
    File("lyragan.tflite", 1_475_160, "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06"),
)

SOUNDSTREAM = Family(
    "soundstream",
    (
        Model(
            CodecSpec("soundstream_16khz", "soundstream", 16000, 1, 320, (Codebook(4),) * 46),
            "speech at very low bitrates, small and fast (Lyra V2)",
            "Apache-2.0",
            (Web("https://raw.githubusercontent.com/google/lyra/v1.3.2/lyra/model_coeffs", _LYRA),),
            Plan(left=25, right=0, window=250),
            "e86727a4bc29fbd2",
        ),
    ),
    load="nac.codecs.soundstream:load",
    random="nac.codecs.random_weights:soundstream",
)


_ENCODEC_24KHZ = File(
    "encodec_24khz-d7cc33bc.th", 93_171_529, "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
)


def _encodec(spec: CodecSpec, about: str, original: File, size: int | None, plan: Plan) -> Model:
    hub = Hub(f"facebook/{spec.name}", (File("model.safetensors", about=size),))
    web = Web("https://dl.fbaipublicfiles.com/encodec/v0", (original,))
    return Model(spec, about, "code MIT; the weights' licence is not stated", (hub, web), plan)


ENCODEC = Family(
    "encodec",
    (
        _encodec(
            CodecSpec("encodec_24khz", "encodec", 24000, 1, 320, (Codebook(10),) * 32),
            "speech and music, causal",
            _ENCODEC_24KHZ,
            93_100_000,
            # Its LSTM never forgets altogether: three seconds are taken for all. It is run in blocks of 32 frames.
            Plan(left=224, right=0, window=32),
        ),
        _encodec(
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
            "music in stereo",
            File("encodec_48khz-7e698e3e.th", sha256="7e698e3e"),
            None,
            # The segment before is faded into a segment, and one more is read, since a signal's end may overhang.
            Plan(left=300, right=0, window=150),
        ),
    ),
    load="nac.codecs.encodec:load",
    random="nac.codecs.encodec:random",
    reference="nac.codecs.encodec:EncodecReference",
    package="transformers",
)


def _dac(spec: CodecSpec, about: str, original: str, size: int | None) -> Model:
    tag, file = original.split("/")
    releases = "https://github.com/descriptinc/descript-audio-codec/releases/download"
    web = Web(f"{releases}/{tag}", (File(file),))
    # Of the model without a size, weights are published there only.
    hub = () if size is None else (Hub(f"descript/{spec.name}", (File("model.safetensors", about=size),)),)
    return Model(spec, about, "MIT", (*hub, web), Plan(10, 10, 192))


DAC = Family(
    "dac",
    (
        _dac(
            CodecSpec("dac_16khz", "dac", 16000, 1, 320, (Codebook(10),) * 12),
            "speech, wide band",
            "0.0.5/weights_16khz.pth",
            297_000_000,
        ),
        _dac(
            CodecSpec("dac_24khz", "dac", 24000, 1, 320, (Codebook(10),) * 32),
            "speech and music, up to high bitrates",
            "0.0.4/weights_24khz.pth",
            299_000_000,
        ),
        _dac(
            CodecSpec("dac_44khz", "dac", 44100, 1, 512, (Codebook(10),) * 9),
            "music, full band",
            "0.0.1/weights.pth",
            307_000_000,
        ),
        _dac(
            CodecSpec("dac_44khz_16kbps", "dac", 44100, 1, 512, (Codebook(10),) * 18),
            "music, full band, twice the bitrate",
            "1.0.0/weights_44khz_16kbps.pth",
            None,
        ),
    ),
    load="nac.codecs.dac:load",
    random="nac.codecs.dac:random",
    reference="nac.codecs.dac:DacReference",
    package="transformers",
)


def _snac(
    name: str,
    rate: int,
    hop: int,
    strides: tuple[int, ...],
    about: str,
    size: int,
    sha256: str,
    revision: str = "main",
    *,
    window: int = 1,
    plan: Plan,
) -> Model:
    # A frame is one code of the coarsest codebook; ``window`` frames fill a window of the local attention.
    codebooks = tuple(Codebook(12, strides[0] // stride) for stride in strides)
    spec = CodecSpec(name, "snac", rate, 1, hop * strides[0], codebooks, frame_multiple=window)
    file = File("pytorch_model.bin", about=size, sha256=sha256)
    return Model(spec, about, "MIT", (Hub(f"hubertsiuzdak/{name}", (file,), revision),), plan)


SNAC = Family(
    "snac",
    (
        _snac(
            "snac_24khz",
            24000,
            512,
            (4, 2, 1),
            "speech at about 1 kbit/s; few codes, for language models",
            79_500_000,
            "4b8164cc6606bfa627f1a784734c1e539891518f1191ed9194fe1e3b9b4bff40",
            "d73ad176a12188fcf4f360ba3bf2c2fbbe8f58ec",
            plan=Plan(left=3, right=3, window=32),
        ),
        _snac(
            "snac_32khz",
            32000,
            384,
            (8, 4, 2, 1),
            "music and sounds at about 2 kbit/s",
            218_000_000,
            "bfee2f057c1e287443786bedab377b5176b430e911417683977b7af71ea3ba65",
            window=4,
            plan=Plan(left=8, right=8, window=32),
        ),
        _snac(
            "snac_44khz",
            44100,
            384,
            (8, 4, 2, 1),
            "music, full band, at about 2.6 kbit/s",
            218_000_000,
            "b0a676cbdc8d1cc53186f6d777bc956fb7932ceacdc657a4c3741646e9e7ead0",
            "873ebef9718b89660340c6f55a2b515e98cfa1d9",
            window=4,
            plan=Plan(left=8, right=8, window=32),
        ),
    ),
    load="nac.codecs.snac:load",
    random="nac.codecs.snac:random",
    reference="nac.codecs.snac:SnacReference",
    package="snac",
)

MIMI = Family(
    "mimi",
    (
        Model(
            CodecSpec("mimi", "mimi", 24000, 1, 1920, (Codebook(11),) * 32),
            "speech at about 1 kbit/s; the codes of today's speech models (Kyutai)",
            "CC-BY-4.0",
            (
                Hub("kyutai/mimi", (File("model.safetensors", 384_649_828),)),
                Hub(
                    "kyutai/moshiko-pytorch-bf16",
                    (File("tokenizer-e351c8d8-checkpoint125.safetensors", 384_644_900),),
                ),
            ),
            # Eight layers that look back over 10 s each: exact, but far.
            Plan(left=1056, right=0, window=32),
        ),
    ),
    load="nac.codecs.mimi:load",
    random="nac.codecs.mimi:random",
    reference="nac.codecs.mimi:MimiReference",
    package="transformers",
)

FAMILIES = (MDCT, SOUNDSTREAM, ENCODEC, DAC, SNAC, MIMI)

BEST_FIRST = (
    (9.0, ("dac_44khz_16kbps", "dac_44khz", "encodec_48khz", "dac_24khz", "encodec_24khz")),
    (2.5, ("dac_44khz", "encodec_48khz", "dac_24khz", "encodec_24khz", "snac_44khz")),
    (0.0, ("snac_44khz", "snac_32khz", "snac_24khz", "dac_44khz", "encodec_24khz")),
)
"""Which model to prefer for any sound, from so many kbit/s per channel on; the rest follow in order."""
