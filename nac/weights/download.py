"""Download files from the Hugging Face Hub and over plain HTTPS; an incomplete file is never visible."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from nac.errors import ModelError, what
from nac.version import __version__
from nac.weights import cache

if TYPE_CHECKING:
    from urllib.request import OpenerDirector
    from urllib.response import addinfourl

_TIMEOUT = 30  # seconds without data
_BLOCK = 1 << 16
# Errors of the disk, not of the network: full, read-only, not permitted, a file instead of a folder.
_DISK_ERRORS = {
    getattr(errno, name, None)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EEXIST", "ENOTDIR", "EIO")
} - {None}


class Unavailable(ModelError):
    """A source that cannot be reached or does not have the file; another one may be tried."""


class UnknownRevision(Unavailable):
    """A Hub repository without the requested revision."""


def offline() -> bool:
    """Return whether the user has disabled downloads with ``HF_HUB_OFFLINE``."""
    import huggingface_hub.constants

    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


# The Hub


def hub_cached(repo: str, name: str, revision: str) -> Path | None:
    """Find a Hub file in huggingface_hub's cache; never uses the network."""
    if not _hub_folder(repo).is_dir():
        return None  # avoids an import that takes a fifth of a second
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def hub(repo: str, name: str, revision: str, *, sha256: str | None = None, progress: bool = False) -> Path:
    """Download a Hub file into huggingface_hub's cache, whose location depends on ``HF_HOME`` and other variables.

    ``sha256``: the expected one in hexadecimal, or its first digits. Raises :class:`Unavailable`, or ModelError if
    the file on the Hub is a different one or the cache cannot be written.
    """
    import huggingface_hub

    try:
        # Requested before the download, which would wait for most of a minute without a network.
        url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
        huggingface_hub.get_hf_file_metadata(url, library_name="nac", library_version=__version__)
        expected = _hub_sha256(url)
        if expected and sha256 and not expected.startswith(sha256):
            raise ModelError(
                f"{repo}/{name} on the Hub has SHA-256 {expected}, not the published {sha256}: not downloaded"
            )
        _hub_sweep(_hub_folder(repo))
        with _hub_progress(progress):
            path = Path(
                huggingface_hub.hf_hub_download(
                    repo, name, revision=revision, library_name="nac", library_version=__version__
                )
            )
        if expected and (digest := cache.sha256(path, fresh=True)) != expected:
            hub_discard(path)
            raise ModelError(f"{repo}/{name} was damaged: it has SHA-256 {digest}, not {expected}; try again")
        return path
    except ModelError:
        raise
    except Exception as error:  # The HTTP library, and so its errors, differ between versions.
        raise _hub_error(error, repo, name, revision) from error


def _hub_sha256(url: str) -> str | None:
    """Return the SHA-256 that the Hub reports for a large file, or None.

    It is the header X-Linked-Etag of the Hub's own response. If that is missing, huggingface_hub uses the entity
    tag of the server it redirects to, which may look like a SHA-256 but be something else.
    """
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    class SameHost(HTTPRedirectHandler):
        def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, new: str) -> Any:
            same = urlsplit(new).netloc == urlsplit(url).netloc  # a renamed repository
            return Request(new, headers=req.headers, method="HEAD") if same else None

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
    """Delete a file from huggingface_hub's cache. Returns the bytes freed."""
    blob = path.parent / path.readlink() if path.is_symlink() else path
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    return size


def hub_remove(repo: str, name: str) -> int:
    """Delete all revisions of a file from huggingface_hub's cache. Returns the bytes freed."""
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
    """Delete temporary files of killed downloads from the cache of a repository; huggingface_hub does not.

    A temporary file that is being written is protected by the lock for the file's tag.
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

    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return ModelError(f"cannot write to the Hub's cache {constants.HF_HUB_CACHE}: {what(error)}")
    if isinstance(error, errors.GatedRepoError):
        return Unavailable(f"access to {repo} on the Hub is restricted: set HF_TOKEN to a token that has access")
    if isinstance(error, errors.RepositoryNotFoundError):
        return Unavailable(f"the Hub has no repository {repo}, or it is private (then set HF_TOKEN)")
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownRevision(f"{repo} on the Hub has no revision {revision}")
    if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
        return Unavailable(f"{repo} on the Hub has no file {name} at revision {revision}")
    return Unavailable(f"cannot download {repo}/{name} from {constants.ENDPOINT} ({what(error)})")


# Plain HTTPS


def web(
    url: str, path: Path, *, size: int | None = None, sha256: str | None = None, progress: bool = False
) -> None:
    """Download ``url`` to ``path``. An interrupted download is resumed, also in a later run.

    ``size`` in bytes; ``sha256``: the expected one in hexadecimal, or its first digits. Raises
    :class:`Unavailable`, or ModelError if it is a different file or cannot be written; then the file is deleted.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        reached = 0
        while (done := _transfer(url, path, size, progress)).end < done.total:
            if done.end <= reached:  # or else a server that cannot resume would be asked forever
                raise Unavailable(f"{url} stops after {done.end} of {done.total} bytes")
            reached = done.end
        part = done.part
        digest = cache.sha256(part, fresh=True)
        if sha256 and not digest.startswith(sha256):
            raise ModelError(f"{url} has SHA-256 {digest}, not the published {sha256}: deleted")
        part.replace(path)
    except Unavailable:
        raise
    except (OSError, ModelError) as error:
        with contextlib.suppress(OSError):
            _drop_parts(path)
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"cannot write {path}: {what(error)}") from error


class _Transfer(NamedTuple):
    """A temporary file, its size after a request, and that of the whole file."""

    part: Path
    end: int
    total: int


def _transfer(url: str, path: Path, size: int | None, progress: bool) -> _Transfer:
    """Request the missing bytes once."""
    part, start, validator = _left_over(path)
    with _request(url, start, validator) as response:
        if start and response.status in (206, 416) and not _continues(response, start, validator):
            _drop_parts(path)
            return _transfer(url, path, size, progress)
        if not start or response.status != 206:
            _drop_parts(path)
            start, part = 0, _part(path, _validator(response))
        total = _total(response, start, url, size)
        with part.open("ab") as out:
            end = _copy(response, out, total, _bar(path.name, total, start, progress))
            out.flush()
            os.fsync(out.fileno())
        if end == total and _goes_on(response):
            raise ModelError(f"{url} has more than the published {total} bytes: deleted")
    return _Transfer(part, end, total)


def web_remove(folder: Path) -> int:
    """Delete a folder of downloads. Returns the bytes freed."""
    freed = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if folder.exists():
        shutil.rmtree(folder)
    return freed


# The name of a temporary file contains the server's validator (entity tag or date), so that a later run resumes
# only a download of the same file.


def _part(path: Path, validator: str) -> Path:
    return path.with_name(f".{path.name}.{quote(validator, safe='')}.part")


def _parts(path: Path) -> list[Path]:
    return [file for file in path.parent.glob("*.part") if file.name.startswith(f".{path.name}.")]


def _left_over(path: Path) -> tuple[Path, int, str]:
    """Return the temporary file of an earlier attempt, its size, and its validator."""
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
    from urllib.request import Request

    headers = {"User-Agent": f"nac/{__version__}"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    host = urlsplit(url).netloc
    try:
        response: addinfourl = _opener().open(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if start and error.code == 416:
            return error
        raise Unavailable(f"cannot download {url} (HTTP {error.code} {error.reason})") from error
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if isinstance(error, URLError) else error
        raise Unavailable(f"cannot reach {host or url} ({what(why)})") from error
    return response


def _opener() -> OpenerDirector:
    """Return an opener that follows no redirect from an encrypted address to another one, not even on the way."""
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Encrypted(HTTPRedirectHandler):
        def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            if urlsplit(req.full_url).scheme == "https" != urlsplit(newurl).scheme:
                fp.close()
                raise Unavailable(f"{req.full_url} redirects to {newurl}, which is not encrypted")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return build_opener(Encrypted)


def _validator(response: addinfourl) -> str:
    tag = response.headers.get("ETag", "")
    # A weak tag does not guarantee equal bytes; a very long one cannot be part of a file name.
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    return validator if len(validator) <= 80 else ""


def _continues(response: addinfourl, start: int, validator: str) -> bool:
    ranged = response.headers.get("Content-Range", "")
    return ranged.startswith(f"bytes {start}-") and _validator(response) == validator


def _total(response: addinfourl, start: int, url: str, size: int | None) -> int:
    """Return the size of the whole file, which limits the download: otherwise a server could fill the disk."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else size
    whole = response.headers.get("Content-Range", "").rpartition("/")[2]
    if start and whole.isdecimal():
        total = int(whole)  # a server may send less of the rest than was asked for
    if total is None:
        raise Unavailable(f"{url} has an unknown length: the response has no Content-Length")
    if size is not None and total != size:
        raise ModelError(f"{url} has {total} bytes, not the published {size}: not downloaded")
    return total


def _goes_on(response: addinfourl) -> bool:
    """Return whether there is more than the whole file, which only a server without Content-Length can send."""
    from http.client import HTTPException

    try:
        return bool(response.read(1))
    except (OSError, HTTPException):
        return False


def _bar(name: str, total: int, start: int, shown: bool) -> Any:
    from tqdm import tqdm

    # disable=None shows the bar only on a terminal.
    return tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None if shown else True)


def _copy(response: addinfourl, out: IO[bytes], total: int, bar: Any) -> int:
    """Append the response to ``out``, up to a size of ``total`` bytes. Returns the size reached."""
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
