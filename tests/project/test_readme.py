"""Every command and program in the README and in examples/ runs and prints what is shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
AUDIO = ROOT / "examples" / "audio"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recordings that the README speaks of, and programs that stand in for its neighbours."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(AUDIO / "guitar.flac", folder / "song.flac")
    shutil.copy(ROOT / "tests" / "data" / "interop" / "encodec_24khz-24077.ecdc", folder / "old.ecdc")
    speech, rate = soundfile.read(AUDIO / "speech.flac", dtype="int16")
    soundfile.write(folder / "talk.wav", speech, rate)
    np.save(folder / "talk.npy", np.random.default_rng(0).integers(0, 1024, (4, 75)))
    (folder / "recordings" / "day 1").mkdir(parents=True)
    shutil.copy(AUDIO / "speech.flac", folder / "recordings" / "day 1")
    programs = folder / "bin"
    programs.mkdir()
    stand_ins = {
        "nac": f'exec "{sys.executable}" -m nac "$@"',
        "python": f'exec "{sys.executable}" "$@"',
        "ffmpeg": "exec cat talk.wav",
        "ssh": 'shift; exec sh -c "$1"',
        "aplay": "exec cat > played.wav",
    }
    for name, line in stand_ins.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    return folder


def run(folder: Path, *words: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NAC_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("NAC_WEIGHTS", None)
    result = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def timeless(text: str) -> str:
    """Without speeds, which differ from run to run, and spaces at the ends of lines."""
    return re.sub(r"[\d.e+]+x real time", "x real time", re.sub(r" +$", "", text, flags=re.M)).strip()


def test_the_readmes_commands_print_what_it_shows(folder: Path) -> None:
    commands = 0
    for block in re.findall(r"```console\n(.*?)```", README, re.S):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
            printed = run(folder, "sh", "-c", command)
            assert timeless(printed) == timeless(shown), command
            commands += 1
    assert commands >= 11
    assert (folder / "archive" / "day 1" / "speech.nac").exists()
    assert soundfile.info(folder / "played.wav").frames == soundfile.info(folder / "talk.wav").frames


def test_the_readmes_programs_run(folder: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert run(folder, sys.executable, "-c", program) == "6.0\n"


def test_the_readmes_two_commands_are_make_targets() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"(?:^    |`)make (\w+)", README, re.M):
        assert target in targets


def test_examples(folder: Path) -> None:
    out = run(folder, sys.executable, str(ROOT / "examples" / "encode_and_decode.py"), "talk.wav")
    assert "702 frames of 8 codes: 6 kbit/s" in out
    run(folder, "nac", "compress", "-q", "-f", "song.flac", "--kbps", "6", "-o", "x.nac")
    out = run(folder, sys.executable, str(ROOT / "examples" / "read_codes.py"), "x.nac")
    assert "stream 0: 5 codebooks x 38 frames" in out
    out = run(folder, "sh", str(ROOT / "examples" / "compress_folder.sh"), "recordings/day 1", "listed")
    assert "recordings/day 1/speech.flac: 9.3 s, " in out
    out = run(folder, "sh", str(ROOT / "examples" / "compress_folder.sh"), "recordings/day 1", "listed")
    assert "recordings/day 1/speech.flac: exists already" in out
    run(folder, "nac", "pack", "listed", "-o", "token-shards", "-q")
    out = run(folder, sys.executable, str(ROOT / "examples" / "train_tokens.py"), "token-shards")
    losses = [float(loss) for loss in re.findall(r"([\d.]+) nats per token", out)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_the_demo(folder: Path) -> None:
    out = run(folder, "sh", str(ROOT / "examples" / "demo.sh"))
    assert out.count("x real time") == 8
    assert out.count(": whole, ") == 4
    for name in ("speech", "guitar"):
        assert (folder / "demo" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
