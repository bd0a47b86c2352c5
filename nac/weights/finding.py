"""Find weights on this machine: in a folder of the user's, in a cache, or in an installed package."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from nac.codecs import registry
from nac.codecs.family import Hub, Model, Packaged, WeightsSource
from nac.errors import ModelError, WeightsMissing
from nac.weights import cache
from nac.weights import download as fetch


@dataclass(frozen=True)
class Local:
    """Weights on this machine: the path for the loader, and the single files if they have a source's names."""

    path: Path
    source: WeightsSource | None = None
    paths: tuple[Path, ...] = ()
    revision: str = ""  # the requested one
    own: bool = False  # the user's folder, not a cache


def find_local(model: Model, weights: Path | None, revision: str | None, *, sure: bool = False) -> Local | None:
    """Find a model's weights: the given ones, else those in ``NAC_WEIGHTS``, else those in the cache.

    ``sure``: see :func:`_own`. Raises ModelError if ``weights`` or ``NAC_WEIGHTS`` does not exist.
    """
    if weights is not None:
        if revision is not None:
            raise ModelError(
                "a revision applies to weights from the Hub: it cannot be combined with your own weights"
            )
        if not weights.exists():
            raise WeightsMissing(f"no weights at {weights}")
        return Local(weights, own=True)
    # Revisions exist on the Hub; those of files in NAC_WEIGHTS are unknown.
    own = _own(model, sure) if revision is None else None
    return own or find_cached(model, revision)


def require_local(model: Model, revision: str | None) -> Local:
    """Find a model's weights, or raise ModelError."""
    local = find_local(model, None, revision)
    if local is None:
        raise missing(model)
    return local


def missing(model: Model) -> ModelError:
    """Return the error for a model without weights on this machine."""
    return WeightsMissing(
        f"the weights of {model.name} are not on this machine", remedy="download", model=model.name
    )


def _own(model: Model, sure: bool) -> Local | None:
    """Find weights in ``NAC_WEIGHTS``: a folder with this model's files, or a folder of such folders.

    ``sure``: ignore files whose names are also those of another model, since many are called model.safetensors.
    """
    if not (setting := os.environ.get("NAC_WEIGHTS")):
        return None
    root = Path(setting).expanduser()
    if not root.is_dir():
        raise ModelError(f"NAC_WEIGHTS is {root}, which is not a folder")
    folder = root / model.name
    if folder.is_dir() and any(folder.iterdir()):
        # The loader may know the layout of files without the official names.
        return _in_folder(model, folder) or Local(folder, own=True)
    if root.name in registry.models() and root.name != model.name:
        return None
    local = _in_folder(model, root)
    return None if local and sure and root.name != model.name and _ambiguous(local) else local


def _in_folder(model: Model, folder: Path) -> Local | None:
    for source in model.sources:
        paths = tuple(folder / file.name for file in source.files)
        if all(path.is_file() for path in paths):
            return Local(_entry(paths), source, paths, own=True)
    return None


def _ambiguous(local: Local) -> bool:
    names = [path.name for path in local.paths]
    sources = [source for model in registry.models().values() for source in model.sources]
    return sum(names == [file.name for file in source.files] for source in sources) > 1


def _entry(paths: tuple[Path, ...]) -> Path:
    """Return the path for the loader: a single file, or the folder of several files."""
    return paths[0] if len(paths) == 1 else paths[0].parent


def find_cached(model: Model, revision: str | None) -> Local | None:
    """Find a model's weights in the cache, or in an installed package."""
    for source in sources(model, revision):
        local = in_cache(model, source, revision)
        if local and (source in model.sources or _is_known(model, local)):
            return local
    return None


def _is_known(model: Model, local: Local) -> bool:
    """Return whether files from the Hub's main have the published SHA-256, or else that of their first use."""
    assert local.source
    for file, path in zip(local.source.files, local.paths, strict=True):
        digest, recorded = cache.sha256(path), cache.first_use(first_use_key(model, local, path))
        if not digest.startswith(file.sha256 or (recorded[0] if recorded else "none")):
            return False
    return True


def sources(model: Model, revision: str | None) -> tuple[WeightsSource, ...]:
    """Return the sources in order. A pinned revision of the Hub is followed by main, if the Hub has it no more."""
    if revision is None:
        found: list[WeightsSource] = []
        for source in model.sources:
            found += [source, replace(source, revision="main")] if isinstance(source, Hub) else [source]
        return tuple(dict.fromkeys(found))
    hubs = tuple(source for source in model.sources if isinstance(source, Hub))
    if not hubs:
        raise ModelError(f"{model.name} has no revisions, because it is not from the Hub")
    return hubs


def in_cache(model: Model, source: WeightsSource, revision: str | None) -> Local | None:
    """Find the weights from one source, if all of its files are there."""
    if isinstance(source, Hub):
        revision = revision or source.revision
        paths = tuple(fetch.hub_cached(source.repo, file.name, revision) for file in source.files)
    elif isinstance(source, Packaged):
        paths = tuple(_package(source) / file.name for file in source.files)
    else:
        paths = tuple(cache.folder() / "models" / model.name / file.name for file in source.files)
    existing = tuple(path for path in paths if path and path.is_file())
    if not paths and isinstance(source, Packaged):  # the network needs no weights
        return Local(_package(source), source)
    return Local(_entry(existing), source, existing, revision or "") if len(existing) == len(paths) else None


def _package(source: Packaged) -> Path:
    """Return the path of a source's folder in an installed package."""
    package, _, folder = source.folder.partition("/")
    spec = find_spec(package)
    assert spec is not None, package
    assert spec.origin is not None, package
    return Path(spec.origin).parent / folder


def first_use_key(model: Model, local: Local, path: Path) -> str:
    """Return the name under which a file's SHA-256 is recorded when it is first used."""
    hub = isinstance(local.source, Hub)
    return f"{model.name}@{local.revision}/{path.name}" if hub else f"{local.source}/{path.name}"
