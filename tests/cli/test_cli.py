"""The `nac` command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from toy_command import ROOT, nac, run, wav

from nac import DamageError, read_codes
from nac.weights import models

PEEL = ["peel", "song.nac", "-k", "1000", "-o", "peeled.nac", "-q"]
pytestmark = pytest.mark.usefixtures("toy")


def test_there_and_back_beside_the_input() -> None:
    original = wav("song.wav").read_bytes()
    line = nac("compress", "song.wav").stderr
    assert "song.wav -> song.nac: 0:01.2, 40 kB -> " in line
    Path("song.wav").unlink()
    nac("decompress", "song.nac")
    back = Path("song.wav").read_bytes()
    assert len(back) == len(original)
    assert sorted(path.name for path in Path().iterdir()) == ["song.nac", "song.wav"]


def test_formats_by_option_and_by_ending() -> None:
    wav("song.wav")
    nac("compress", "song.wav", "-q")
    nac("decompress", "song.nac", "-o", "a.flac", "-q")
    nac("decompress", "song.nac", "--format", "flac", "-q")
    assert soundfile.info("a.flac").format == soundfile.info("song.flac").format == "FLAC"
    assert "formats are wav, flac" in nac("decompress", "song.nac", "-o", "a.xyz", code=1).stderr


def test_existing_outputs_are_left_alone() -> None:
    wav("song.wav")
    Path("song.nac").write_bytes(b"mine")
    assert "song.nac exists" in nac("compress", "song.wav", code=1).stderr
    nac("compress", "song.wav", "--skip-existing")
    assert Path("song.nac").read_bytes() == b"mine"
    nac("compress", "song.wav", "-f")
    assert Path("song.nac").read_bytes() != b"mine"


def test_an_input_is_never_its_own_output() -> None:
    wav("song.wav")
    nac("compress", "song.wav", "-q")
    whole = Path("song.nac").read_bytes()
    for words, code in (
        (["verify", "song.nac", "--recover", "song.nac", "-f"], 1),
        (["peel", "song.nac", "-k", "999", "-o", "song.nac", "-f"], 2),
    ):
        assert "own output" in nac(*words, code=code).stderr
    assert Path("song.nac").read_bytes() == whole


def test_a_recovered_file_keeps_its_length_and_tells_of_the_loss() -> None:
    wav("song.wav", samples=500_000)
    nac("compress", "song.wav", "-q")
    Path("cut.nac").write_bytes(Path("song.nac").read_bytes()[:-60_000])
    nac("verify", "cut.nac", "--recover", "saved.nac", code=1)
    assert "lost" in nac("verify", "saved.nac").stdout
    nac("decompress", "saved.nac", "-q")
    samples, _ = soundfile.read("saved.wav")
    assert len(samples) == 500_000
    assert samples[:300_000].any()
    assert not samples[330_000:].any()
    Path("head.nac").write_bytes(Path("song.nac").read_bytes()[:100])
    assert "only its header is intact" in nac("verify", "head.nac", "--recover", "none.nac", code=1).stderr
    assert not Path("none.nac").exists()
    with pytest.raises(DamageError):
        read_codes("cut.nac")
    assert len(read_codes("cut.nac", start=1, duration=1)[0][0]) == 400 * 40


def test_folders_that_cannot_be_are_one_line() -> None:
    wav("song.wav")
    for out in ("song.wav/x.nac", "/proc/nope/x.nac"):
        stderr = nac("compress", "song.wav", "-o", out, code=1).stderr
        assert stderr.startswith("nac: song.wav: ")
        assert stderr.count("\n") == 1


def test_standard_input_and_output() -> None:
    data = wav("song.wav").read_bytes()
    packed = nac("compress", "-", "-o", "-", "-q", stdin=data).stdout_bytes
    nac("compress", "song.wav", "-q")
    assert packed == Path("song.nac").read_bytes()
    unpacked = nac("decompress", "-", "-o", "-", "-q", stdin=packed).stdout_bytes
    nac("decompress", "song.nac", "-o", "back.wav", "-q")
    assert unpacked == Path("back.wav").read_bytes()
    assert "needs -o" in nac("compress", "-", stdin=data, code=2).stderr
    assert "standard output" in nac("compress", "song.wav", "-o", "-", "--json", code=2).stderr


def test_folders_keep_their_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("in/a.wav", "in/b c/d\ne.wav", "in/b c/ü.wav"):
        wav(name)
    Path("in/notes.txt").write_text("not audio")
    Path("in/fake.wav").write_text("not audio either")
    assert "-r" in nac("compress", "in", code=2).stderr
    stderr = nac("compress", "-r", "in", "-o", "out").stderr
    assert "ignored 2 other files" in stderr
    assert "3 done, 0 skipped, 0 failed" in stderr
    made = sorted(str(path) for path in Path("out").rglob("*.nac"))
    assert made == ["out/a.nac", "out/b c/d\ne.nac", "out/b c/ü.nac"]
    assert "0 done, 3 skipped, 0 failed" in nac("compress", "-r", "in", "-o", "out", "--skip-existing").stderr
    nac("decompress", "-r", "out", "-o", "back", "-j", "3")
    assert soundfile.info("back/b c/ü.wav").frames == 20_000


def test_an_output_folder_inside_the_input_folder_is_not_taken_as_input() -> None:
    wav("in/a.wav")
    nac("compress", "-r", "in", "-o", "in/packed")
    nac("decompress", "-r", "in/packed", "-o", "in/out")
    assert "1 done" not in nac("compress", "-r", "in", "-o", "in/out", "--skip-existing").stderr


def test_many_files_go_into_a_folder_and_one_failure_does_not_stop_the_others() -> None:
    inputs = [wav(f"{name}.wav", seed=i) for i, name in enumerate("abc")]
    Path("b.wav").write_bytes(b"RIFF, but no more than that")
    result = nac("compress", *inputs, "-o", "out", "--json", code=1)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert set(rows[0]) == {
        *("input", "output", "model", "kbps", "seconds", "bytes_in", "bytes_out", "wall_seconds", "error"),
        "skipped",
    }
    assert rows[0]["bytes_out"] == Path("out/a.nac").stat().st_size
    assert "nac: b.wav: " in result.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.nac", "c.nac"]


def test_the_bytes_do_not_depend_on_the_number_of_workers() -> None:
    inputs = [wav(f"{i}.wav", samples=200_000 + i, channels=1 + i % 3, rate=44100, seed=i) for i in range(6)]
    nac("compress", *inputs, "-o", "one")
    nac("compress", *inputs, "-o", "four", "-j", "4")
    for path in Path("one").iterdir():
        assert path.read_bytes() == (Path("four") / path.name).read_bytes()


def test_two_inputs_for_one_output_fail_alone() -> None:
    for name in ("a/x.wav", "b/x.wav", "c/y.wav"):
        wav(name)
    stderr = nac("compress", "a/x.wav", "b/x.wav", "c/y.wav", "-o", "out", code=1).stderr
    assert "nac: a/x.wav: would write out/x.nac, as would b/x.wav (-o names another output" in stderr
    assert "nac: b/x.wav: would write out/x.nac, as would a/x.wav" in stderr
    assert "1 done, 0 skipped, 2 failed" in stderr
    assert [path.name for path in Path("out").iterdir()] == ["y.nac"]
    nac("compress", "c/y.wav", "c/y.wav", "./c/../c/y.wav", "-o", "again", code=1)
    nac("compress", "c/y.wav", "c/y.wav", "-o", "again")
    assert "own output" in nac("compress", "a/x.wav", "-o", "a/x.wav", "-f", code=2).stderr


def test_bitrates() -> None:
    wav("song.wav", channels=2)
    for words, code, message in (
        (["-k", "1"], 1, "toy needs at least 128 kbit/s for 2 channels, not 1"),
        (["--codebooks", "3"], 1, "toy has 1 to 2 codebooks, not 3"),
        (["-k", "3", "--codebooks", "1"], 2, "exclude each other"),
        (["-k", "0"], 2, "-k"),
        (["-m", "tyo"], 2, "did you mean toy?"),
    ):
        assert message in nac("compress", "song.wav", *words, code=code).stderr
    for kbps, codebooks in ((128, [1, 0]), (300, [1, 1]), (511, [2, 1]), (512, [2, 2])):
        nac("compress", "song.wav", "-k", str(kbps), "-f", "-q")
        assert json.loads(nac("info", "song.nac", "--json").stdout)["codebooks"] == codebooks


def test_a_part_and_a_lower_bitrate() -> None:
    wav("song.wav", samples=500_000)
    nac("compress", "song.wav", "--codebooks", "2", "-q")
    nac("decompress", "song.nac", "-o", "all.wav", "-q")
    nac("decompress", "song.nac", "-o", "part.wav", "--start", "0:20.5", "--duration", "2", "-q")
    whole, _ = soundfile.read("all.wav", dtype="int16")
    part, _ = soundfile.read("part.wav", dtype="int16")
    assert np.array_equal(part, whole[328_000:360_000])
    nac("decompress", "song.nac", "-o", "low.wav", "--codebooks", "1", "-q")
    low, _ = soundfile.read("low.wav", dtype="int16")
    assert 0 < np.abs(low.astype(int) - whole).max() <= 129
    assert "after the end" in nac("decompress", "song.nac", "-o", "x.wav", "--start", "1:00:00", code=1).stderr
    for time_ in ("x", "-1", "1:2:3:4", "nan"):
        assert "not a time" in nac("decompress", "song.nac", "--start", time_, code=2).stderr


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_peel_gives_the_file_of_the_lower_bitrate(channels: int) -> None:
    wav("song.wav", samples=400_000, channels=channels)
    nac("compress", "song.wav", "--codebooks", "2", "-q")
    packed = Path("song.nac").read_bytes()
    for kbps in ("128" if channels == 2 else "384", "400", "1000"):
        nac("compress", "song.wav", "-k", kbps, "-o", "direct.nac", "-f", "-q")
        direct = Path("direct.nac").read_bytes()
        assert "song.nac -> peeled.nac" in nac("peel", "song.nac", "-k", kbps, "-o", "peeled.nac", "-f").stderr
        assert Path("peeled.nac").read_bytes() == direct
        assert nac("peel", "-", "-k", kbps, "-o", "-", "-q", stdin=packed).stdout_bytes == direct
    nac("peel", "song.nac", "--codebooks", "1", "-o", "one.nac")
    assert json.loads(nac("info", "one.nac", "--json").stdout)["codebooks"] == [1] * channels
    assert "exists" in nac("peel", "song.nac", "-k", "1000", "-o", "one.nac", code=1).stderr
    assert "at least" in nac("peel", "song.nac", "-k", "1", "-o", "low.nac", code=1).stderr
    assert "--kbps" in nac("peel", "song.nac", "-o", "low.nac", code=2).stderr
    assert not Path("low.nac").exists()


def test_info() -> None:
    wav("song.wav", channels=2, rate=44100)
    nac("compress", "song.wav", "-q")
    found = json.loads(nac("info", "song.nac", "--json").stdout)
    assert list(found) == [
        *("path", "version", "model", "fingerprint", "sample_rate", "channels", "samples", "seconds", "streams"),
        *("codebooks", "kbps", "actual_kbps", "bytes", "chunks", "coding", "saved", "tags", "complete"),
        *("damage", "lost"),
    ]
    assert (found["sample_rate"], found["channels"], found["samples"]) == (44100, 2, 20_000)
    assert found["bytes"] == Path("song.nac").stat().st_size
    assert "44100 Hz, stereo, 0:00.5" in nac("info", "song.nac").stdout
    missing = nac("info", "song.nac", "none.nac", "--json", code=1)
    assert json.loads(missing.stdout.splitlines()[1])["error"].startswith("cannot be read")


def test_verify_and_recover() -> None:
    wav("song.wav", samples=500_000)
    nac("compress", "song.wav", "-q")
    assert "whole, 0:31.2 in 4 chunks" in nac("verify", "song.nac").stdout
    data = bytearray(Path("song.nac").read_bytes())
    data[len(data) // 2] ^= 4
    Path("bad.nac").write_bytes(data)
    assert "damaged" in nac("verify", "bad.nac", code=1).stderr
    assert "damaged" in nac("decompress", "bad.nac", code=1).stderr
    assert not Path("bad.wav").exists()
    report = nac("verify", "bad.nac", "--recover", "good.nac", code=1).stdout
    assert "3 whole chunks" in report
    quiet = nac("verify", "bad.nac", "--recover", "good.nac", "-f", "-q", code=1)
    assert quiet.stdout == ""
    assert quiet.stderr.startswith("nac: bad.nac: ")
    assert len(quiet.stderr.splitlines()) == 1
    assert "lost" in report
    nac("verify", "good.nac")
    nac("decompress", "good.nac", "-q")
    nac("decompress", "song.nac", "-o", "back.wav", "-q")
    good, _ = soundfile.read("good.wav", dtype="int16")
    whole, _ = soundfile.read("back.wav", dtype="int16")
    assert len(good) == len(whole)
    same = good == whole
    assert same[:160_000].all() and same[320_000:].all()  # noqa: PT018
    assert not good[160_010:319_990].any()


@pytest.mark.parametrize("data", [b"", b"text, not a nac file", b"\x89NAC\r\n\x1a\n\x07" + bytes(50)])
@pytest.mark.parametrize("command", ["info", "verify", "decompress"])
def test_what_is_no_nac_file_gets_one_line(data: bytes, command: str) -> None:
    Path("x.nac").write_bytes(data)
    result = nac(command, "x.nac", code=1)
    assert result.stderr.startswith("nac: x.nac: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["info"], ["verify"], ["cut", "--start", "0", "-o", "x.nac"]])
def test_a_url_is_refused_as_one(words: list[str]) -> None:
    """And not as a missing file; nor is shown what it may hold of secrets."""
    command, *options = words
    message = nac(command, "s3://key:secret@bucket/a.nac?region=x", *options, code=2).stderr
    assert "only `nac compress`, `nac decompress` and `nac pack` take URLs" in message
    assert "secret" not in message


def test_a_file_with_a_url_for_its_name_is_one() -> None:
    Path("s3:").mkdir()
    Path("s3:/a.nac").write_bytes(b"")
    assert "s3:/a.nac: " in nac("info", "s3://a.nac", code=1).stderr


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        wav(tmp_path / "x.wav").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    stderr = nac("compress", name).stderr_bytes
    assert b"caf" in stderr
    assert (tmp_path / os.fsdecode(b"caf\xe9.nac")).exists()
    assert json.loads(nac("info", os.fsdecode(b"caf\xe9.nac"), "--json").stdout)["samples"] == 20_000


def test_names_that_begin_with_a_dash() -> None:
    wav("./-x.wav")
    nac("compress", "--", "-x.wav")
    assert Path("-x.nac").exists()


def test_a_device_is_written_to_as_it_is() -> None:
    wav("song.wav")
    nac("compress", "song.wav", "-o", "/dev/null", "-q")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_nothing(number: signal.Signals, code: int) -> None:
    with run("compress", "-", "-o", "x.nac", stdin=subprocess.PIPE) as process:
        process.stdin.write(wav("song.wav", samples=400_000).read_bytes()[:600_000])
        process.stdin.flush()
        deadline = time.time() + 60
        while not any(path.stat().st_size for path in Path().glob(".x.nac*")) and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == code
        assert b"Traceback" not in stderr
    assert sorted(path.name for path in Path().iterdir()) == ["song.wav"]


def test_files_are_told_of_in_their_order() -> None:
    names = [str(wav(f"{i}.wav", samples=2_000_000 if i == 0 else 1000)) for i in range(3)]
    rows = nac("compress", *names, "--json", "-j", "2").stdout.splitlines()
    assert [json.loads(row)["input"] for row in rows] == names


def test_an_interruption_while_the_command_is_loaded_is_no_error() -> None:
    script = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'nac.cli.report': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted)\n"
        "from nac.__main__ import main\n"
        "main()"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (130, "")


def test_an_interruption_stops_all_workers() -> None:
    inputs = [str(wav(f"{i}.wav", samples=30_000_000)) for i in range(2)]
    with run("compress", *inputs, "-j", "2") as process:
        deadline = time.time() + 60
        while len(list(Path().glob(".*.nac-part"))) < 2 and time.time() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    assert sorted(path.name for path in Path().iterdir()) == ["0.wav", "1.wav"]


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    wav("song.wav", samples=2_000_000)
    nac("compress", "song.wav", "-q")
    with run("decompress", "song.nac", "-o", "-") as process:
        process.stdout.read(1000)
        process.stdout.close()
        assert process.wait(60) in (-signal.SIGPIPE, 141)
        assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [("info",), ("info", "--json"), ("verify",), ("verify", "--json")], ids=" ".join)
def test_a_reader_that_goes_away_ends_what_only_prints_quietly(words: tuple[str, ...]) -> None:
    wav("song.wav")
    nac("compress", "song.wav", "-q")
    with run(*words, "song.nac", "song.nac") as process:
        process.stdout.close()
        assert process.wait(60) in (-signal.SIGPIPE, 141)
        assert process.stderr.read() == b""


def test_live_input_comes_out_before_it_ends() -> None:
    data = wav("song.wav", samples=600_000).read_bytes()
    with run("compress", "-", "-o", "-", stdin=subprocess.PIPE) as process:
        feeder = threading.Thread(target=lambda: (process.stdin.write(data[:800_044]), process.stdin.flush()))
        feeder.start()
        # 25 seconds went in, and the input is still open: two chunks have to come out, a byte a sample.
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert len(process.stdout.read(320_000)) == 320_000
        watchdog.cancel()
        feeder.join()
        process.communicate(timeout=60)


@pytest.mark.parametrize("words", [["--help"], ["info", "song.nac"], ["verify", "song.nac"], PEEL])
def test_what_needs_no_network_does_not_import_torch(words: list[str]) -> None:
    wav("song.wav")
    nac("compress", "song.wav", "-q")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = {words!r}\nfrom nac import cli\n"
    code += "try: cli.entry()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (0, b"False")


def test_models_list() -> None:
    assert "toy" in nac("models").stdout
    assert json.loads(nac("models", "--json").stdout)["name"] == "toy"
    assert json.loads(nac("models", "list", "--json").stdout)["name"] == "toy"
    assert "did you mean toy?" in nac("models", "list", "tyo", code=1).stderr


def test_a_download_names_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    wav("song.wav")
    monkeypatch.setattr(models, "present", list)
    printed = nac("compress", "song.wav", "-m", "toy").stderr
    assert "toy: downloading its weights (licence: none)" in printed
    monkeypatch.setattr(models, "download", lambda name, **_: Path("cache/toy"))
    assert nac("models", "download", "toy").stdout == "toy: cache/toy (licence: none)\n"
