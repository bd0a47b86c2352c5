"""Sound out of a loudspeaker, through sounddevice (PortAudio)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from nac.audio.resample import Samples
from nac.errors import AudioError, what


@contextmanager
def speaker(sample_rate: int, channels: int, device: str | None = None) -> Iterator[Callable[[Samples], None]]:
    """A function that plays samples [n, channels], one block after the other; at the end all have been heard.

    ``device``: a number or a part of a name, as ``python -m sounddevice`` lists them. Raises AudioError if
    there is none that plays so, or no sounddevice.
    """
    try:
        import sounddevice
    except ImportError:
        raise AudioError("playing needs sounddevice: pip install 'nac-audio[play]'") from None
    except OSError as error:  # it is there, and PortAudio is not
        raise AudioError(f"playing needs PortAudio, the library that sounddevice uses: {what(error)}") from None
    chosen = int(device) if device is not None and device.isdecimal() else device

    @contextmanager
    def told() -> Iterator[None]:
        try:
            yield
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"cannot play {channels} channels at {sample_rate} Hz: {what(error)}") from None

    with told():
        stream = sounddevice.OutputStream(sample_rate, channels=channels, dtype="float32", device=chosen)

    def play(block: Samples) -> None:
        with told():
            stream.write(np.ascontiguousarray(np.clip(block, -1, 1), np.float32))

    with stream:
        yield play
