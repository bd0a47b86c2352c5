"""Channels in their order, and their loudspeakers through .nac and back."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sound_files import RATE, chunk, every_way, noise, read_source, riff

import nac
from nac.audio import layout
from nac.audio.writing import OUTPUT_FORMATS, open_sink

# What Vorbis I, section 4.3.9, and RFC 7845, section 5.1.1.2, say, in their words.
CODED = {
    1: ["mono"],
    2: ["left", "right"],
    3: ["left", "centre", "right"],
    4: ["front left", "front right", "rear left", "rear right"],
    5: ["front left", "centre", "front right", "rear left", "rear right"],
    6: ["front left", "centre", "front right", "rear left", "rear right", "LFE"],
    7: ["front left", "centre", "front right", "side left", "side right", "rear centre", "LFE"],
    8: ["front left", "centre", "front right", "side left", "side right", "rear left", "rear right", "LFE"],
}
# The same in the order of WAVE_FORMAT_EXTENSIBLE.
PLAIN = {
    1: ["mono"],
    2: ["left", "right"],
    3: ["left", "right", "centre"],
    4: ["front left", "front right", "rear left", "rear right"],
    5: ["front left", "front right", "centre", "rear left", "rear right"],
    6: ["front left", "front right", "centre", "LFE", "rear left", "rear right"],
    7: ["front left", "front right", "centre", "LFE", "rear centre", "side left", "side right"],
    8: ["front left", "front right", "centre", "LFE", "rear left", "rear right", "side left", "side right"],
}


def tones(channels: int, samples: int = 24000) -> np.ndarray:
    """A tone of its own in each channel, low enough for any loudspeaker."""
    time = np.arange(samples)[:, None] / 48000
    return (0.2 * np.sin(2 * np.pi * (40 + 10 * np.arange(channels)) * time)).astype(np.float32)


def order(samples: np.ndarray) -> list[int]:
    """Which tone each channel has."""
    spectra = np.abs(np.fft.rfft(samples[-19200:], axis=0))[:200]
    return [round((spectra[:, c].argmax() * 2.5 - 40) / 10) for c in range(samples.shape[1])]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("channels", range(1, 9))
def test_coded_channels_are_read_and_written_in_their_order(tmp_path: Path, subtype: str, channels: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, tones(channels), 48000, format="OGG", subtype=subtype)
    for way in every_way(tmp_path / "x", file.getvalue()):
        samples, source = read_source(way)
        assert order(samples) == [CODED[channels].index(speaker) for speaker in PLAIN[channels]]
        assert dict(source.tags) == ({layout.TAG: f"0x{layout.USUAL[channels]:04X}"} if channels > 2 else {})
    out = io.BytesIO()
    with open_sink(out, OUTPUT_FORMATS["ogg" if subtype == "VORBIS" else "opus"], 48000, channels, 24000) as sink:
        sink.write(tones(channels))
    theirs = soundfile.read(io.BytesIO(out.getvalue()))[0].reshape(-1, channels)  # who leaves the order as it is
    assert order(theirs) == [PLAIN[channels].index(speaker) for speaker in CODED[channels]]
    assert order(read_source(io.BytesIO(out.getvalue()))[0]) == list(range(channels))


def wavex(samples: np.ndarray, mask: int) -> bytes:
    channels = samples.shape[1]
    numbers = struct.pack(
        "<HHIIHHHHIH", 0xFFFE, channels, RATE, RATE * 2 * channels, 2 * channels, 16, 22, 16, mask, 1
    )
    form = numbers + bytes.fromhex("000000001000800000aa00389b71")
    return riff(chunk(b"fmt ", form), chunk(b"data", (samples * 32767).astype("<i2").tobytes()))


@pytest.mark.parametrize(
    ("channels", "mask"), [(1, 1), (2, 0x600), (4, 0x33), (4, 0x107), (6, 0x3F), (6, 0x60F), (8, 0x63F), (8, 0xFF)]
)
@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_layout_comes_back(tmp_path: Path, channels: int, mask: int, form: str) -> None:
    (tmp_path / "x.wav").write_bytes(wavex(noise(9000, channels), mask))
    nac.compress(tmp_path / "x.wav", tmp_path / "x.nac", model="nac_24khz", kbps=12)
    assert dict(nac.info(tmp_path / "x.nac").tags) == {layout.TAG: f"0x{mask:04X}"}
    nac.decompress(tmp_path / "x.nac", tmp_path / f"y.{form}")
    data = (tmp_path / f"y.{form}").read_bytes()
    for way in every_way(tmp_path / "z", data):
        assert dict(read_source(way)[1].tags) == {layout.TAG: f"0x{mask:04X}"}
    with av.open(io.BytesIO(data)) as container:
        found = [channel.name for channel in container.streams.audio[0].layout.channels]
    assert found == list(layout.speakers(mask))
    nac.compress(tmp_path / "x.wav", tmp_path / "mono.nac", model="nac_24khz", mono=True)
    assert not nac.info(tmp_path / "mono.nac").tags


def test_without_a_layout_nothing_is_kept_of_it(tmp_path: Path) -> None:
    for channels, mask in ((1, 4), (2, 3), (6, 0), (6, 0x7), (1, 1 << 18), (3, 0x3 | 1 << 31)):
        assert read_source(io.BytesIO(wavex(noise(100, channels), mask)))[1].tags == ()
    soundfile.write(tmp_path / "x.wav", noise(100, 6), RATE)
    assert read_source(tmp_path / "x.wav")[1].tags == ()


def test_layouts_have_the_names_that_ffmpeg_gives_them() -> None:
    for mask in layout._NAMES:
        found = [channel.name for channel in av.AudioLayout(layout.name(mask)).channels]
        assert found == list(layout.speakers(mask))


def test_a_layout_that_a_format_has_not_is_told(caplog: pytest.LogCaptureFixture) -> None:
    out = io.BytesIO()
    with open_sink(out, OUTPUT_FORMATS["opus"], 48000, 8, 24000, ((layout.TAG, "0x00FF"),)) as sink:
        sink.write(tones(8))
    assert caplog.messages == ["opus cannot store the layout 7.1(wide): read as another"]
    assert order(read_source(io.BytesIO(out.getvalue()))[0]) == list(range(8))


@pytest.mark.parametrize(("subtype", "number"), [("float", 3), ("int", 1)])
def test_w64_with_a_sub_format(tmp_path: Path, subtype: str, number: int) -> None:
    sound = noise(5000)
    body = sound.astype("<f4").tobytes() if subtype == "float" else (sound * 2**31).astype("<i4").tobytes()
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    form = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, RATE, 4 * RATE, 4, 32, 22, 32, 4, number)
    form += bytes.fromhex("000000001000800000aa00389b71")
    parts = b"wave" + guid + b"fmt " + guid + struct.pack("<Q", 24 + len(form)) + form
    parts += b"data" + guid + struct.pack("<Q", 24 + len(body)) + body
    head = bytes.fromhex("726966662e91cf11a5d628db04c10000")
    for way in every_way(tmp_path / "x", head + struct.pack("<Q", 24 + len(parts)) + parts):
        assert np.abs(read_source(way)[0] - sound).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 10])
def test_planes_of_ffmpeg_with_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    sound = noise(8000, channels)
    names = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 10: "5.1.4"}
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE, layout=names[channels])
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound).reshape(1, -1), "flt", names[channels])
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for way in every_way(tmp_path / "x", file.getvalue()):
        assert np.array_equal(read_source(way)[0], sound)


def caf(samples: np.ndarray, tag: int, labels: tuple[int, ...] = ()) -> bytes:
    """A CAF of 16 bits with a list of places."""
    channels = samples.shape[1]
    form = struct.pack(">d4s5I", RATE, b"lpcm", 0, 2 * channels, 1, channels, 16)
    places = struct.pack(">3I", tag, 0, len(labels)) + b"".join(struct.pack(">I16x", label) for label in labels)
    parts = (b"desc", form), (b"chan", places), (b"data", bytes(4) + samples.astype(">i2").tobytes())
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">Q", len(body)) + body for name, body in parts)


@pytest.mark.parametrize(
    ("tag", "labels", "wanted"),
    [
        (114 << 16 | 3, (), [1, 2, 0]),  # centre, left, right
        (124 << 16 | 6, (), [1, 2, 0, 5, 3, 4]),  # centre, left, right, the two sides, LFE
        (0, (3, 1, 2, 5, 6, 4), [1, 2, 0, 5, 3, 4]),
        (0, (2, 1), [1, 0]),
        (101 << 16 | 2, (), [0, 1]),
        (0, (42, 42), [0, 1]),
        (0, (1, 2, 1 << 16, 1 << 16 | 1), [0, 1, 2, 3]),
    ],
)
def test_an_order_of_its_own_is_turned_and_does_not_end_the_process(
    tmp_path: Path, tag: int, labels: tuple[int, ...], wanted: list[int]
) -> None:
    samples = (noise(100_000, len(wanted)) * 32767).astype(np.int16)
    (tmp_path / "x.caf").write_bytes(caf(samples, tag, labels))
    program = (
        "import sys, numpy as np, pathlib; from nac.audio.reading import open_source\n"
        "with open_source(pathlib.Path(sys.argv[1])) as source:\n"
        "    np.save(sys.argv[2], np.concatenate([*source.blocks]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.caf"), str(tmp_path / "x.npy")]
    subprocess.run(command, check=True, env={**os.environ, "MALLOC_CHECK_": "3"})
    assert np.array_equal(np.load(tmp_path / "x.npy") * 32768, samples[:, wanted])
