"""nac's families of codecs: the specification of each model, the sources of its weights, and its loader."""

from __future__ import annotations

from nac.codecs.family import Family, File, Hub, Model, Packaged, Web
from nac.codecs.windows import Plan
from nac.spec import Codebook, CodecSpec, Segment


def _builtin(spec: CodecSpec, about: str, file: File) -> Model:
    return Model(
        spec, about, "MIT", (Packaged("nac/codecs/builtin", (file,)),), Plan(left=19, right=19, window=256)
    )


MDCT = Family(
    "mdct",
    (
        _builtin(
            CodecSpec("nac_24khz", "mdct", 24000, 1, 320, (Codebook(10),) * 16),
            "any audio, small and fast; part of the package",
            File(
                "nac_24khz.safetensors",
                11_634_204,
                "dc8491e8edb64ab3a6edb9a745d9bb57015a28d9fa5bd0df07824447237eb272",
            ),
        ),
    ),
    load="nac.codecs.mdct_torch:load",
    numpy="nac.codecs.mdct:load",
)

FULLBAND = Family(
    "fullband",
    (
        _builtin(
            CodecSpec("nac_48khz", "fullband", 48000, 1, 640, (Codebook(10),) * 16),
            "fullband audio, small and fast; part of the package",
            File(
                "nac_48khz.safetensors",
                17_106_468,
                "527cea43eb27562c834dc95904613b528b49438072ed0ffd537b1f9cceafafe9",
            ),
        ),
    ),
    load="nac.codecs.fullband_torch:load",
    numpy="nac.codecs.fullband:load",
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
    random="nac.codecs.soundstream:random",
)


def _encodec(spec: CodecSpec, about: str, hub: Hub, original: File, plan: Plan) -> Model:
    web = Web("https://dl.fbaipublicfiles.com/encodec/v0", (original,))
    return Model(spec, about, "code MIT; the weights' licence is not stated", (hub, web), plan)


ENCODEC = Family(
    "encodec",
    (
        _encodec(
            CodecSpec("encodec_24khz", "encodec", 24000, 1, 320, (Codebook(10),) * 32),
            "speech and music, causal",
            Hub(
                "facebook/encodec_24khz",
                (
                    File(
                        "model.safetensors",
                        93_119_608,
                        "37a7cb100f71a29e6c1d815aca8666a1d7ea8885ebe44c306c751a5103559d57",
                    ),
                ),
                "c1dbe2ae3f1de713481a3b3e7c47f357092ee040",
            ),
            File(
                "encodec_24khz-d7cc33bc.th",
                93_171_529,
                "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf",
            ),
            # The LSTM's memory is unlimited; three seconds are used as its context. Blocks have 32 frames.
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
            "stereo music",
            Hub(
                "facebook/encodec_48khz",
                (
                    File(
                        "model.safetensors",
                        76_291_152,
                        reported="47a15ffbaf7bb76176d0833e10590de0a8988a7848748608cefc36a1c88adfdc",
                    ),
                ),
                "c3def8e7185ac8c8efdce6eb8c4a651e487a503e",
            ),
            File("encodec_48khz-7e698e3e.th", 76_337_089, "7e698e3e"),
            # A segment is cross-faded with the previous one; another one is read because a signal may have an
            # overhang.
            Plan(left=300, right=0, window=150),
        ),
    ),
    load="nac.codecs.encodec:load",
    random="nac.codecs.encodec:random",
    reference="nac.codecs.encodec:EncodecReference",
    package="transformers",
    fast=("gpu",),
)


def _dac(spec: CodecSpec, about: str, tag: str, original: File, file: File | None, revision: str) -> Model:
    releases = "https://github.com/descriptinc/descript-audio-codec/releases/download"
    hub = () if file is None else (Hub(f"descript/{spec.name}", (file,), revision),)
    return Model(spec, about, "MIT", (*hub, Web(f"{releases}/{tag}", (original,))), Plan(10, 10, 192))


DAC = Family(
    "dac",
    (
        _dac(
            CodecSpec("dac_16khz", "dac", 16000, 1, 320, (Codebook(10),) * 12),
            "speech, wideband",
            "0.0.5",
            File("weights_16khz.pth", reported="95ab7176b67137d4d4c6c54b8d6ef3cea797faec228cb03ad084badcad570b4d"),
            File("model.safetensors", about=296_592_604),
            "7c2fc5e759f1f501aefc6e7a0265cc57f5d17ba7",
        ),
        _dac(
            CodecSpec("dac_24khz", "dac", 24000, 1, 320, (Codebook(10),) * 32),
            "speech and music, up to high bitrates",
            "0.0.4",
            File("weights_24khz.pth", reported="44bad592fc393e03eb0be7a5120b7d487fe9612fa41269dc03fca3d4b87e20ad"),
            File(
                "model.safetensors",
                298_652_268,
                reported="7452e3fc6972991da871ae1a1c9d3e8e219aa247cc0f757018867d6a7fe59aaf",
            ),
            "6ba020b5ba7d9d8076fb90db7e67f27e31980f6e",
        ),
        _dac(
            CodecSpec("dac_44khz", "dac", 44100, 1, 512, (Codebook(10),) * 9),
            "music, fullband",
            "0.0.1",
            File("weights.pth", 306_717_287, "a88eed82a7024ccc1facdb1e605c4c2f99281c8118c22c9895ffa846d8fb61aa"),
            File(
                "model.safetensors",
                306_507_276,
                "6128ebff483a41422b0164d079a3773b0d8d82e64c4293d775994cbf8baf913a",
            ),
            "c1bc521685adf9cfe247bc39a5ca58917eda1ac4",
        ),
        _dac(
            CodecSpec("dac_44khz_16kbps", "dac", 44100, 1, 512, (Codebook(10),) * 18),
            "music, fullband, twice the bitrate",
            "1.0.0",
            File("weights_44khz_16kbps.pth", 256_984_809),
            None,  # not on the Hub
            "",
        ),
    ),
    load="nac.codecs.dac:load",
    random="nac.codecs.dac:random",
    reference="nac.codecs.dac:DacReference",
    package="transformers",
    fast=("gpu", "cpu"),
)


def _snac(
    name: str,
    rate: int,
    hop: int,
    strides: tuple[int, ...],
    about: str,
    file: File,
    revision: str,
    *,
    window: int = 1,
    plan: Plan,
) -> Model:
    # A frame has one code of the coarsest codebook; the local attention has windows of ``window`` frames.
    codebooks = tuple(Codebook(12, strides[0] // stride) for stride in strides)
    spec = CodecSpec(name, "snac", rate, 1, hop * strides[0], codebooks, frame_multiple=window)
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
            File(
                "pytorch_model.bin",
                79_488_254,
                sha256="4b8164cc6606bfa627f1a784734c1e539891518f1191ed9194fe1e3b9b4bff40",
            ),
            "d73ad176a12188fcf4f360ba3bf2c2fbbe8f58ec",
            plan=Plan(left=3, right=3, window=32),
        ),
        _snac(
            "snac_32khz",
            32000,
            384,
            (8, 4, 2, 1),
            "music and sounds at about 2 kbit/s",
            File(
                "pytorch_model.bin",
                about=218_000_000,
                sha256="bfee2f057c1e287443786bedab377b5176b430e911417683977b7af71ea3ba65",
            ),
            "c84c6ac842dc7a44a6fb0f3b576ce94b48a7780f",
            window=4,
            plan=Plan(left=8, right=8, window=32),
        ),
        _snac(
            "snac_44khz",
            44100,
            384,
            (8, 4, 2, 1),
            "music, fullband, at about 2.6 kbit/s",
            File(
                "pytorch_model.bin",
                about=218_000_000,
                sha256="b0a676cbdc8d1cc53186f6d777bc956fb7932ceacdc657a4c3741646e9e7ead0",
            ),
            "873ebef9718b89660340c6f55a2b515e98cfa1d9",
            window=4,
            plan=Plan(left=8, right=8, window=32),
        ),
    ),
    load="nac.codecs.snac:load",
    random="nac.codecs.snac:random",
    reference="nac.codecs.snac:SnacReference",
    package="snac",
    fast=("gpu",),
)

MIMI = Family(
    "mimi",
    (
        Model(
            CodecSpec("mimi", "mimi", 24000, 1, 1920, (Codebook(11),) * 32),
            "speech at about 1 kbit/s; used by current speech models (Kyutai)",
            "CC-BY-4.0",
            (
                Hub(
                    "kyutai/mimi",
                    (
                        File(
                            "model.safetensors",
                            384_649_828,
                            reported="bac7e85083dcded655d24eaadde7e6eea34c0da1b35fa2d284e641bd2b942a5e",
                        ),
                    ),
                    "89091b3e466eb6a9d11e537bf26b144f194978f7",
                ),
                Hub(
                    "kyutai/moshiko-pytorch-bf16",
                    (
                        File(
                            "tokenizer-e351c8d8-checkpoint125.safetensors",
                            384_644_900,
                            "09b782f0629851a271227fb9d36db65c041790365f11bbe5d3d59369cf863f50",
                        ),
                    ),
                ),
            ),
            # Each of eight layers looks back over 10 s.
            Plan(left=1056, right=0, window=32),
        ),
    ),
    load="nac.codecs.mimi:load",
    random="nac.codecs.mimi:random",
    reference="nac.codecs.mimi:MimiReference",
    package="transformers",
    fast=("gpu",),
)

FAMILIES = (MDCT, FULLBAND, SOUNDSTREAM, ENCODEC, DAC, SNAC, MIMI)

BEST_FIRST = (
    (9.0, ("dac_44khz_16kbps", "dac_44khz", "encodec_48khz", "dac_24khz", "encodec_24khz")),
    (2.5, ("dac_44khz", "encodec_48khz", "dac_24khz", "encodec_24khz", "snac_44khz")),
    (0.0, ("snac_44khz", "snac_32khz", "snac_24khz", "dac_44khz", "encodec_24khz")),
)
"""The models to prefer, best first, from each bitrate (kbit/s per channel) on."""

BY_BAND = ("nac_24khz", "nac_48khz")
"""The models in the package, from the narrowest bandwidth on; used where none of the others is at hand."""
