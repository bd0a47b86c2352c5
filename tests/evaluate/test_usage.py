"""`nac info --plot`: how codebooks are used, counted on files whose codes are known."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nac import cli
from nac.container.chunk import Chunk
from nac.container.header import Header
from nac.container.writer import Writer
from nac.evaluate.usage import svg, usage
from nac.files.nacfile import NacFile
from nac.spec import Codebook

FRAMES = 500  # in a chunk, five seconds


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """Two streams of two codebooks at 100 frames a second; the second stream is silent in the second chunk."""
    header = Header(
        model="toy",
        fingerprint="0123456789abcdef",
        sample_rate=16000,
        frame_samples=160,
        codebooks=(Codebook(3, 1), Codebook(4, 2)),
        network_channels=1,
        stereo_pair=False,
        stream_codebooks=(2, 1),
        original_sample_rate=16000,
        channels=2,
        samples=2 * FRAMES * 160,
    )
    path = tmp_path / "a&b.nac"
    constant = np.zeros(FRAMES, np.uint16)
    alternating = np.arange(FRAMES, dtype=np.uint16) % 8
    uniform = np.arange(2 * FRAMES, dtype=np.uint16) % 16
    with path.open("wb") as file:
        writer = Writer(file, header)
        for first, codes in (
            (0, [[alternating, 0 * uniform], [alternating % 2]]),
            (FRAMES, [[constant, uniform], None]),
        ):
            writer.write(Chunk.pack(header, first, FRAMES, codes, coding="packed"))
        writer.finish(2 * FRAMES * 160)
    return path


def test_codes_are_counted(known: Path) -> None:
    with NacFile(known) as opened:
        found = usage(opened)
    assert [(one.stream, one.codebook, one.codes, one.used) for one in found.layers] == [
        (0, 0, 2 * FRAMES, 8),
        (0, 1, 4 * FRAMES, 16),
        (1, 0, FRAMES, 2),
    ]
    half_uniform = np.array([0.5 + 0.5 / 8] + [0.5 / 8] * 7)
    assert found.layers[0].entropy == pytest.approx(-(half_uniform * np.log2(half_uniform)).sum(), abs=0.01)
    assert found.layers[2].entropy == pytest.approx(1)
    # The information of all steps is that of all codes.
    total = sum(one.entropy * one.codes for one in found.layers)
    assert found.information.sum() * 1000 * found.seconds / len(found.information) == pytest.approx(total)
    # In the first half stream 1 takes a bit a frame, and has none in the second: 3 + 2 * 4 bits are stored there.
    assert found.stored[1] == (5.0, pytest.approx(1.1, rel=0.03))


def test_steps_of_unequal_numbers_of_frames_have_the_bitrate_of_their_time(known: Path) -> None:
    """508 frames in 50 steps: a bit a frame is 0.1 kbit/s in each."""
    with NacFile(known) as opened:
        header = replace(
            opened.header, codebooks=(Codebook(1, 1),), stream_codebooks=(1,), channels=1, samples=None
        )
    with known.open("wb") as file:
        writer = Writer(file, header)
        writer.write(Chunk.pack(header, 0, 508, [[np.arange(508, dtype=np.uint16) % 2]]))
        writer.finish(508 * 160)
    with NacFile(known) as opened:
        found = usage(opened).information
    assert len(found) == 50
    np.testing.assert_allclose(found, 0.1)


def test_the_picture(known: Path, tmp_path: Path) -> None:
    with NacFile(known) as opened:
        root = ElementTree.fromstring(svg(usage(opened)))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 3 * 2 * 2
    assert "stream 0, codebook 1: " in titles[2]
    out = tmp_path / "plot.svg"
    words = ["info", str(known), "--plot", str(out)]
    assert CliRunner().invoke(cli.main, words).exit_code == 0
    assert "a&amp;b.nac" in out.read_text()
    refused = CliRunner().invoke(cli.main, words)
    assert (refused.exit_code, "-f replaces it" in refused.stderr) == (1, True)
    assert CliRunner().invoke(cli.main, [*words, str(known)]).exit_code == 2
    piped = CliRunner().invoke(
        cli.main, ["info", "-", "--plot", str(out), "-f", "--json"], input=known.read_bytes()
    )
    assert (piped.exit_code, piped.output.count("toy")) == (0, 1)
    empty = Path(__file__).parents[2] / "formats" / "vectors" / "empty.nac"
    refused = CliRunner().invoke(cli.main, ["info", str(empty), "--plot", str(tmp_path / "none.svg")])
    assert (refused.exit_code, "contains no codes" in refused.stderr) == (1, True)


def test_more_than_can_be_drawn_is_refused(tmp_path: Path) -> None:
    header = Header(
        model="toy",
        fingerprint="0123456789abcdef",
        sample_rate=16000,
        frame_samples=160,
        codebooks=(Codebook(16),) * 255,
        network_channels=1,
        stereo_pair=False,
        stream_codebooks=(255,) * 255,
        original_sample_rate=16000,
        channels=255,
        samples=160,
    )
    with (tmp_path / "wide.nac").open("wb") as file:
        writer = Writer(file, header)
        writer.write(Chunk.pack(header, 0, 1, [None] * 255))
        writer.finish(160)
    result = CliRunner().invoke(cli.main, ["info", "--plot", str(tmp_path / "a.svg"), str(file.name)])
    assert result.exit_code == 1
    assert "65025 codebooks are too many to draw" in result.output
    assert not (tmp_path / "a.svg").exists()
