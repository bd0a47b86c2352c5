"""Folders here and at URLs: the same things in them, and what is done where a server fails."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nac.errors import NacError
from nac.storage import places
from nac.storage.places import Local, Place, Remote, as_text, below, is_url, place, split, walk

WAYS = ["local", "url"]


@pytest.fixture(params=WAYS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The folder `in` below the test's own."""
    if request.param == "local":
        return place(str(tmp_path / "in"))
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    return place(f"file://{tmp_path}/in/")


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., None]:
    def fill(*names: str) -> None:
        for name in names:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

    return fill


def test_what_is_in_a_folder(where: Place, fill: Callable[..., None], tmp_path: Path) -> None:
    assert not where.is_there()
    assert where.takes_files()
    assert where.list("") == where.list("none") == ([], [])
    fill("b.wav", "a.wav", "d/c.wav", "d/e/f.wav", ".a.wav.01234567.nac-part")
    assert where.is_there()
    assert where.takes_files()
    assert where.list("") == (["a.wav", "b.wav"], ["d"])
    assert where.list("d") == (["c.wav"], ["e"])
    assert sorted(where.entries("")) == [("a.wav", False), ("b.wav", False), ("d", True)]
    assert [where.size(name) for name in ("a.wav", "d/c.wav", "d", "none", "d/none")] == [5, 7, None, None, None]
    assert where.name.endswith(f"{tmp_path}/in")


def test_links_to_folders_are_not_followed(fill: Callable[..., None], tmp_path: Path) -> None:
    fill("d/a.wav")
    (tmp_path / "in" / "d" / "again").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b.wav").symlink_to("d/a.wav")
    (tmp_path / "in" / "gone.wav").symlink_to("none")
    here = place(str(tmp_path / "in"))
    assert dict(walk(here)) == {"": ["b.wav"], "d": ["a.wav"]}


def test_every_folder_is_walked_in_order(where: Place, fill: Callable[..., None]) -> None:
    fill("z", "b/y", "a/x", "a/c/w", "a/b/v", "nac-manifest/1", "b/nac-manifest/2")
    every = list(walk(where))
    assert [folder for folder, _ in every] == ["", "a", "a/b", "a/c", "b", "b/nac-manifest", "nac-manifest"]
    assert dict(every)["a"] == ["x"]
    assert [folder for folder, _ in walk(where, {"nac-manifest", "a"})] == ["", "b", "b/nac-manifest"]


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_walked(
    where: Place, fill: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("a/x", "b/y", "c/z")
    listed = type(where).entries

    def entries(self: Any, folder: str) -> Any:
        if folder == "b":
            raise OSError("gone")
        return listed(self, folder)

    monkeypatch.setattr(type(where), "entries", entries)
    found = dict(walk(where))
    assert list(found) == ["", "a", "b", "c"]
    assert str(found["b"]) == "gone"
    assert found["c"] == ["z"]


@pytest.mark.parametrize("buffering", [-1, 1 << 12, 10])
def test_a_file_is_read_like_any_other(
    where: Place, fill: Callable[..., None], tmp_path: Path, buffering: int
) -> None:
    fill("d/a.bin")
    data = random.Random(1).randbytes(200_000)
    (tmp_path / "in/d/a.bin").write_bytes(data)
    chance, plain = random.Random(2), io.BytesIO(data)
    with where.open("d/a.bin", buffering) as file:
        assert (file.readable(), file.seekable(), file.tell()) == (True, True, 0)
        for _ in range(200):
            if chance.random() < 0.6:
                how = chance.choice(
                    [(0, chance.randrange(210_000)), (1, chance.randrange(9000)), (2, -chance.randrange(9000))]
                )
                assert file.seek(how[1], how[0]) == plain.seek(how[1], how[0])
            size = chance.choice([0, 1, 7, 4096, 100_000])
            assert file.read(size) == plain.read(size)
            assert file.tell() == plain.tell()
        file.seek(0)
        assert file.read() == data
        assert file.read(5) == b""
    assert file.closed
    with where.streamed("d/a.bin") as stream:
        assert (stream.read_bytes() if isinstance(stream, Path) else stream.read()) == data
    with pytest.raises(FileNotFoundError):
        where.open("none")


def test_a_file_is_fetched_under_its_name_and_no_copy_stays(
    where: Place, fill: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("d/a.wav")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with where.fetched("d/a.wav") as path:
        assert (path.name, path.read_bytes()) == ("a.wav", b"d/a.wav")
    assert not list(scratch.iterdir())
    assert (tmp_path / "in/d/a.wav").exists()
    with pytest.raises(FileNotFoundError), where.fetched("d/none.wav") as path:
        path.read_bytes()


def test_a_file_appears_whole_in_folders_that_are_made(where: Place, tmp_path: Path) -> None:
    with where.written("d/e/a.nac") as path:
        assert path.name == "a.nac"
        path.write_bytes(b"new" * 100_000)
        if isinstance(where, Remote):
            assert not (tmp_path / "in").exists()
    assert (tmp_path / "in/d/e/a.nac").read_bytes() == b"new" * 100_000
    with where.written("d/e/a.nac") as path:
        path.write_bytes(b"newer")
    assert where.size("d/e/a.nac") == 5
    assert [path.name for path in (tmp_path / "in/d/e").iterdir()] == ["a.nac"]
    where.remove("d/e/a.nac")
    assert where.list("d/e") == ([], [])
    with pytest.raises(FileNotFoundError):
        where.remove("d/e/a.nac")


def test_what_was_not_finished_does_not_appear_at_a_url(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    there = place(f"file://{tmp_path}/in")

    def write() -> None:
        with there.written("a.nac") as path:
            path.write_bytes(b"part")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert there.size("a.nac") is None


def test_a_folder_is_removed_with_all_in_it(where: Place, fill: Callable[..., None]) -> None:
    fill("d/a", "d/e/b", "c")
    where.remove_folder("d")
    where.remove_folder("d")  # no matter
    assert list(walk(where)) == [("", ["c"])]


def test_which_folder_is_in_which(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    for make in (lambda name: place(f"{tmp_path}/{name}"), lambda name: place(f"file://{tmp_path}/{name}")):
        assert make("a").below(make("a/b/c")) == "b/c"
        for other in ("a", "ab", "", "b"):
            assert make("a").below(make(other)) is None
    assert place(str(tmp_path / "link")).below(place(str(tmp_path / "a/b"))) == "b"
    assert place(str(tmp_path)).below(place(f"file://{tmp_path}/a")) is None
    assert place(f"file://{tmp_path}").below(place(str(tmp_path / "a"))) is None


def test_names_at_urls() -> None:
    assert all(map(is_url, ("s3://a", "x+y.z-1://", "file:///a")))
    assert not any(map(is_url, ("C:/a", "C://a", "/s3://a", "1s://a", "a/b", "s3:a")))
    assert [below("", "a"), below("b", "a")] == ["a", "b/a"]
    assert split("a/b.wav") == ("a", "b.wav")
    assert split("b.wav") == (".", "b.wav")
    assert split("/b.wav") == ("/", "b.wav")
    assert split("a/b/") == ("a", "b")
    assert split("what?/b.wav") == ("what?", "b.wav")
    assert split("s3://bucket/a/b.wav?region=x/y") == ("s3://bucket/a?region=x/y", "b.wav")
    assert as_text("é\udcff") == "é\\xff"


def test_a_url_is_named_without_its_secrets(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    there = Remote("s3://me:secret@bucket/a/?region=eu-central-1&endpoint_override=x")
    assert there.name == "s3://bucket/a"
    assert there._system.type_name in places.OBJECT_STORES
    assert place("memory://a/b").name == "memory://a/b"  # by fsspec
    with pytest.raises(NacError, match=r"^foo://a: Protocol not known"):
        place("foo://a?x=y")


class Server:
    """A file system that fails as often as told, and counts how often it was asked."""

    def __init__(self, system: Any, kind: str) -> None:
        self._system, self.type_name = system, kind
        self.error: Exception = OSError("SlowDown")
        self.fail, self.calls = 0, list[str]()

    def __getattr__(self, name: str) -> Any:
        action = getattr(self._system, name)

        def asked(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if self.fail:
                self.fail -= 1
                raise self.error
            return action(*arguments, **options)

        return asked


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without waiting, and as long as usual."""
    pauses: list[float] = []
    monkeypatch.setattr(places.random, "uniform", lambda low, high: (low + high) / 2)
    monkeypatch.setattr(places.time, "sleep", pauses.append)
    return pauses


def served(tmp_path: Path, kind: str = "s3") -> tuple[Remote, Server]:
    pytest.importorskip("pyarrow", reason="pyarrow is absent: pip install pyarrow")
    there = Remote(f"file://{tmp_path}/in")
    there._system = server = Server(there._system, kind)
    return there, server


ACTIONS: dict[str, Callable[[Remote], Any]] = {
    "is_there": lambda there: there.is_there(),
    "list": lambda there: there.list(""),
    "size": lambda there: there.size("a"),
    "open": lambda there: there.open("a").read(),
    "fetched": lambda there: there.fetched("a").__enter__(),
    "remove": lambda there: there.remove("a"),
    "remove_folder": lambda there: there.remove_folder("d"),
}


@pytest.mark.parametrize("case", ACTIONS)
def test_what_fails_is_tried_four_times_again_with_growing_pauses(
    case: str, fill: Callable[..., None], tmp_path: Path, paused: list[float]
) -> None:
    fill("a", "d/b")
    there, server = served(tmp_path)
    server.fail = 4
    ACTIONS[case](there)
    assert paused == [0.5, 2, 8, 30]
    server.fail = 5
    fill("a", "d/b")
    with pytest.raises(OSError, match="SlowDown"):
        ACTIONS[case](there)
    assert len(paused) == 8


def test_pauses_differ_so_that_not_all_come_at_once(
    fill: Callable[..., None], tmp_path: Path, monkeypatch: Any
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(places.time, "sleep", pauses.append)
    fill("a")
    there, server = served(tmp_path)
    for _ in range(100):
        server.fail = 1
        there.size("a")
    assert 0.25 <= min(pauses) < 0.35
    assert 0.65 < max(pauses) <= 0.75


def test_reads_are_tried_again_where_they_were(
    fill: Callable[..., None], tmp_path: Path, paused: list[float]
) -> None:
    fill("a")
    there, _ = served(tmp_path)
    with there.open("a", 2) as file:
        raw = file.raw
        raw._file = Server(raw._file, "")
        raw._file.fail = 3
        assert file.read() == b"a"
        file.close()
    assert len(paused) == 3


@pytest.mark.parametrize(
    "error",
    [
        *(FileNotFoundError("a"), PermissionError("a"), IsADirectoryError("a"), NotADirectoryError("a")),
        OSError("When getting a: AWS Error NO_SUCH_BUCKET during GetObject"),
        OSError("AWS Error ACCESS_DENIED: no"),
    ],
)
def test_what_is_hopeless_is_not_tried_again(
    error: Exception, fill: Callable[..., None], tmp_path: Path, paused: list[float]
) -> None:
    fill("a")
    there, server = served(tmp_path)
    server.fail, server.error = 1, error
    with pytest.raises(type(error)):
        there.size("a")
    assert paused == []


@pytest.mark.parametrize("kind", places.OBJECT_STORES)
def test_an_object_store_is_asked_once_for_an_output(kind: str, fill: Callable[..., None], tmp_path: Path) -> None:
    """It appears when its upload ends, and there are neither folders nor names to change."""
    fill("d/b")
    there, server = served(tmp_path, kind)
    with there.written("d/a") as path:
        path.write_bytes(b"new")
    assert server.calls == ["open_output_stream"]
    assert there.size("d/a") == 3


def test_elsewhere_an_output_is_renamed_when_it_is_whole_and_else_deleted(
    fill: Callable[..., None], tmp_path: Path, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("d/b")
    there, server = served(tmp_path, "local")
    with there.written("d/a") as path:
        path.write_bytes(b"new")
    assert server.calls == ["create_dir", "open_output_stream", "move"]
    for error, pauses in ((OSError("full"), 4), (KeyboardInterrupt(), 0), (MemoryError(), 0)):
        del paused[:]
        monkeypatch.setattr(there, "_put", partial(broken_off, error))
        with pytest.raises(type(error)), there.written("d/c") as path:
            path.write_bytes(b"new")
        assert len(paused) == pauses
        assert there.list("d") == (["a", "b"], [])
        assert sorted(path.name for path in (tmp_path / "in/d").iterdir()) == ["a", "b"]


def broken_off(error: BaseException, path: Path, target: str) -> None:
    Path(target).write_bytes(b"ne")
    raise error


def test_a_bucket_takes_files_if_it_is_there(tmp_path: Path) -> None:
    there, server = served(tmp_path, "s3")
    there._root = f"{tmp_path.name}/none"
    for root, takes in (("", True), ("none", False)):
        asked: list[str] = []
        there._exists = lambda path, root=root, asked=asked: asked.append(path) or root == ""  # type: ignore[method-assign]
        assert there.takes_files() is takes
        assert asked == [tmp_path.name]
    server.type_name = "local"
    assert there.takes_files()


def test_a_file_in_the_place_of_a_folder_takes_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not Local(str(tmp_path / "file")).takes_files()
    assert not Local(str(tmp_path / "file")).is_there()
    assert Local("/").name == "/"
    assert Local("a/b//").name == "a/b"
    assert Local("a").root == Path.cwd() / "a"
