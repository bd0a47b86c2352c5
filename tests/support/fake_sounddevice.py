"""A stand-in for the package sounddevice, whose loudspeaker writes down what it plays."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np


class Fake(ModuleType):
    """Put it in ``sys.modules``. ``opened``: the arguments of each stream; ``heard``: the blocks they got."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.opened: list[dict[str, Any]] = []
        self.heard: list[np.ndarray] = []
        self.closed = 0
        self.refuses: Exception | None = None
        fake = self

        class OutputStream:
            def __init__(self, samplerate: float, **options: Any) -> None:
                if fake.refuses:
                    raise fake.refuses
                fake.opened.append({"samplerate": samplerate, **options})

            def __enter__(self) -> OutputStream:
                return self

            def __exit__(self, *exception: object) -> None:
                fake.closed += 1

            def write(self, data: np.ndarray) -> bool:
                assert data.flags.c_contiguous
                assert data.dtype == np.float32
                fake.heard.append(data.copy())
                return False

        self.OutputStream = OutputStream
