"""Folders: what is taken, what is passed over, and names that meet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from toy_command import nac, wav

from nac.cli.batch import Paths
from nac.files.names import audio_name, nac_name

pytestmark = pytest.mark.usefixtures("toy")


def flac(name: str) -> None:
    wav("tmp.wav")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(name, soundfile.read("tmp.wav")[0], 16000, format="FLAC")
    Path("tmp.wav").unlink()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_two_recordings_of_one_name_fail_alone_and_keep_their_endings_if_asked(jobs: str) -> None:
    wav("in/a/song.wav"), flac("in/a/song.flac"), wav("in/b/song.wav"), wav("in/talk.wav")
    result = nac("compress", "-r", "in", "-o", "out", "-j", jobs, "--json", code=1)
    rows = {row["input"]: row["error"] for row in map(json.loads, result.stdout.splitlines())}
    assert [name for name, error in rows.items() if error] == ["in/a/song.flac", "in/a/song.wav"]
    assert "2 done, 0 skipped, 2 failed" in result.stderr
    assert "in/a/song.wav: would write out/a/song.nac, as would in/a/song.flac (--keep-ending" in result.stderr
    nac("compress", "-r", "in", "-o", "kept", "-j", jobs, "--keep-ending")
    made = sorted(str(path.relative_to("kept")) for path in Path("kept").rglob("*.nac"))
    assert made == ["a/song.flac.nac", "a/song.wav.nac", "b/song.wav.nac", "talk.wav.nac"]
    nac("decompress", "-r", "kept", "-o", "back", "-j", jobs)
    assert soundfile.info("back/a/song.flac").format == "FLAC"
    assert soundfile.info("back/a/song.wav").format == "WAV"


def test_names() -> None:
    for name, kept, given in (
        ("song.wav", False, "song.nac"),
        ("song.wav", True, "song.wav.nac"),
        ("a.b.wav", False, "a.b.nac"),
        ("plain", True, "plain.nac"),
        ("plain", False, "plain.nac"),
    ):
        assert nac_name(name, keep_ending=kept) == given
    for name, form, given in (
        ("song.nac", None, "song.wav"),
        ("song.wav.nac", None, "song.wav"),
        ("song.WAV.NAC", None, "song.WAV"),
        ("song.mp3.nac", None, "song.mp3"),
        ("song.m4a.nac", None, "song.m4a.wav"),
        ("song.wav.nac", "flac", "song.wav.flac"),
        ("song.flac.nac", "flac", "song.flac"),
        ("song.bin", "mp3", "song.mp3"),
        ("v1.2.nac", None, "v1.2.wav"),
        ("x.wav", None, "x.wav"),
    ):
        assert audio_name(name, form) == given


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_passed_over_is_always_counted(quiet: bool) -> None:
    wav("in/a.wav"), wav("in/b.wav")
    Path("in/notes.txt").write_text("text")
    words = ["-q"] * quiet
    message = "ignored 1 other file: in/notes.txt\n"
    assert nac("compress", "-r", "in", *words, "-j", "1").stderr.endswith(message)
    # Outputs of an earlier run are no strangers.
    assert nac("compress", "-r", "in", "--skip-existing", *words).stderr.endswith(message)
    assert "ignored 3 other files" in nac("decompress", "-r", "in", "-o", "out", *words).stderr
    assert "ignored 3 other files" in nac("verify", "-r", "in", *words).stderr
    assert "ignored 3 other files" in nac("info", "-r", "in").stderr
    if quiet:
        assert nac("compress", "-r", "in", "-o", "new", "-q").stderr == "ignored 3 other files: " + ", ".join(
            ["in/a.nac", "in/b.nac", "in/notes.txt\n"]
        )


def test_info_and_verify_take_folders() -> None:
    for name in ("in/a.wav", "in/deep/er/b.wav", "in/c.wav"):
        wav(name)
    nac("compress", "-r", "in", "-o", "out")
    Path("out/c.nac").write_bytes(Path("out/c.nac").read_bytes()[:-9])
    rows = [json.loads(line) for line in nac("info", "-r", "out", "--json").stdout.splitlines()]
    assert [(row["path"], bool(row["damage"])) for row in rows] == [
        ("out/a.nac", False),
        ("out/c.nac", True),
        ("out/deep/er/b.nac", False),
    ]
    result = nac("verify", "-r", "out", code=1)
    assert result.stdout == "out/a.nac: whole, 0:01.2 in 1 chunk\nout/deep/er/b.nac: whole, 0:01.2 in 1 chunk\n"
    quiet = nac("verify", "-r", "-q", "out", code=1)
    assert (quiet.stdout, quiet.stderr) == ("", result.stderr)
    assert result.stderr.startswith("nac: out/c.nac: ")
    assert nac("verify", "-q", "out/a.nac").output == ""


def test_many_rivals_are_named_shortly() -> None:
    for number in range(9):
        wav(f"in/{number}/x.wav")
    paths = Paths(tuple(f"in/{number}/x.wav" for number in range(9)), "out")
    errors = [job.error for job in paths.plan(nac_name).jobs]
    assert errors[0].startswith("would write out/x.nac, as would in/1/x.wav and in/2/x.wav and 6 more (")


def test_what_is_audio_is_told_by_content() -> None:
    wav("in/a.txt"), wav("in/b")
    head = b"NIST_1A\n   1024\nsample_count -i 4000\nsample_n_bytes -i 2\nchannel_count -i 1\n"
    head += b"sample_byte_format -s2 01\nsample_rate -i 16000\nsample_coding -s3 pcm\nend_head\n"
    Path("in/SA1.WAV").write_bytes(head.ljust(1024, b" ") + bytes(8000))
    sound = soundfile.read("in/b")[0]
    for form, name in (("WAV", "x.wav"), ("AU", "y.au"), ("IRCAM", "z.sf"), ("VOC", "v.voc"), ("RF64", "r.bin")):
        soundfile.write(f"in/{name}", sound, 16000, format=form, subtype="PCM_16")
    soundfile.write("in/big.wav", sound, 16000, format="WAV", subtype="PCM_16", endian="BIG")  # RIFX
    Path("in/photo.wav").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400))
    result = nac("compress", "-r", "in", "-o", "out", "-j", "2")
    assert "9 done, 0 skipped, 0 failed" in result.stderr
    assert result.stderr.endswith("ignored 1 other file: in/photo.wav\n")
