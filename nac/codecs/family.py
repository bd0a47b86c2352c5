"""The description of a family of codecs and its models: only data, so that importing it loads no network.

To add a family, write one module with its network and one :class:`Family` in :mod:`nac.codecs.families`; other
packages provide theirs as an entry point of the group ``nac.codecs``.
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
    """A file of weights. ``size``: exact, ``about``: approximate number of bytes.

    ``sha256``: hexadecimal, or its first digits if only those are published, or None. ``reported``: an unconfirmed
    SHA-256 from a single source; a different file causes only a warning.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    about: int | None = None
    reported: str | None = None


@dataclass(frozen=True)
class Hub:
    """Files of a Hugging Face Hub repository, at a pinned revision if one is known."""

    repo: str
    files: tuple[File, ...]
    revision: str = "main"

    def __str__(self) -> str:
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class Web:
    """Files with a common HTTPS address."""

    base: str
    files: tuple[File, ...]

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True)
class Packaged:
    """Files in a folder of an installed package. ``folder``: starts with the package's name, with slashes.

    There are no files if the network needs no weights.
    """

    folder: str
    files: tuple[File, ...]

    def __str__(self) -> str:
        return "in the package"


WeightsSource = Hub | Web | Packaged


@dataclass(frozen=True)
class Model:
    """A codec and its official weights.

    ``about``: a short description. ``sources`` are tried in order. ``decode_plan``: the windows with which its
    decoder returns the same samples as for the whole signal; None if unknown, then its files cannot be cut.
    ``fingerprint``: that of the weights (see :mod:`nac.codecs.fingerprint`), if known.
    """

    spec: CodecSpec
    about: str
    licence: str
    sources: tuple[WeightsSource, ...]
    decode_plan: Plan | None = None
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def size(self) -> int | None:
        """The size of the weights in bytes, maybe approximate, or None if unknown."""
        sizes = [file.size or file.about for file in self.sources[0].files]
        return None if None in sizes else sum(size or 0 for size in sizes)


@dataclass(frozen=True)
class Family:
    """A type of network and its models. Functions are given as ``"module:function"`` and imported on first use.

    Parameters
    ----------
    name
        The name, which is also the ``family`` in its models' specifications.
    models
        All models of the family.
    load
        ``(spec, path, device) -> Codec``: loads weights from a file or a folder; raises ModelError for other
        weights.
    numpy
        ``(spec, path) -> Codec``: the same for an implementation in numpy, without PyTorch; None if there is none.
    random
        ``(spec, device, seed) -> (Codec, tensors)``: random weights of official size, for measurements and tests,
        and these by their canonical names if a reference can use them. None if the official weights are always
        available.
    reference, package
        A subclass of :class:`nac.codecs.reference.Reference`, and the PyPI package that it needs.
    fast
        Where decoding in half precision is worthwhile: "gpu", "cpu". If it is anywhere, ``load`` and ``random``
        take ``fast=True``.
    """

    name: str
    models: tuple[Model, ...]
    load: str
    numpy: str | None = None
    random: str | None = None
    reference: str | None = None
    package: str | None = None
    fast: tuple[str, ...] = ()

    @staticmethod
    def resolve(function: str) -> Callable[..., Any]:
        """Import the function ``"module:function"``."""
        found: Callable[..., Any] = resolve_name(function)
        return found
