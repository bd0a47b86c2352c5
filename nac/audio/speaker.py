"""Playback on a loudspeaker with sounddevice (PortAudio)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from nac.audio.resample import Samples
from nac.errors import AudioError, what


@contextmanager
def speaker(sample_rate: int, channels: int, device: str | None = None) -> Iterator[Callable[[Samples], None]]:
    """A function that plays blocks of samples [n, channels]; on exit all of them have been played.

    ``device``: a number or a part of a name, as ``python -m sounddevice`` lists them. Raises AudioError if no such
    device can play this, or sounddevice is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise AudioError("playing needs sounddevice: pip install 'nac-audio[play]'") from None
    except OSError as error:  # sounddevice is installed, but not PortAudio
        raise AudioError(f"playing needs PortAudio, the library that sounddevice uses: {what(error)}") from None
    chosen = int(device) if device is not None and device.isdecimal() else device

    @contextmanager
    def sounddevice_errors() -> Iterator[None]:
        try:
            yield
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"cannot play {channels} channels at {sample_rate} Hz: {what(error)}") from None

    with sounddevice_errors():
        stream = sounddevice.OutputStream(sample_rate, channels=channels, dtype="float32", device=chosen)

    def play(block: Samples) -> None:
        with sounddevice_errors():
            stream.write(np.ascontiguousarray(np.clip(block, -1, 1), np.float32))

    with stream:
        yield play
