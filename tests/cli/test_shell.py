"""What a shell gets besides output: completion, manual pages, no colours where none are wanted."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nac.cli import main

ROOT = Path(__file__).parents[2]


def run(*words: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def nac(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command as it is installed: completion goes by its name."""
    path = tmp_path_factory.mktemp("bin") / "nac"
    path.write_text(f"#!{sys.executable}\nfrom nac.__main__ import main\nmain()\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(nac: str, shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version, and there is none")
    script = run(nac, _NAC_COMPLETE=f"{shell}_source")
    assert f"_NAC_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nac comp", {"compress", "compare"}),
        ("nac compress -m soundst", {"soundstream_16khz"}),
        ("nac compare a.wav -m dac_24khz,dac_44khz_", {"dac_24khz,dac_44khz_16kbps"}),
        ("nac models path snac_4", {"snac_44khz"}),
        ("nac decompress --form", {"--format"}),
    ],
)
def test_completion(nac: str, line: str, expected: set[str]) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    found = run(nac, _NAC_COMPLETE="bash_complete", **words)
    assert {row.split(",", 1)[1] for row in found.splitlines()} == expected


def test_every_command_has_a_manual_page(tmp_path: Path) -> None:
    pytest.importorskip("click_man", reason="click-man is not installed")
    run(sys.executable, str(ROOT / "docs" / "man_pages.py"), str(tmp_path))
    pages = {path.stem for path in tmp_path.glob("*.1")}
    assert {f"nac-{name}" for name in main.commands} | {"nac", "nac-models-download"} <= pages
    assert "Maximum bitrate in kbit/s" in (tmp_path / "nac-compress.1").read_text()
    for path in tmp_path.glob("*.1"):
        name = path.read_text().splitlines()[2]
        assert re.match(r"nac.* \\- .*\.$", name), name
        if shutil.which("groff"):
            message = subprocess.run(
                ["groff", "-ww", "-man", "-Tutf8", str(path)], capture_output=True, text=True, check=True
            )
            assert message.stderr == ""


def test_no_colours_on_a_terminal_that_wants_none(nac: str, tmp_path: Path) -> None:
    """NO_COLOR (no-color.org) is honoured: results and errors come without colours."""
    shutil.copy(ROOT / "examples" / "audio" / "speech.flac", tmp_path)
    master, slave = pty.openpty()
    words = [nac, "compress", "-m", "nac_24khz", "speech.flac", "absent.wav"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TERM": "xterm-256color"}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # how Linux tells of the end
                break
            if not part:
                break
            shown += part
    os.close(master)
    assert process.returncode == 1
    assert b"real time" in shown
    assert b"absent.wav" in shown
    assert not re.search(rb"\x1b\[[0-9;]*m", shown)
