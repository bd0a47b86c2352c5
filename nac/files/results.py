"""The result of converting one file to another."""

from __future__ import annotations

import time
from typing import Any

from nac.bitrate import total_kbps
from nac.container.header import Header
from nac.storage.output import PathOrFile, Result, name_of, size_of


class Stopwatch:
    """Created when work on a file begins; makes the result at the end."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def result(
        self,
        src: PathOrFile | None,
        dst: PathOrFile,
        header: Header,
        *,
        seconds: float,
        size: int,
        codebooks: tuple[int, ...] | None = None,
        **more: Any,
    ) -> Result:
        """The result for the codes of a .nac file, or for this many ``codebooks`` of its streams.

        ``src``: None if the input is not a file. ``seconds``: of audio; ``size``: bytes of the output; ``more``:
        other fields of a :class:`Result`.
        """
        values: dict[str, Any] = {
            "input": "-" if src is None else name_of(src),
            "output": name_of(dst),
            "model": header.model,
            "kbps": total_kbps(header.spec, codebooks or header.stream_codebooks),
            "seconds": seconds,
            "bytes_in": None if src is None else size_of(src),
            "bytes_out": size,
            "wall_seconds": time.perf_counter() - self._began,
        }
        return Result(**{**values, **more})
