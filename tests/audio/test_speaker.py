"""What a loudspeaker gets; the one here only writes it down."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from fake_sounddevice import Fake

from nac.audio.speaker import speaker


def test_a_loudspeaker_gets_nothing_above_full_scale_and_all_else_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", fake := Fake())
    with speaker(8000, 2) as play:
        play(np.float32([[-1.5, -1], [0.25, 1], [1.5, 40]]))
    assert fake.heard[0].tolist() == [[-1, -1], [0.25, 1], [1, 1]]
    assert fake.closed == 1


@pytest.mark.parametrize(("given", "asked"), [(None, None), ("3", 3), ("USB 3", "USB 3")])
def test_a_loudspeaker_has_a_number_or_a_name(
    monkeypatch: pytest.MonkeyPatch, given: str | None, asked: int | str | None
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", fake := Fake())
    with speaker(44100, 1, given):
        pass
    assert fake.opened == [{"samplerate": 44100, "channels": 1, "dtype": "float32", "device": asked}]
