"""Tags of recordings, through .nac and back."""

from __future__ import annotations

import io
import logging
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen import id3
from mutagen.easyid3 import EasyID3
from mutagen.easymp4 import EasyMP4, EasyMP4Tags
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, COMM, TALB, TCON, TDRC, TIT2, TPE1, TRCK, TSSE, TXXX
from mutagen.mp3 import MP3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE
from toy_codec import ToyCodec

import nac
from nac.audio.reading import open_source
from nac.audio.tags import _ID3, _MP4, INFO, LONGEST, MOST, _Measured, kept, read_tags
from nac.audio.writing import OUTPUT_FORMATS, open_sink
from nac.codecs import registry
from nac.codecs.family import Model
from nac.errors import AudioError
from nac.weights import models

TAGS = [
    ("title", "Größe 音"),
    ("artist", "One"),
    ("artist", "Two"),
    ("album", "All"),
    ("date", "2024-05-06"),
    ("comment", "a\nb"),
    ("genre", "Jazz"),
    ("tracknumber", "3/9"),
    ("my own", "thing"),
]
SAMPLES = np.random.default_rng(0).integers(-3000, 3000, (32000, 1)).astype(np.int16)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = ToyCodec()
    monkeypatch.setattr(registry, "MODELS", {"toy": Model(codec.spec, "tests", "none", ())})
    monkeypatch.setattr(models, "load", lambda name, **_: codec)


def by_key(pairs: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def write(path: Path, edit: Callable[[Any], None]) -> None:
    """An audio file with tags that mutagen wrote."""
    if path.suffix == ".m4a":
        av = pytest.importorskip("av")
        with av.open(str(path), "w", format="mp4") as out:
            stream = out.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(SAMPLES.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate = 16000
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    else:
        subtype = {".ogg": "VORBIS", ".opus": "OPUS"}.get(path.suffix)
        form = {".opus": "OGG", ".mp3": "MP3"}.get(path.suffix)
        soundfile.write(path, SAMPLES, 16000, subtype=subtype, format=form)
    audio = mutagen.File(path)
    if audio.tags is None:
        audio.add_tags()
    edit(audio)
    audio.save()


def vorbis(audio: Any) -> None:
    audio.update(by_key(TAGS))
    audio["encoder"] = "x"
    if isinstance(audio, FLAC):
        picture = Picture()
        picture.data = bytes(1000)
        audio.add_picture(picture)


def frames(audio: Any) -> None:
    for frame in (
        TIT2(3, ["Größe 音"]),
        TPE1(3, ["One", "Two"]),
        TALB(3, ["All"]),
        TDRC(3, ["2024-05-06"]),
        TCON(3, ["(8)"]),
        TRCK(3, ["3/9"]),
        COMM(3, "eng", "", ["a\nb"]),
        TXXX(3, "My Own", ["thing"]),
        TSSE(3, ["encoder"]),
        APIC(3, "image/png", 3, "", bytes(1000)),
    ):
        audio.tags.add(frame)


@pytest.fixture
def names() -> dict[str, str]:
    """A value for each name of a tag that nac and mutagen's own table of ID3's frames both have."""
    shared = EasyID3.valid_keys.keys() & _ID3.keys()
    assert len(shared) >= 18
    dated = {"date": "2024-05-06", "originaldate": "1999"}
    return {name: dated.get(name, f"the {name}") for name in sorted(shared)}


def test_frames_of_id3_have_the_names_that_mutagen_gives_them(names: dict[str, str], tmp_path: Path) -> None:
    """Written and read by another: a table that is wrong both ways would come back from nac itself."""
    theirs = EasyID3()
    for name, value in names.items():
        theirs[name] = value
    theirs.save(tmp_path / "theirs.mp3")
    assert dict(read_tags(tmp_path / "theirs.mp3")) == names

    source = tmp_path / "x.flac"
    write(source, lambda audio: audio.update(names))
    nac.compress(source, tmp_path / "x.nac", model="toy")
    nac.decompress(tmp_path / "x.nac", tmp_path / "x.mp3")
    ours = EasyID3(tmp_path / "x.mp3")
    assert {name: ours[name][0] for name in names} == names


def test_atoms_of_mp4_have_the_names_that_mutagen_gives_them(tmp_path: Path) -> None:
    wanted = {name: f"the {name}" for name in EasyMP4Tags.Set if name in {*_MP4.values()}}
    wanted |= {"bpm": "120", "tracknumber": "3/9", "discnumber": "1/2"}
    assert wanted.keys() >= {"title", "album", "artist", "albumartist", "date", "comment", "genre", "grouping"}

    write(tmp_path / "x.m4a", lambda audio: None)
    theirs = EasyMP4(tmp_path / "x.m4a")
    for name, value in wanted.items():
        theirs[name] = value
    theirs.save()
    assert dict(read_tags(tmp_path / "x.m4a")) == wanted


def test_the_info_list_has_the_names_that_ffmpeg_gives_it() -> None:
    values = {name.decode(): f"the {key}".encode() for name, key in INFO.items()}
    form, sound = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16), bytes(200)
    body = (
        b"WAVEfmt " + struct.pack("<I", 16) + form + info_list(**values) + b"data" + struct.pack("<I", 200) + sound
    )
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    with open_source(io.BytesIO(data)) as source, av.open(io.BytesIO(data)) as theirs:
        assert dict(source.tags) == {{"track": "tracknumber"}.get(k, k): v for k, v in theirs.metadata.items()}
        assert len(source.tags) == len(INFO) == 8


def atoms(audio: Any) -> None:
    audio["\xa9nam"] = ["Größe 音"]
    audio["\xa9ART"] = ["One", "Two"]
    audio["\xa9alb"] = ["All"]
    audio["\xa9day"] = ["2024-05-06"]
    audio["\xa9cmt"] = ["a\nb"]
    audio["\xa9gen"] = ["Jazz"]
    audio["trkn"] = [(3, 9)]
    audio["----:com.apple.iTunes:My Own"] = [b"thing"]


WRITERS = {"wav": frames, "mp3": frames, "flac": vorbis, "ogg": vorbis, "opus": vorbis, "m4a": atoms}


@pytest.mark.parametrize("ending", WRITERS)
def test_tags_of_every_format_are_kept(ending: str, tmp_path: Path) -> None:
    source = tmp_path / f"x.{ending}"
    write(source, WRITERS[ending])
    nac.compress(source, tmp_path / "x.nac", model="toy")
    with nac.open(tmp_path / "x.nac") as file:
        assert by_key(file.header.tags) == by_key(TAGS)
    info = nac.info(tmp_path / "x.nac")
    assert info.tags["artist"] == "One; Two"
    with source.open("rb") as opened:
        nac.compress(opened, tmp_path / "y.nac", model="toy")
    assert (tmp_path / "x.nac").read_bytes() == (tmp_path / "y.nac").read_bytes()


@pytest.mark.parametrize(
    ("ending", "kind"), [("wav", WAVE), ("mp3", MP3), ("flac", FLAC), ("ogg", OggVorbis), ("opus", OggOpus)]
)
def test_tags_are_written_back(ending: str, kind: Any, tmp_path: Path) -> None:
    write(tmp_path / "x.flac", vorbis)
    nac.compress(tmp_path / "x.flac", tmp_path / "x.nac", model="toy")
    out = tmp_path / f"y.{ending}"
    nac.decompress(tmp_path / "x.nac", out)
    tags = kind(out).tags
    if ending in ("wav", "mp3"):
        assert tags["TIT2"].text == ["Größe 音"]
        assert tags["TPE1"].text == ["One", "Two"]
        assert tags["COMM::XXX"].text == ["a\nb"]
        assert tags["TXXX:my own"].text == ["thing"]
    else:
        assert tags["title"] == ["Größe 音"]
        assert tags["artist"] == ["One", "Two"]
    assert by_key(read_tags(out)) == by_key(TAGS)
    # The sound is what it is without tags.
    write(tmp_path / "bare.flac", lambda audio: None)
    nac.compress(tmp_path / "bare.flac", tmp_path / "bare.nac", model="toy")
    nac.decompress(tmp_path / "bare.nac", tmp_path / f"plain.{ending}")
    assert np.array_equal(soundfile.read(out)[0], soundfile.read(tmp_path / f"plain.{ending}")[0])
    nac.compress(out, tmp_path / "again.nac", model="toy")
    with nac.open(tmp_path / "again.nac") as file:
        assert by_key(file.header.tags) == by_key(TAGS)


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError

    def readable(self) -> bool:
        return True


def test_pipes(tmp_path: Path) -> None:
    write(tmp_path / "x.flac", vorbis)
    out, back = Pipe(), Pipe()
    nac.compress(Pipe((tmp_path / "x.flac").read_bytes()), out, model="toy")
    nac.decompress(Pipe(out.getvalue()), back, format="ogg")
    (tmp_path / "y.ogg").write_bytes(back.getvalue())
    assert by_key(read_tags(tmp_path / "y.ogg")) == by_key(TAGS)
    plain = Pipe()
    nac.decompress(Pipe(out.getvalue()), plain)
    assert len(plain.getvalue()) == 44 + 2 * len(SAMPLES)  # a WAV on a pipe has none


def info_list(**values: bytes) -> bytes:
    body = b"INFO" + b"".join(
        name.encode() + struct.pack("<I", len(value)) + value + bytes(len(value) % 2)
        for name, value in values.items()
    )
    return b"LIST" + struct.pack("<I", len(body)) + body


def test_the_info_list_of_a_wav(tmp_path: Path) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, SAMPLES, 16000, format="WAV", subtype="PCM_16")
    bare = wav.getvalue()
    extra = info_list(INAM=b"Song\0", IART=b"Me", ISFT=b"Lavf", ICRD=b"1999", XXXX=b"?")
    data = b"RIFF" + struct.pack("<I", len(bare) - 8 + len(extra)) + bare[8:36] + extra + bare[36:]
    (tmp_path / "x.wav").write_bytes(data)
    expected = {"title": ["Song"], "artist": ["Me"], "date": ["1999"]}
    for source in (tmp_path / "x.wav", Pipe(data)):
        out = io.BytesIO()
        nac.compress(source, out, model="toy")
        (tmp_path / "x.nac").write_bytes(out.getvalue())
        with nac.open(tmp_path / "x.nac") as file:
            assert by_key(file.header.tags) == expected


@pytest.mark.parametrize("name", [b"RIFF", b"RF64"])
@pytest.mark.parametrize("count", [100, 101])
def test_the_info_list_of_a_wav_is_read_wherever_it_is(name: bytes, count: int) -> None:
    """Before the samples or behind them, in one or in several lists, and beside lists of other things."""
    cues = b"LIST" + struct.pack("<I", 16) + b"adtllabl" + struct.pack("<II", 4, 1)
    song, who, when = info_list(INAM=b"Song"), info_list(IART=b"Me\0"), info_list(ICRD=b"1999")
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 16000, 1, 8)
    size = struct.pack("<I", count if name == b"RIFF" else 0xFFFFFFFF)
    sound = b"data" + size + b"LIST".ljust(count) + bytes(count % 2)
    for order in range(6):
        parts = [song, who, when, cues]
        parts = [*parts[order:], form, *parts[:order]] if order < 4 else [form, *parts]
        at = parts.index(form) + 1 if order < 5 else len(parts)
        parts.insert(at, sound)
        if name == b"RF64":
            parts.insert(0, b"ds64" + struct.pack("<IQQQI", 28, sum(map(len, parts)) + 40, count, count, 0))
        body = b"WAVE" + b"".join(parts)
        data = name + struct.pack("<I", len(body) if name == b"RIFF" else 0xFFFFFFFF) + body
        with open_source(io.BytesIO(data)) as source:
            assert dict(source.tags) == {"title": "Song", "artist": "Me", "date": "1999"}, order
            assert sum(map(len, source.blocks)) == count


def test_lists_of_a_wav_together_are_within_the_limits(caplog: pytest.LogCaptureFixture) -> None:
    lists = info_list(ICMT=b"x" * 40_000) * 2
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 16000, 1, 8)
    body = b"WAVE" + form + lists + b"data" + struct.pack("<I", 100) + bytes(100) + lists
    with open_source(io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body)) as source:
        assert source.tags == (("comment", "x" * 40_000),)
    assert "the tag comment is left out" in caplog.text


def test_there_are_limits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def many(audio: Any) -> None:
        audio["title"] = "short"
        audio["lyrics"] = "x" * (LONGEST + 1)
        for number in range(MOST + 10):
            audio[f"tag{number:03}"] = "y"

    write(tmp_path / "x.flac", many)
    with caplog.at_level(logging.WARNING):
        nac.compress(tmp_path / "x.flac", tmp_path / "x.nac", model="toy")
    with nac.open(tmp_path / "x.nac") as file:
        tags = dict(file.header.tags)
    assert tags["title"] == "short"
    assert len(tags) == MOST
    assert "lyrics" not in tags
    assert "the tag lyrics is left out" in caplog.text


def test_tags_keep_their_order(tmp_path: Path) -> None:
    """Or the same command would not give the same bytes."""
    names = [f"{letter}{number}" for number in range(4) for letter in "qwertz"]

    def some(audio: Any) -> None:
        for name in names:
            audio[name] = name

    write(tmp_path / "x.flac", some)
    assert [name for name, _ in read_tags(tmp_path / "x.flac")] == names


def bomb(version: int) -> bytes:
    """An ID3 tag with a title of 8 MB in a compressed frame."""
    text = zlib.compress(b"\x00" + b"A" * (8 << 20))
    body = struct.pack(">I", 8 << 20) + text
    size = (
        bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
        if version == 4
        else struct.pack(">I", len(body))
    )
    flags = b"\x00\x09" if version == 4 else b"\x00\x80"
    frame = b"TIT2" + size + flags + body + b"TPE1" + struct.pack(">I", 3) + bytes(2) + b"\x00Me"
    return b"ID3" + bytes([version, 0, 0]) + bytes((len(frame) >> s) & 0x7F for s in (21, 14, 7, 0)) + frame


@pytest.mark.parametrize("version", [3, 4])
def test_compressed_frames_are_left_out(version: int) -> None:
    assert read_tags(io.BytesIO(bomb(version) + bytes(100))) == (("artist", "Me"),)
    # That mutagen reads such frames without our care is why they are tested.
    assert len(id3.ID3(io.BytesIO(bomb(version) + bytes(100)))["TIT2"].text[0]) == 8 << 20


def test_old_id3_tags() -> None:
    frame = b"TT2" + b"\0\0\x05" + b"\0Song"
    assert read_tags(io.BytesIO(b"ID3\2\0\0\0\0\0" + bytes([len(frame)]) + frame)) == (("title", "Song"),)
    first = b"\xff\xfb" + bytes(1000) + b"TAG" + b"Name".ljust(30, b"\0") + b"Who".ljust(30, b"\0") + bytes(65)
    assert by_key(read_tags(io.BytesIO(first)))["title"] == ["Name"]


@pytest.mark.parametrize("ending", ["flac", "mp3", "ogg", "wav"])
def test_broken_tags_do_not_stop_anything(ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / f"x.{ending}"
    write(path, WRITERS[ending])
    data = path.read_bytes()
    place = data.index("Größe 音".encode())

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.integers(-40, 300), st.integers(0, 255)), min_size=1, max_size=6))
    def damaged(changes: list[tuple[int, int]]) -> None:
        changed = bytearray(data)
        for offset, value in changes:
            changed[min(place + offset, len(data) - 1)] = value
        tags = read_tags(io.BytesIO(bytes(changed)))
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in tags)
        assert sum(len(key.encode()) + len(value.encode()) for key, value in tags) <= LONGEST

    damaged()
    assert read_tags(io.BytesIO(b"fLaC" + bytes(100))) == ()
    assert "tags cannot be read" in caplog.text


def test_tags_may_be_just_as_long_as_they_may_be(caplog: pytest.LogCaptureFixture) -> None:
    pairs = [("title", "x" * (LONGEST // 2 - 5)), ("album", "y" * (LONGEST // 2 - 5)), ("isrc", "z")]
    assert kept(pairs) == tuple(pairs[:2])
    assert "the tag isrc is left out" in caplog.text


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_tags_that_need_care_are_written(format: str) -> None:
    file = io.BytesIO()
    pairs = (("lyrics", "one"), ("lyrics", "two"), ("originaldate", "long ago"), ("title", "x"), ("a=b", "c"))
    with open_sink(file, OUTPUT_FORMATS[format], 16000, 1, len(SAMPLES), pairs) as sink:
        sink.write(SAMPLES.astype(np.float32) / 32768)
    found = by_key(read_tags(file))
    if format in ("wav", "mp3"):
        assert found["lyrics"] == ["one\ntwo"]
        assert found["a=b"] == ["c"]
    else:
        assert found["lyrics"] == ["one", "two"]
        assert set(found) == {"lyrics", "originaldate", "title"}  # Vorbis comments have no name with "="
    assert found["originaldate"] == ["long ago"]
    assert found["title"] == ["x"]


def test_an_mp4_may_have_a_number_without_a_total(tmp_path: Path) -> None:
    def numbers(audio: Any) -> None:
        audio["trkn"], audio["disk"] = [(3, 0)], [(1, 2)]

    write(tmp_path / "x.m4a", numbers)
    found = dict(read_tags(tmp_path / "x.m4a"))
    assert (found["tracknumber"], found["discnumber"]) == ("3", "1/2")


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=20)), max_size=5),
    st.sampled_from(["wav", "flac", "ogg", "opus", "mp3"]),
)
def test_any_tags_in_a_file_can_be_written(tags: list[tuple[str, str]], format: str) -> None:
    from nac.audio.writing import OUTPUT_FORMATS, open_sink

    file = io.BytesIO()
    pairs = (*tags, ("date", "yesterday"), ("title", "x\0y"))
    with open_sink(file, OUTPUT_FORMATS[format], 16000, 1, len(SAMPLES), pairs) as sink:
        sink.write(SAMPLES.astype(np.float32) / 32768)
    file.seek(0)
    assert len(soundfile.read(file)[0]) == len(SAMPLES)


def test_a_wav_of_too_many_chunks_is_not_searched_for_tags(caplog: pytest.LogCaptureFixture) -> None:
    chunks = b"WAVE" + (b"junk" + bytes(4)) * 200_000
    began = time.process_time()
    assert read_tags(io.BytesIO(b"RIFF" + len(chunks).to_bytes(4, "little") + chunks)) == ()
    assert "too many reads" in caplog.text
    assert time.process_time() - began < 2


def test_a_file_is_read_as_often_as_tags_may_need_and_no_more() -> None:
    file = _Measured(io.BytesIO(b"some bytes"))
    for _ in range(1 << 16):
        file.read(1)
    with pytest.raises(AudioError, match="too many reads"):
        file.read(1)


def ape(**items: str) -> bytes:
    """An APEv2 tag with a header and a footer."""
    body = b"".join(
        len(value.encode()).to_bytes(4, "little")
        + bytes(4)
        + key.replace("_", " ").encode()
        + b"\0"
        + value.encode()
        for key, value in items.items()
    )

    def mark(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, len(body) + 32, len(items), flags) + bytes(8)

    return mark(0xA0000000) + body + mark(0x80000000)


def test_ape_tags_are_read_where_id3_does_not_say_the_same() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(9000), 16000, format="MP3")
    sound = file.getvalue()
    tag = ape(Title="Ape", Year="1999", Track="3/9", Album_Artist="All\0Others", Mine="x")
    want = {"title": "Ape", "date": "1999", "tracknumber": "3/9", "mine": "x"}
    found = read_tags(io.BytesIO(sound + tag))
    assert dict(found) == want | {"albumartist": "Others"}
    assert [value for key, value in found if key == "albumartist"] == ["All", "Others"]
    tagged = io.BytesIO(sound)
    audio = MP3(tagged)
    audio.add_tags()
    audio.tags.add(TXXX(3, "Mine", ["of ID3"]))
    tagged.seek(0)
    audio.save(tagged)
    assert by_key(read_tags(io.BytesIO(tagged.getvalue() + tag)))["mine"] == ["of ID3"]
    v1 = b"TAG" + b"One".ljust(90, b"\0") + b"1999" + b"a comment that is cut off afte" + b"\x0c"
    assert dict(read_tags(io.BytesIO(sound + tag + v1)))["title"] == "One"
    assert dict(read_tags(io.BytesIO(b"wvpk" + bytes(500) + tag)))["title"] == "Ape"


def test_the_older_tag_does_not_double_a_comment(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.mp3", np.zeros(9000), 16000)
    sound = (tmp_path / "x.mp3").read_bytes()
    older = b"TAG" + bytes(94) + b"a comment that is longer than " + b"\x0c"
    assert dict(read_tags(io.BytesIO(sound + older)))["comment"] == "a comment that is longer than"
    tags = id3.ID3()
    tags.add(COMM(encoding=3, lang="eng", desc="", text="a comment that is longer than thirty bytes"))
    tags.save(tmp_path / "x.mp3")
    both = (tmp_path / "x.mp3").read_bytes() + older
    comments = [value for key, value in read_tags(io.BytesIO(both)) if key == "comment"]
    assert comments == ["a comment that is longer than thirty bytes"]


def test_an_avi_is_not_taken_for_a_wav_with_broken_tags(caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_source(file) as source:
        assert source.channels == 1
    assert not caplog.messages


def test_a_long_wav_stays_as_it_is_without_tags(caplog: pytest.LogCaptureFixture) -> None:
    """RF64 has its sizes elsewhere than RIFF, which is all that the writer of tags knows."""
    made = []
    for tags in (), (("title", "Long"),):
        file, block = io.BytesIO(), np.full((1000, 1), 0.5, np.float32)
        with open_sink(file, OUTPUT_FORMATS["wav"], 48000, 1, 1 << 31, tags) as sink:
            sink.write(block)
        made.append(file.getvalue())
        assert file.tell() == len(file.getvalue())
    assert made[0][:4] == b"RF64"
    assert made[0] == made[1]
    assert caplog.messages == ["tags are not written to a WAV of 4 GB or more"]
    assert len(soundfile.read(io.BytesIO(made[1]))[0]) == 1000


def test_tags_of_the_most_bytes_are_kept_and_one_byte_more_is_not() -> None:
    title, rest = ("title", "é"), ("comment", "x" * (LONGEST - len("title") - 2 - len("comment")))
    assert kept([title, rest]) == (title, rest)
    assert kept([title, (rest[0], rest[1] + "x")]) == (title,)
