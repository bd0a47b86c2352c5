"""Outputs as on Unix: what is written through, what is replaced, and what a new file takes over."""

from __future__ import annotations

import io
import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nac.errors import NacError
from nac.storage.output import Outgoing, created, descriptor, is_stream, refuse_same, whole_file

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="devices, links and permission bits of Unix")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str | Path, data: bytes = b"new", *, force: bool = False, like: str | None = None) -> None:
    with whole_file(Path(path), force=force, like=Path(like) if like else None) as file:
        file.write(data)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def read_from(fifo: str, found: list[bytes]) -> threading.Thread:
    thread = threading.Thread(target=lambda: found.append(Path(fifo).read_bytes()))
    thread.start()
    return thread


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("links", [0, 1, 2])
def test_a_named_pipe_and_links_to_it_are_written_through(links: int, force: bool) -> None:
    os.mkfifo("0")
    for number in range(links):
        Path(str(number + 1)).symlink_to(str(number))
    found: list[bytes] = []
    thread = read_from("0", found)
    with whole_file(Path(str(links)), force=force) as file:
        file.write(b"ab")
        file.write(b"c")
        assert (file.tell(), file.seekable(), file.readable()) == (3, False, False)
    thread.join(10)
    assert found == [b"abc"]
    assert stat.S_ISFIFO(Path("0").stat().st_mode)
    assert len(list(Path().iterdir())) == links + 1


@pytest.mark.parametrize("name", ["/dev/null", "null"])
def test_a_device_and_a_link_to_one_stay(name: str) -> None:
    Path("null").symlink_to("/dev/null")
    write(name, force=True)
    assert Path(name).is_char_device()
    assert Path("null").is_symlink()


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "link", "far", "fds/1"])
@pytest.mark.parametrize("how", ["wb", "ab"])
def test_standard_output_by_a_name_is_written_through(name: str, how: str) -> None:
    """As behind > and >> in a shell: what is there before is not lost, the file and the links stay."""
    if not Path(name).is_absolute() or Path(name).parent.exists():
        Path("link").symlink_to("/proc/self/fd/1")
        Path("far").symlink_to("link")
        Path("fds").symlink_to("/proc/self/fd")
    else:
        pytest.skip(f"there is no {name} here")
    code = "import os, sys; from pathlib import Path; from nac.storage.output import whole_file\n"
    code += "os.write(1, b'before ')\nfor part in b'one ', b'two':\n"
    code += "    with whole_file(Path(sys.argv[1]), force=True) as file: file.write(part)"
    Path("out").write_bytes(b"old ")
    inode = Path("out").stat().st_ino
    with Path("out").open(how) as out:
        subprocess.run([sys.executable, "-c", code, name], stdout=out, check=True, env=with_nac())
    assert Path("out").read_bytes() == (b"" if how == "wb" else b"old ") + b"before one two"
    assert Path("out").stat().st_ino == inode
    assert Path("link").is_symlink()


def with_nac() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_what_is_a_stream() -> None:
    Path("plain").touch()
    Path("loop").symlink_to("loop")
    for name in ("plain", "loop", "none", ".", "/", ""):
        assert not is_stream(Path(name))
        assert descriptor(Path(name)) is None
    with Path("plain").open("wb") as file:
        assert descriptor(Path(f"/dev/fd/{file.fileno()}")) == file.fileno()


def test_a_descriptor_that_is_not_open_is_one_line() -> None:
    with pytest.raises(NacError, match="cannot write /dev/fd/99: "):
        write("/dev/fd/99")


def test_a_terminal_gets_nothing_without_force() -> None:
    master, slave = pty.openpty()
    try:
        with os.fdopen(os.dup(slave), "wb", buffering=0) as terminal:
            for target in (terminal, os.ttyname(slave)):
                with pytest.raises(NacError, match="is a terminal"), created(None, target, force=False) as file:
                    file.write(b"x")
                with created(None, target, force=True) as file:
                    file.write(b"y")
                assert os.read(master, 10) == b"y"
    finally:
        os.close(master), os.close(slave)


def test_a_link_to_a_file_stays_and_the_file_is_replaced() -> None:
    Path("there").mkdir()
    Path("there/file").write_bytes(b"old")
    Path("there/file").chmod(0o640)
    Path("link").symlink_to("there/file")
    Path("dangling").symlink_to("there/absent")
    for name in "link", "dangling":
        with pytest.raises(NacError, match="exists"):
            write(name)
        write(name, force=True)
        assert Path(name).is_symlink()
        assert Path(name).read_bytes() == b"new"
    assert mode("there/file") == 0o640
    assert sorted(path.name for path in Path("there").iterdir()) == ["absent", "file"]


@pytest.mark.parametrize("bits", [0o600, 0o644, 0o400, 0o4755])
def test_time_and_permission_bits_come_from_the_input(bits: int) -> None:
    Path("in").touch()
    os.utime("in", ns=(1_000_000_001, 999_999_999_123_456_789))
    Path("in").chmod(bits)
    write("out", like="in")
    assert mode("out") == bits & 0o777
    assert Path("out").stat().st_mtime_ns == 999_999_999_123_456_789


def test_without_an_input_they_are_the_usual_ones() -> None:
    os.mkfifo("pipe")
    for like in (None, "pipe", "absent"):
        write("out", like=like, force=True)
        assert mode("out") == 0o666 & ~mask()
        Path("out").unlink()


def mask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_a_replaced_file_keeps_its_permission_bits_and_gets_the_time() -> None:
    for name, bits in (("in", 0o644), ("out", 0o600)):
        Path(name).touch()
        Path(name).chmod(bits)
    os.utime("in", (1, 1))
    write("out", like="in", force=True)
    assert (mode("out"), Path("out").stat().st_mtime) == (0o600, 1)
    write("out", force=True)
    assert mode("out") == 0o600


def test_nobody_else_can_read_a_private_file_while_it_is_written() -> None:
    Path("in").touch()
    Path("in").chmod(0o600)
    with whole_file(Path("out"), like=Path("in")) as file:
        assert mode(file.name) == 0o600
    Path("in").chmod(0o666)
    with whole_file(Path("out"), force=True, like=Path("in")) as file:
        assert mode(file.name) == 0o600


def test_an_input_that_is_the_output_is_refused_however_it_is_given() -> None:
    Path("a").write_bytes(b"sound")
    os.link("a", "b")
    Path("c").symlink_to("a")
    Path("d").write_bytes(b"sound")
    with Path("a").open("r+b") as file:
        for src, dst in ((file, "a"), (file, "b"), ("a", file), ("a", "c"), (file, file), ("c", "b")):
            with pytest.raises(NacError, match="own output"), created(src, dst, force=True):
                pass
        refuse_same(file, "d")
    assert Path("a").read_bytes() == b"sound"
    with Path("/dev/null").open("r+b") as null:
        refuse_same(null, null)
    refuse_same(io.BytesIO(), io.BytesIO())


class Slow(io.RawIOBase):
    """Takes a few bytes at a time, and none in the end."""

    def __init__(self, most: int) -> None:
        self.taken, self._most = b"", most

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        if len(self.taken) >= self._most:
            return None
        part = bytes(data)[:3]
        self.taken += part
        return len(part)


def test_all_is_written_to_what_takes_a_part_at_a_time() -> None:
    slow = Slow(20)
    with created(None, slow, force=False) as file:
        assert file.write(b"0123456789") == 10
    assert slow.taken == b"0123456789"
    with pytest.raises(BlockingIOError):
        Outgoing(Slow(6)).write(b"0123456789")
