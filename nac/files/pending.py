"""Parts of a signal on their way to a GPU, which wait until there are enough for a batch."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from nac.codecs.base import Codec

T = TypeVar("T")
MOST_SECONDS = 60
"""How much of a signal waits at most."""


class Pending(Generic[T]):
    """Parts that wait until there is enough for a GPU, more each time; for a CPU, or if ``live``, none waits.

    A GPU computes a minute of one signal about as fast as ten seconds of it, but the first part should come soon.
    """

    def __init__(self, codec: Codec[Any], *, live: bool) -> None:
        self._most = 0 if live or not codec._on_gpu else MOST_SECONDS * codec.sample_rate
        self._parts: list[T] = []
        self._samples, self._enough = 0, 0

    def push(self, part: T, samples: int) -> list[T]:
        """Add a part of so many samples per channel; returns all that wait if they are enough, else nothing."""
        self._parts.append(part)
        self._samples += samples
        return self.take() if self._samples >= self._enough else []

    def take(self) -> list[T]:
        """All that wait. Next time, twice as much is enough."""
        self._enough = min(2 * self._samples, self._most)
        taken, self._parts, self._samples = self._parts, [], 0
        return taken
