"""Sample rate conversion of a stream, with a result that does not depend on the starting point.

The signal is converted one second at a time: for any rates, ``in_rate`` samples become ``out_rate`` samples. soxr
gets each second with enough samples on both sides that the result equals a conversion of the whole signal (to
1e-5). Seconds are counted from the start of the signal, so a conversion that begins in the middle gives exactly
the same samples as one from the start.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from nac.container.header import MIN_RATE
from nac.errors import AudioError

Samples = npt.NDArray[np.float32]
"""Samples [n, channels], nominally within -1 to 1."""

_MOST = 1 << 24  # most samples of all channels per second, since some seconds are in memory
_CONTEXT = 256  # samples at the lower rate; the filter of soxr's VHQ reaches less than 128


class Resampler:
    """Converts blocks [n, channels] from ``in_rate`` to ``out_rate`` (Hz).

    ``start``: the first input sample whose output is needed. The first block must begin at input sample
    ``first_input``. The output begins at output sample ``first_output``, at or before the time of ``start``.
    Raises AudioError for extreme rates, and for too many channels.
    """

    def __init__(self, in_rate: int, out_rate: int, *, start: int = 0) -> None:
        # At lower rates the context costs more than the second itself, up to minutes per byte.
        if min(in_rate, out_rate) < MIN_RATE:
            raise AudioError(f"a sample rate of {min(in_rate, out_rate)} Hz; {MIN_RATE} Hz is the lowest")
        self._in, self._out = in_rate, out_rate
        # Context is a whole number of samples at both rates, so that the window stays aligned.
        step = in_rate // gcd(in_rate, out_rate)
        self._context = -(-_CONTEXT * max(1, in_rate // min(in_rate, out_rate)) // step) * step
        self._second = start // in_rate
        self.first_output = self._second * out_rate
        self.first_input = self._window_start()
        self._buffer_start = self.first_input  # number of the first input sample in the buffer
        self._buffer: Samples | None = None
        if in_rate == out_rate:
            self.first_input = self.first_output = start

    def input_end(self, output: int) -> int:
        """One past the last input sample that output sample ``output`` depends on."""
        return output + 1 if self._in == self._out else (output // self._out + 1) * self._in + self._context

    def push(self, block: Samples) -> Samples:
        """Add input samples; returns the output samples that are now final."""
        if self._in == self._out:
            return block
        if max(self._in, self._out) * block.shape[1] > _MOST:
            raise AudioError(
                f"{block.shape[1]} channels at {max(self._in, self._out)} Hz are too much to resample"
            )
        self._buffer = block if self._buffer is None else np.concatenate([self._buffer, block])
        given = [block[:0]]
        while self._buffer_start + len(self._buffer) >= (self._second + 1) * self._in + self._context:
            given.append(self._convert(self._buffer, self._out))
        drop = self._window_start() - self._buffer_start
        if drop > 0:
            self._buffer, self._buffer_start = self._buffer[drop:].copy(), self._buffer_start + drop
        return np.concatenate(given)

    def flush(self) -> Samples:
        """End the signal and return the rest: n input samples give ceil(n * out_rate / in_rate) in total."""
        if self._in == self._out or self._buffer is None:
            return np.zeros((0, 1 if self._buffer is None else self._buffer.shape[1]), np.float32)
        total = self._buffer_start + len(self._buffer)
        left = -(-total * self._out // self._in) - self._second * self._out
        # Zeros after the end, like in a conversion of the whole signal.
        padded = np.pad(self._buffer, ((0, self._in + self._context), (0, 0)))
        given = [self._buffer[:0]]
        while left > 0:
            given.append(self._convert(padded, min(left, self._out)))
            left -= self._out
        return np.concatenate(given)

    def _window_start(self) -> int:
        return max(0, self._second * self._in - self._context)

    def _convert(self, buffer: Samples, samples: int) -> Samples:
        """The first ``samples`` samples of the current second."""
        import soxr

        low = self._window_start()
        skip = (self._second * self._in - low) * self._out // self._in
        end = (self._second + 1) * self._in + self._context
        window = buffer[low - self._buffer_start : end - self._buffer_start]
        converted = soxr.resample(window, self._in, self._out, quality="VHQ")
        self._second += 1
        wanted: Samples = converted[skip : skip + samples].copy()  # frees the rest
        return wanted
