"""The table of models: what their official weights are, under which licence, and where they are published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nac.codecs.specs import SPECS
from nac.spec import CodecSpec


@dataclass(frozen=True)
class File:
    """A file of weights. ``size`` in bytes, ``about`` where it is not known to the byte.

    ``sha256``: hexadecimal, whole or as much of its beginning as is published, else None.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    about: int | None = None


@dataclass(frozen=True)
class Hub:
    """Files of a Hugging Face Hub repository, at a pinned revision where one is known."""

    repo: str
    files: tuple[File, ...]
    revision: str = "main"

    def __str__(self) -> str:
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class Web:
    """Files below an HTTPS address."""

    base: str
    files: tuple[File, ...]

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True)
class Packaged:
    """Files in a folder of this package."""

    folder: str
    files: tuple[File, ...]

    def __str__(self) -> str:
        return "in the package"


Source = Hub | Web | Packaged


@dataclass(frozen=True)
class Model:
    """A codec and its official weights. ``sources`` are tried in order; ``about``: what it is good for.

    ``fingerprint``: of the weights (see :mod:`nac.codecs.fingerprint`), where it is known.
    """

    spec: CodecSpec
    about: str
    licence: str
    sources: tuple[Source, ...]
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def size(self) -> int | None:
        """Bytes of the weights, maybe rounded, where published."""
        sizes = [file.size or file.about for file in self.sources[0].files]
        return None if None in sizes else sum(size or 0 for size in sizes)


_LYRA = (
    File(
        "soundstream_encoder.tflite", 1_779_200, "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1"
    ),
    File("quantizer.tflite", 329_012, "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c"),
    File("lyragan.tflite", 1_475_160, "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06"),
)
_ENCODEC_24KHZ = File(
    "encodec_24khz-d7cc33bc.th", 93_171_529, "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
)
_ENCODEC = "code MIT; the weights' licence is not stated"
_ENCODEC_URL = "https://dl.fbaipublicfiles.com/encodec/v0"
_DAC_URL = "https://github.com/descriptinc/descript-audio-codec/releases/download"
_LYRA_URL = "https://raw.githubusercontent.com/google/lyra/v1.3.2/lyra/model_coeffs"


def _encodec(name: str, about: str, original: File, size: int | None) -> Model:
    hub = Hub(f"facebook/{name}", (File("model.safetensors", about=size),))
    return Model(SPECS[name], about, _ENCODEC, (hub, Web(_ENCODEC_URL, (original,))))


def _dac(name: str, about: str, original: str, size: int | None) -> Model:
    tag, file = original.split("/")
    web = Web(f"{_DAC_URL}/{tag}", (File(file),))
    if size is None:  # published there only
        return Model(SPECS[name], about, "MIT", (web,))
    hub = Hub(f"descript/{name}", (File("model.safetensors", about=size),))
    return Model(SPECS[name], about, "MIT", (hub, web))


def _snac(name: str, about: str, size: int, sha256: str, revision: str = "main") -> Model:
    file = File("pytorch_model.bin", about=size, sha256=sha256)
    return Model(SPECS[name], about, "MIT", (Hub(f"hubertsiuzdak/{name}", (file,), revision),))


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            SPECS["nac_24khz"],
            "any sound, small and fast; comes with nac",
            "MIT",
            (
                Packaged(
                    "codecs/builtin",
                    (
                        File(
                            "nac_24khz.safetensors",
                            11_634_204,
                            "dc8491e8edb64ab3a6edb9a745d9bb57015a28d9fa5bd0df07824447237eb272",
                        ),
                    ),
                ),
            ),
        ),
        Model(
            SPECS["soundstream_16khz"],
            "speech at very low bitrates, small and fast (Lyra V2)",
            "Apache-2.0",
            (Web(_LYRA_URL, _LYRA),),
            "e86727a4bc29fbd2",
        ),
        _encodec("encodec_24khz", "speech and music, causal", _ENCODEC_24KHZ, 93_100_000),
        _encodec("encodec_48khz", "music in stereo", File("encodec_48khz-7e698e3e.th", sha256="7e698e3e"), None),
        _dac("dac_16khz", "speech, wide band", "0.0.5/weights_16khz.pth", 297_000_000),
        _dac("dac_24khz", "speech and music, up to high bitrates", "0.0.4/weights_24khz.pth", 299_000_000),
        _dac("dac_44khz", "music, full band", "0.0.1/weights.pth", 307_000_000),
        _dac("dac_44khz_16kbps", "music, full band, twice the bitrate", "1.0.0/weights_44khz_16kbps.pth", None),
        _snac(
            "snac_24khz",
            "speech at about 1 kbit/s; few codes, for language models",
            79_500_000,
            "4b8164cc6606bfa627f1a784734c1e539891518f1191ed9194fe1e3b9b4bff40",
            "d73ad176a12188fcf4f360ba3bf2c2fbbe8f58ec",
        ),
        _snac(
            "snac_32khz",
            "music and sounds at about 2 kbit/s",
            218_000_000,
            "bfee2f057c1e287443786bedab377b5176b430e911417683977b7af71ea3ba65",
        ),
        _snac(
            "snac_44khz",
            "music, full band, at about 2.6 kbit/s",
            218_000_000,
            "b0a676cbdc8d1cc53186f6d777bc956fb7932ceacdc657a4c3741646e9e7ead0",
            "873ebef9718b89660340c6f55a2b515e98cfa1d9",
        ),
    )
}
