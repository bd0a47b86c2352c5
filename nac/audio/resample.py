"""Sample rate conversion along a stream, exact from any starting point.

The signal is converted one second at a time: whatever the rates, ``in_rate`` samples become ``out_rate`` samples.
Each second is handed to soxr with enough of its neighbours that the result is the same as for the whole signal
(to 1e-5), and since the seconds are counted from the start of the signal, a conversion that begins in the middle
gives exactly the samples that one from the start gives there.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from nac.container.header import MIN_RATE
from nac.errors import AudioError

Samples = npt.NDArray[np.float32]
"""Samples [n, channels], nominally within -1 to 1."""

_MOST = 1 << 24  # samples of all channels in a second, of which some are held in memory
_CONTEXT = 256  # samples at the lower rate; the filter of soxr's VHQ reaches less than 128


class Resampler:
    """Converts blocks [n, channels] from ``in_rate`` to ``out_rate`` (Hz).

    ``start``: the first input sample that the output is wanted for. The first block must begin at input sample
    ``first_input``, and the output begins at output sample ``first_output``, at or before the time of ``start``.
    Raises AudioError for rates far from all sound, here and where many channels come.
    """

    def __init__(self, in_rate: int, out_rate: int, *, start: int = 0) -> None:
        # Below, what lies around a second takes longer than itself, and each byte minutes at last.
        if min(in_rate, out_rate) < MIN_RATE:
            raise AudioError(f"a sample rate of {min(in_rate, out_rate)} Hz; {MIN_RATE} Hz are the least")
        self._in, self._out = in_rate, out_rate
        # Context is a whole number of samples at both rates, so that the window stays aligned.
        step = in_rate // gcd(in_rate, out_rate)
        self._context = -(-_CONTEXT * max(1, in_rate // min(in_rate, out_rate)) // step) * step
        self._second = start // in_rate
        self.first_output = self._second * out_rate
        self.first_input = self._window_start()
        self._held_from = self.first_input  # number of the first input sample held
        self._held: Samples | None = None
        if in_rate == out_rate:
            self.first_input = self.first_output = start

    def input_end(self, output: int) -> int:
        """The number after the last input sample that output sample ``output`` is made of."""
        return output + 1 if self._in == self._out else (output // self._out + 1) * self._in + self._context

    def push(self, block: Samples) -> Samples:
        """Take the next samples; give those that are now certain."""
        if self._in == self._out:
            return block
        if max(self._in, self._out) * block.shape[1] > _MOST:
            raise AudioError(
                f"{block.shape[1]} channels at {max(self._in, self._out)} Hz are too much to resample"
            )
        self._held = block if self._held is None else np.concatenate([self._held, block])
        given = [block[:0]]
        while self._held_from + len(self._held) >= (self._second + 1) * self._in + self._context:
            given.append(self._convert(self._held, self._out))
        drop = self._window_start() - self._held_from
        if drop > 0:
            self._held, self._held_from = self._held[drop:].copy(), self._held_from + drop
        return np.concatenate(given)

    def flush(self) -> Samples:
        """End the signal; give the rest: ceil(n * out_rate / in_rate) samples in all for n input samples."""
        if self._in == self._out or self._held is None:
            return np.zeros((0, 1 if self._held is None else self._held.shape[1]), np.float32)
        total = self._held_from + len(self._held)
        left = -(-total * self._out // self._in) - self._second * self._out
        # Zeros after the end, as a whole-signal conversion has them.
        padded = np.pad(self._held, ((0, self._in + self._context), (0, 0)))
        given = [self._held[:0]]
        while left > 0:
            given.append(self._convert(padded, min(left, self._out)))
            left -= self._out
        return np.concatenate(given)

    def _window_start(self) -> int:
        return max(0, self._second * self._in - self._context)

    def _convert(self, held: Samples, samples: int) -> Samples:
        """The first ``samples`` samples of the current second."""
        import soxr

        low = self._window_start()
        skip = (self._second * self._in - low) * self._out // self._in
        end = (self._second + 1) * self._in + self._context
        window = held[low - self._held_from : end - self._held_from]
        converted = soxr.resample(window, self._in, self._out, quality="VHQ")
        self._second += 1
        wanted: Samples = converted[skip : skip + samples].copy()  # which keeps nothing of the rest
        return wanted
