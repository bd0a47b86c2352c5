"""The page of `nac compare` in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner

from nac import cli

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = pytest.mark.network
AUDIO = Path(__file__).parents[2] / "examples" / "audio"
HOSTILE = "a<script>document.title='hurt'<!-- &amp;.wav"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
)

Driver = Any


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page of two recordings: three seconds of speech, and a short one with an awkward name."""
    folder = tmp_path_factory.mktemp("page")
    for name, length in (("speech.wav", 48000), (HOSTILE, 16000)):
        samples, rate = soundfile.read(AUDIO / "speech.flac", start=16000, stop=16000 + length)
        soundfile.write(folder / name, samples, rate)
    words = ["-r", str(folder), "-o", str(folder / "page.html"), "-m", "nac_24khz", "-k", "3,6"]
    result = CliRunner().invoke(cli.main, ["compare", *words, "--metrics", "mel,si-sdr"])
    assert result.exit_code == 0, result.output
    return (folder / "page.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Driver, page: str) -> Iterator[Driver]:
    """The page, freshly opened; nothing may be in its console at the end."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get(page)
    # Speech first, whichever was the worse.
    browser.execute_script("show(data.recordings.findIndex((one) => one.name === 'speech.wav'))")
    yield browser
    assert browser.get_log("browser") == []


def wait(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.03)


def press(driver: Driver, key: str) -> None:
    driver.find_element(By.TAG_NAME, "body").send_keys(key)


def shown(driver: Driver, name: str) -> str:
    return driver.find_element(By.ID, name).text


def seconds(driver: Driver) -> float:
    """The position that the page shows."""
    minutes, rest = shown(driver, "time").split(" / ")[0].split(":")
    return 60 * int(minutes) + float(rest)


def loudness(driver: Driver) -> float:
    """What comes out of the player, as the browser measures it."""
    return driver.execute_async_script("""
        const done = arguments[0];
        if (!player.gain) return done(0);
        const meter = player.context.createAnalyser(), heard = new Float32Array(2048);
        player.gain.connect(meter);
        setTimeout(() => { meter.getFloatTimeDomainData(heard); done(Math.hypot(...heard)); }, 150);
    """)


def test_every_version_plays_and_sounds(opened: Driver) -> None:
    buttons = opened.find_elements(By.CSS_SELECTOR, ".version button")
    assert len(buttons) == 5
    for number, button in enumerate(buttons):
        button.click()
        wait(lambda button=button: button.get_attribute("aria-pressed") == "true")
        before = seconds(opened)
        wait(lambda before=before: seconds(opened) != before)
        wait(lambda: loudness(opened) > 0.01)
        decoded = opened.execute_async_script(
            "player.buffers[arguments[0]].then((b) => arguments[1]([b.duration, b.numberOfChannels]))", number
        )
        assert decoded == [pytest.approx(3, abs=0.001), 1]
    buttons[-1].click()
    wait(lambda: shown(opened, "play") == "▶ Play")
    place = seconds(opened)
    time.sleep(0.2)
    assert seconds(opened) == place


def test_switching_keeps_the_position(opened: Driver) -> None:
    opened.execute_script("seek(1)")
    press(opened, " ")
    wait(lambda: seconds(opened) > 1.1)
    for key, name in (("1", "nac_24khz"), ("3", "Opus"), ("4", "MP3"), ("0", "Original")):
        before, began = opened.execute_script("return [position(), performance.now()]")
        press(opened, key)
        wait(lambda name=name: shown(opened, "now").startswith(name))
        wait(lambda: opened.execute_script("return player.source !== null"))
        after, ended = opened.execute_script("return [position(), performance.now()]")
        # It has gone on by no more than the time that has passed, or begun again at the end.
        assert before <= after <= before + (ended - began) / 1000 + 0.05 or before > 2
    press(opened, " ")
    wait(lambda: shown(opened, "play") == "▶ Play")


def test_keys_seek_and_loop(opened: Driver) -> None:
    press(opened, Keys.ARROW_RIGHT)
    assert seconds(opened) == 1
    press(opened, Keys.ARROW_RIGHT)
    press(opened, ".")
    press(opened, Keys.HOME)
    press(opened, Keys.ARROW_RIGHT)
    press(opened, ",")
    assert opened.execute_script("return state.region") == [1, 2]
    press(opened, " ")
    wait(lambda: seconds(opened) > 1.7)
    wait(lambda: 1 <= seconds(opened) < 1.4)
    press(opened, Keys.ESCAPE)
    assert opened.execute_script("return state.region") is None
    press(opened, "l")
    assert opened.find_element(By.ID, "loop").get_attribute("aria-pressed") == "false"
    opened.execute_script("seek(2.8)")
    wait(lambda: shown(opened, "play") == "▶ Play")
    assert seconds(opened) == 0


def test_a_click_on_a_spectrogram_plays_from_there(opened: Driver) -> None:
    picture = opened.find_elements(By.CSS_SELECTOR, ".version .pictures")[2]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    actions = webdriver.ActionChains(opened)
    actions.move_to_element_with_offset(picture, 0, 0).click().perform()
    wait(lambda: shown(opened, "now").startswith("nac_24khz, 5."))
    wait(lambda: 1.5 <= seconds(opened) < 3)
    press(opened, " ")


def test_the_blind_test_counts_right_answers_and_gives_nothing_away(opened: Driver) -> None:
    press(opened, "2")
    opened.execute_script("Math.random = () => 0.7")  # the coin falls on B
    press(opened, "x")
    wait(lambda: shown(opened, "score") == "Which of the two is X?")
    assert shown(opened, "now") == "Blind test: X"
    assert not opened.find_element(By.ID, "versions").is_displayed()
    for key in "abx":
        press(opened, key)
        assert shown(opened, "now") == f"Blind test: {key.upper()}"
    press(opened, "2")
    assert shown(opened, "score") == "Right: X was B. 1 of 1 right; guessing is at least as good in 50 % of tests."
    press(opened, "2")
    press(opened, "2")
    press(opened, "1")
    # Of the 16 ways in which four coins fall, 5 have three or four right.
    assert shown(opened, "score") == "Wrong: X was B. 3 of 4 right; guessing is at least as good in 31 % of tests."
    opened.find_element(By.ID, "again").click()
    assert shown(opened, "score") == "Which of the two is X?"
    press(opened, Keys.ESCAPE)
    assert opened.find_element(By.ID, "versions").is_displayed()
    assert shown(opened, "now").startswith("nac_24khz, 5.")


def test_names_are_text(opened: Driver) -> None:
    press(opened, "]")
    press(opened, "[")
    names = [button.text for button in opened.find_elements(By.CSS_SELECTOR, "#recordings button")]
    assert sorted(names) == sorted(["speech.wav", HOSTILE])
    opened.find_elements(By.CSS_SELECTOR, "#recordings button")[names.index(HOSTILE)].click()
    wait(lambda: shown(opened, "name") == HOSTILE)
    assert shown(opened, "time") == "0:00.0 / 0:01.0"
    assert opened.title == "nac compare: 2 recordings"


def contrast(first: str, second: str) -> float:
    """Of two colours as the browser gives them (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        numbers = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_is_readable(opened: Driver, width: int, scheme: str) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    # Nothing but the tables, which scroll on their own, is wider than the window.
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    colours = opened.execute_script("""
        const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
        return [[of('body', 'color'), of('body', 'backgroundColor')],
                [of('.soft', 'color'), of('body', 'backgroundColor')],
                [of('.numbers dt', 'color'), of('.card', 'backgroundColor')],
                [of('#play', 'color'), of('#play', 'backgroundColor')],
                ...[...document.querySelectorAll('.plot .mark')].map((one) =>
                    [getComputedStyle(one).fill, of('.card', 'backgroundColor')])];
    """)
    assert [pair for pair in colours[:4] if contrast(*pair) < 4.5] == []
    assert len(colours) > 10
    assert [pair for pair in colours[4:] if contrast(*pair) < 3] == []
    assert (contrast(colours[0][1], "rgb(0, 0, 0)") < 2) == (scheme == "dark")
    assert float(opened.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)")) >= 14
    assert opened.execute_script("""
        return [...document.querySelectorAll('img')].every((image) => image.naturalWidth > 0 && image.alt);
    """)
