"""Bringing files onto this machine, whole or not at all: from the Hugging Face Hub and over plain HTTPS."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from nac.errors import ModelError, what
from nac.version import __version__
from nac.weights import cache

if TYPE_CHECKING:
    from urllib.response import addinfourl

_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 16
# What a disk answers, unlike a network: full, read-only, not allowed, a file where a folder should be.
_DISK = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EEXIST", "ENOTDIR", "EIO")
} - {None}


class Unavailable(ModelError):
    """A source that cannot be reached or does not hold the file; another one may be tried."""


class UnknownRevision(Unavailable):
    """A Hub repository without the revision that was asked for."""


def offline() -> bool:
    """Whether the user has switched downloads off, with ``HF_HUB_OFFLINE``."""
    import huggingface_hub.constants

    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


# The Hub


def hub_cached(repo: str, name: str, revision: str) -> Path | None:
    """A Hub file in huggingface_hub's cache; never uses the network."""
    if not _hub_folder(repo).is_dir():
        return None  # known without what takes a fifth of a second to import
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def hub(repo: str, name: str, revision: str, *, sha256: str | None = None, progress: bool = False) -> Path:
    """Download a Hub file into huggingface_hub's cache, which ``HF_HOME`` and its other variables direct.

    ``sha256``: hexadecimal, whole or its beginning. Raises :class:`Unavailable`, or ModelError where the Hub holds
    another file than this or the cache cannot be written.
    """
    import huggingface_hub

    try:
        # Asked apart from the download, because that waits for most of a minute where there is no network.
        url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
        huggingface_hub.get_hf_file_metadata(url, library_name="nac", library_version=__version__)
        announced = _announced(url)
        if announced and sha256 and not announced.startswith(sha256):
            raise ModelError(
                f"{repo}/{name} on the Hub has SHA-256 {announced}, not the published {sha256}: refused"
            )
        _hub_sweep(_hub_folder(repo))
        with _hub_progress(progress):
            path = Path(
                huggingface_hub.hf_hub_download(
                    repo, name, revision=revision, library_name="nac", library_version=__version__
                )
            )
        if announced and (digest := cache.sha256(path, fresh=True)) != announced:
            hub_discard(path)
            raise ModelError(f"{repo}/{name} came with SHA-256 {digest}, not {announced} as on the Hub: damaged")
        return path
    except ModelError:
        raise
    except Exception as error:  # The HTTP library beneath, and so its errors, differ between versions.
        raise _hub_error(error, repo, name, revision) from error


def _announced(url: str) -> str | None:
    """The SHA-256 under which the Hub knows a large file, if it tells.

    That is the header X-Linked-Etag of its own answer. The entity tag of the server that it sends on to, which
    huggingface_hub takes where that header is absent, may look the same and be of something else.
    """
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    class SameHost(HTTPRedirectHandler):
        def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, new: str) -> Any:
            here = urlsplit(new).netloc == urlsplit(url).netloc  # as of a repository that was renamed
            return Request(new, headers=req.headers, method="HEAD") if here else None

    headers = build_hf_headers(library_name="nac", library_version=__version__)
    try:
        request = Request(url, headers={**headers, "Accept-Encoding": "identity"}, method="HEAD")
        with build_opener(SameHost).open(request, timeout=_TIMEOUT) as response:
            tag = response.headers.get("X-Linked-Etag")
    except HTTPError as error:
        tag = error.headers.get("X-Linked-Etag")
    except (OSError, ValueError):
        tag = None
    found = re.fullmatch('(?:W/)?"?([0-9a-f]{64})"?', tag or "")
    return found[1] if found else None


def hub_discard(path: Path) -> int:
    """Delete a file from huggingface_hub's cache; the bytes freed."""
    blob = path.parent / path.readlink() if path.is_symlink() else path
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    return size


def hub_remove(repo: str, name: str) -> int:
    """Delete a file from huggingface_hub's cache, all revisions; the bytes freed."""
    folder = _hub_folder(repo)
    freed = sum(hub_discard(path) for path in list(folder.glob(f"snapshots/*/{name}")))
    _hub_sweep(folder)
    if not any(path.is_file() for path in folder.glob("snapshots/**/*")):
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _hub_folder(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _hub_sweep(folder: Path) -> None:
    """Delete what killed downloads left in the cache of a repository; huggingface_hub leaves that to others.

    Its temporary files have names of their own, and whoever writes one holds the lock of the file's tag.
    """
    from filelock import FileLock, Timeout

    for draft in folder.glob("blobs/*.incomplete"):
        tag, _, unique = draft.stem.partition(".")
        lock = folder.parent / ".locks" / folder.name / f"{tag}.lock"
        if unique and lock.exists():
            with contextlib.suppress(OSError, Timeout), FileLock(lock, timeout=0):
                draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _hub_progress(shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _hub_error(error: Exception, repo: str, name: str, revision: str) -> ModelError:
    from huggingface_hub import constants, errors

    if isinstance(error, OSError) and error.errno in _DISK:
        return ModelError(f"cannot write to the Hub's cache {constants.HF_HUB_CACHE}: {what(error)}")
    if isinstance(error, errors.GatedRepoError):
        return Unavailable(f"{repo} on the Hub needs a token that has access (HF_TOKEN)")
    if isinstance(error, errors.RepositoryNotFoundError):
        return Unavailable(f"the Hub has no repository {repo}, or not for everybody (HF_TOKEN)")
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownRevision(f"{repo} on the Hub has no revision {revision}")
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return Unavailable(f"{repo} on the Hub has no file {name} at revision {revision}")
    return Unavailable(f"cannot get {repo}/{name} from {constants.ENDPOINT} ({what(error)})")


# Plain HTTPS


def web(
    url: str, path: Path, *, size: int | None = None, sha256: str | None = None, progress: bool = False
) -> None:
    """Download ``url`` to ``path``; a download that was cut short goes on where it stopped, now or in a later run.

    ``size`` in bytes; ``sha256``: hexadecimal, whole or its beginning. Raises :class:`Unavailable`, or ModelError
    where the file is another one than this or cannot be written; nothing of it is left then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while (part := _transfer(url, path, size, progress)) is None:
            pass
        digest = cache.sha256(part, fresh=True)
        if sha256 and not digest.startswith(sha256):
            raise ModelError(f"{url} has SHA-256 {digest}, not the published {sha256}: refused")
        part.replace(path)
    except Unavailable:
        raise
    except (OSError, ModelError) as error:
        with contextlib.suppress(OSError):
            _drop_parts(path)
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"cannot write {path}: {what(error)}") from error


def _transfer(url: str, path: Path, size: int | None, progress: bool) -> Path | None:
    """One request for what is still missing; the temporary file if it is whole now."""
    part, start, validator = _left_over(path)
    with _request(url, start, validator) as response:
        if start and response.status in (206, 416) and not _continues(response, start, validator):
            _drop_parts(path)
            return None
        if not start or response.status != 206:
            _drop_parts(path)
            start, part = 0, _part(path, _validator(response))
        total = _total(response, start, url, size)
        with part.open("ab") as out:
            end = _copy(response, out, total, _bar(path.name, total, start, progress))
            out.flush()
            os.fsync(out.fileno())
    if end == start < total:
        raise Unavailable(f"{url} was cut off after {start} of {total} bytes")
    return part if end == total else None


def web_remove(folder: Path) -> int:
    """Delete a folder of downloads; the bytes freed."""
    freed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if folder.exists():
        shutil.rmtree(folder)
    return freed


# The name of a temporary file holds the server's validator (entity tag or date): it proves to a later run that the
# rest belongs to what is there.


def _part(path: Path, validator: str) -> Path:
    return path.with_name(f".{path.name}.{quote(validator, safe='')}.part")


def _parts(path: Path) -> list[Path]:
    return [file for file in path.parent.glob("*.part") if file.name.startswith(f".{path.name}.")]


def _left_over(path: Path) -> tuple[Path, int, str]:
    """Temporary file of an earlier attempt, its bytes, and its validator."""
    for part in _parts(path):
        if validator := unquote(part.name[len(f".{path.name}.") : -len(".part")]):
            return part, part.stat().st_size, validator
    return path, 0, ""


def _drop_parts(path: Path) -> None:
    for part in _parts(path):
        part.unlink()


def _request(url: str, start: int, validator: str) -> addinfourl:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"User-Agent": f"nac/{__version__}"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    host = urlsplit(url).netloc
    try:
        response: addinfourl = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if start and error.code == 416:
            return error
        raise Unavailable(f"{host} does not give {url} (HTTP {error.code} {error.reason})") from error
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if isinstance(error, URLError) else error
        raise Unavailable(f"cannot reach {host or url} ({what(why)})") from error
    if url.startswith("https:") and not response.url.startswith("https:"):
        response.close()
        raise Unavailable(f"{url} leads to {response.url}, which is not encrypted")
    return response


def _validator(response: addinfourl) -> str:
    tag = response.headers.get("ETag", "")
    # A weak tag does not promise the same bytes; a very long one makes no file name.
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    return validator if len(validator) <= 80 else ""


def _continues(response: addinfourl, start: int, validator: str) -> bool:
    ranged = response.headers.get("Content-Range", "")
    return ranged.startswith(f"bytes {start}-") and _validator(response) == validator


def _total(response: addinfourl, start: int, url: str, size: int | None) -> int:
    """Bytes of the whole file. Without a limit, a server could fill the disk."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else size
    if total is None:
        raise Unavailable(f"{url} does not say how long it is")
    if size is not None and total != size:
        raise ModelError(f"{url} has {total} bytes, not the published {size}: refused")
    return total


def _bar(name: str, total: int, start: int, shown: bool) -> Any:
    from tqdm import tqdm

    # None: on a terminal only.
    return tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None if shown else True)


def _copy(response: addinfourl, out: IO[bytes], total: int, bar: Any) -> int:
    """Append the response up to ``total`` bytes in all; where it stopped, be it too early."""
    from http.client import HTTPException

    end = out.tell()
    with bar:
        while end < total:
            try:
                block = response.read(min(_BLOCK, total - end))
            except (OSError, HTTPException):
                break
            if not block:
                break
            out.write(block)
            end += len(block)
            bar.update(len(block))
    return end
