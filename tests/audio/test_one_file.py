"""No file opens another: whatever a file names, nothing but its own bytes is read."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
import soundfile
from sound_files import RATE, Stream, every_way, noise, read_source

from nac.audio import ffmpeg
from nac.errors import AudioError

NAMING = {
    "concat": "ffconcat version 1.0\nfile secret.wav\n",
    "concat, unsafe": "ffconcat version 1.0\nfile '{folder}/secret.wav'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{folder}/secret.wav\n#EXT-X-ENDLIST\n",
    "m3u": "{folder}/secret.wav\n",
    "pls": "[playlist]\nFile1=secret.wav\nNumberOfEntries=1\n",
    "dash": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet mimeType="audio/mp4"><Representation>'
    "<BaseURL>secret.wav</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "xspf": '<playlist version="1"><trackList><track><location>secret.wav</location></track></trackList>'
    "</playlist>",
    "asx": '<asx version="3.0"><entry><ref href="secret.wav"/></entry></asx>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>',
    "asf reference": "[Reference]\nRef1=http://127.0.0.1:9/secret.wav?MSWMExt=.asf\n",
    "real": "rtsp://127.0.0.1:9/secret.rm\n",
    "cue": 'FILE "secret.wav" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "lavfi": "sine=frequency=440",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    soundfile.write(tmp_path / "secret.wav", noise(), RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("ending", [".m4a", ".m3u8", ".wav", ".mp3", ".txt"])
def test_lists_of_files_are_refused(folder: Path, kind: str, ending: str) -> None:
    data = NAMING[kind].format(folder=folder).encode()
    for way in every_way(folder / f"innocent{ending}", data):
        with pytest.raises(AudioError, match="not in an audio format that nac reads"):
            read_source(way)


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize(
    "claimed", ["mp4", "matroska", "mp3", "id3", "flac", "ogg", "aac", "wav", "mpegts", "asf"]
)
def test_ffmpeg_would_not_follow_them_either(folder: Path, kind: str, claimed: ffmpeg.Kind) -> None:
    """Even where a file is taken for audio: no demuxer that opens others, and no protocol."""
    data = NAMING[kind].format(folder=folder).encode()
    with pytest.raises(AudioError):
        ffmpeg.FFmpegInput(io.BytesIO(data), claimed, 0, len(data)).read(1000)


@pytest.mark.parametrize("name", ["secret%d.wav", "*.wav", "pipe:0", "concat:secret.wav|secret.wav", "http:"])
def test_a_name_is_a_name(folder: Path, name: str) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_source(Path(name))


@pytest.mark.parametrize(
    "name", ["2024-01-01T12:30:00.m4a", "file:x.m4a", "concat:x.m4a", "%03d.m4a", "-.m4a", "caf\udce9.m4a"]
)
def test_a_file_of_any_name_is_read(folder: Path, name: str) -> None:
    import av

    with av.open("plain.m4a", "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(noise(4096).T.copy(), format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    Path("plain.m4a").rename(name)
    assert len(read_source(Path(name))[0]) >= 4096


def box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def test_a_film_whose_sound_is_in_another_file_is_refused(folder: Path) -> None:
    """Data references, as an alias and as an address, of any track, and behind one to the film itself."""
    itself, address = box(b"url ", b"\0\0\0\1"), f"file://{folder}/secret.wav\0".encode()
    elsewhere = [box(name, b"\0\0\0\2", address) for name in (b"url ", b"urn ", b"rsrc")]
    elsewhere.append(box(b"alis", bytes(4), alias(folder / "secret.wav")))
    for reference in [*elsewhere, itself + elsewhere[0], itself + movie(itself) + movie(elsewhere[0])]:
        data = movie(reference)
        at = data.index(b"moov") - 4
        # The last box may go up to the end without a size.
        for film in (data, data[:at] + bytes(4) + data[at + 4 :]):
            for way in (folder / "x.mov", Stream(film)):
                (folder / "x.mov").write_bytes(film)
                with pytest.raises(AudioError, match="its audio is in another file"):
                    read_source(way)


def alias(path: Path) -> bytes:
    name = path.name.encode()
    start = struct.pack(">IHHH", 0, 0, 2, 0) + bytes(28 + 4 + 4) + bytes([len(name)]) + name.ljust(63, b"\0")
    where = str(path).encode()
    more = struct.pack(">HH", 18, len(where)) + where + bytes(len(where) % 2) + struct.pack(">hH", -1, 0)
    return start + bytes(16) + struct.pack(">hh", 0, 0) + bytes(16) + more


def movie(reference: bytes) -> bytes:
    """A film of 8000 samples, which lie behind byte 44 of what is referred to."""
    clock = struct.pack(">IIII", 0, 0, RATE, 8000)
    header = box(b"mvhd", bytes(4), clock, struct.pack(">IH", 0x10000, 0x100), bytes(70), struct.pack(">I", 2))
    track = box(b"tkhd", struct.pack(">IIIIII", 7, 0, 0, 1, 0, 8000), bytes(60))
    entry = box(b"sowt", bytes(6), struct.pack(">HHHIHHHHI", 1, 0, 0, 0, 1, 16, 0, 0, RATE << 16))
    table = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        box(b"stts", bytes(4), struct.pack(">III", 1, 8000, 1)),
        box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, 8000, 1)),
        box(b"stsz", bytes(4), struct.pack(">II", 2, 8000)),
        box(b"stco", bytes(4), struct.pack(">II", 1, 44)),
    )
    info = box(
        b"minf",
        box(b"smhd", bytes(8)),
        box(b"dinf", box(b"dref", bytes(4), struct.pack(">I", 1), reference)),
        table,
    )
    handler = box(b"hdlr", bytes(4), b"mhlrsoun", bytes(12), b"\0")
    media = box(b"mdia", box(b"mdhd", bytes(4), clock, bytes(4)), handler, info)
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", header, box(b"trak", track, media))


def test_that_film_would_be_read_if_the_sound_were_in_itself(folder: Path) -> None:
    """So that it is refused for what it refers to."""
    data = movie(box(b"url ", b"\0\0\0\1"))
    samples, _ = read_source(io.BytesIO(data + box(b"mdat", bytes(16000))))
    assert len(samples) == 8000


def test_sound_in_a_last_box_without_a_size_may_look_like_the_start_of_a_film(folder: Path) -> None:
    data = movie(box(b"url ", b"\0\0\0\1")) + bytes(4) + b"mdat" + bytes(800) + b"ftyp".ljust(15200, b"\0")
    for way in every_way(folder / "x.mov", data):
        assert len(read_source(way)[0]) == 8000


@pytest.mark.parametrize("size", [0, 5, 8, 1000])
def test_two_films_are_refused_whatever_the_size_of_the_second(folder: Path, size: int) -> None:
    data = (
        movie(box(b"url ", b"\0\0\0\1"))
        + box(b"mdat", bytes(16000))
        + struct.pack(">I", size)
        + b"moov"
        + bytes(20)
    )
    for way in every_way(folder / "x.mov", data):
        with pytest.raises(AudioError, match="several recordings"):
            read_source(way)
