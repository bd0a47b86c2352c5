"""A cache of loaded codecs, shared by successive calls."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from nac.codecs.base import Codec
from nac.weights import models

if TYPE_CHECKING:
    import torch

CAPACITY = 2
"""The number of codecs that stay loaded: those used last."""
Key = tuple[object, ...]


def loaded(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    download: bool = False,
    fast: bool = False,
) -> Codec[Any]:
    """Load a codec like :func:`nac.weights.models.load`, or return it if it is still loaded.

    Threads that load the same codec at the same time share one. Weights that have changed on the disk are loaded
    again. Raises ModelError.
    """

    def load() -> Codec[Any]:
        return models.load(name, weights=weights, device=device, download=download, fast=fast)

    path = models.locate(name, Path(weights) if weights is not None else None)
    if path is None:  # a download, or an error
        return load()
    return _CACHE.get((name, weights is not None, str(device), fast, path, _stamp(path)), load)


def forget() -> None:
    """Clear the cache. Codecs in use remain valid."""
    global _CACHE
    _CACHE = CodecCache(CAPACITY)


class CodecCache:
    """A thread-safe cache of up to ``capacity`` codecs."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._lock = capacity, Lock()
        self._codecs: OrderedDict[Key, Future[Codec[Any]]] = OrderedDict()

    def get(self, key: Key, load: Callable[[], Codec[Any]]) -> Codec[Any]:
        """Return the codec for a key; the first thread loads it. After a failure, the next call tries again."""
        with self._lock:
            future = self._codecs.get(key)
            missing = future is None
            if future is None:
                future = self._codecs[key] = Future()
            self._codecs.move_to_end(key)
            while len(self._codecs) > self._capacity:
                self._codecs.popitem(last=False)
        if missing:
            try:
                future.set_result(load())
            except BaseException as error:
                with self._lock:
                    if self._codecs.get(key) is future:
                        del self._codecs[key]
                future.set_exception(error)
        return future.result()


def _stamp(path: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return names, sizes and times of a file or of the files in a folder, which change when the weights do."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(file.name, file.stat()) for file in files]
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found)


_CACHE = CodecCache(CAPACITY)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)  # neither GPU memory nor a locked lock survives a fork
