"""Find, download, verify and load the weights of models.

Weights are searched in this order: ``weights=``, the folder ``NAC_WEIGHTS``, the cache. A model's name means its
official weights, so files in ``NAC_WEIGHTS`` or in the cache are refused unless they have the published SHA-256.
``weights=`` accepts any checkpoint; its fingerprint distinguishes it.

Files from the Hub are in huggingface_hub's cache and depend on its variables: ``HF_HOME``, ``HF_ENDPOINT``,
``HF_TOKEN``, ``HF_HUB_OFFLINE`` (which also disables other downloads). Other files are in ``NAC_CACHE`` (see
:mod:`nac.weights.cache`). If ``NAC_MIRROR`` is set, they are from ``NAC_MIRROR/MODEL/FILE``: a web server
with a folder for each model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nac.bitrate import allocate, default_kbps
from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.families import BEST_FIRST
from nac.codecs.family import File, Hub, Model, Packaged, Source, Web
from nac.codecs.registry import find
from nac.errors import ModelChoiceError, ModelError, Remedy, WeightsMissing, what
from nac.weights import cache
from nac.weights import download as fetch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Status:
    """A model and its weights. ``size`` in bytes, ``kbps``: lowest and highest of one stream, in kbit/s.

    ``path`` is None if the weights are missing. ``fingerprint`` is that of the weights when they were last loaded,
    or empty.
    """

    name: str
    about: str
    sample_rate: int
    channels: int
    kbps: tuple[float, float]
    size: int | None
    licence: str
    source: str
    path: Path | None
    fingerprint: str

    @property
    def present(self) -> bool:
        return self.path is not None


@dataclass(frozen=True)
class Verified:
    """A verified file of weights. ``against``: the SHA-256 that it was compared with, such as "published"."""

    path: Path
    size: int
    sha256: str
    against: str


class WrongWeights(ModelError):
    """Weights that are not the official ones of the model."""


@dataclass(frozen=True)
class _Local:
    """Weights on this machine: the path for the loader, and the single files if they have a source's names."""

    path: Path
    source: Source | None = None
    paths: tuple[Path, ...] = ()
    revision: str = ""  # the requested one
    own: bool = False  # the user's folder, not a cache


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    revision: str | None = None,
    download: bool = True,
    progress: bool = False,
) -> Codec[Any]:
    """Load a codec like :func:`nac.load`, but with its own array type, which may be that of numpy."""
    device = str(device)
    model = find(name)
    local = _local(model, Path(weights) if weights is not None else None, revision)
    if local:
        _verify(model, local)
    elif not download:
        raise _absent(model)
    # A network implemented in numpy gains little from a GPU, and needs no PyTorch on the CPU.
    in_numpy = registry.family(model.spec.family).numpy is not None and device in ("auto", "cpu")
    target = None if in_numpy else resolve_device(device)  # before a long download, in case it is invalid
    local = local or _download(model, revision, progress)
    codec = registry.load(model.spec, local.path, target)
    if not local.own:
        cache.record_fingerprint(name, codec.spec.fingerprint)
    return codec


def resolve_device(name: str) -> torch.device:
    """Return the device: "auto" (CUDA if available, else CPU), "cpu", "cuda", "cuda:N" or "mps" (Apple's).

    Raises ModelError.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and (kind != "cuda" or not number.isdecimal())):
        raise ModelChoiceError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelChoiceError("no Metal device, or PyTorch is built without Metal")
    if kind != "cuda":
        return torch.device(kind)
    if not torch.cuda.is_available():
        raise ModelChoiceError("no CUDA device, or PyTorch is built without CUDA")
    if int(number or 0) >= torch.cuda.device_count():
        raise ModelChoiceError(f"no CUDA device {number}: there are {torch.cuda.device_count()}, counted from 0")
    # TF32 would round activations to 10 bits, so codes would depend on the device.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def locate(name: str, weights: Path | None = None, revision: str | None = None) -> Path | None:
    """Return the path of a model's weights on this machine, a file or a folder, or None. Never uses the network.

    Raises ModelError if ``weights`` or ``NAC_WEIGHTS`` does not exist.
    """
    local = _local(find(name), weights, revision)
    return local.path if local else None


def path(name: str, revision: str | None = None) -> Path:
    """Return the path like :func:`locate`, but raise ModelError if the weights are missing."""
    return _present(find(name), revision).path


def present() -> list[str]:
    """Return the names of the models whose weights are on this machine."""
    return [line.name for line in status() if line.present]


def choose(channels: int, *, kbps: float | None = None, codebooks: int | None = None) -> str:
    """Choose the best model on this machine for a number of channels and a total bitrate in kbit/s.

    Raises ModelError if there is no model, or none has such a low bitrate.
    """
    available = present()
    if not available:
        raise ModelError("no model's weights are on this machine", remedy="download")
    rate = (default_kbps(channels) if kbps is None else kbps) / channels
    best = next((names for least, names in BEST_FIRST if rate >= least), ())
    failure = None
    for name in sorted(available, key=lambda name: best.index(name) if name in best else len(best)):
        try:
            allocate(find(name).spec, channels, kbps=kbps, codebooks=codebooks)
        except ModelError as error:
            failure = failure or error
        else:
            return name
    assert failure is not None
    raise failure


def status() -> list[Status]:
    """Return the status of every model, without hashing any file."""
    return [_status(model) for model in registry.models().values()]


def download(name: str, *, revision: str | None = None, progress: bool = False) -> Path:
    """Download a model's weights into the cache, unless they are there, and verify them. Returns their path.

    Raises ModelError; wrong files are then deleted from the cache.
    """
    return _download(find(name), revision, progress).path


def verify(name: str, revision: str | None = None) -> list[Verified]:
    """Hash all files of a model. Raises ModelError if one is missing or has the wrong SHA-256.

    The list is empty for files in ``NAC_WEIGHTS`` that do not have the official names.
    """
    model = find(name)
    return _verify(model, _present(model, revision), fresh=True)


def remove(name: str) -> int:
    """Delete all revisions of a model's files from the caches. Returns the bytes freed, 0 if there were none.

    The record of their first use is kept, so that different weights of the same name are noticed later. Raises
    ModelError if the weights are not in a cache.
    """
    model = find(name)
    with cache.lock(name):
        try:
            freed = fetch.web_remove(cache.folder() / "models" / name)
            for source in model.sources:
                if isinstance(source, Hub):
                    freed += sum(fetch.hub_remove(source.repo, file.name) for file in source.files)
        except OSError as error:
            raise ModelError(f"cannot delete the weights of {name}: {what(error)}") from error
    local = _local(model, None, None)
    if local and not freed:
        raise ModelError(f"the weights of {name} are not in a cache but in {local.path}: not deleted")
    return freed


# Finding


def _local(model: Model, weights: Path | None, revision: str | None, *, sure: bool = False) -> _Local | None:
    if weights is not None:
        if revision is not None:
            raise ModelError(
                "a revision applies to weights from the Hub: it cannot be combined with your own weights"
            )
        if not weights.exists():
            raise WeightsMissing(f"no weights at {weights}")
        return _Local(weights, own=True)
    # Revisions exist on the Hub; those of files in NAC_WEIGHTS are unknown.
    own = _own(model, sure) if revision is None else None
    return own or _cached(model, revision)


def _present(model: Model, revision: str | None) -> _Local:
    local = _local(model, None, revision)
    if local is None:
        raise _absent(model)
    return local


def _absent(model: Model) -> ModelError:
    return WeightsMissing(
        f"the weights of {model.name} are not on this machine", remedy="download", model=model.name
    )


def _own(model: Model, sure: bool) -> _Local | None:
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
        return _in_folder(model, folder) or _Local(folder, own=True)
    if root.name in registry.models() and root.name != model.name:
        return None
    local = _in_folder(model, root)
    return None if local and sure and root.name != model.name and _ambiguous(local) else local


def _in_folder(model: Model, folder: Path) -> _Local | None:
    for source in model.sources:
        paths = tuple(folder / file.name for file in source.files)
        if all(path.is_file() for path in paths):
            return _Local(_entry(paths), source, paths, own=True)
    return None


def _ambiguous(local: _Local) -> bool:
    names = [path.name for path in local.paths]
    sources = [source for model in registry.models().values() for source in model.sources]
    return sum(names == [file.name for file in source.files] for source in sources) > 1


def _entry(paths: tuple[Path, ...]) -> Path:
    """Return the path for the loader: a single file, or the folder of several files."""
    return paths[0] if len(paths) == 1 else paths[0].parent


def _cached(model: Model, revision: str | None) -> _Local | None:
    for source in _sources(model, revision):
        local = _in_cache(model, source, revision)
        if local and (source in model.sources or _is_known(model, local)):
            return local
    return None


def _is_known(model: Model, local: _Local) -> bool:
    """Return whether files from the Hub's main have the published SHA-256, or else that of their first use."""
    assert local.source
    for file, path in zip(local.source.files, local.paths, strict=True):
        digest, recorded = cache.sha256(path), cache.first_use(_first_use_key(model, local, path))
        if not digest.startswith(file.sha256 or (recorded[0] if recorded else "none")):
            return False
    return True


def _sources(model: Model, revision: str | None) -> tuple[Source, ...]:
    """Return the sources in order. A pinned revision of the Hub is followed by main, if the Hub has it no more."""
    if revision is None:
        found: list[Source] = []
        for source in model.sources:
            found += [source, replace(source, revision="main")] if isinstance(source, Hub) else [source]
        return tuple(dict.fromkeys(found))
    hubs = tuple(source for source in model.sources if isinstance(source, Hub))
    if not hubs:
        raise ModelError(f"{model.name} has no revisions, because it is not from the Hub")
    return hubs


def _in_cache(model: Model, source: Source, revision: str | None) -> _Local | None:
    if isinstance(source, Hub):
        revision = revision or source.revision
        paths = tuple(fetch.hub_cached(source.repo, file.name, revision) for file in source.files)
    elif isinstance(source, Packaged):
        paths = tuple(_package(source) / file.name for file in source.files)
    else:
        paths = tuple(cache.folder() / "models" / model.name / file.name for file in source.files)
    existing = tuple(path for path in paths if path and path.is_file())
    if not paths and isinstance(source, Packaged):  # the network needs no weights
        return _Local(_package(source), source)
    return _Local(_entry(existing), source, existing, revision or "") if len(existing) == len(paths) else None


def _package(source: Packaged) -> Path:
    """Return the path of a source's folder in an installed package."""
    package, _, folder = source.folder.partition("/")
    spec = find_spec(package)
    assert spec is not None, package
    assert spec.origin is not None, package
    return Path(spec.origin).parent / folder


def _status(model: Model) -> Status:
    local = _local(model, None, None, sure=True)
    spec = model.spec
    return Status(
        name=model.name,
        about=model.about,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        kbps=(spec.kbps(1), spec.kbps(len(spec.codebooks))),
        size=sum(path.stat().st_size for path in local.paths) if local and local.paths else model.size,
        licence=model.licence,
        source=str(local.source if local and local.source else model.sources[0]),
        path=local.path if local else None,
        fingerprint=cache.fingerprint(model.name),
    )


# Downloading


def _download(model: Model, revision: str | None, progress: bool) -> _Local:
    if local := _intact(model, revision):
        return local
    if fetch.offline():
        raise ModelError(
            f"HF_HUB_OFFLINE is set, and the weights of {model.name} are not on this machine", remedy="offline"
        )
    failures: list[fetch.Unavailable] = []
    with cache.lock(model.name):
        if local := _intact(model, revision):  # another process was faster
            return local
        for source in _sources(model, revision):
            fallback = revision is None and source not in model.sources
            if fallback and not isinstance(failures[-1], fetch.UnknownRevision):
                continue
            if failures:
                where = f"the main revision of {source}" if fallback else source
                cache.log.warning("%s: %s; trying %s", model.name, failures[-1], where)
            try:
                return _fetch(model, source, revision, progress)
            except fetch.Unavailable as error:
                failures.append(error)
    raise ModelError(f"cannot download {model.name}: {'; '.join(map(str, failures))}", remedy="offline")


def _intact(model: Model, revision: str | None) -> _Local | None:
    """Return the cached weights if they have the right SHA-256."""
    local = _cached(model, revision)
    try:
        return local if local and _verify(model, local) else None
    except WrongWeights:
        return None


def _fetch(model: Model, source: Source, revision: str | None, progress: bool) -> _Local:
    if isinstance(source, Hub) and (damaged := _in_cache(model, source, revision)):
        _discard(damaged)
    for file in source.files:
        _fetch_file(model, source, file, revision, progress)
    local = _in_cache(model, source, revision)
    if local is None:
        raise ModelError(f"the weights of {model.name} were downloaded, but are not in the cache")
    try:
        _verify(model, local)
    except WrongWeights:
        _discard(local)
        raise
    return local


def _fetch_file(model: Model, source: Source, file: File, revision: str | None, progress: bool) -> None:
    if isinstance(source, Hub):
        revision = revision or source.revision
        sha256 = file.sha256 if revision == source.revision else None
        fetch.hub(source.repo, file.name, revision, sha256=sha256, progress=progress)
    elif isinstance(source, Web):
        mirror = os.environ.get("NAC_MIRROR")
        base = f"{mirror.rstrip('/')}/{model.name}" if mirror else source.base
        target = cache.folder() / "models" / model.name / file.name
        if not (file.sha256 and target.exists() and cache.sha256(target).startswith(file.sha256)):
            fetch.web(f"{base}/{file.name}", target, size=file.size, sha256=file.sha256, progress=progress)
    else:
        raise fetch.Unavailable(f"{file.name} is missing in the package: reinstall it")


def _discard(local: _Local) -> None:
    for path in local.paths:
        if isinstance(local.source, Hub):
            fetch.hub_discard(path)
        elif isinstance(local.source, Web):
            path.unlink(missing_ok=True)


# Verifying


def _verify(model: Model, local: _Local, *, fresh: bool = False) -> list[Verified]:
    if local.source is None:
        return []
    return [
        _verify_file(model, local, file, path, cache.sha256(path, fresh=fresh))
        for file, path in zip(local.source.files, local.paths, strict=True)
    ]


def _verify_file(model: Model, local: _Local, file: File, path: Path, digest: str) -> Verified:
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


def _wrong(message: str, model: Model, local: _Local) -> WrongWeights:
    """Return the error for wrong weights, with a remedy."""
    if isinstance(local.source, Packaged) and not local.own:
        return WrongWeights(f"{message}; reinstall nac")
    return WrongWeights(message, remedy="weights" if local.own else "download_again", model=model.name)


def _check_first_use(model: Model, local: _Local, path: Path, digest: str) -> None:
    """Raise WrongWeights if the weights, whose SHA-256 is not published, have changed since their first use."""
    key = origin = _first_use_key(model, local, path)
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


def _first_use_key(model: Model, local: _Local, path: Path) -> str:
    hub = isinstance(local.source, Hub)
    return f"{model.name}@{local.revision}/{path.name}" if hub else f"{local.source}/{path.name}"
