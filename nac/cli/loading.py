"""Loading of models for commands: each once, when the first file needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nac.cli import report
from nac.cli.running import Stop
from nac.errors import ModelError, NacError, reason

Load = Callable[[str], Any]


@dataclass(frozen=True)
class Loading:
    """The options for loading models."""

    device: str = "auto"
    weights: Path | None = None
    revision: str | None = None
    fast: bool = False

    def elsewhere(self) -> dict[str, Any]:
        """The same as arguments of :func:`nac.weights.models.load` for a process with another working folder."""
        weights = None if self.weights is None else self.weights.absolute()
        return {"device": self.device, "weights": weights, "revision": self.revision, "fast": self.fast}

    def loader(self, *, progress: bool, download: bool, only: bool = False) -> Load:
        """Loads each model once, when a file first needs it; a failed load is not repeated.

        ``only``: all files need the same model, so if it cannot be loaded none is tried.
        """
        lock, loaded = threading.Lock(), dict[str, Any]()

        def load(name: str) -> Any:
            with lock:
                if name not in loaded:
                    try:
                        loaded[name] = self._load(name, progress=progress, download=download)
                    except NacError as error:
                        loaded[name] = error
                    except ImportError as error:
                        loaded[name] = ModelError(reason(error))
            found = loaded[name]
            if isinstance(found, NacError):
                raise Stop.of(found) if only else found
            return found

        return load

    def _load(self, name: str, *, progress: bool, download: bool) -> Any:
        from nac.codecs.registry import find
        from nac.weights import models as table

        if self.device not in ("auto", "cpu"):
            try:
                table.resolve_device(self.device)
            except NacError as error:
                raise Stop.of(error) from None
        if download and progress and self.weights is None and name not in table.present():
            licence = find(name).licence
            report.note(f"{name}: downloading its weights (licence: {licence})")
        return table.load(
            name,
            weights=self.weights,
            device=self.device,
            revision=self.revision,
            progress=progress,
            download=download,
            fast=self.fast,
        )
