"""What people type first, and what they are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy_command import nac, wav

pytestmark = pytest.mark.usefixtures("toy")


def said(*words: str, code: int) -> str:
    result = nac(*words, code=code)
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def test_an_output_without_o() -> None:
    wav("talk.wav")
    assert "nac compress talk.wav -o small.nac" in said("compress", "talk.wav", "small.nac", code=2)
    assert not list(Path().glob("*.nac"))
    nac("compress", "talk.wav")
    for name in ("out.wav", "out.flac", "out.MP3"):
        assert f"nac decompress talk.nac -o {name}" in said("decompress", "talk.nac", name, code=2)
    assert "no such file" in said("compress", "talk.wav", "absent.wav", "-f", code=1).lower()


def test_what_is_packed_already_and_what_is_not() -> None:
    wav("talk.wav")
    nac("compress", "talk.wav", "-q")
    for words in (["talk.nac"], ["talk.nac", "-o", "new.nac"], ["talk.nac", "-f"]):
        message = said("compress", *words, code=1)
        assert "`nac decompress` decodes" in message
        assert "is already a .nac file" in message
    piped = nac("compress", "-", "-o", "new.nac", stdin=Path("talk.nac").read_bytes(), code=1).stderr
    assert piped.startswith("nac: -: is already a .nac file (`nac decompress` decodes")
    assert "not a .nac file (`nac compress` makes one from audio)" in said("decompress", "talk.wav", code=1)
    assert "not a .nac file (`nac compress` makes one from audio)" in said("info", "talk.wav", code=1)


def test_decompressing_beside_the_original() -> None:
    data = wav("talk.wav").read_bytes()
    nac("compress", "talk.wav", "-q")
    message = said("decompress", "talk.nac", code=1)
    assert "talk.wav exists, and may be the original recording" in message
    command = message.split("nac decompress ")[1].split(" (")[0]
    nac("decompress", *command.split())
    assert Path("talk.wav").read_bytes() == data
    assert len(list(Path().glob("*.wav"))) == 2
    assert "may be" not in said("decompress", "talk.nac", "-o", "talk.wav", code=1)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["encode", "talk.wav"], "nac compress talk.wav"),
        (["decode", "talk.nac"], "nac decompress talk.nac"),
        (["extract"], "it is: nac decompress"),
        (["comprss", "a"], "did you mean compress"),
        (["talk.wav"], "nac compress talk.wav"),
        (["talk.nac"], "nac decompress talk.nac"),
        (["qqqq"], "nac --help"),
    ],
)
def test_commands_by_other_names(words: list[str], answer: str) -> None:
    wav("talk.wav")
    nac("compress", "talk.wav", "-q")
    message = said(*words, code=2)
    assert f"there is no command '{words[0]}'" in message
    assert answer in message


def test_a_folder() -> None:
    wav("folder/talk.wav")
    assert "folder is a folder (-r takes the files in it)" in said("compress", "folder", code=2)
    for command in ("decompress", "info", "verify"):
        assert "-r takes the files in it" in said(command, "folder", code=2)


def test_a_damaged_file_is_told_how_to_save_what_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    wav("song.wav", samples=500_000)
    nac("compress", "song.wav", "-q")
    data = bytearray(Path("song.nac").read_bytes())
    Path("cut.nac").write_bytes(data[:-60_000])
    data[len(data) // 2] ^= 4
    Path("bad.nac").write_bytes(data)
    Path("head.nac").write_bytes(data[:20])
    hint = "`nac verify FILE --recover OUT` saves the intact part"
    for name in ("cut.nac", "bad.nac"):
        assert hint in nac("info", name).stdout
        for command in (["decompress", name], ["verify", name], ["peel", name, "--codebooks", "1", "-o", "x.nac"]):
            assert hint in said(*command, code=1)
        nac("verify", name, "--recover", f"{name}.saved", code=1)
    assert "--recover" not in said("decompress", "head.nac", code=1)
    assert "--recover" not in nac("info", "song.nac").stdout


def test_damage_is_found_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from nac.weights import models

    wav("song.wav", samples=500_000)
    nac("compress", "song.wav", "-q")
    data = bytearray(Path("song.nac").read_bytes())
    data[-60_000] ^= 4
    Path("bad.nac").write_bytes(data)
    nac("decompress", "bad.nac", "-o", "begin.wav", "--duration", "15")  # it is whole there
    loaded: list[str] = []
    monkeypatch.setattr(models, "load", lambda name, **_: loaded.append(name))
    assert "damaged" in said("decompress", "bad.nac", code=1)
    assert "damaged" in said("decompress", "bad.nac", "--start", "25", "--duration", "3", code=1)
    assert loaded == []


def test_what_was_lost_is_told_by_info_and_on_decompression() -> None:
    wav("song.wav", samples=500_000)
    nac("compress", "song.wav", "-q")
    data = bytearray(Path("song.nac").read_bytes())
    data[len(data) // 2] ^= 4
    Path("bad.nac").write_bytes(data)
    nac("verify", "bad.nac", "--recover", "saved.nac", code=1)
    shutil.copy("saved.nac", "again.nac")
    assert "gap    0:10.0-0:20.0 lost" in nac("info", "saved.nac").stdout
    for words in (["saved.nac"], ["again.nac", "--start", "5", "--duration", "20"], ["-", "-o", "pipe.wav"]):
        message = nac("decompress", *words, stdin=Path("saved.nac").read_bytes()).stderr
        assert f"nac: {words[0]}: 0:10.0-0:20.0 lost before this file was written, and silent now" in message
    nac("decompress", "saved.nac", "-o", "part.wav", "--duration", "5")
    assert "lost" not in nac("decompress", "saved.nac", "-o", "part.wav", "-f", "--duration", "5").stderr
    assert "lost" not in nac("decompress", "song.nac", "-o", "whole.wav").stderr
