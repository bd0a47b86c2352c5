"""What is logged about a file while it is worked on, so that it can be told with the file's name."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Notes(logging.Handler):
    """Gathers what is logged, for each thread by itself, since each does a file of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._of_thread = threading.local()

    @contextmanager
    def gathered(self) -> Iterator[list[str]]:
        """The lines that this thread logs within the context, and not within one in it."""
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
        """What is to be done with a line that is about no file."""
