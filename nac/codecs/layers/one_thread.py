"""Matrix products of numpy by one thread each."""

from __future__ import annotations

import threading

from threadpoolctl import LibController, ThreadpoolController


class OneThread:
    """While within, matrix products are computed by one thread each: with more they would be rounded otherwise."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, list[tuple[LibController, int]]()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                # selected, as OpenMP's number of threads is each thread's own
                libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                self._before = [(library, library.num_threads) for library in libraries]
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
    """Threads that a library computes with, whichever thread sets them.

    From one thread on, threadpoolctl takes no notice of others as to OpenBLAS's number, until that is cleared.
    """
    clear = getattr(library, "clear_controlling_thread", lambda force: None)
    clear(force=True)
    library.set_num_threads(number)
    clear(force=True)


ONE_THREAD = OneThread()
"""The number is the process's, and so is what changes it."""
