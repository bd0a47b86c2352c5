"""nac compresses audio with neural codecs.

    >>> import nac
    >>> nac.compress("song.wav", "song.nac", kbps=8)
    >>> samples, sample_rate = nac.read("song.nac", start=10, duration=5)

PyTorch is imported when a network is first needed, not before: `open`, `info` and `read_codes` do without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nac.errors import AudioError, DamageError, FormatError, ModelError, NacError
from nac.version import __version__

if TYPE_CHECKING:
    from nac.codecs.base import Codec, Codes
    from nac.files.codes import read_codes
    from nac.files.conversion import compress, decompress, read
    from nac.files.cutting import cut
    from nac.files.info import Info, info
    from nac.files.joining import cat
    from nac.files.memory import decode, encode, write
    from nac.files.nacfile import NacFile
    from nac.files.nacfile import NacFile as open
    from nac.files.peeling import peel
    from nac.interop.arrays import convert_codes
    from nac.interop.codes import decode_codes, write_codes
    from nac.interop.convert import convert
    from nac.spec import CodecSpec
    from nac.storage.output import Result
    from nac.training.dataset import Dataset
    from nac.training.packing import pack
    from nac.training.patterns import delay, flatten, undelay, unflatten
    from nac.weights.loading import load, models

__all__ = [
    "AudioError",
    "Codec",
    "CodecSpec",
    "Codes",
    "DamageError",
    "Dataset",
    "FormatError",
    "Info",
    "ModelError",
    "NacError",
    "NacFile",
    "Result",
    "__version__",
    "cat",
    "compress",
    "convert",
    "convert_codes",
    "cut",
    "decode",
    "decode_codes",
    "decompress",
    "delay",
    "encode",
    "flatten",
    "info",
    "load",
    "models",
    "open",
    "pack",
    "peel",
    "read",
    "read_codes",
    "undelay",
    "unflatten",
    "write",
    "write_codes",
]

_HOMES = {
    "Codec": "nac.codecs.base",
    "CodecSpec": "nac.spec",
    "Codes": "nac.codecs.base",
    "Result": "nac.storage.output",
    "cat": "nac.files.joining",
    "compress": "nac.files.conversion",
    "cut": "nac.files.cutting",
    "Dataset": "nac.training.dataset",
    "delay": "nac.training.patterns",
    "flatten": "nac.training.patterns",
    "undelay": "nac.training.patterns",
    "unflatten": "nac.training.patterns",
    "decompress": "nac.files.conversion",
    "read": "nac.files.conversion",
    "decode": "nac.files.memory",
    "encode": "nac.files.memory",
    "write": "nac.files.memory",
    "convert": "nac.interop.convert",
    "load": "nac.weights.loading",
    "models": "nac.weights.loading",
    "pack": "nac.training.packing",
    "peel": "nac.files.peeling",
    "Info": "nac.files.info",
    "NacFile": "nac.files.nacfile",
    "info": "nac.files.info",
    "open": "nac.files.nacfile",
    "read_codes": "nac.files.codes",
    "convert_codes": "nac.interop.arrays",
    "decode_codes": "nac.interop.codes",
    "write_codes": "nac.interop.codes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nac' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), "NacFile" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
