"""The families and models by name: those of nac, and those of installed packages.

A package provides a :class:`nac.codecs.family.Family` as an entry point of the group ``nac.codecs``::

    [project.entry-points."nac.codecs"]
    mine = "mine:FAMILY"

Entry points are loaded when a name is not one of nac's, or when all models are listed.
"""

from __future__ import annotations

import difflib
import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nac.codecs.base import Codec
from nac.codecs.devices import is_gpu
from nac.codecs.families import FAMILIES as OWN
from nac.codecs.family import Family, Model
from nac.errors import ArgumentTypeError, ModelChoiceError, ModelError
from nac.spec import CodecSpec

if TYPE_CHECKING:
    import torch

GROUP = "nac.codecs"
LOG = logging.getLogger("nac")

FAMILIES: dict[str, Family] = {}
MODELS: dict[str, Model] = {}
"""The registered families and models; :func:`models` also loads those of installed packages."""


def register(family: Family) -> None:
    """Register a family and its models.

    Raises
    ------
    ModelError
        If a name is already in use, or a model's specification names another family.
    """
    if taken := FAMILIES.keys() & {family.name} or MODELS.keys() & {model.name for model in family.models}:
        raise ModelError(f"a codec named {', '.join(sorted(taken))} is already registered")
    for model in family.models:
        if model.spec.family != family.name:
            raise ModelError(
                f"the specification of {model.name} has family {model.spec.family!r}, not {family.name!r}"
            )
    FAMILIES[family.name] = family
    MODELS.update({model.name: model for model in family.models})


for _family in OWN:
    register(_family)


def models() -> dict[str, Model]:
    """Return all models by name, nac's own first."""
    _discover()
    return MODELS


def find(name: str) -> Model:
    """Return the model with this name. Raises ModelError, which suggests similar names."""
    if not isinstance(name, str):
        raise ArgumentTypeError(f"a model's name is needed, not {name!r}")
    if name in MODELS or name in models():
        return MODELS[name]
    near = difflib.get_close_matches(name.lower(), MODELS, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(MODELS)}"
    raise ModelChoiceError(f"unknown model {name!r}: {hint}")


def family(name: str) -> Family:
    """Return the family with this name. Raises ModelError if it is unknown."""
    if name not in FAMILIES:
        _discover()
    if name not in FAMILIES:
        raise ModelError(f"unknown family of codecs {name!r}: known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def load(spec: CodecSpec, path: Path, device: torch.device | None, *, fast: bool = False) -> Codec[Any]:
    """Load the codec of a specification with weights from a file or a folder; in numpy if ``device`` is None.

    ``fast``: decode in half precision, for families that can.

    Raises
    ------
    ModelError
        If the family is unknown, or the weights are not those of the model.
    """
    own = family(spec.family)
    codec: Codec[Any]
    if device is not None:
        codec = own.resolve(own.load)(spec, path, device, **_precision(own, device, fast=fast))
    elif own.numpy is not None:
        codec = own.resolve(own.numpy)(spec, path)
    else:
        raise ModelError(f"{spec.name} has no implementation in numpy: give a device")
    return codec


def random(
    spec: CodecSpec, device: torch.device | str = "cpu", seed: int = 0, *, fast: bool = False
) -> tuple[Codec, dict[str, Any]]:
    """Make the codec of a specification with random weights. Returns it and the weights by canonical names.

    Raises
    ------
    ModelError
        If the family has no random weights.
    """
    import torch

    own = family(spec.family)
    if own.random is None:
        raise ModelError(f"{spec.name} has no random weights")
    device = torch.device(device)
    made: tuple[Codec, dict[str, Any]] = own.resolve(own.random)(
        spec, device, seed, **_precision(own, device, fast=fast)
    )
    return made


def _precision(own: Family, device: torch.device, *, fast: bool) -> dict[str, bool]:
    """Return the argument for half precision, if the family has it on the device."""
    return {"fast": True} if fast and ("gpu" if is_gpu(device) else "cpu") in own.fast else {}


@cache
def _discover() -> None:
    """Register the families of installed packages. Failures are logged."""
    for entry in entry_points(group=GROUP):
        try:
            register(_loaded(entry))
        except ModelError as error:
            LOG.warning("%s", error)


def _loaded(entry: EntryPoint) -> Family:
    try:
        found = entry.load()
    except Exception as error:  # another package may raise anything
        raise ModelError(f"the codec {entry.value} cannot be imported: {error}") from error
    if not isinstance(found, Family):
        raise ModelError(f"the codec {entry.value} is not a nac.codecs.family.Family")
    return found
