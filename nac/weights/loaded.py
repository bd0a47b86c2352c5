"""Codecs that stay loaded from one call to the next."""

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

MOST = 2
"""Codecs that are kept: those used last."""
Key = tuple[object, ...]


def loaded(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    download: bool = False,
) -> Codec[Any]:
    """Like :func:`nac.weights.models.load`, but a codec that was used lately is given again.

    Several threads that ask for one at once share one. Weights that have changed on the disk are loaded anew.
    Raises ModelError.
    """

    def load() -> Codec[Any]:
        return models.load(name, weights=weights, device=device, download=download)

    path = models.locate(name, Path(weights) if weights is not None else None)
    if path is None:  # to be downloaded, or refused
        return load()
    return _KEPT.get((name, weights is not None, str(device), path, _stamp(path)), load)


def forget() -> None:
    """Let go of all codecs that are kept. Those in use live on until they are done with."""
    global _KEPT
    _KEPT = Kept(MOST)


class Kept:
    """Codecs by what they were loaded from, at most so many. Any number of threads may ask for them."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._codecs: OrderedDict[Key, Future[Codec[Any]]] = OrderedDict()

    def get(self, key: Key, load: Callable[[], Codec[Any]]) -> Codec[Any]:
        """The codec of a key, loaded by the first thread that asks. What fails is tried again by the next call."""
        with self._lock:
            future = self._codecs.get(key)
            mine = future is None
            if future is None:
                future = self._codecs[key] = Future()
            self._codecs.move_to_end(key)
            while len(self._codecs) > self._most:
                self._codecs.popitem(last=False)
        if mine:
            try:
                future.set_result(load())
            except BaseException as error:
                with self._lock:
                    if self._codecs.get(key) is future:
                        del self._codecs[key]
                future.set_exception(error)
        return future.result()


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when weights, a file or a folder, do."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.name, found.st_size, found.st_mtime_ns) for file in files if (found := file.stat()))


_KEPT = Kept(MOST)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)  # GPUs and locked locks do not survive a fork
