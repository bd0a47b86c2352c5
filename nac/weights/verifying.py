"""Verify files of weights: against the published SHA-256, or else that of their first use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nac.codecs.family import File, Hub, Model, Packaged
from nac.errors import ModelError, Remedy
from nac.weights import cache
from nac.weights.finding import Local, first_use_key


@dataclass(frozen=True)
class Verified:
    """A verified file of weights. ``against``: the SHA-256 that it was compared with, such as "published"."""

    path: Path
    size: int
    sha256: str
    against: str


class WrongWeights(ModelError):
    """Weights that are not the official ones of the model."""


def verify(model: Model, local: Local, *, fresh: bool = False) -> list[Verified]:
    """Verify all files of a model. Raises WrongWeights. ``fresh``: hash them even if that was done before."""
    if local.source is None:
        return []
    return [
        _verify_file(model, local, file, path, cache.sha256(path, fresh=fresh))
        for file, path in zip(local.source.files, local.paths, strict=True)
    ]


def _verify_file(model: Model, local: Local, file: File, path: Path, digest: str) -> Verified:
    size, against = path.stat().st_size, "nothing published"
    if isinstance(local.source, Hub) and not local.own and local.revision != local.source.revision:
        file = File(file.name)  # the known SHA-256 is that of the pinned revision
    if file.sha256:
        if not digest.startswith(file.sha256):
            found = f"{path} has SHA-256 {digest}, not the published {file.sha256}"
            raise _wrong(f"{found}: damaged, or not the weights of {model.name}", model, local)
        if file.sha256 == digest:
            return Verified(path, size, digest, "published")
        against = "published in part"
    elif file.reported == digest:
        against = "reported once"
    elif file.reported:
        message = "%s has SHA-256 %s, not %s, which was reported once but is not confirmed: used anyway"
        cache.log.warning(message, path, digest, file.reported)
    if not local.own and not isinstance(local.source, Packaged):
        _check_first_use(model, local, path, digest)
        against = against if file.reported == digest else "first use"
    return Verified(path, size, digest, against)


def _wrong(message: str, model: Model, local: Local) -> WrongWeights:
    """Return the error for wrong weights, with a remedy."""
    if isinstance(local.source, Packaged) and not local.own:
        return WrongWeights(f"{message}; reinstall nac")
    return WrongWeights(message, remedy="weights" if local.own else "download_again", model=model.name)


def _check_first_use(model: Model, local: Local, path: Path, digest: str) -> None:
    """Raise WrongWeights if weights without a published SHA-256 have changed since their first use."""
    key = origin = first_use_key(model, local, path)
    remedy: Remedy = ""
    advice = f"; to accept it, delete the entry in {cache.folder() / 'first-use.json'}"
    if isinstance(local.source, Hub):
        origin, advice, remedy = f"{local.source.repo} at {path.parent.name}", "", "revision"
    known = cache.first_use(key)
    if known is None:
        cache.record_first_use(key, digest, origin)
    elif known[0] != digest:
        found = f"{path.name} of {model.name} has SHA-256 {digest} ({origin})"
        raise WrongWeights(
            f"{found}, but on first use it had {known[0]} ({known[1]}): refused{advice}", remedy=remedy
        )
