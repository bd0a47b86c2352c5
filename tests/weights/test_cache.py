"""The tables of the cache: on the disk before they take their names, by one process at a time, and never trusting
what could still change unnoticed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from watched_disk import watched

from nac.weights import cache, download, loaded, models


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAC_CACHE", str(tmp_path))
    return tmp_path


def test_a_table_is_on_the_disk_before_it_takes_its_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First use cannot be recorded again: an empty table would make any weights the first."""
    disk = watched(monkeypatch)
    cache.record_first_use("toy/w.bin", "ab", "here")
    cache.record_fingerprint("toy", "cd")
    assert disk.named() == {"first-use.json", "fingerprints.json"}
    assert cache.first_use("toy/w.bin") == ("ab", "here")


def test_two_entries_at_the_same_time_are_both_kept(home: Path) -> None:
    """Whoever adds one waits until another has written its own, and adds to that."""
    with cache.lock("first-use"):
        adding = threading.Thread(target=cache.record_first_use, args=("b", "22", "there"))
        adding.start()
        adding.join(0.5)
        assert adding.is_alive()
        (home / "first-use.json").write_text('{"a": {"sha256": "11", "from": "here"}}')
    adding.join(20)
    assert cache.first_use("a") == ("11", "here")
    assert cache.first_use("b") == ("22", "there")


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_a_lock_ends_with_the_work_whatever_ends_that(home: Path, error: BaseException) -> None:
    def work() -> None:
        with cache.lock("toy"):
            raise error

    with pytest.raises(type(error)):
        work()
    assert FileLock(home / "locks" / "toy.lock").acquire(timeout=0)


def test_a_young_file_is_not_trusted_whatever_its_date(home: Path) -> None:
    """It may change again within the same tick of the clock, which only the time of the change would show."""
    path = home / "file"
    path.write_bytes(b"weights")
    os.utime(path, ns=(10**18, 10**18))
    assert cache.sha256(path) == hashlib.sha256(b"weights").hexdigest()
    assert not (home / "hashes.json").exists()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_weights_that_changed_on_the_disk_are_loaded_again(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that have the size and the date of the last ones."""
    path = file = tmp_path / "weights.bin"
    if what == "folder":
        path, file = tmp_path / "toy", tmp_path / "toy" / "weights.bin"
        path.mkdir()
    file.write_bytes(b"weights")
    os.utime(file, ns=(10**18, 10**18))
    monkeypatch.setattr(models, "locate", lambda name, weights=None: path)
    monkeypatch.setattr(models, "load", lambda *_, **__: object())
    first = loaded.loaded("toy")
    assert loaded.loaded("toy") is first
    time.sleep(0.02)  # a tick of the clock
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(10**18, 10**18))
    assert loaded.loaded("toy") is not first
    loaded.forget()


def test_a_codec_that_is_loaded_in_one_way_is_not_given_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    monkeypatch.setattr(models, "locate", lambda name, weights=None: path)
    monkeypatch.setattr(models, "load", lambda name, **options: (name, options))
    ways: list[dict[str, Any]] = [{}, {"fast": True}, {"device": "cuda"}, {"weights": path}]
    ways.append({"fast": True, "device": "cuda", "weights": path})
    codecs: list[Any] = []
    try:
        for name in ("toy", "other"):
            for options in ways:
                codecs.append(loaded.loaded(name, **options))
                assert codecs[-1][0] == name
                for option, value in options.items():
                    assert codecs[-1][1][option] == value
                assert loaded.loaded(name, **options) is codecs[-1]
    finally:
        loaded.forget()


def test_only_drafts_that_cannot_be_resumed_are_swept(home: Path) -> None:
    """Of huggingface_hub's, those with a part of the name that no other download has, and that nobody writes."""
    folder = home / "models--toy"
    locks = home / ".locks" / "models--toy"
    for path in (folder / "blobs", locks):
        path.mkdir(parents=True)
    for name in ("aa.incomplete", "aa.0123.incomplete", "bb.0123.incomplete", "cc.0123.incomplete"):
        (folder / "blobs" / name).touch()
    (locks / "aa.lock").touch()
    with FileLock(locks / "bb.lock"):
        download._hub_sweep(folder)
    left = sorted(path.name for path in (folder / "blobs").iterdir())
    assert left == ["aa.incomplete", "bb.0123.incomplete", "cc.0123.incomplete"]


def test_of_a_hub_repository_only_the_files_of_the_model_are_deleted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all their revisions; the folder goes with the last of all files, which others may use."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    folder = home / "models--someone--toy"
    for name, content, revision in (
        ("w.bin", b"old", "1"),
        ("w.bin", b"new one", "2"),
        ("other.bin", b"kept", "2"),
    ):
        blob, snapshot = folder / "blobs" / content.hex(), folder / "snapshots" / revision
        for path in (blob.parent, snapshot):
            path.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / name).symlink_to(Path("..", "..", "blobs", blob.name))
    assert download.hub_remove("someone/toy", "w.bin") == len(b"old") + len(b"new one")
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [b"kept".hex(), "other.bin"]
    assert (folder / "snapshots" / "2" / "other.bin").read_bytes() == b"kept"
    assert download.hub_remove("someone/toy", "w.bin") == 0
    assert download.hub_remove("someone/toy", "other.bin") == len(b"kept")
    assert not folder.exists()


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("disabled", [False, True])
def test_progress_bars_of_the_hub_are_as_before_a_download(shown: bool, disabled: bool) -> None:
    """They are the whole program's."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    def fail() -> None:
        with download._hub_progress(shown):
            assert are_progress_bars_disabled() == (disabled or not shown)
            raise ValueError("no network")

    before = are_progress_bars_disabled()
    try:
        (disable_progress_bars if disabled else enable_progress_bars)()
        with pytest.raises(ValueError, match="no network"):
            fail()
        assert are_progress_bars_disabled() == disabled
    finally:
        (disable_progress_bars if before else enable_progress_bars)()
