"""Bad days: disks that fail at any moment, processes that are killed at any moment."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from container_files import Pipe
from toy_command import nac, run, wav

import nac as library
from nac import NacError
from nac.audio.writing import OUTPUT_FORMATS
from nac.files import verify as check
from nac.storage import output

pytestmark = pytest.mark.usefixtures("toy")


class Faults:
    """Fails the ``nth`` of all writes, flushes, syncs, links and renames of outputs, and those after it."""

    def __init__(self, nth: int, number: int) -> None:
        self.left, self.number = nth, number

    def pass_or_fail(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))


class FaultyFile:
    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        if self._faults.left == 0:  # a disk that fills up takes some of it first
            self._file.write(data[: len(data) // 2])
        self._faults.pass_or_fail()
        return self._file.write(data)

    def flush(self) -> None:
        self._faults.pass_or_fail()
        self._file.flush()

    def __enter__(self) -> FaultyFile:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)


@contextmanager
def failing(nth: int, number: int = errno.ENOSPC) -> Iterator[Faults]:
    faults = Faults(nth, number)
    originals = open, os.fsync, Path.hardlink_to, Path.replace

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = originals[0](path, mode, *args, **options)
        return FaultyFile(file, faults) if path.name.endswith(output.SUFFIX) else file

    def passing(original: Any) -> Any:
        def call(*args: Any) -> Any:
            faults.pass_or_fail()
            return original(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "open", opened, raising=False)
        patch.setattr(os, "fsync", passing(originals[1]))
        patch.setattr(Path, "hardlink_to", passing(originals[2]))
        patch.setattr(Path, "replace", passing(originals[3]))
        yield faults


def compress(source: Path, out: Path) -> None:
    library.compress(source, out, model="toy", codebooks=2, force=True)


def compress_and_verify(source: Path, out: Path) -> None:
    library.compress(source, out, model="toy", codebooks=2, verify=True)


def decompress(source: Path, out: Path) -> None:
    library.decompress(source, out, format="wav")


def decompress_flac(source: Path, out: Path) -> None:
    library.decompress(source, out, format="flac", verify=True)


def peel(source: Path, out: Path) -> None:
    library.peel(source, out, codebooks=1)


def recover(source: Path, out: Path) -> None:
    check.recover(source, out)


@pytest.mark.parametrize(
    ("job", "number"),
    [
        (compress, errno.ENOSPC),
        (compress, errno.EIO),
        (compress_and_verify, errno.ENOSPC),
        (decompress, errno.ENOSPC),
        (decompress_flac, errno.ENOSPC),
        (peel, errno.ENOSPC),
        (recover, errno.ENOSPC),
    ],
)
def test_a_disk_that_fails_at_the_nth_operation(job: Any, number: int, tmp_path: Path) -> None:
    source = wav("song.wav", samples=170_000)
    if "compress" not in job.__name__ or "decompress" in job.__name__:
        nac("compress", source, "-q")
        source = Path("song.nac")
    job(source, tmp_path / "good")
    good, before = (tmp_path / "good").read_bytes(), source.read_bytes()
    out = tmp_path / "folder" / "out"
    out.parent.mkdir()
    for nth in range(200):
        with failing(nth, number) as faults:
            try:
                job(source, out)
            except NacError as error:
                assert os.strerror(number) in str(error)  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
            else:
                break
        assert list(out.parent.iterdir()) == []
        assert source.read_bytes() == before
    assert faults.left >= 0
    assert nth > 4
    assert out.read_bytes() == good


def test_a_folder_that_vanishes_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(NacError, match="cannot write"), output.whole_file(tmp_path / "out" / "x", force=False):
        pass  # there is no such folder
    (tmp_path / "out").mkdir()
    with pytest.raises(NacError, match="cannot write"), output.whole_file(tmp_path / "out" / "x", force=False):
        shutil.rmtree(tmp_path / "out")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system in memory, of so many bytes."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_what_is_whole(tmp_path: Path) -> None:
    inputs = [wav(f"in/{number}.wav", samples=300_000, seed=number) for number in range(8)]
    with small_disk(tmp_path / "disk", "1m"):  # of 8 times 300 kB, three fit
        stderr = nac("compress", "-r", "in", "-o", "disk", "--codebooks", "1", "-j", "2", code=1).stderr
        assert stderr.count("No space left on device") == 5
        assert "3 done, 0 skipped, 5 failed" in stderr
        made = sorted(Path("disk").iterdir())
        assert [path.suffix for path in made] == [".nac"] * 3
        nac("verify", *made)
        made[0].unlink()
        stderr = nac("compress", "-r", "in", "-o", "disk", "--codebooks", "1", "--skip-existing", code=1).stderr
        assert "1 done, 2 skipped, 5 failed" in stderr
        nac("verify", *sorted(Path("disk").iterdir()))
        stderr = nac("decompress", made[1], "-o", "disk/x.wav", code=1).stderr
        assert "No space left on device" in stderr
        assert not Path("disk/x.wav").exists()
    assert len(list(Path("in").iterdir())) == len(inputs)


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m"):
        wav("disk/song.wav")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        stderr = nac("compress", "disk/song.wav", code=1).stderr
        assert stderr == "nac: disk/song.wav: cannot write disk/song.nac: Read-only file system\n"
        assert "Read-only" in nac("compress", "disk/song.wav", "-o", "disk/new/", code=1).stderr
        stderr = nac("compress", "disk/song.wav", "-o", "song.nac", "--remove-source", code=1).stderr
        assert "cannot be deleted: Read-only file system; the output is complete" in stderr
        nac("verify", "song.nac")
        assert Path("disk/song.wav").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("form", OUTPUT_FORMATS)
@pytest.mark.filterwarnings("error")  # what libsndfile's callbacks raise goes no further than to a trace
def test_a_full_device_is_an_error_and_no_more(form: str) -> None:
    library.compress(wav("song.wav"), "song.nac", model="toy")
    with pytest.raises(NacError, match="No space left on device"):
        library.decompress("song.nac", "/dev/full", format=form)


def start_batch(*words: str) -> subprocess.Popen[bytes]:
    return run("compress", "-r", "in", "-o", "out", "--skip-existing", *words)


def begun() -> bool:
    return any(Path("out").glob("*.nac-part"))


def test_a_batch_that_is_killed_goes_on_where_it_was() -> None:
    for number in range(5):
        wav(f"in/{number}.wav", samples=800_000, seed=number)
    nac("compress", "-r", "in", "-o", "whole", "-q")
    wanted = {path.name: path.read_bytes() for path in Path("whole").iterdir()}
    dice = random.Random()
    for kill in (signal.SIGTERM, signal.SIGKILL):
        with start_batch("-j", "2") as process:
            deadline = time.monotonic() + 60
            while not begun() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(dice.uniform(0, 0.5))
            process.send_signal(kill)
            process.communicate(timeout=60)
        for path in Path("out").glob("*.nac"):
            assert path.read_bytes() == wanted[path.name]
        left = [path.name for path in Path("out").iterdir() if path.name not in wanted]
        assert kill == signal.SIGKILL or left == []
    output.sweep.cache_clear()
    nac("compress", "-r", "in", "-o", "out", "--skip-existing", "-q")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == wanted


def test_a_hang_up_is_like_any_other_end_and_not_under_nohup() -> None:
    wav("song.wav", samples=100_000)
    for words, code in (([], 128 + signal.SIGHUP), (["nohup"], 0)):
        script = (
            "import signal, sys, time; from nac import cli\n"
            "@cli.main.command()\n"
            "def wait(): print(flush=True); time.sleep(1.5)\n"
            "sys.argv = ['nac', 'wait']; cli.entry()"
        )
        command = [*words, sys.executable, "-c", script]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            process.communicate(timeout=60)
            assert process.returncode == code


def test_a_reader_that_is_slow_makes_nothing_pile_up() -> None:
    """What is not taken from standard output is not asked for on standard input either."""
    data = wav("song.wav", samples=10_000_000).read_bytes()
    with run("compress", "-", "-o", "-", "--codebooks", "2", stdin=subprocess.PIPE) as process:
        os.set_blocking(process.stdin.fileno(), False)
        sent, still = 0, time.monotonic()
        while sent < len(data) and time.monotonic() - still < (3 if sent > 100_000 else 60):
            try:
                sent += os.write(process.stdin.fileno(), data[sent : sent + 65536])
                still = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        process.kill()
        process.communicate(timeout=60)
    assert 100_000 < sent < 4_000_000  # of 20 MB: the chunks being made and written, and the pipes


def test_a_live_stream_is_decoded_as_it_comes_and_up_to_where_it_is_cut() -> None:
    wav("song.wav", samples=300_000, rate=8000)
    nac("compress", "song.wav", "--codebooks", "2", "-q")
    nac("decompress", "song.nac", "-o", "back.wav", "-q")
    packed, sound = Path("song.nac").read_bytes(), Path("back.wav").read_bytes()[44:]
    with run("decompress", "-", "-o", "-", stdin=subprocess.PIPE) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        # 37.5 s in four chunks, of which three are whole.
        feeder = threading.Thread(target=lambda: (process.stdin.write(packed[:-200_000]), process.stdin.flush()))
        feeder.start()
        live = process.stdout.read(44 + 300_000)  # while the input is still open
        feeder.join()
        process.stdin.close()
        rest, stderr = process.stdout.read(), process.stderr.read()
        assert process.wait() == 1
        watchdog.cancel()
    assert b"cut short" in stderr
    decoded = (live + rest)[44:]
    assert len(live) == 44 + 300_000
    assert 29.9 < len(decoded) / 2 / 8000 <= 30  # all that is whole
    assert sound.startswith(decoded[:-1600])  # the last tenth of a second depends on what would come next


def test_an_output_without_a_buffer_that_takes_a_part_at_a_time() -> None:
    source = wav("song.wav")
    for name, job in (
        ("song.nac", lambda out: library.compress(source, out, model="toy")),
        ("back.wav", lambda out: library.decompress("song.nac", out)),
        ("back.flac", lambda out: library.decompress("song.nac", out, format="flac")),
        ("peeled.nac", lambda out: library.peel("song.nac", out, codebooks=1)),
    ):
        job(Path(name))
        pipe = Pipe(most=5000)
        job(pipe)
        assert bytes(pipe.data) == Path(name).read_bytes()


def test_the_bar_tells_of_files_audio_speed_and_time_left() -> None:
    for number in range(3):
        wav(f"in/{number}.wav", samples=100_000 * (1 + number))
    Path("in/2.wav").write_bytes(Path("in/2.wav").read_bytes()[:1000])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with run("compress", "-r", "in", "-o", "out", stderr=theirs) as process:
        os.close(theirs)
        message = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 1000):
                message += part
    os.close(ours)
    assert process.returncode == 1
    lines = message.replace(b"\r", b"\n").split(b"\n")
    assert [line for line in lines if line.startswith(b"nac: ")] == [
        b"nac: in/2.wav: cut off: 599044 bytes are missing that its header declares "
        b"(`ffmpeg -i IN OUT.wav` saves the rest)"
    ]
    assert b"2 done, 0 skipped, 1 failed" in lines
    bar = rb" *\d+%\|.*\| [0-3]/3 files, 0:\d\d\.\d of audio, [\d.e+]+x real time \[00:\d\d<[\d:?]+\]"
    assert any(re.search(bar, line) for line in lines), [line for line in lines if b"%" in line]
