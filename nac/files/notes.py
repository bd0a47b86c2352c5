"""Collects what is logged about a file, so that it can be printed with the file's name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Notes(logging.Handler):
    """Collects log messages per thread, since each thread works on one file."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._of_thread = threading.local()

    @contextmanager
    def gathered(self) -> Iterator[list[str]]:
        """The lines that this thread logs within the context, except in nested contexts."""
        outer = getattr(self._of_thread, "lines", None)
        self._of_thread.lines = []
        try:
            yield self._of_thread.lines
        finally:
            self._of_thread.lines = outer

    def emit(self, record: logging.LogRecord) -> None:
        lines = getattr(self._of_thread, "lines", None)
        if lines is None:
            self.other(record.getMessage())
        else:
            lines.append(record.getMessage())

    def other(self, line: str) -> None:
        """What to do with a line that is not about a file."""
