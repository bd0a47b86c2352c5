"""The reference implementations of installed packages, for measurements and tests."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from torch import Tensor, nn

from nac.codecs import registry
from nac.codecs.reference import Reference
from nac.errors import ModelError


def build(name: str) -> nn.Module:
    """Make the reference network of a model at its official size, with its package's initial weights.

    Raises ModelError if there is none, or its package is not installed.
    """
    return kind(name).network(registry.find(name).spec).eval()


def reference(name: str, tensors: Mapping[str, Tensor]) -> Reference:
    """Make the reference of a model with the weights of nac's network. Raises ModelError like :func:`build`."""
    return kind(name)(build(name), tensors)


def kind(name: str) -> type[Reference]:
    """Return the class of a model's reference. Raises ModelError like :func:`build`."""
    family = registry.family(registry.find(name).spec.family)
    if family.reference is None or family.package is None:
        raise ModelError(f"{name} has no reference implementation in a package")
    if find_spec(family.package) is None:
        raise ModelError(f"the reference of {name} is not installed: pip install {family.package}")
    found: type[Reference] = family.resolve(family.reference)  # type: ignore[assignment]
    return found
