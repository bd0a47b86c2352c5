"""`nac play`, with a stand-in for the loudspeaker."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_sounddevice import Fake
from toy_command import ROOT, nac

import nac as library


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """What is played; the current folder has song.nac, of two channels, and loud.nac."""
    monkeypatch.chdir(tmp_path)
    fake = Fake()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    random = np.random.default_rng(0)
    library.write("song.nac", random.normal(0, 0.1, (60_000, 2)), 22050, model="nac_24khz")
    library.write("loud.nac", random.normal(0, 1, 24_000), 24000, model="nac_24khz")
    return fake


def test_what_is_heard_is_what_read_gives(speaker: Fake) -> None:
    result = nac("play", "song.nac")
    assert result.stdout == ""
    assert result.stderr == "song.nac: 0:02.7, nac_24khz\n"
    assert speaker.opened == [{"samplerate": 22050, "channels": 2, "dtype": "float32", "device": None}]
    assert np.array_equal(np.concatenate(speaker.heard), library.read("song.nac")[0])
    assert speaker.closed == 1


def test_parts_several_files_and_loudspeakers(speaker: Fake) -> None:
    words = ("--start", "0:01.5", "--duration", "0.5", "--speaker", "usb", "-q")
    assert nac("play", "song.nac", "loud.nac", *words, code=1).stderr.startswith("nac: loud.nac: starts after")
    whole = library.read("song.nac", start=1.5, duration=0.5)[0]
    assert np.array_equal(np.concatenate(speaker.heard), whole)
    assert speaker.opened[0]["device"] == "usb"
    nac("play", "song.nac", "--speaker", "3", "-q")
    assert speaker.opened[1]["device"] == 3


def test_what_was_loud_does_not_clip(speaker: Fake) -> None:
    nac("play", "-q", "loud.nac")
    heard = np.concatenate(speaker.heard)
    assert np.abs(library.read("loud.nac")[0]).max() > 2
    assert 0.3 < np.abs(heard).max() <= 1
    assert (np.abs(heard) == 1).mean() < 0.001


def test_a_pipe_is_played(speaker: Fake) -> None:
    nac("play", "-q", "-", stdin=Path("song.nac").read_bytes())
    assert sum(map(len, speaker.heard)) == 60_000


def test_what_cannot_be_played_is_told(speaker: Fake) -> None:
    speaker.refuses = speaker.PortAudioError("Invalid number of channels")
    message = nac("play", "song.nac", code=1).stderr
    assert message == "nac: song.nac: cannot play 2 channels at 22050 Hz: Invalid number of channels\n"
    assert "cannot be read: No such file" in nac("play", "none.nac", code=1).stderr
    Path("text.nac").write_text("no")
    assert "not a .nac file" in nac("play", "text.nac", code=1).stderr
    assert speaker.heard == []


def test_without_sounddevice_it_says_what_to_install(speaker: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)  # which makes importing it fail
    message = nac("play", "song.nac", code=1).stderr
    assert message == "nac: song.nac: playing needs sounddevice: pip install 'nac-audio[play]'\n"


@pytest.mark.skipif(importlib.util.find_spec("sounddevice") is None, reason="sounddevice is not installed")
def test_the_real_package_where_there_is_no_loudspeaker(speaker: Fake) -> None:
    """On a machine without sound it says so, in one line; on one with sound this plays nothing."""
    command = [sys.executable, "-m", "nac", "play", "song.nac", "--duration", "0"]
    found = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1)
    assert "Traceback" not in found.stderr
    if found.returncode:
        assert "PortAudio" in found.stderr or "cannot play" in found.stderr
