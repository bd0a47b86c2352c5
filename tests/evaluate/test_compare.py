"""`nac compare`: what recordings are put through, the numbers, the pictures and the file that holds them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from nac import cli
from nac.cli.compare import _names
from nac.cli.options import KBPS, several
from nac.errors import AudioError
from nac.evaluate.averages import mean
from nac.evaluate.coders import Mp3, Opus, distinct
from nac.evaluate.comparison import Score, averages, badness
from nac.evaluate.excerpt import Excerpt, read_excerpt
from nac.evaluate.metrics import METRICS
from nac.evaluate.pictures import HEIGHT, outline, palette, spectrogram

SPEECH = Path(__file__).parents[2] / "examples" / "audio" / "speech.flac"
HOSTILE = "a<script>alert(1)<!-- &quot;.wav"


def sound(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> Excerpt:
    """Noise with a slope, something for a codec to do."""
    noise = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels)).cumsum(axis=0)
    noise -= np.linspace(0, 1, len(noise))[:, None] * noise[-1]
    samples = (0.5 * noise / np.abs(noise).max()).astype(np.float32)
    return Excerpt("noise", samples, rate, 0.0, seconds)


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """By how many samples ``b`` comes later than ``a``."""
    size = 2 * len(a)
    across = np.fft.irfft(np.fft.rfft(b[:, 0], size) * np.fft.rfft(a[:, 0], size).conj())
    at = int(across.argmax())
    return at if at < len(a) else at - size


def nac(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(cli.main, [os.fspath(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("kbps", [16, 24])
@pytest.mark.parametrize("channels", [1, 2])
def test_opus_comes_near_the_bitrate_that_is_asked_for(tmp_path: Path, kbps: float, channels: int) -> None:
    excerpt = sound(3, 24000, channels)
    trial = Opus().run(excerpt, kbps, tmp_path)
    assert trial.bytes * 8 / 3000 == pytest.approx(kbps, rel=0.05)
    assert trial.samples.shape == excerpt.samples.shape


@pytest.mark.parametrize(("rate", "kbps"), [(44100, 8), (44100, 16), (16000, 24), (48000, 64), (8000, 300)])
def test_mp3_comes_at_a_standard_bitrate_and_without_delay(tmp_path: Path, rate: int, kbps: float) -> None:
    excerpt = sound(3, rate)
    trial = Mp3().run(excerpt, kbps, tmp_path)
    assert trial.bytes * 8 / 3000 == pytest.approx(min(kbps, 64), rel=0.1)
    assert trial.samples.shape == excerpt.samples.shape
    assert abs(lag(excerpt.samples, trial.samples)) <= rate // 2000
    assert METRICS["si-sdr"].of_channels(excerpt.samples, trial.samples, rate) > 10


def test_bitrates_that_come_to_the_same_are_tried_once() -> None:
    mono, stereo = sound(0.1, 16000), sound(0.1, 16000, 2)
    assert distinct(Opus(), mono, [1.5, 3, 6, 12]) == [6, 12]
    assert distinct(Opus(), stereo, [1.5, 3, 6, 12]) == [12]
    assert distinct(Mp3(), mono, [1.5, 6, 11, 13]) == [6, 13]
    assert distinct(Mp3(), sound(0.1, 16000, 3), [64]) == []


def test_the_excerpt_is_the_middle_or_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "count.wav"
    soundfile.write(path, np.arange(8000, dtype=np.int16), 1000)
    middle = read_excerpt(path, "count", None, 2)
    assert (middle.start, middle.seconds, middle.whole) == (3, 2, 8)
    assert middle.samples[0, 0] * 32768 == 3000
    assert len(read_excerpt(path, "count", 7, 2).samples) == 1000
    with pytest.raises(AudioError, match="nothing at 9 s"):
        read_excerpt(path, "count", 9, 2)


def test_what_only_bats_hear_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "high.wav"
    soundfile.write(path, 0.5 * np.sin(np.arange(9600) * 2 * np.pi * 40_000 / 96_000), 96_000)
    excerpt = read_excerpt(path, "high", None, 2)
    assert (excerpt.rate, excerpt.seconds, excerpt.whole) == (48_000, 0.1, 0.1)
    assert np.abs(excerpt.samples[1000:-1000]).max() < 1e-3


def test_as_many_channels_as_flac_has_are_compared(tmp_path: Path) -> None:
    for channels in (8, 9):
        path = tmp_path / f"{channels}.wav"
        soundfile.write(path, np.zeros((800, channels)), 8000)
        if channels == 8:
            assert read_excerpt(path, "most", None, 2).channels == 8
        else:
            with pytest.raises(AudioError, match="has 9 channels; files with up to 8"):
                read_excerpt(path, "more", None, 2)


def test_means_have_students_intervals() -> None:
    assert mean([math.nan]) is None
    assert mean([3.0, math.nan]).margin is None
    assert mean([3.0, 4.0]).margin is None
    # Student's own data (1908): ten differences of hours of sleep, 1.58 with an interval of 0.70 to 2.46.
    found = mean([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert (found.mean, found.margin, found.count) == (pytest.approx(1.58), pytest.approx(0.880, abs=5e-4), 10)
    # 31 values, 30 degrees of freedom: 2.0423 by the tables.
    values = [float(x) for x in range(31)]
    assert mean(values).margin == pytest.approx(2.0423 * np.std(values, ddof=1) / 31**0.5, rel=1e-4)


@pytest.mark.parametrize("count", range(3, 34))
def test_the_interval_has_95_percent_of_students_distribution(count: int) -> None:
    """Its density (Student 1908), summed by the midpoint rule."""
    values = np.arange(count, dtype=float)
    found = mean(values.tolist())
    bound = found.margin / (np.std(values, ddof=1) / count**0.5)
    freedom = count - 1
    x = (np.arange(20000) + 0.5) / 20000 * bound
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    inside = 2 * bound * np.mean(scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2))
    assert inside == pytest.approx(0.95, abs=5e-5)


def score(recording: str, system: str, mel: float) -> Score:
    return Score(recording, system, 6.0, 6.1, 100, 1.0, "", 2.0, 3.0, {"mel": mel})


def test_averages_and_the_worst() -> None:
    scores = [score("a", "m", 1.0), score("a", "Opus", 9.0), score("b", "m", 3.0), score("b", "Opus", math.nan)]
    first, second = averages(scores)
    assert (first.system, first.values["mel"].mean, first.values["kbps"].mean) == ("m", 2.0, 6.1)
    assert (second.system, second.values["mel"].count) == ("Opus", 1)
    mel = METRICS["mel"]
    assert badness(scores[:2], ["m"], mel) == 1.0
    assert badness(scores[2:], ["m"], mel) == 3.0
    assert scores[3].row()["mel"] is None


def test_a_spectrogram_is_a_png_in_which_a_tone_is_a_bright_line() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib reads the PNG back")
    time = np.arange(24000) / 24000
    tone = np.sin(2 * np.pi * 3000 * time).astype(np.float32)[:, None]
    pixels = np.rint(pyplot.imread(io.BytesIO(spectrogram(tone, 24000)))[:, :, :3] * 255)
    bright = pixels.sum(axis=2)[:, 10:-10].mean(axis=1)
    expected = HEIGHT * (1 - math.log1p(3000 / 700) / math.log1p(12000 / 700))
    assert abs(int(bright.argmax()) - expected) <= 1
    assert (pixels[int(bright.argmax()), 100] == palette()[-1]).all()
    assert (pixels[5, 100] == palette()[0]).all()


def test_an_outline_is_the_envelope() -> None:
    ramp = np.linspace(0, -0.5, 6000, dtype=np.float32)[:, None]
    found = outline(ramp, 1.0)
    assert len(found) == 600
    assert (found[0], found[-1]) == (0, 50)
    assert found == sorted(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, noise that no model does well, and a file that is no audio."""
    folder = tmp_path_factory.mktemp("recordings")
    speech, rate = soundfile.read(SPEECH, stop=24000)
    soundfile.write(folder / "speech.wav", speech, rate)
    soundfile.write(folder / HOSTILE, np.random.default_rng(0).standard_normal(24000) * 0.1, 16000)
    (folder / "broken.wav").write_bytes(b"RIFF\4\0\0\0WAVE")
    return folder


def test_a_folder(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["-r", folder, "-m", "nac_24khz", "-k", "3,6", "--metrics", "mel,si-sdr", "--players", "1", "-o", page]
    result = nac("compare", *words, "--json", code=1)
    assert result.stderr.count("broken.wav: ") == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["system"] for row in rows if row["recording"] == "speech.wav"] == ["nac_24khz"] * 2 + [
        "Opus",
        "MP3",
    ]
    assert all(row["kbps"] == pytest.approx(row["bytes"] * 8 / 1000 / 1.5, abs=1e-3) for row in rows)
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert HOSTILE not in text
    data = json.loads(re.search(r'id="data">(.*)</script>', text).group(1))
    models = [row for row in rows if row["system"] == "nac_24khz"]
    means = {
        name: mean(row["mel"] for row in models if row["recording"] == name) for name in (HOSTILE, "speech.wav")
    }
    assert [one["name"] for one in data["recordings"]] == sorted(means, key=lambda name: -means[name].mean)
    assert ["picture" in one["versions"][0] for one in data["recordings"]] == [True, False]
    assert re.findall(r'id="audio-(\d-\d)"', text) == [f"0-{i}" for i in range(5)]
    assert data["averages"][0]["values"]["mel"]["count"] == 2


def test_one_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "compare",
        folder / "speech.wav",
        "-m",
        "nac_24khz",
        "-k",
        "3",
        "--metrics",
        "mel",
        "--duration",
        "0.5",
    ]
    rows = list(csv.DictReader(io.StringIO(nac(*words, "--csv").stdout)))
    assert [row["system"] for row in rows] == ["nac_24khz", "Opus", "MP3"]
    assert float(rows[0]["seconds"]) == 0.5
    assert not list(tmp_path.iterdir())
    result = nac(*words)
    assert "compare.html: " in result.stderr
    assert "nac_24khz" in result.stdout
    before = Path("compare.html").read_bytes()
    assert "-f replaces it" in nac(*words, code=1).stderr
    assert Path("compare.html").read_bytes() == before


def test_recordings_without_a_common_folder_keep_their_whole_paths() -> None:
    assert _names([Path("/a/x.wav"), Path("/b/x.wav")]) == {
        Path("/a/x.wav"): "/a/x.wav",
        Path("/b/x.wav"): "/b/x.wav",
    }
    assert list(_names([Path("/a/b/x.wav"), Path("/a/c/x.wav")]).values()) == ["b/x.wav", "c/x.wav"]


def test_a_model_that_goes_no_lower_is_left_out_with_a_word(folder: Path) -> None:
    path = folder / "speech.wav"
    words = ["-m", "nac_24khz", "-k", "0.1", "--metrics", "mel", "--duration", "0.5", "--json", "-q"]
    result = nac("compare", path, path, *words)
    assert {json.loads(row)["system"] for row in result.stdout.splitlines()} == {"Opus", "MP3"}
    assert result.stderr == (
        "nac: nac_24khz is left out: nac_24khz needs at least 0.75 kbit/s for 1 channel, not 0.1\n"
    )


def test_what_makes_no_sense(folder: Path, tmp_path: Path) -> None:
    path = folder / "speech.wav"
    assert "did you mean nac_24khz" in nac("compare", path, "-m", "nac_24kz", code=1).stderr
    assert "unknown metric 'mell'" in nac("compare", path, "--metrics", "mell", code=1).stderr
    assert "exclude each other" in nac("compare", path, "--json", "--csv", code=2).stderr
    assert "is a folder" in nac("compare", folder, code=2).stderr
    assert "no recordings" in nac("compare", "-r", tmp_path, code=2).stderr
    assert "overwritten" in nac("compare", path, "-o", path, "-f", code=2).stderr
    assert "'loud' is not a valid float" in nac("compare", path, "-k", "3,loud", code=2).stderr


@pytest.mark.parametrize(
    ("words", "taken"),
    [([], (1.5, 3.0)), (["-k", "3, 6"], (3.0, 6.0)), (["-k", "3", "-k", "6,3"], (3.0, 6.0))],
)
def test_several_values_come_with_commas_or_with_the_option_again(words: list[str], taken: object) -> None:
    @click.command()
    @several("-k", of=KBPS, metavar="R,R", default=["1.5,3"])
    def command(k: object) -> None:
        assert k == taken

    command(words, standalone_mode=False)
