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

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nac.bitrate import allocate, default_kbps
from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.families import BEST_FIRST, BY_BAND
from nac.codecs.family import File, Hub, Model, Web, WeightsSource
from nac.codecs.registry import find
from nac.errors import ModelChoiceError, ModelError, what
from nac.weights import cache, finding, precision, verifying
from nac.weights import download as fetch
from nac.weights.finding import Local
from nac.weights.verifying import Verified, WrongWeights

if TYPE_CHECKING:
    import torch

log = logging.getLogger("nac")


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


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    revision: str | None = None,
    download: bool = True,
    progress: bool = False,
    fast: bool = False,
) -> Codec[Any]:
    """Load a codec like :func:`nac.load`, but with its own array type, which may be that of numpy."""
    device = str(device)
    model = find(name)
    local = finding.find_local(model, Path(weights) if weights is not None else None, revision)
    if local:
        verifying.verify(model, local)
    elif not download:
        raise finding.missing(model)
    # A network implemented in numpy gains little from a GPU, and needs no PyTorch on the CPU.
    in_numpy = registry.family(model.spec.family).numpy is not None and device in ("auto", "cpu")
    target = None if in_numpy else resolve_device(device)  # before a long download, in case it is invalid
    local = local or _download(model, revision, progress)
    if fast and (why := precision.why_exact(model.spec, target)):
        log.warning("%s: decoding in full precision, %s", name, why)
        fast = False
    codec = registry.load(model.spec, local.path, target, fast=fast)
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
    local = finding.find_local(find(name), weights, revision)
    return local.path if local else None


def path(name: str, revision: str | None = None) -> Path:
    """Return the path like :func:`locate`, but raise ModelError if the weights are missing."""
    return finding.require_local(find(name), revision).path


def present() -> list[str]:
    """Return the names of the models whose weights are on this machine."""
    return [line.name for line in status() if line.present]


def choose(channels: int, sample_rate: int, *, kbps: float | None = None, codebooks: int | None = None) -> str:
    """Choose the best model on this machine for a recording and a total bitrate in kbit/s.

    Of the models in the package, the first that has the recording's whole bandwidth. Raises ModelError if there is
    no model, or none has such a low bitrate.
    """
    available = present()
    if not available:
        raise ModelError("no model's weights are on this machine", remedy="download")
    rate = (default_kbps(channels) if kbps is None else kbps) / channels
    best = next((names for least, names in BEST_FIRST if rate >= least), ())
    own = [name for name in BY_BAND if name in available]
    narrow = [name for name in own if find(name).spec.sample_rate < sample_rate]
    order = [*best, *own[len(narrow) :], *reversed(narrow)]
    failure = None
    for name in sorted(available, key=lambda name: order.index(name) if name in order else len(order)):
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


def _status(model: Model) -> Status:
    local = finding.find_local(model, None, None, sure=True)
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
    return verifying.verify(model, finding.require_local(model, revision), fresh=True)


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
    local = finding.find_local(model, None, None)
    if local and not freed:
        raise ModelError(f"the weights of {name} are not in a cache but in {local.path}: not deleted")
    return freed


# Downloading


def _download(model: Model, revision: str | None, progress: bool) -> Local:
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
        for source in finding.sources(model, revision):
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


def _intact(model: Model, revision: str | None) -> Local | None:
    """Return the cached weights if they have the right SHA-256."""
    local = finding.find_cached(model, revision)
    try:
        return local if local and verifying.verify(model, local) else None
    except WrongWeights:
        return None


def _fetch(model: Model, source: WeightsSource, revision: str | None, progress: bool) -> Local:
    if isinstance(source, Hub) and (damaged := finding.in_cache(model, source, revision)):
        _discard(damaged)
    for file in source.files:
        _fetch_file(model, source, file, revision, progress)
    local = finding.in_cache(model, source, revision)
    if local is None:
        raise ModelError(f"the weights of {model.name} were downloaded, but are not in the cache")
    try:
        verifying.verify(model, local)
    except WrongWeights:
        _discard(local)
        raise
    return local


def _fetch_file(model: Model, source: WeightsSource, file: File, revision: str | None, progress: bool) -> None:
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


def _discard(local: Local) -> None:
    for path in local.paths:
        if isinstance(local.source, Hub):
            fetch.hub_discard(path)
        elif isinstance(local.source, Web):
            path.unlink(missing_ok=True)
