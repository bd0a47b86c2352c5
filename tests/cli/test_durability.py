"""The order on the disk: an output is synced before it takes its name, and named before its input is deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy_command import nac, wav
from watched_disk import Disk, watched

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return watched(monkeypatch)


WRITING = {
    "compress": (["compress", "a.wav", "-o", "out.nac"], {"out.nac"}),
    "compress --verify": (["compress", "a.wav", "-o", "out.nac", "--verify"], {"out.nac"}),
    "compress -r": (["compress", "-r", "tree", "-o", "there"], {"b.nac", "c.nac"}),
    "compress -f": (["compress", "a.wav", "-f"], {"a.nac"}),
    "decompress": (["decompress", "a.nac", "-o", "out.wav"], {"out.wav"}),
    "decompress to flac": (["decompress", "a.nac", "-o", "out.flac"], {"out.flac"}),
    "peel": (["peel", "a.nac", "--codebooks", "1", "-o", "out.nac"], {"out.nac"}),
    "verify --recover": (["verify", "damaged.nac", "--recover", "out.nac"], {"out.nac"}),
    "codes": (["codes", "a.nac", "-o", "out.npz"], {"out.npz"}),
    "cat": (["cat", "a.nac", "a.nac", "-o", "out.nac"], {"out.nac"}),
    "cut": (["cut", "a.nac", "--duration", "0.05", "-o", "out.nac"], {"out.nac"}),
    "info --plot": (["info", "a.nac", "--plot", "out.svg"], {"out.svg"}),
    "pack": (["pack", "packed", "-o", "shards"], {"shards-000000.tar"}),
}


@pytest.fixture
def files(toy: object) -> None:
    for name in ("a.wav", "tree/b.wav", "tree/c.wav"):
        wav(name, 3000)
    nac("compress", "a.wav", "-q")
    Path("packed").mkdir()
    shutil.copy("a.nac", "packed/p.nac")
    wav("long.wav", 400_000)
    nac("compress", "long.wav", "-q")
    data = bytearray(Path("long.nac").read_bytes())
    data[len(data) // 2] ^= 1
    Path("damaged.nac").write_bytes(data)


@pytest.mark.parametrize("case", WRITING)
def test_an_output_is_synced_before_it_takes_its_name(case: str, files: None, disk: Disk) -> None:
    words, outputs = WRITING[case]
    nac(*words, code=1 if case == "verify --recover" else 0)
    assert disk.named() == outputs
    for name in outputs:
        assert any(Path(name).name == path.name for path in Path().rglob("*"))


@pytest.mark.parametrize(
    ("words", "source", "output"),
    [
        (["compress", "a.wav", "-o", "new/out.nac"], "a.wav", "out.nac"),
        (["compress", "-r", "tree", "-o", "there"], "b.wav", "b.nac"),
        (["decompress", "a.nac", "-o", "out.wav"], "a.nac", "out.wav"),
        (["compress", "a.wav", "-o", "link.nac", "-f"], "a.wav", "far.nac"),
    ],
)
def test_an_input_goes_after_the_name_of_its_output_is_on_the_disk(
    words: list[str], source: str, output: str, files: None, disk: Disk
) -> None:
    Path("new").mkdir()
    Path("new", "far.nac").write_bytes(b"")
    Path("link.nac").symlink_to("new/far.nac")
    nac(*words, "--remove-source")
    assert not list(Path().rglob(source))
    folder = next(Path().rglob(output)).resolve().parent
    named, deleted = disk.place("name", output), disk.place("delete", source)
    assert any(call == ("sync", folder) for call in disk.calls[named:deleted]), "the folder is not synced between"


def test_an_input_that_was_not_read_whole_stays(files: None, disk: Disk) -> None:
    whole = Path("a.wav").read_bytes()
    Path("cut.wav").write_bytes(whole[:-1000])
    nac("compress", "cut.wav", "--remove-source", code=1)
    assert Path("cut.wav").read_bytes() == whole[:-1000]
    assert not disk.named()
    assert not any(what == "delete" and path.name == "cut.wav" for what, path in disk.calls)
