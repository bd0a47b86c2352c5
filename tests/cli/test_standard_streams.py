"""Standard streams that are closed, full, terminals or files; locales; the bar on a terminal."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from toy_command import ROOT, nac, wav

from nac.cli import report

pytestmark = [pytest.mark.usefixtures("toy"), pytest.mark.skipif(os.name == "nt", reason="streams of Unix")]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script in which `nac` is this nac, with the network in the package."""
    head = f'set -u; nac() {{ "{sys.executable}" -m nac "$@"; }}\n'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(["bash", "-c", head + script], env=environment, capture_output=True, timeout=120)


@pytest.fixture
def song() -> bytes:
    wav("s.wav", samples=4000)
    nac("compress", "s.wav", "-q")
    return Path("s.nac").read_bytes()


def test_outputs_that_are_written_through() -> None:
    wav("s.wav", samples=4000)
    found = shell(
        """
        ln -s /proc/self/fd/1 out; mkfifo fifo
        nac compress s.wav -f -o /dev/stdout -q > s.nac
        nac peel s.nac -k 99 -o out > a.nac
        printf before > c.nac; nac peel s.nac -k 99 -q -f -o out >> c.nac; ls -l out
        nac peel s.nac -k 3 -q -o >(cat > d.nac); nac decompress s.nac -q --format flac -o >(cat > e.flac)
        cat fifo > f.wav & nac decompress s.nac -q -o fifo; wait
        """
    )
    assert b"out -> /proc/self/fd/1" in found.stdout
    packed = Path("s.nac").read_bytes()
    assert Path("a.nac").read_bytes() == packed
    assert Path("c.nac").read_bytes() == b"before" + packed
    assert len(Path("d.nac").read_bytes()) < len(packed)
    assert soundfile.info("e.flac").frames == soundfile.info("f.wav").frames == 4000
    assert stat.S_ISFIFO(Path("fifo").stat().st_mode)


def test_standard_streams_that_are_closed(song: bytes) -> None:
    wav("t.wav", samples=4000)
    found = shell(
        """
        nac compress t.wav 2>&-; echo $?
        nac compress t.wav -o u.nac -q <&- >&- 2>&-; echo $?
        nac decompress u.nac -q >&-; echo $?
        nac info s.nac >&-; echo $?
        nac models >&-; echo $?
        nac peel s.nac -k 999 -o v.nac --json >&-; echo $?
        nac verify - <&-; echo $?
        nac peel s.nac -k 999 -o - >&-; echo $?
        """
    )
    assert found.stdout.split() == [b"0", b"0", b"0", b"1", b"1", b"1", b"1", b"1"]
    assert found.stderr.decode().splitlines() == [
        "nac: s.nac: standard output is closed",
        "nac: standard output is closed",
        "nac: standard output is closed",
        "nac: -: standard input is closed",
        "nac: s.nac: standard output is closed",
    ]
    assert Path("t.nac").read_bytes() == Path("u.nac").read_bytes()
    assert not Path("v.nac").exists()


def test_standard_input_or_output_that_is_the_other(song: bytes) -> None:
    found = shell(
        """
        nac peel - -k 999 -o s.nac -f < s.nac; echo $?
        nac peel s.nac -k 999 -o - >> s.nac; echo $?
        nac peel - -k 999 -o /dev/stdout < s.nac >> s.nac; echo $?
        nac peel - -k 999 -o t.nac < s.nac; echo $?
        """
    )
    assert found.stdout.split() == [b"1", b"1", b"1", b"0"]
    assert found.stderr.count(b"would be overwritten by its own output") == 3
    assert Path("s.nac").read_bytes() == song


def on_a_terminal(*words: str, **variables: str) -> tuple[int, str]:
    """Exit code, and what a terminal shows that is both standard output and error."""
    master, slave = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "nac", *words]
    with subprocess.Popen(command, env=environment, stdout=slave, stderr=slave) as process:
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
    return process.returncode, shown.decode("utf-8", "replace")


def test_a_terminal_is_spared(song: bytes) -> None:
    code, shown = on_a_terminal("peel", "s.nac", "-k", "999", "-o", "-")
    assert code == 1
    assert shown.strip() == (
        "nac: s.nac: standard output is a terminal, which cannot show binary data "
        "(-o FILE writes a file, -f writes here anyway)"
    )
    code, shown = on_a_terminal("peel", "s.nac", "-k", "999", "-o", "-", "-f")
    assert code == 0
    assert "NAC" in shown


def test_the_bar_ends_without_a_warning() -> None:
    for number in range(7):
        wav(f"in/{number}.wav", samples=3333 + 7 * number)
    code, shown = on_a_terminal("compress", "-r", "in", "-o", "out", "-k", "3", PYTHONWARNINGS="always")
    assert code == 0
    assert "Warning" not in shown
    assert "7 done, 0 skipped, 0 failed" in shown


def test_shares_of_a_bar_never_come_to_more_than_the_whole() -> None:
    """Sums of floating-point numbers do, by a little, and tqdm warns of it."""
    from nac.cli.batch import Job

    class Bar:
        total, n = 0.3, 0.0

        def update(self, share: float) -> None:
            self.n += share
            assert self.n <= self.total

        def set_description_str(self, text: str, refresh: bool) -> None: ...

    jobs = [Job(Path(str(number)), Path("x")) for number in range(3)]
    progress = report.Progress(jobs, shown=False)
    progress._bar, progress._left = Bar(), dict.fromkeys(jobs, 0.1)
    for job in jobs:
        for _ in range(7):
            progress.of(job)(1.0, 7.0)
        progress.file_done(job, skipped=False)


@pytest.mark.parametrize("locale", [C_LOCALE, {"LC_ALL": "C.UTF-8"}])
def test_names_and_tags_that_the_locale_cannot_say(locale: dict[str, str]) -> None:
    with soundfile.SoundFile("t.flac", "w", 16000, 1) as file:
        file.title = "日本"
        file.write([0.0] * 1600)
    nac("compress", "t.flac", "-q")
    name = b"caf\xe9 \xe6\x97\xa5"
    os.link(b"t.nac", name + b".nac")
    found = shell(
        """
        nac info t.nac; echo $?
        nac info --plot p.svg caf*.nac; echo $?
        nac peel caf*.nac -k 999 -o "$(ls caf*.nac).peeled.nac"; echo $?
        nac verify absent-*.nac caf*.nac --json > all; echo $?
        """,
        **locale,
    )
    assert b"Traceback" not in found.stderr + found.stdout
    assert b"an error in nac" not in found.stderr
    title = "日本".encode() if "UTF" in locale["LC_ALL"] else rb"\u65e5\u672c"
    assert b"title=" + title in found.stdout
    assert name + b".nac" in found.stdout
    assert b"caf" in Path("all").read_bytes()
    assert b"caf" in Path("p.svg").read_bytes()
    assert [line for line in found.stdout.split(b"\n") if len(line) == 1] == [b"0", b"0", b"0", b"1"]


def test_an_input_that_is_a_pipe_by_name(song: bytes) -> None:
    found = shell(
        "nac info <(cat s.nac); nac verify <(cat s.nac); nac peel <(cat s.nac) -k 999 -o p.nac -q; echo $?"
    )
    assert found.stderr == b""
    assert b"(4000 samples)" in found.stdout
    assert b"whole" in found.stdout
    assert Path("p.nac").read_bytes() == song
