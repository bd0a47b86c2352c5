"""Plain HTTPS downloads against a real server: whole and right, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from itertools import pairwise
from pathlib import Path
from urllib.request import HTTPHandler, HTTPSHandler, Request
from urllib.response import addinfourl

import pytest
from hub_server import HubServer
from toy_models import File, Web, command, data, environment, files, finish, kill, start, toy
from watched_disk import watched

from nac.cli.hints import message_of
from nac.codecs.registry import MODELS
from nac.errors import ModelError
from nac.weights import cache, models
from nac.weights import download as fetch

GOOD = data(1)
SHA = hashlib.sha256(GOOD).hexdigest()
OTHER = data(2)

pytestmark = pytest.mark.network


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.plain["toy/w.bin"] = GOOD
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: HubServer) -> Path:
    """A cache, and two models: the SHA-256 of "known" is published, that of "toy" is not."""
    monkeypatch.setenv("NAC_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("NAC_WEIGHTS", raising=False)
    monkeypatch.delenv("NAC_MIRROR", raising=False)
    for name, file in ("toy", File("w.bin")), ("known", File("w.bin", len(GOOD), SHA)):
        monkeypatch.setitem(MODELS, name, toy(name, Web(f"{server.url}/toy", (file,))))  # type: ignore[arg-type]
    return tmp_path


def test_first_download_is_whole_and_the_second_needs_no_server(server: HubServer, home: Path) -> None:
    assert models.locate("toy") is None
    path = models.download("toy")
    assert path.read_bytes() == GOOD
    assert files(home) == ["w.bin"]
    server.stop()
    assert models.download("toy") == models.locate("toy") == models.path("toy") == path


def test_mirror_holds_a_folder_for_each_model(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "known", toy("known", Web("https://nowhere.invalid", (File("w.bin", None, SHA),))))
    server.plain["mirror/known/w.bin"] = GOOD
    monkeypatch.setenv("NAC_MIRROR", f"{server.url}/mirror/")
    assert models.download("known").read_bytes() == GOOD


def test_cut_connections_are_resumed_at_once(server: HubServer, home: Path) -> None:
    server.faults.cut, server.faults.cuts = 100_000, 2
    assert models.download("toy").read_bytes() == GOOD
    assert server.gets() == ["", "bytes=100000-", "bytes=200000-"]


def cut_off(server: HubServer, name: str = "toy") -> None:
    """A download of which 100,000 bytes arrive, and then none."""
    server.faults.cut, server.faults.cuts = 100_000, 1
    server.after_cut = lambda: setattr(server.faults, "status", 503)
    with pytest.raises(ModelError, match="503"):
        models.download(name)
    server.after_cut = lambda: None
    server.faults.status = 0
    server.log.clear()


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server: HubServer, home: Path) -> None:
    cut_off(server)
    assert models.locate("toy") is None
    assert models.download("toy").read_bytes() == GOOD
    assert server.gets() == ["bytes=100000-"]
    assert files(home) == ["w.bin"]


@pytest.mark.parametrize("fault", ["ranges", "if_range", "etag"])
def test_what_was_there_is_dropped_if_the_file_may_be_another(server: HubServer, home: Path, fault: str) -> None:
    setattr(server.faults, fault, False)
    cut_off(server)
    server.plain["toy/w.bin"] = OTHER
    assert models.download("toy").read_bytes() == OTHER
    assert files(home) == ["w.bin"]


def test_a_changed_file_is_sent_whole_in_one_answer(server: HubServer, home: Path) -> None:
    cut_off(server)
    server.plain["toy/w.bin"] = OTHER
    assert models.download("toy").read_bytes() == OTHER
    assert server.gets() == ["bytes=100000-"]  # with If-Range


@pytest.mark.parametrize("fault", ["weak", "long"])
def test_a_weak_or_long_tag_does_not_prove_that_the_rest_belongs_to_what_is_there(
    server: HubServer, home: Path, fault: str
) -> None:
    """A weak one is the same for versions that mean the same, whatever their bytes (RFC 9110, section 8.8.1).

    One of 320 letters fits into no file name, where it would be remembered.
    """
    setattr(server.faults, fault, True)
    cut_off(server)
    server.plain["toy/w.bin"] = OTHER
    assert models.download("toy").read_bytes() == OTHER
    assert server.gets() == [""]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_download_is_on_the_disk_before_it_takes_its_name(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    if resumed:
        cut_off(server)
    disk = watched(monkeypatch)
    models.download("toy")
    assert "w.bin" in disk.named()


def test_a_server_that_sends_nothing_is_given_up(server: HubServer, home: Path) -> None:
    server.faults.cut, server.faults.cuts = 0, 10
    with pytest.raises(ModelError, match="stops after 0 of 300000 bytes"):
        models.download("toy")
    assert len(server.gets()) == 1


@pytest.mark.parametrize("fault", ["ranges", "etag"])
def test_a_server_that_never_gets_further_is_given_up(server: HubServer, home: Path, fault: str) -> None:
    """It always breaks off at the same place, and what has come cannot be resumed."""
    setattr(server.faults, fault, False)
    server.faults.cut, server.faults.cuts = 100_000, 10
    with pytest.raises(ModelError, match="stops after 100000 of 300000 bytes"):
        models.download("toy")
    assert len(server.gets()) == 2
    assert models.locate("toy") is None


@pytest.mark.parametrize("fault", ["ranges", "etag"])
def test_a_server_that_cannot_resume_is_asked_again_as_long_as_more_comes(
    server: HubServer, home: Path, fault: str
) -> None:
    setattr(server.faults, fault, False)
    server.faults.cut, server.faults.cuts = 100_000, 1
    assert models.download("toy").read_bytes() == GOOD
    assert files(home) == ["w.bin"]


def test_a_server_without_ranges_starts_anew(server: HubServer, home: Path) -> None:
    cut_off(server)
    server.faults.ranges = False
    assert models.download("toy").read_bytes() == GOOD


def test_a_run_that_died_before_the_last_rename(server: HubServer, home: Path) -> None:
    cut_off(server)
    (part,) = home.rglob("*.part")
    part.write_bytes(GOOD)
    assert models.download("toy").read_bytes() == GOOD  # 416, then all of it again


@pytest.mark.parametrize("wrong", [OTHER, GOOD[:-1], GOOD + b"x", b""])
def test_other_weights_than_published_leave_nothing(server: HubServer, home: Path, wrong: bytes) -> None:
    server.plain["toy/w.bin"] = wrong
    with pytest.raises(ModelError, match="published"):
        models.download("known")
    assert files(home) == []
    assert models.locate("known") is None


@pytest.mark.parametrize("wrong", [GOOD[:-1], GOOD + b"x"])
def test_a_published_size_counts_alone(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes
) -> None:
    file = File("w.bin", len(GOOD))
    monkeypatch.setitem(MODELS, "known", toy("known", Web(f"{server.url}/toy", (file,))))
    server.plain["toy/w.bin"] = wrong
    with pytest.raises(ModelError, match="not the published 300000"):
        models.download("known")
    server.plain["toy/w.bin"] = GOOD
    assert models.download("known").read_bytes() == GOOD


@pytest.mark.parametrize("wrong", [GOOD[:-1], GOOD + b"x", GOOD + GOOD, b""])
def test_a_published_size_counts_where_the_server_tells_none(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, wrong: bytes
) -> None:
    """What has more or less is another file."""
    file = File("w.bin", len(GOOD))
    monkeypatch.setitem(MODELS, "known", toy("known", Web(f"{server.url}/toy", (file,))))
    server.faults.length = False
    server.plain["toy/w.bin"] = wrong
    with pytest.raises(ModelError, match="300000"):
        models.download("known")
    assert models.locate("known") is None
    server.plain["toy/w.bin"] = GOOD
    assert models.download("known").read_bytes() == GOOD


def test_a_file_has_its_name_only_after_its_hash_was_checked(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=SHA):
        fetch.web(f"{server.url}/toy/w.bin", tmp_path / "w.bin", sha256="00")
    assert files(tmp_path) == []


def test_the_published_beginning_of_a_hash_counts(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = File("w.bin", sha256=SHA[:8])
    monkeypatch.setitem(MODELS, "known", toy("known", Web(f"{server.url}/toy", (file,))))
    assert models.download("known").read_bytes() == GOOD
    models.remove("known")
    server.plain["toy/w.bin"] = OTHER
    with pytest.raises(ModelError, match=SHA[:8]):
        models.download("known")


def test_unknown_length_is_refused(server: HubServer, home: Path) -> None:
    server.faults.length = False
    with pytest.raises(ModelError, match="unknown length"):
        models.download("toy")
    assert models.download("known").read_bytes() == GOOD  # its length is published


def redirected(monkeypatch: pytest.MonkeyPatch, *hops: str) -> list[str]:
    """Encrypted servers that redirect to one another and end with the file. Returns the hosts that were asked."""
    asked = list[str]()
    following = dict(pairwise(hops))

    def answer(_: HTTPHandler, request: Request) -> addinfourl:
        asked.append(request.full_url)
        headers = Message()
        if request.full_url in following:
            headers["Location"] = following[request.full_url]
        else:
            headers["Content-Length"] = str(len(GOOD))
        response = addinfourl(
            io.BytesIO(b"" if "Location" in headers else GOOD),
            headers,
            request.full_url,
            302 if "Location" in headers else 200,
        )
        response.msg = "as told"  # type: ignore[attr-defined]
        return response

    monkeypatch.setattr(HTTPSHandler, "https_open", answer)
    monkeypatch.setattr(HTTPHandler, "http_open", answer)
    return asked


@pytest.mark.parametrize(
    "hops",
    [
        ("https://a.example/w", "http://b.example/w"),
        ("HTTPS://a.example/w", "http://b.example/w"),
        ("https://a.example/w", "https://b.example/w", "http://c.example/w"),
        ("https://a.example/w", "http://b.example/w", "https://c.example/w"),
    ],
)
def test_no_redirect_leaves_encryption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hops: tuple[str, ...]
) -> None:
    """Whoever is on the way could answer with other weights, or with a redirect of his own: nobody is asked."""
    asked = redirected(monkeypatch, *hops)
    (plain,) = (hop for hop in hops if hop.startswith("http:"))
    with pytest.raises(fetch.Unavailable, match=f"redirects to {plain}, which is not encrypted"):
        fetch.web(hops[0], tmp_path / "w.bin")
    assert asked == list(hops[: hops.index(plain)])
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "hops",
    [
        ("https://a.example/w", "https://b.example/w"),
        ("https://a.example/w", "HTTPS://b.example/w"),
        ("http://a.example/w", "http://b.example/w"),  # a mirror in one's own network
        ("http://a.example/w", "https://b.example/w"),
    ],
)
def test_other_redirects_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hops: tuple[str, ...]
) -> None:
    asked = redirected(monkeypatch, *hops)
    fetch.web(hops[0], tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == GOOD
    assert [url.lower() for url in asked] == [url.lower() for url in hops]


def answering(monkeypatch: pytest.MonkeyPatch, ranged: Callable[[int], tuple[int, int, str]]) -> list[int]:
    """A server whose first answer breaks off after 100,000 bytes. Returns the starts that it was asked for.

    ``ranged``: the first byte and one past the last of its answer to who wants the rest from a byte on, and what
    it says of them.
    """
    starts = list[int]()

    def answer(_: HTTPHandler, request: Request) -> addinfourl:
        starts.append(int(request.get_header("Range", "bytes=0-")[len("bytes=") : -1]))
        headers = Message()
        headers["ETag"] = '"of this version"'
        low, high, said = ranged(starts[-1]) if starts[-1] else (0, len(GOOD), "")
        if said:
            headers["Content-Range"] = said
        headers["Content-Length"] = str(high - low)
        body = GOOD[low:100_000] if len(starts) == 1 else GOOD[low:high]
        response = addinfourl(io.BytesIO(body), headers, request.full_url, 206 if starts[-1] else 200)
        response.msg = "as told"  # type: ignore[attr-defined]
        return response

    monkeypatch.setattr(HTTPHandler, "http_open", answer)
    return starts


@pytest.mark.parametrize("low", [0, 99_999, 100_001])
@pytest.mark.parametrize("told", [True, False])
def test_a_range_that_begins_elsewhere_is_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: int, told: bool
) -> None:
    whole = len(GOOD)
    said = f"bytes {low}-{whole - 1}/{whole}" if told else ""
    starts = answering(monkeypatch, lambda start: (low, whole, said))
    fetch.web("http://a.example/w", tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == GOOD
    assert starts == [0, 100_000, 0]


@pytest.mark.parametrize("most", [1 << 16, 50_000, 100_000])
def test_a_range_that_is_shorter_than_asked_for_is_followed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A server need not send all that was asked for (RFC 9110, section 15.3.7)."""
    whole = len(GOOD)

    def some(start: int) -> tuple[int, int, str]:
        end = min(start + most, whole)
        return start, end, f"bytes {start}-{end - 1}/{whole}"

    starts = answering(monkeypatch, some)
    fetch.web("http://a.example/w", tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == GOOD
    assert starts == [0, *range(100_000, whole, most)]


def test_missing_file(server: HubServer, home: Path) -> None:
    server.plain.clear()
    with pytest.raises(ModelError, match="404"):
        models.download("toy")
    assert files(home) == []


def test_no_network_says_in_one_line_what_to_do(server: HubServer, home: Path) -> None:
    server.stop()
    began = time.perf_counter()
    with pytest.raises(ModelError, match=r"cannot reach 127.0.0.1") as caught:
        models.download("toy")
    assert time.perf_counter() - began < 5
    assert "\n" not in str(caught.value)
    # Not that command again, which has just failed.
    assert message_of(caught.value).endswith("(after copying them to this machine, use --weights or NAC_WEIGHTS)")
    with pytest.raises(ModelError, match=r"cannot reach 127.0.0.1"):
        models.load("toy")


def test_without_download_nothing_is_fetched(server: HubServer, home: Path) -> None:
    for action in (lambda: models.load("toy", download=False), lambda: models.path("toy")):
        with pytest.raises(ModelError, match="the weights of toy are not on this machine") as caught:
            action()
        assert "(`nac models download toy` downloads them" in message_of(caught.value)
    assert server.log == []


def test_first_use_is_recorded_and_a_change_refused(server: HubServer, home: Path) -> None:
    models.download("toy")
    assert models.remove("toy") == len(GOOD)
    server.plain["toy/w.bin"] = OTHER
    with pytest.raises(ModelError, match=hashlib.sha256(OTHER).hexdigest()) as caught:
        models.download("toy")
    assert SHA in str(caught.value)
    assert files(home) == []
    (home / "first-use.json").unlink()
    assert models.download("toy").read_bytes() == OTHER


@pytest.mark.parametrize("name", ["toy", "known"])
def test_tampered_weights_are_noticed_and_mended(server: HubServer, home: Path, name: str) -> None:
    path = models.download(name)
    assert [line.sha256 for line in models.verify(name)] == [SHA]
    path.write_bytes(GOOD[:-1] + b"\0")
    with pytest.raises(ModelError, match=SHA):
        models.verify(name)
    with pytest.raises(ModelError, match=SHA):
        models.load(name)
    assert models.download(name).read_bytes() == GOOD
    models.verify(name)


def test_a_hash_is_remembered_until_the_file_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "file"
    path.write_bytes(GOOD)
    assert cache.sha256(path) == SHA
    assert not (home / "hashes.json").exists()  # too young to be trusted later
    monkeypatch.setattr(cache, "_RECENT_NS", -1)
    assert cache.sha256(path) == SHA
    table = home / "hashes.json"
    table.write_text(table.read_text().replace(SHA, "remembered"))
    assert cache.sha256(path) == "remembered"
    assert cache.sha256(path, fresh=True) == SHA
    path.write_bytes(OTHER)
    os.utime(path, ns=(0, 0))
    assert cache.sha256(path) == hashlib.sha256(OTHER).hexdigest()


def test_a_file_that_was_changed_and_dated_back_is_hashed_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_RECENT_NS", -1)
    path = home / "file"
    for content in GOOD, OTHER:
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        assert cache.sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_damaged_record_is_an_error_and_keeps_the_weights(server: HubServer, home: Path) -> None:
    path = models.download("toy")
    (home / "first-use.json").write_text("{")
    with pytest.raises(ModelError, match=r"first-use\.json is damaged"):
        models.load("toy")
    with pytest.raises(ModelError, match=r"first-use\.json is damaged"):
        models.download("toy")
    assert path.read_bytes() == GOOD


def test_remove_deletes_files_and_beginnings(server: HubServer, home: Path) -> None:
    cut_off(server)
    assert models.remove("toy") == 100_000
    models.download("toy")
    assert models.remove("toy") == len(GOOD)
    assert models.remove("toy") == 0
    assert files(home) == []


def test_remove_leaves_own_folders_alone(
    server: HubServer, home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the cache as well is deleted there; if nothing is, that is an error."""
    cached = models.download("known")
    own = tmp_path_factory.mktemp("own") / "known" / "w.bin"
    own.parent.mkdir()
    own.write_bytes(GOOD)
    monkeypatch.setenv("NAC_WEIGHTS", str(own.parents[1]))
    assert models.locate("known") == own
    assert models.remove("known") == len(GOOD)
    assert not cached.exists()
    with pytest.raises(ModelError, match=r"are not in a cache but in .*own.*: not deleted"):
        models.remove("known")
    assert own.read_bytes() == GOOD


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_what_cannot_be_deleted_is_told_in_one_line(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    path = models.download("toy")

    def refuse(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(ModelError, match=f"^cannot delete the weights of toy: {error.strerror}$"):
            models.remove("toy")
    assert path.read_bytes() == GOOD
    assert models.remove("toy") == len(GOOD)  # nothing stays locked


ADD = "add('toy', Web('{}/toy', (File('w.bin'),)))\n"


def test_remove_waits_for_those_who_download(server: HubServer, home: Path) -> None:
    path = models.download("toy")
    remover = threading.Thread(target=models.remove, args=("toy",))
    with cache.lock("toy"):
        remover.start()
        remover.join(0.5)
        assert remover.is_alive()
        assert path.read_bytes() == GOOD
    remover.join(60)
    assert files(home) == []


def test_two_processes_download_once(server: HubServer, tmp_path: Path) -> None:
    server.plain["toy/w.bin"] = GOOD
    server.faults.pause = 0.2
    code = ADD.format(server.url) + "attempt(download, 'toy')"
    both = [finish(process) for process in [start(tmp_path, code), start(tmp_path, code)]]
    path = tmp_path / "nac/models/toy/w.bin"
    assert [out for out, _ in both] == [[str(path)]] * 2
    assert path.read_bytes() == GOOD
    assert server.gets() == [""]


def test_a_killed_download_is_resumed(server: HubServer, tmp_path: Path) -> None:
    server.faults.pause = 0.2
    code = ADD.format(server.url) + "attempt(download, 'toy')"
    process = start(tmp_path, code)
    deadline = time.monotonic() + 20
    while not any(part.stat().st_size for part in tmp_path.rglob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)
    kill(process)
    assert not (tmp_path / "nac/models/toy/w.bin").exists()
    server.faults.pause = 0
    finish(start(tmp_path, code))
    assert (tmp_path / "nac/models/toy/w.bin").read_bytes() == GOOD
    first, second = server.gets()
    assert first == ""
    assert second.startswith("bytes=")
    assert files(tmp_path) == ["w.bin"]


LIMIT = "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_takes_no_more_is_one_line_and_no_rest(server: HubServer, tmp_path: Path) -> None:
    out, _ = finish(start(tmp_path, LIMIT + ADD.format(server.url) + "attempt(download, 'toy')"))
    assert len(out) == 1
    assert out[0].startswith(f"refused: cannot write {tmp_path}")
    assert files(tmp_path) == []


def private_mounts() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not private_mounts(), reason="needs mounts of its own (unshare -rm)")
def test_full_and_read_only_caches(server: HubServer, tmp_path: Path) -> None:
    """On a real small disk: too full for one model; then read-only, with another one on it."""
    server.plain["small/w.bin"] = b"small"
    (tmp_path / "nac").mkdir()
    shell = f"""
    set -e
    mount -t tmpfs -o size=128k none {tmp_path}/nac
    "$@" "attempt(download, 'toy'); attempt(download, 'small')"
    find {tmp_path}/nac/models -type f | wc -l
    mount -o remount,ro {tmp_path}/nac
    "$@" "attempt(download, 'small'); attempt(lambda: len(verify('small'))); attempt(download, 'toy')"
    """
    code = ADD.format(server.url) + ADD.format(server.url).replace("toy", "small") + "exec(sys.argv[1])"
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, "sh", *command(code)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    small = f"{tmp_path}/nac/models/small/w.bin"
    assert lines[0].startswith(f"refused: cannot write {tmp_path}")
    assert "No space left" in lines[0]
    assert lines[1:5] == [small, "1", small, "1"]
    assert lines[5].startswith("refused: cannot write to the cache")
    assert len(lines) == 6
