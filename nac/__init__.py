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
    from nac.arrays import write_codes
    from nac.codecs.base import Codec, CodecSpec, Codes
    from nac.codecs.tensors import load
    from nac.cutting import cut
    from nac.dataset import Dataset
    from nac.files import compress, decompress, read
    from nac.interop.convert import convert
    from nac.joining import cat
    from nac.nacfile import Info, NacFile, info, read_codes
    from nac.nacfile import NacFile as open
    from nac.output import Result
    from nac.packing import pack
    from nac.patterns import delay, flatten, undelay, unflatten
    from nac.peeling import peel

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
    "cut",
    "decompress",
    "delay",
    "flatten",
    "info",
    "load",
    "open",
    "pack",
    "peel",
    "read",
    "read_codes",
    "undelay",
    "unflatten",
    "write_codes",
]

_HOMES = {
    "Codec": "nac.codecs.base",
    "CodecSpec": "nac.codecs.base",
    "Codes": "nac.codecs.base",
    "Result": "nac.output",
    "cat": "nac.joining",
    "compress": "nac.files",
    "cut": "nac.cutting",
    "Dataset": "nac.dataset",
    "delay": "nac.patterns",
    "flatten": "nac.patterns",
    "undelay": "nac.patterns",
    "unflatten": "nac.patterns",
    "decompress": "nac.files",
    "read": "nac.files",
    "convert": "nac.interop.convert",
    "load": "nac.codecs.tensors",
    "pack": "nac.packing",
    "peel": "nac.peeling",
    "Info": "nac.nacfile",
    "NacFile": "nac.nacfile",
    "info": "nac.nacfile",
    "open": "nac.nacfile",
    "read_codes": "nac.nacfile",
    "write_codes": "nac.arrays",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nac' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), "NacFile" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
