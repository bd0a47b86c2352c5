"""The reference implementations, where their packages are installed: to measure and to test against."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from torch import Tensor, nn

from nac.codecs import registry
from nac.codecs.reference import Reference
from nac.errors import ModelError


def build(name: str) -> nn.Module:
    """The reference network at its official size, with whatever weights its package starts from.

    Raises ModelError where there is none, or its package is not installed.
    """
    return kind(name).network(registry.find(name).spec).eval()


def reference(name: str, tensors: Mapping[str, Tensor]) -> Reference:
    """The reference of a model with the weights of a network of ours. Raises ModelError as :func:`build` does."""
    return kind(name)(build(name), tensors)


def kind(name: str) -> type[Reference]:
    """The class of a model's reference. Raises ModelError as :func:`build` does."""
    family = registry.family(registry.find(name).spec.family)
    if family.reference is None or family.package is None:
        raise ModelError(f"{name} has no reference implementation that installs as a package")
    if find_spec(family.package) is None:
        raise ModelError(f"the reference of {name} is not installed: pip install {family.package}")
    found: type[Reference] = family.resolve(family.reference)  # type: ignore[assignment]
    return found
