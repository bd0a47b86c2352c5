"""The families and models by name: those of nac, and those that installed packages offer.

A package offers a :class:`nac.codecs.family.Family` as an entry point of the group ``nac.codecs``::

    [project.entry-points."nac.codecs"]
    mine = "mine:FAMILY"

They are looked for when a name is none of nac's own, or when all are listed.
"""

from __future__ import annotations

import difflib
import logging
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nac.codecs.base import Codec
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
"""What is registered so far; :func:`models` has all there are."""


def register(family: Family) -> None:
    """Make a family's models known under their names.

    Raises
    ------
    ModelError
        If a name is taken, or a model's specification is of another family.
    """
    if taken := FAMILIES.keys() & {family.name} or MODELS.keys() & {model.name for model in family.models}:
        raise ModelError(f"there already is a codec named {', '.join(sorted(taken))}")
    for model in family.models:
        if model.spec.family != family.name:
            raise ModelError(f"{model.name} says that its family is {model.spec.family!r}, not {family.name!r}")
    FAMILIES[family.name] = family
    MODELS.update({model.name: model for model in family.models})


for _family in OWN:
    register(_family)


def models() -> dict[str, Model]:
    """All models by name, nac's own first."""
    _discover()
    return MODELS


def find(name: str) -> Model:
    """The model of that name. Raises ModelError, with the names that come near."""
    if not isinstance(name, str):
        raise ArgumentTypeError(f"the name of a model is needed, not {name!r}")
    if name in MODELS or name in models():
        return MODELS[name]
    near = difflib.get_close_matches(name.lower(), MODELS, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(MODELS)}"
    raise ModelChoiceError(f"there is no model {name!r}; {hint}")


def family(name: str) -> Family:
    """The family of that name. Raises ModelError for an unknown one."""
    if name not in FAMILIES:
        _discover()
    if name not in FAMILIES:
        raise ModelError(f"there is no family of codecs {name!r}; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def load(spec: CodecSpec, path: Path, device: torch.device | None) -> Codec[Any]:
    """The codec of a specification with weights from a file or a folder, in numpy where ``device`` is None.

    Raises
    ------
    ModelError
        If the family is unknown, or the weights are not those of the model.
    """
    own = family(spec.family)
    codec: Codec[Any]
    if device is not None:
        codec = own.resolve(own.load)(spec, path, device)
    elif own.numpy is not None:
        codec = own.resolve(own.numpy)(spec, path)
    else:
        raise ModelError(f"{spec.name} needs PyTorch: name a device")
    return codec


def random(spec: CodecSpec, device: torch.device | str = "cpu", seed: int = 0) -> tuple[Codec, dict[str, Any]]:
    """The codec of a specification with random weights of official size, and these by their canonical names.

    Raises
    ------
    ModelError
        If the family has no random weights.
    """
    import torch

    own = family(spec.family)
    if own.random is None:
        raise ModelError(f"{spec.name} has no random weights")
    made: tuple[Codec, dict[str, Any]] = own.resolve(own.random)(spec, torch.device(device), seed)
    return made


@cache
def _discover() -> None:
    """Register what installed packages offer. One that fails is reported, and the others go on."""
    for entry in entry_points(group=GROUP):
        try:
            register(_offered(entry))
        except ModelError as error:
            LOG.warning("%s", error)


def _offered(entry: EntryPoint) -> Family:
    try:
        offered = entry.load()
    except Exception as error:  # a package of somebody else's may raise anything
        raise ModelError(f"the codec {entry.value} cannot be imported: {error}") from error
    if not isinstance(offered, Family):
        raise ModelError(f"the codec {entry.value} is not a nac.codecs.family.Family")
    return offered
