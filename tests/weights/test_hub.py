"""Downloads from a Hub: huggingface_hub in processes of their own, against a real server."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from toy_models import data, files, finish, kill, start

GOOD, OTHER = data(1), data(2)
SHA, OTHER_SHA = (hashlib.sha256(content).hexdigest() for content in (GOOD, OTHER))
TOY = "add('toy', Hub('someone/toy', (File('w.bin'),)))\n"
KNOWN = f"add('toy', Hub('someone/toy', (File('w.bin', sha256='{SHA}'),)))\n"

pytestmark = pytest.mark.network


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        server.push("someone/toy", {"w.bin": GOOD})
        yield server


def run(server: HubServer, folder: Path, code: str, **settings: str) -> tuple[list[str], str]:
    return finish(start(folder, code, HF_ENDPOINT=server.url, **settings))


def cached(folder: Path, repo: str = "someone/toy") -> list[bytes]:
    snapshots = folder / "hf/hub" / f"models--{repo.replace('/', '--')}" / "snapshots"
    return [path.read_bytes() for path in snapshots.glob("*/*")]


def test_download_then_full_cache_offline(server: HubServer, tmp_path: Path) -> None:
    code = TOY + "print(locate('toy')); attempt(download, 'toy'); print(locate('toy'))"
    (absent, path, found), _ = run(server, tmp_path, code)
    assert absent == "None"
    assert path == found
    assert Path(path).read_bytes() == GOOD
    assert len(server.gets("cdn/")) == 1

    server.stop()
    code = TOY + "attempt(download, 'toy'); print(locate('toy')); print(verify('toy')[0].sha256)"
    for settings in {}, {"HF_HUB_OFFLINE": "1"}:
        assert run(server, tmp_path, code, **settings)[0] == [path, path, SHA]


def test_offline_refuses_every_download(server: HubServer, tmp_path: Path) -> None:
    code = TOY + f"add('web', Web('{server.url}', (File('w.bin'),)))\n"
    code += "attempt(download, 'toy'); attempt(download, 'web')"
    lines, _ = run(server, tmp_path, code, HF_HUB_OFFLINE="1")
    assert [line.startswith("refused: HF_HUB_OFFLINE is set") for line in lines] == [True, True]
    assert server.log == []


def test_a_cut_connection_is_resumed(server: HubServer, tmp_path: Path) -> None:
    large = data(3, 12_000_000)  # huggingface_hub keeps blocks of 10 MiB
    server.push("someone/toy", {"w.bin": large})
    server.faults.cut, server.faults.cuts = 11_000_000, 1
    run(server, tmp_path, TOY + "attempt(download, 'toy')")
    assert cached(tmp_path) == [large]
    first, second = server.gets("cdn/")
    assert first == ""
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 10 << 20


def test_other_weights_than_published_are_not_even_fetched(server: HubServer, tmp_path: Path) -> None:
    server.push("someone/toy", {"w.bin": OTHER})
    (line,), _ = run(server, tmp_path, KNOWN + "attempt(download, 'toy')")
    assert line.startswith("refused:")
    assert SHA in line
    assert OTHER_SHA in line
    assert server.gets("cdn/") == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("model", [TOY, KNOWN], ids=["unpublished", "published"])
def test_bytes_changed_on_the_way_leave_nothing(server: HubServer, tmp_path: Path, model: str) -> None:
    server.faults.corrupt = True
    (line, after), _ = run(server, tmp_path, model + "attempt(download, 'toy'); print(locate('toy'))")
    assert line.startswith("refused:")
    assert SHA in line
    assert hashlib.sha256(GOOD[::-1]).hexdigest() in line
    assert after == "None"
    assert files(tmp_path) == []


def test_what_is_missing_is_named(server: HubServer, tmp_path: Path) -> None:
    server.push("someone/gated", {"w.bin": GOOD})
    server.repos["someone/gated"].gated = True
    code = """
for repo, name, revision in (
    ("someone/nobody", "w.bin", "main"), ("someone/toy", "v.bin", "main"), ("someone/toy", "w.bin", "0" * 40),
    ("someone/gated", "w.bin", "main"),
):
    add("toy", Hub(repo, (File(name),)))
    attempt(download, "toy", revision=revision)
"""
    repo, file, revision, gated = run(server, tmp_path, code)[0]
    assert "the Hub has no repository someone/nobody" in repo
    assert "someone/toy on the Hub has no file v.bin" in file
    assert f"someone/toy on the Hub has no revision {'0' * 40}" in revision
    assert "HF_TOKEN" in gated
    assert files(tmp_path / "hf/hub") == []


def test_no_network_says_in_one_line_what_to_do(server: HubServer, tmp_path: Path) -> None:
    server.stop()
    began = time.perf_counter()
    (line,), _ = run(server, tmp_path, TOY + "attempt(download, 'toy')")
    assert line.startswith("refused: cannot download toy: cannot download someone/toy/w.bin from")
    assert "nac models" not in line
    assert time.perf_counter() - began < 15


def test_revisions_are_pinned_and_can_be_chosen(server: HubServer, tmp_path: Path) -> None:
    old = server.repos["someone/toy"].refs["main"]
    new = server.push("someone/toy", {"w.bin": OTHER})
    code = f"add('toy', Hub('someone/toy', (File('w.bin'),), '{old}'))\n"
    code += f"attempt(download, 'toy'); attempt(download, 'toy', revision='{new}'); print(locate('toy'))\n"
    code += f"print(locate('toy', revision='{new}')); print(locate('toy', revision='main'))"
    pinned, chosen, found, found_new, main = run(server, tmp_path, code)[0]
    assert (Path(pinned).read_bytes(), Path(chosen).read_bytes()) == (GOOD, OTHER)
    assert (found, found_new, main) == (pinned, chosen, "None")


def test_a_silent_change_is_refused_and_can_be_chosen(server: HubServer, tmp_path: Path) -> None:
    old = server.repos["someone/toy"].refs["main"]
    run(server, tmp_path, TOY + "download('toy'); print(remove('toy'))")
    assert files(tmp_path) == []
    new = server.push("someone/toy", {"w.bin": OTHER})
    code = TOY + "attempt(download, 'toy'); print(locate('toy'))\n"
    code += f"attempt(download, 'toy', revision='{new}'); attempt(download, 'toy', revision='{old}')"
    refused, found, chosen, first = run(server, tmp_path, code)[0]
    assert refused.startswith("refused:")
    assert all(word in refused for word in (SHA, OTHER_SHA, old, new))
    assert found == "None"
    assert (Path(chosen).read_bytes(), Path(first).read_bytes()) == (OTHER, GOOD)


PINNED = "add('toy', Hub('someone/toy', (File('w.bin', {}),), '" + "0" * 40 + "'))\n"


def test_an_unknown_revision_is_told_and_main_taken_if_it_may_be(server: HubServer, tmp_path: Path) -> None:
    code = "attempt(download, 'toy'); print(locate('toy')); print(verify('toy')[0].against)"
    for number, (file, against) in enumerate(((f"sha256='{SHA}'", "published"), ("", "first use"))):
        (path, found, how), message = run(server, tmp_path / str(number), PINNED.format(file) + code)
        assert (Path(path).read_bytes(), found, how) == (GOOD, path, against)
        assert f"no revision {'0' * 40}; trying the main revision of https://huggingface.co/someone/toy" in message

    (line, found), message = run(
        server,
        tmp_path / "other",
        PINNED.format(f"sha256='{OTHER_SHA}'") + "attempt(download, 'toy'); print(locate('toy'))",
    )
    assert line.startswith("refused:")
    assert found == "None"

    # Another program's main is not this model's weights, if it holds others.
    folder = tmp_path / "shared"
    run(server, folder, TOY + "download('toy')")
    lines, _ = run(server, folder, PINNED.format(f"sha256='{OTHER_SHA}'") + "print(locate('toy'))")
    assert lines == ["None"]
    lines, _ = run(server, folder, PINNED.format(f"sha256='{SHA}'") + "print(locate('toy'))")
    assert lines != ["None"]
    # Nor is it where none are published, until it has been this model's.
    shutil.rmtree(folder / "nac")
    lines, _ = run(
        server, folder, PINNED.format("") + "print(locate('toy')); download('toy'); print(locate('toy'))"
    )
    assert lines[0] == "None" != lines[1]


def test_a_pinned_file_is_enforced_and_other_revisions_are_free(server: HubServer, tmp_path: Path) -> None:
    old = server.repos["someone/toy"].refs["main"]
    new = server.push("someone/toy", {"w.bin": OTHER})
    code = f"add('toy', Hub('someone/toy', (File('w.bin', sha256='{SHA}'),), '{old}'))\n"
    code += f"attempt(download, 'toy'); attempt(download, 'toy', revision='{new}')\n"
    code += f"print(verify('toy')[0].against, verify('toy', '{new}')[0].against)"
    pinned, chosen, against = run(server, tmp_path, code)[0]
    assert (Path(pinned).read_bytes(), Path(chosen).read_bytes()) == (GOOD, OTHER)
    assert against == "published first use"


def test_a_sum_of_one_record_warns_and_what_came_is_recorded(server: HubServer, tmp_path: Path) -> None:
    code = "add('toy', Hub('someone/toy', (File('w.bin', reported='{}'),)))\nattempt(download, 'toy')"
    (path, how), message = run(server, tmp_path / "1", code.format(SHA) + "; print(verify('toy')[0].against)")
    assert (Path(path).read_bytes(), how, message) == (GOOD, "reported once", "")
    (path,), message = run(server, tmp_path / "2", code.format(OTHER_SHA))
    assert Path(path).read_bytes() == GOOD
    assert SHA in message
    assert f"not {OTHER_SHA}, which was reported once but is not confirmed: used anyway" in message
    server.push("someone/toy", {"w.bin": OTHER})
    run(server, tmp_path / "2", code.format(OTHER_SHA) + "; remove('toy')")
    (line,), _ = run(server, tmp_path / "2", code.format(OTHER_SHA))
    assert line.startswith("refused:")
    assert "on first use it had " + SHA in line


@pytest.mark.parametrize("model", [TOY, KNOWN], ids=["unpublished", "published"])
def test_the_tag_of_another_server_is_no_sum(server: HubServer, tmp_path: Path, model: str) -> None:
    """Where the Hub announces none, huggingface_hub takes the CDN's entity tag, and names its copy so."""
    server.faults.linked, server.faults.tag = False, "ab" * 32
    lines, message = run(server, tmp_path, model + "attempt(download, 'toy'); print(verify('toy')[0].sha256)")
    assert (Path(lines[0]).read_bytes(), lines[1], message) == (GOOD, SHA, "")
    server.faults.linked = True  # and where it does, that counts
    lines, _ = run(server, tmp_path / "again", model + "attempt(download, 'toy')")
    assert Path(lines[0]).read_bytes() == GOOD


BOTH = "add('toy', Hub('{}', (File('w.bin'{}),)), Web('{}', (File('original.bin'),)))\nattempt(download, 'toy'{})"


def test_second_source_only_where_the_first_cannot_be_had(server: HubServer, tmp_path: Path) -> None:
    server.plain["web/original.bin"] = OTHER
    web = f"{server.url}/web"

    (path,), message = run(server, tmp_path / "1", BOTH.format("someone/toy", "", web, ""))
    assert (Path(path).read_bytes(), message) == (GOOD, "")

    (path,), message = run(server, tmp_path / "2", BOTH.format("someone/nobody", "", web, ""))
    assert Path(path) == tmp_path / "2/nac/models/toy/original.bin"
    assert (
        message
        == f"toy: the Hub has no repository someone/nobody, or it is private (then set HF_TOKEN); trying {web}\n"
    )

    wrong = ", sha256='00'"
    (line,), message = run(server, tmp_path / "3", BOTH.format("someone/toy", wrong, web, ""))
    assert (line.startswith("refused:"), message) == (True, "")

    (line,), message = run(server, tmp_path / "4", BOTH.format("someone/nobody", "", web, ", revision='main'"))
    assert (line.startswith("refused:"), message) == (True, "")


def test_two_processes_download_once(server: HubServer, tmp_path: Path) -> None:
    server.faults.pause = 0.2
    code = TOY + "attempt(download, 'toy')"
    both = [start(tmp_path, code, HF_ENDPOINT=server.url) for _ in range(2)]
    (first,), (second,) = (finish(process)[0] for process in both)
    assert first == second
    assert cached(tmp_path) == [GOOD]
    assert server.gets("cdn/") == [""]


def test_a_killed_download_leaves_nothing_after_the_next(server: HubServer, tmp_path: Path) -> None:
    server.faults.pause = 1
    code = TOY + "attempt(download, 'toy')"
    process = start(tmp_path, code, HF_ENDPOINT=server.url)
    deadline = time.monotonic() + 20
    while not list(tmp_path.rglob("*.incomplete")) and time.monotonic() < deadline:
        time.sleep(0.01)
    kill(process)
    assert len(list(tmp_path.rglob("*.incomplete"))) == 1
    server.faults.pause = 0
    run(server, tmp_path, code)
    assert cached(tmp_path) == [GOOD]
    assert list(tmp_path.rglob("*.incomplete")) == []


@pytest.mark.parametrize("model", [TOY, KNOWN], ids=["unpublished", "published"])
def test_tampered_weights_are_noticed_and_mended(server: HubServer, tmp_path: Path, model: str) -> None:
    code = model + "download('toy').write_bytes(b'x' * 300_000)\n"
    code += "attempt(verify, 'toy'); attempt(models.load, 'toy'); attempt(download, 'toy')\n"
    code += "print(verify('toy')[0].sha256); print(remove('toy'), remove('toy'), locate('toy'))"
    verified, loaded, mended, digest, removed = run(server, tmp_path, code)[0]
    tampered = hashlib.sha256(b"x" * 300_000).hexdigest()
    for line in verified, loaded:
        assert line.startswith("refused:")
        assert SHA in line
        assert tampered in line
    assert not mended.startswith("refused:")
    assert digest == SHA
    assert removed == "300000 0 None"
    assert files(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_one_line(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "hf").write_text("a file where the folder should be")
    (line,), _ = run(server, tmp_path, TOY + "attempt(download, 'toy')")
    assert line.startswith("refused: cannot write to the Hub's cache")
