"""nac's cache folder: locks between processes, SHA-256 of files, and records of their first use.

    models/NAME/...     weights downloaded over plain HTTPS (those of the Hub are in huggingface_hub's cache)
    hashes.json         path -> size, times and SHA-256, so that weights are not hashed at every start
    first-use.json      file -> its SHA-256 when it was first used, and its origin
    fingerprints.json   model -> fingerprint of its weights when they were last loaded
    locks/

The folder must be writable only for downloads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nac.errors import ModelError, what

log = logging.getLogger("nac")

# A second change within the resolution of a file's time stamps would not be noticed, so the hashes of files
# changed this recently are not recorded. Two seconds is the coarsest resolution in use (FAT).
_RECENT_NS = 2_000_000_000


def folder() -> Path:
    """Return ``NAC_CACHE``, or the platform's cache folder for nac."""
    if chosen := os.environ.get("NAC_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nac"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "nac"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nac"


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Acquire a lock between processes. Raises ModelError if the cache cannot be written."""
    from filelock import FileLock, Timeout

    path = folder() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock = FileLock(path)
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            log.warning("waiting for another process to finish with %s", name)
            file_lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise ModelError(f"cannot write to the cache {folder()}: {what(error)}") from error
    try:
        yield
    finally:
        file_lock.release()


def sha256(path: Path, *, fresh: bool = False) -> str:
    """Return a file's SHA-256 in hexadecimal. Unless ``fresh``, use the recorded one if size and times match."""
    key = str(path.resolve())
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    if not fresh and (known := _read("hashes.json").get(key)) and known[:-1] == stamp:
        return str(known[-1])
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if time.time_ns() - max(stamp[1:]) > _RECENT_NS:
        _write("hashes.json", key, [*stamp, digest.hexdigest()])
    return digest.hexdigest()


def first_use(key: str) -> tuple[str, str] | None:
    """Return the SHA-256 of a file when it was first used, and its origin, or None."""
    known = _read("first-use.json").get(key)
    return (known["sha256"], known["from"]) if known else None


def record_first_use(key: str, digest: str, origin: str) -> None:
    _write("first-use.json", key, {"sha256": digest, "from": origin})


def fingerprint(name: str) -> str:
    """Return the fingerprint of a model's weights when they were last loaded, or an empty string."""
    return str(_read("fingerprints.json").get(name, ""))


def record_fingerprint(name: str, value: str) -> None:
    if fingerprint(name) != value:
        _write("fingerprints.json", name, value)


def _read(name: str) -> dict[str, Any]:
    path = folder() / name
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise ModelError(f"{path} is damaged; delete it (this loses its records about weights)")
    return table


def _write(name: str, key: str, value: object) -> None:
    """Set an entry of a table; does nothing if the cache cannot be written."""
    path = folder() / name
    with contextlib.suppress(OSError, ModelError), lock(path.stem):
        table = {**_read(name), key: value}
        if name == "hashes.json":
            table = {known: entry for known, entry in table.items() if Path(known).exists()}
        draft = path.with_suffix(".tmp")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(table, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
