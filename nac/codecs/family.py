"""What the rest of nac knows of a family of codecs: data only, so that reading it imports no network.

To add a family, write one module with its network and one :class:`Family` in :mod:`nac.codecs.families`; a package
of one's own offers its under the entry point group ``nac.codecs``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from nac.codecs.windows import Plan
from nac.spec import CodecSpec


@dataclass(frozen=True)
class File:
    """A file of weights. ``size`` in bytes, ``about`` where it is not known to the byte.

    ``sha256``: hexadecimal, whole or as much of its beginning as is published, else None. ``reported``: the
    SHA-256 that one record has and nobody confirmed, so that another file is taken with a warning.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    about: int | None = None
    reported: str | None = None


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
    """Files in a folder of an installed package; ``folder`` begins with the package's name, with slashes.

    There are no files where the network needs no weights.
    """

    folder: str
    files: tuple[File, ...]

    def __str__(self) -> str:
        return "in the package"


Source = Hub | Web | Packaged


@dataclass(frozen=True)
class Model:
    """A codec and its official weights.

    ``about``: what it is good for. ``sources`` are tried in order. ``decode_plan``: the windows that its decoder
    takes to give the same samples as for the whole signal; None where they are not known, and so its files cannot
    be cut. ``fingerprint``: of the weights (see :mod:`nac.codecs.fingerprint`), where it is known.
    """

    spec: CodecSpec
    about: str
    licence: str
    sources: tuple[Source, ...]
    decode_plan: Plan | None = None
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def size(self) -> int | None:
        """Bytes of the weights, maybe rounded, where published."""
        sizes = [file.size or file.about for file in self.sources[0].files]
        return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass(frozen=True)
class Family:
    """A kind of network and its models. Functions are named ``"module:function"`` and imported on first use.

    Parameters
    ----------
    name
        As in the ``family`` of its models' specifications.
    models
        All its models.
    load
        ``(spec, path, device) -> Codec``: reads weights, a file or a folder;
        raises ModelError where they are not its own.
    numpy
        ``(spec, path) -> Codec``: the same for the processor, computed with numpy's arrays and without PyTorch.
        None where there is no such network.
    random
        ``(spec, device, seed) -> (Codec, tensors)``: random weights of official size, to measure and to test with,
        and these by their canonical names where a reference can take them. None where the official ones always are
        at hand.
    reference
        A subclass of :class:`nac.codecs.reference.Reference`, and ``package``, the name of what it needs on
        PyPI.
    """

    name: str
    models: tuple[Model, ...]
    load: str
    numpy: str | None = None
    random: str | None = None
    reference: str | None = None
    package: str | None = None

    @staticmethod
    def resolve(function: str) -> Callable[..., Any]:
        """What a name ``"module:function"`` stands for."""
        found: Callable[..., Any] = resolve_name(function)
        return found
