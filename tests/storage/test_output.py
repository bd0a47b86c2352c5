"""Outputs as on Unix: what is written through, what is replaced, and what a new file takes over."""

from __future__ import annotations

import io
import os
import pty
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from nac.errors import NacError
from nac.storage import output
from nac.storage.output import (
    Outgoing,
    Spent,
    check_file,
    check_output,
    created,
    descriptor,
    is_stream,
    lock,
    name_of,
    refuse_same,
    size_of,
    sweep,
    whole_file,
)

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
        assert (file.tell(), file.writable(), file.seekable(), file.readable()) == (3, True, False, False)
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
    with whole_file(Path("out"), force=False, like=Path("in")) as file:
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


def refusal(action: Callable[[], object]) -> str:
    """What an action is refused with, or nothing."""
    try:
        action()
    except NacError as error:
        return str(error)
    return ""


def make(src: str | None, dst: Any, force: bool) -> None:
    with created(src, dst, force=force):
        pass


def test_an_output_is_checked_beforehand_as_it_is_when_it_is_made() -> None:
    Path("in").write_bytes(b"in")
    Path("there").write_bytes(b"there")
    master, slave = pty.openpty()
    with os.fdopen(slave, "wb", buffering=0) as terminal:
        for src in None, "in":
            for dst in "new", "there", "in", "/dev/null", terminal, io.BytesIO(), io.BytesIO(b"some"):
                for force in False, True:
                    said = refusal(lambda dst=dst, src=src, force=force: check_output(src, dst, force=force))
                    expected = {
                        ("there", False): "there exists",
                        ("in", False): "would be overwritten by its own output" if src else "in exists",
                        ("in", True): "would be overwritten by its own output" if src else "",
                        (terminal, False): "standard output is a terminal, which cannot show binary data",
                    }.get((dst, force), "")
                    assert said == expected, (src, dst, force)
                    if dst != "in":
                        assert refusal(lambda dst=dst, src=src, force=force: make(src, dst, force)) == said
                    Path("new").unlink(missing_ok=True)
                    Path("there").write_bytes(b"there")
    os.close(master)


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_in_the_meantime_is_not_replaced(links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file system has no links."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    for force in False, True:
        Path("out").unlink(missing_ok=True)
        with (
            nullcontext() if force else pytest.raises(NacError, match="out exists"),
            whole_file(Path("out"), force=force) as file,
        ):
            file.write(b"mine")
            Path("out").write_bytes(b"theirs")
        assert Path("out").read_bytes() == (b"mine" if force else b"theirs")
        assert [path.name for path in Path().iterdir()] == ["out"]
    Path("out").unlink()
    write("out")
    assert [path.name for path in Path().iterdir()] == ["out"]


def refused(*arguments: object, **options: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("names", ["x", "x" * 255, "é" * 127, ".x", "x\ny", "x.nac-part"])
def test_any_name_can_be_written_and_an_error_leaves_nothing(names: str) -> None:
    def fail() -> None:
        with whole_file(Path(names), force=False) as file:
            file.write(b"part")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(Path().iterdir()) == []
    write(names)
    assert [path.name for path in Path().iterdir()] == [names]


class Owners:
    """Who a file is given to, with some that it cannot be given to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuse: str = "") -> None:
        self.asked: list[tuple[int, int]] = []
        self._refuse = refuse
        monkeypatch.setattr(os, "chown", self._chown)

    def _chown(self, path: Path, user: int, group: int) -> None:
        self.asked.append((user, group))
        if ("user" in self._refuse and user != -1) or ("group" in self._refuse and group != -1):
            raise PermissionError


@pytest.mark.parametrize(
    ("refuse", "bits"), [("", 0o775), ("user", 0o775), ("group", 0o705), ("user and group", 0o705)]
)
def test_a_replaced_file_keeps_its_owner_or_shuts_out_the_group(
    refuse: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that may not have the file must not read it as another group's."""
    Path("out").touch()
    Path("out").chmod(0o775)
    found = Path("out").stat()
    owners = Owners(monkeypatch, refuse)
    write("out", force=True)
    assert owners.asked == [(found.st_uid, -1), (-1, found.st_gid)]
    assert mode("out") == bits


def test_a_new_file_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = Owners(monkeypatch)
    write("out")
    assert owners.asked == []


@pytest.fixture
def swept() -> Iterator[Callable[[], list[str]]]:
    """What is left in this folder after the parts of processes that were killed are deleted."""

    def sweep_up() -> list[str]:
        sweep.cache_clear()
        sweep(Path().absolute())
        return sorted(path.name for path in Path().iterdir())

    yield sweep_up
    sweep.cache_clear()


def test_only_parts_that_nobody_writes_are_deleted(swept: Callable[[], list[str]]) -> None:
    stay = [
        "a.nac-part",
        ".a.0123456.nac-part",
        ".a.012345678.nac-part",
        ".a.0123456g.nac-part",
        ".a.01234567.nac-part2",
    ]
    for name in [*stay, ".a.01234567.nac-part", ".a\nb.89abcdef.nac-part", "..01234567.nac-part"]:
        Path(name).touch()
    Path(".link.01234567.nac-part").symlink_to("a.nac-part")
    Path(".folder.01234567.nac-part").mkdir()
    with whole_file(Path("out"), force=False) as file:
        part = Path(file.name).name
        assert swept() == sorted([*stay, part, ".link.01234567.nac-part", ".folder.01234567.nac-part"])
    assert "out" in swept()


def test_a_folder_is_swept_once_and_before_something_is_written_there(swept: Callable[[], list[str]]) -> None:
    swept()
    Path("d").mkdir()
    for name in (".a.01234567.nac-part", "d/.a.01234567.nac-part"):
        Path(name).touch()
    write("d/out")
    write("out")
    assert sorted(map(str, Path().rglob("*part"))) == [".a.01234567.nac-part"]


def test_a_part_is_locked_while_it_is_written() -> None:
    with whole_file(Path("out"), force=False) as file, Path(file.name).open("rb") as other, pytest.raises(OSError):  # noqa: PT011
        lock(other, wait=False)


def test_a_part_that_another_program_sweeps_before_it_is_locked_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swept = list[str]()

    def locked(file: BinaryIO, *, wait: bool = True) -> None:
        if len(swept) < 2:
            Path(file.name).unlink()
            swept.append(file.name)
        lock(file, wait=wait)

    monkeypatch.setattr(output, "lock", locked)
    with whole_file(Path("out"), force=False) as file:
        file.write(b"all of it")
    assert Path("out").read_bytes() == b"all of it"
    assert len(set(swept)) == 2
    assert [path.name for path in Path().iterdir()] == ["out"]


def changed(name: str) -> None:
    """Other bytes, as many, at another time."""
    Path(name).write_bytes(b"other")
    os.utime(name, ns=(10**18, 2 * 10**18))


def test_a_spent_input_is_deleted_unless_it_is_another_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    dated = (10**18, 10**18)
    for change in (
        lambda: Path("in").write_bytes(b"longer"),
        lambda: changed("in"),
        lambda: (Path("in").write_bytes(b"other"), os.utime("in", ns=(10**18, 10**18 + 1000))),  # the same second
        lambda: (Path("in").unlink(), Path("in").write_bytes(b"sound"), os.utime("in", ns=dated)),
        lambda: Path("in").unlink(),
    ):
        Path("in").write_bytes(b"sound")
        os.utime("in", ns=dated)
        write("out", force=True)
        with Path("in").open("rb"):  # so that its number is not given to another file
            spent = Spent(Path("in"))
            change()
            with pytest.raises(NacError, match=r"has changed|cannot be read"):
                spent.remove(Path("out"))
        Path("in").unlink(missing_ok=True)
    Path("in").write_bytes(b"sound")
    spent = Spent(Path("in"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(NacError, match="cannot be deleted: Operation not permitted; the output is complete"):
            spent.remove(Path("out"))
    spent.remove(Path("out"))
    assert [path.name for path in Path().iterdir()] == ["out"]


def test_only_plain_files_can_be_spent() -> None:
    Path("in").touch()
    Path("link").symlink_to("in")
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for name in "link", "folder", "pipe":
        with pytest.raises(NacError, match="not a plain file"):
            Spent(Path(name))
    with pytest.raises(NacError, match="cannot be read"):
        Spent(Path("none"))


def test_a_folder_cannot_be_written_to() -> None:
    Path("folder").mkdir()
    for force in False, True:
        with pytest.raises(NacError, match="cannot write folder: it is a folder"):
            write("folder", force=force)
    with pytest.raises(NacError, match="cannot write none/out: "):
        write("none/out")


def test_an_empty_file_in_memory_is_a_file_and_one_with_content_is_written_after_it() -> None:
    new, old = io.BytesIO(), io.BytesIO(b"before")
    old.seek(0, 2)
    with created(None, new, force=False) as file:
        assert file is new
    with created(None, old, force=False) as file:
        assert not file.seekable()
        file.write(b" after")
        assert file.tell() == 6
    assert old.getvalue() == b"before after"
    assert not old.closed


def test_what_is_no_file_is_refused() -> None:
    for wrong in (io.StringIO(), 5, None, b"name"):
        with pytest.raises(TypeError, match="a path or a binary file object is needed"):
            check_file(wrong, "write")  # type: ignore[arg-type]
    for right in "name", Path("name"), io.BytesIO():
        check_file(right, "read")
    assert [name_of(file) for file in ("a/b", Path("a/b"), io.BytesIO())] == ["a/b", "a/b", "-"]
    Path("five").write_bytes(b"12345")
    assert (size_of("five"), size_of(Path("five")), size_of(io.BytesIO(b"12345"))) == (5, 5, None)


def test_a_failed_disk_is_one_line_and_a_closed_pipe_none() -> None:
    class Broken(io.RawIOBase):
        def __init__(self, error: OSError) -> None:
            self.error = error

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise self.error

    def fill(error: OSError) -> None:
        with created(None, Broken(error), force=False) as file:
            file.write(b"x")

    with pytest.raises(NacError, match="cannot write standard output: No space left on device"):
        fill(OSError(28, "No space left on device"))
    with pytest.raises(BrokenPipeError):
        fill(BrokenPipeError(32, "Broken pipe"))
