"""Writing a .nac file while its samples arrive."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from queue import Queue
from threading import Thread
from typing import cast

from nac.audio.levels import tamed
from nac.audio.memory import Array, as_float32, format_of
from nac.audio.reading import Source
from nac.audio.resample import Samples
from nac.audio.tags import own
from nac.codecs.base import Codec
from nac.container.header import SampleFormat
from nac.errors import ArgumentError
from nac.files.decoding import Load
from nac.files.encoding import Encoding, prepare, write_nac
from nac.storage.output import PathOrFile, check_output, created


class Recorder:
    """Takes blocks of samples; each chunk is written as soon as its codes are final.

    The coding pipeline pulls its blocks, so it runs in its own thread: it waits for them, and :meth:`write` waits
    for it. ``samples``: the number taken, per channel.
    """

    def __init__(
        self,
        file: PathOrFile,
        sample_rate: int,
        channels: int,
        how: Encoding,
        load: Load,
        codec: Codec | None = None,
        *,
        tags: Mapping[str, str] | None,
        force: bool,
    ) -> None:
        check_output(None, file, force=force)  # before a model is loaded, which may be downloaded first
        self._how, self._blocks = how, Queue[Samples | None](1)
        self._ended, self._failure = False, cast("BaseException | None", None)
        self._thread: Thread | None = None
        self.samples, self.closed = 0, False
        blocks, named = self._arriving(), own(tags)
        self._source = Source(sample_rate, channels, None, SampleFormat.F32, blocks, live=True, tags=named)
        self._codec, self.header = prepare(self._source, how, load, codec)
        with ExitStack() as stack:
            self._out = stack.enter_context(created(None, file, force=force))
            self._open = stack.pop_all()
        _unfinished.add(self)

    def write(self, block: Array) -> None:
        """Append samples [n, channels]. The first block sets the sample type. Raises NacError."""
        if block.shape[1] != self.header.channels:
            raise ArgumentError(f"samples of {block.shape[1]} channels, not {self.header.channels}")
        if self._thread is None:
            self._start(format_of(block))
        if self._failure is not None:
            self._end()
        self._blocks.put(tamed(as_float32(block), 1.0))
        self.samples += len(block)

    def finish(self) -> None:
        """Write the rest and the end record. Raises NacError if that fails, and then leaves no file."""
        if self._thread is None and not self.closed:
            self._start(self.header.sample_format)
        self._end()

    def abort(self) -> None:
        """Stop, and leave no file."""
        if self.closed:
            return
        self._failure = Aborted()
        with suppress(Exception):
            self._end()

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        _unfinished.discard(self)
        with self._open:  # errors pass through it, so that no file is left
            if self._thread is not None:
                self._blocks.put(None)
                self._thread.join()
            if self._failure is not None:
                raise self._failure

    def _start(self, form: SampleFormat) -> None:
        self.header = replace(self.header, sample_format=form)
        # An unfinished recording must not keep the program from exiting, see :func:`_abort_all`.
        self._thread = Thread(target=self._work, name="nac-recorder", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            write_nac(self._out, self._source, self._codec, self.header, self._how.coding)
        except BaseException as error:
            self._failure = error
            while not self._ended:  # so that no caller waits forever to add more
                self._take()

    def _arriving(self) -> Iterator[Samples]:
        while (block := self._take()) is not None:
            yield block
        if self._failure is not None:
            raise self._failure

    def _take(self) -> Samples | None:
        block = self._blocks.get()
        self._ended = block is None
        return block


class Aborted(Exception):
    """The recording was aborted."""


_unfinished: set[Recorder] = set()


@atexit.register
def _abort_all() -> None:
    """A thread that codes when the interpreter ends would abort the process."""
    for recorder in list(_unfinished):
        recorder.abort()


def _leave_to_parent() -> None:
    for recorder in _unfinished:
        recorder.closed = True
    _unfinished.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)  # threads do not survive a fork
