"""Limit numpy's matrix products to one thread each."""

from __future__ import annotations

import threading

from threadpoolctl import LibController, ThreadpoolController


class OneThread:
    """A context in which numpy computes matrix products with one thread each; several would round differently."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, list[tuple[LibController, int]]()
        self._libraries: list[LibController] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                if self._libraries is None:  # only once, because the search takes a millisecond
                    # only BLAS, because OpenMP's number of threads is set for each thread
                    self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                self._before = [(library, library.num_threads) for library in self._libraries]
                for library, _ in self._before:
                    _set_threads(library, 1)
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for library, number in self._before:
                    _set_threads(library, number)


def _set_threads(library: LibController, number: int) -> None:
    """Set a library's number of threads from any thread.

    After the first call, threadpoolctl ignores calls from other threads for OpenBLAS until this is cleared.
    """
    clear = getattr(library, "clear_controlling_thread", lambda force: None)
    clear(force=True)
    library.set_num_threads(number)
    clear(force=True)


ONE_THREAD = OneThread()
"""The only instance, because the number of threads is a property of the process."""
