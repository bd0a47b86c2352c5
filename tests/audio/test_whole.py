"""Whole or refused: all the sound that a file holds, or an error."""

from __future__ import annotations

import io
import struct
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from mutagen.ogg import OggPage
from sound_files import RATE, Stream, chunk, every_way, noise, read_source, riff, wav_form

import nac
from nac import cli
from nac.audio import whole
from nac.audio.kinds import HEAD, is_audio, kind_of, may_be_audio
from nac.audio.reading import open_source
from nac.errors import AudioError

SOUND = (noise() * 32767).astype("<i2")
PCM = SOUND.tobytes()
W64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def w64(size: int, whole_size: int = 0) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"wave" + W64 + b"fmt " + W64 + struct.pack("<Q", 24 + len(form)) + form
    start = bytes.fromhex("726966662e91cf11a5d628db04c10000") + struct.pack("<Q", whole_size)
    return start + body + b"data" + W64 + struct.pack("<Q", size) + PCM


def aiff(size: int, frames: int) -> bytes:
    common = struct.pack(">HIH", 1, frames, 16) + bytes.fromhex("400cfa00000000000000")
    body = b"AIFFCOMM" + struct.pack(">I", 18) + common + b"SSND" + struct.pack(">I", size) + bytes(8)
    return b"FORM" + bytes(4) + body + SOUND.astype(">i2").tobytes()


def au(size: int) -> bytes:
    return b".snd" + struct.pack(">5I", 24, size, 3, RATE, 1) + SOUND.astype(">i2").tobytes()


def caf(size: int) -> bytes:
    form = struct.pack(">d4s5I", RATE, b"lpcm", 2, 2, 1, 1, 16)
    head = b"caff\0\1\0\0desc" + struct.pack(">q", 32) + form
    return head + b"data" + struct.pack(">q", size) + bytes(4) + PCM


def rf64(name: bytes, size: int, small: int = 0xFFFFFFFF) -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, size, 0, 0))
    return riff(sizes, wav_form(), chunk(b"data", PCM, small), size=0xFFFFFFFF, name=name)


def sphere(count: str) -> bytes:
    lines = f"NIST_1A\n   1024\n{count}sample_n_bytes -i 2\nchannel_count -i 1\nsample_byte_format -s2 01\n"
    return (lines + f"sample_rate -i {RATE}\nsample_coding -s3 pcm\nend_head\n").encode().ljust(1024) + PCM


def plain_wav(size: int, outer: int | None = None) -> bytes:
    return riff(wav_form(), chunk(b"data", PCM, size), size=outer)


UNKNOWN = {
    "killed recorder": plain_wav(0, 36),
    "killed recorder, no size at all": plain_wav(0, 0),
    "gstreamer": plain_wav(0, 0xFFFFFFFF),
    "ffmpeg": plain_wav(0xFFFFFFFF, 0xFFFFFFFF),
    "sox": plain_wav(0x7FFFF000, 0x7FFFF024),
    "sox, three bytes a sample": plain_wav(0x7FFFF000 - 2, 0x7FFFF022),
    "arecord": plain_wav(0x7FFFFF00, 0x7FFFFF24),
    "2^31": plain_wav(0x80000000, 0x80000024),
    "4 GB less a header": plain_wav(0xFFFFFFFF - 44, 0xFFFFFFFF - 8),
    "counts the header": plain_wav(len(PCM) + 44, len(PCM) + 44),
    "counts the header, less eight": plain_wav(len(PCM) + 36, len(PCM) + 36),
    "counts the header, with no outer size": plain_wav(len(PCM) + 44, 0),
    "counts the header, with an unknown outer size": plain_wav(len(PCM) + 36, 0xFFFFFFFF),
    "too large, in a file that is whole": plain_wav(len(PCM) + 5000),
    "too large, in a file that is whole but for padding": plain_wav(len(PCM) + 5000, len(PCM) + 36 - 1),
    "RF64 of size 0": rf64(b"RF64", 0),
    "RF64 of unknown size": rf64(b"RF64", (1 << 64) - 1),
    "BW64": rf64(b"BW64", len(PCM)),
    "RF64 that was written as RIFF": rf64(b"RF64", len(PCM), 0),
    "W64 of sox": w64(23),
    "W64 of ffmpeg": w64((1 << 63) - 1, (1 << 64) - 1),
    "AIFF of ffmpeg": aiff(0, 0),
    "AIFF of sox": aiff(0x7F000008, 0x3F800000),
    "AU of ffmpeg": au(0xFFFFFFFF),
    "AU of size 0": au(0),
    "AU that counts the header": au(len(PCM) + 24),
    "CAF of unknown size": caf(-1),
    "CAF of size 0": caf(0),
    "SPHERE": sphere(f"sample_count -i {len(SOUND)}\n"),
    "SPHERE of unknown length": sphere(""),
}


def test_chunks_of_an_aiff_have_any_order(tmp_path: Path) -> None:
    data = aiff(len(PCM) + 8, len(SOUND))
    common, sound = data[12:38], data[38:]
    for file in every_way(tmp_path / "x", data[:12] + sound + common):
        samples, _ = read_source(file)
        assert np.array_equal(samples[:, 0] * 32768, SOUND[:, 0])


def test_samples_of_an_aiff_begin_at_their_offset(tmp_path: Path) -> None:
    data = aiff(len(PCM) + 8 + 6, len(SOUND))
    for file in every_way(tmp_path / "x", data[:46] + struct.pack(">II", 6, 0) + b"nosoun" + data[54:]):
        samples, _ = read_source(file)
        assert np.array_equal(samples[:, 0] * 32768, SOUND[:, 0])


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_size_that_is_none_stands_for_all(tmp_path: Path, name: str) -> None:
    for file in every_way(tmp_path / "x", UNKNOWN[name]):
        if "header" in name and "WAV" not in name and isinstance(file, Stream) and name.startswith("counts"):
            continue  # whether it is wrong cannot be seen before the end of a pipe
        if name.startswith("too large") and isinstance(file, Stream):
            continue
        samples, _ = read_source(file)
        assert np.array_equal(samples[:, 0] * 32768, SOUND[:, 0]), file


@pytest.mark.parametrize("name", ["counts the header", "too large, in a file that is whole"])
def test_where_a_pipe_is_too_short_it_is_refused(name: str) -> None:
    with pytest.raises(AudioError, match="cut off"):
        read_source(Stream(UNKNOWN[name]))


@pytest.mark.parametrize(
    "data",
    [
        plain_wav(len(PCM))[:-1000],
        plain_wav(len(PCM))[:-8],
        plain_wav(len(PCM))[:-36],
        plain_wav(len(PCM))[:-44],
        rf64(b"BW64", len(PCM))[:-1000],
        w64(24 + len(PCM))[:-1000],
        aiff(len(PCM) + 8, len(SOUND))[:-1000],
        au(len(PCM))[:-1000],
        caf(len(PCM) + 4)[:-1000],
        sphere(f"sample_count -i {len(SOUND)}\n")[:-1000],
        *(plain_wav(near, near + 36) for near in (0x7EFFFFFF, 0x7F000040, 0x7FFFDFFF, 0x80000040, 0xFFFFDFFF)),
        plain_wav(len(PCM) + 5000, len(PCM) + 36 - 2),  # the file is not whole by its outer size either
        plain_wav(len(PCM) + 5000, len(PCM) + 36 + 1),
    ],
)
def test_what_is_announced_and_not_there_is_missing(tmp_path: Path, data: bytes) -> None:
    for file in every_way(tmp_path / "x", data):
        with pytest.raises(AudioError, match=r"cut off: \d+ bytes are missing"):
            read_source(file)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_file_that_ends_within_its_header_is_cut_off_whether_or_not_it_has_a_size(size: int) -> None:
    data = b".snd" + struct.pack(">5I", 100, size, 3, RATE, 1) + b"a note".ljust(76, b"\0")
    assert len(data) == 100
    if not size:
        assert len(read_source(io.BytesIO(data))[0]) == 0
    for end in (28, 99):
        with pytest.raises(AudioError, match="cut off: it ends within its header"):
            read_source(io.BytesIO(data[:end]))
    for end in range(4, 28):
        with pytest.raises(AudioError):
            read_source(io.BytesIO(data[:end]))


@pytest.mark.parametrize("width", [0, 1, 2, 3, 5])
def test_a_wav_whose_width_of_a_sample_is_impossible_is_read_by_its_bits(width: int) -> None:
    form = struct.pack("<HHIIHH", 1, 2, RATE, RATE * width, width, 16)
    samples, source = read_source(io.BytesIO(riff(chunk(b"fmt ", form), chunk(b"data", PCM))))
    assert source.channels == 2
    assert np.array_equal(samples * 32768, SOUND.reshape(-1, 2))


def test_an_object_that_only_has_read_is_read_as_a_pipe() -> None:
    class Reader:
        def __init__(self) -> None:
            self.read = io.BytesIO(plain_wav(len(PCM))).read

    samples, _ = read_source(Reader())
    assert len(samples) == len(SOUND)


LEAST_AND_MOST = [0x7F000000, 0x7F00003F, 0x7FFFE000, 0x8000003F, 0xFFFFE000, 0xFFFFFFFF]


@pytest.mark.parametrize("size", [*LEAST_AND_MOST, 1 << 62, (1 << 64) - 1])
def test_the_placeholders_of_every_range_stand_for_all(size: int) -> None:
    """The first and the last of each; what is just outside is a size, of which something is missing."""
    assert not whole.is_known(size)
    assert whole.is_known(size + (-1 if size % 16 == 0 else 1)) or size == 0xFFFFFFFF
    data = plain_wav(size, size & 0xFFFFFFFF) if size in LEAST_AND_MOST else rf64(b"RF64", size)
    assert len(read_source(io.BytesIO(data))[0]) == len(SOUND)


def w64_chunk(name: bytes, body: bytes) -> bytes:
    return name + W64 + struct.pack("<Q", 24 + len(body)) + body + bytes(-len(body) % 8)


def with_note(kind: str, note: bytes, *, first: bool) -> bytes:
    """A file with two chunks, the first of any size, before its samples or behind them."""
    if kind == "caf":  # not padded
        head, rest = caf(len(PCM) + 4)[:52], caf(len(PCM) + 4)[52:]
        more = [name + struct.pack(">q", len(body)) + body for name, body in ((b"info", note), (b"uuid", b"12"))]
        return head + b"".join([*more, rest] if first else [rest, *more])
    make = w64_chunk if kind == "w64" else chunk
    more, sound = [make(b"LIST", note), make(b"bext", b"12")], make(b"data", PCM)
    body = [make(b"fmt ", wav_form()[8:]), *([*more, sound] if first else [sound, *more])]
    if kind == "wav":
        return riff(*body)
    whole = b"wave" + W64 + b"".join(body)
    return bytes.fromhex("726966662e91cf11a5d628db04c10000") + struct.pack("<Q", 24 + len(whole)) + whole


@pytest.mark.parametrize("kind", ["wav", "w64", "caf"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17])
def test_chunks_of_any_size_are_passed_over_and_hide_no_cut(tmp_path: Path, kind: str, size: int) -> None:
    """A chunk is followed by what pads it: to two bytes in WAV, to eight in Wave64."""
    data = with_note(kind, b"x" * size, first=True)
    for file in every_way(tmp_path / "x", data):
        assert np.array_equal(read_source(file)[0][:, 0] * 32768, SOUND[:, 0])
    for missing in (8, 9, 1000):
        for file in every_way(tmp_path / "x", data[:-missing]):
            with pytest.raises(AudioError, match=f"cut off: {missing + missing % 2} bytes are missing"):
                read_source(file)
    for file in every_way(tmp_path / "x", with_note(kind, b"x" * size, first=False)):
        assert np.array_equal(read_source(file)[0][:, 0] * 32768, SOUND[:, 0])


@pytest.mark.parametrize("size", [(1 << 20) + by for by in (-100, -60, -57, -56, -44, -12, 0, 5000)])
def test_a_header_on_a_pipe_is_of_any_size(size: int) -> None:
    data = with_note("wav", b"x" * size, first=True)
    assert np.array_equal(read_source(Stream(data))[0][:, 0] * 32768, SOUND[:, 0])
    with pytest.raises(AudioError, match="cut off"):
        read_source(Stream(data[:-1000]))


def test_what_follows_the_samples_is_accounted_for(tmp_path: Path) -> None:
    good = plain_wav(len(PCM))
    tags = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a title"))
    odd = riff(wav_form(bits=8), chunk(b"data", PCM[:-1]), tags)
    for rest in (tags, chunk(b"junk", bytes(99999)), b"TAG" + b"x" * 125, b"ID3" + b"y" * 500, bytes(4096), b"\0"):
        for file in every_way(tmp_path / "x", good + rest):
            assert len(read_source(file)[0]) == len(SOUND)
    for data in odd, odd.replace(PCM[:-1] + b"\0", PCM[:-1]):  # some programs leave the padding out
        assert len(read_source(io.BytesIO(data))[0]) == len(PCM) - 1
    stale = plain_wav(len(PCM) // 2)
    for data, message in {
        stale: "bytes after the samples are neither chunks nor tags",
        au(len(PCM) // 2): "bytes after the samples",
        w64(24 + len(PCM) // 2): "bytes after the samples",
        good + bytes(100) + PCM: "bytes after the samples",
        good + b"x": "1 byte after the samples is",
        good + good: "several recordings",
        good + b"TAG" + bytes(125) + good: "several recordings",
        au(len(PCM)) + b"ID3" + bytes(500) + au(len(PCM)): "several recordings",
        caf(len(PCM) + 4) + b"APETAGEX" + bytes(56) + caf(len(PCM) + 4): "several recordings",
        good + chunk(b"data", PCM): "several recordings",
    }.items():
        for file in every_way(tmp_path / "x", data):
            with pytest.raises(AudioError, match=message):
                read_source(file)


@pytest.mark.parametrize("before", [65536 + 8 + 3 - cut for cut in range(1, 12)])
def test_a_recording_behind_a_tag_is_noticed_wherever_it_begins(before: int) -> None:
    """Also where the bytes it is known by are read in two pieces."""
    good = plain_wav(len(PCM))
    tag = b"TAG" + bytes(before - 3)
    for second in (good, au(len(PCM))):
        with pytest.raises(AudioError, match="several recordings"):
            read_source(io.BytesIO(good + tag + second))


@pytest.mark.parametrize("stale", [0, 10, len(PCM) // 2, len(PCM) * 3])
def test_the_size_beside_the_samples_of_rf64_counts_unless_it_refers_to_the_long_one(stale: int) -> None:
    """EBU Tech 3306: a 32-bit size other than -1 is the size. Some programs leave the long sizes as they were."""
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, stale, 0, 0))
    note = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a title"))
    data = riff(sizes, wav_form(), chunk(b"data", PCM), note, size=0xFFFFFFFF, name=b"RF64")
    assert np.array_equal(read_source(io.BytesIO(data))[0][:, 0] * 32768, SOUND[:, 0])


def test_a_size_that_is_too_large_in_rf64_counts_as_in_wav() -> None:
    """It is wrong if the outermost size is that of the file; otherwise something is missing."""

    def made(outer: int) -> bytes:
        sizes = chunk(b"ds64", struct.pack("<QQQI", outer, len(PCM) + 5000, 0, 0))
        return riff(sizes, wav_form(), chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF, name=b"RF64")

    size = len(made(0))
    assert len(read_source(io.BytesIO(made(size - 8)))[0]) == len(SOUND)
    for outer in (size + 5000 - 8, size + 100):
        with pytest.raises(AudioError, match="cut off: 5000 bytes"):
            read_source(io.BytesIO(made(outer)))


@pytest.mark.parametrize("kind", ["w64", "aiff"])
def test_a_size_that_is_too_large_counts_in_wave64_and_aiff_as_in_wav(kind: str) -> None:
    """Whether the outermost size is that of the file; Wave64 counts all of it, AIFF from byte 8 on."""
    size, before = (24, 0) if kind == "w64" else (8, 8)

    def made(outer: int) -> bytes:
        if kind == "w64":
            return w64(size + len(PCM) + 5000, outer)
        data = aiff(size + len(PCM) + 5000, len(SOUND))
        return data[:4] + struct.pack(">I", outer) + data[8:]

    end = len(made(0)) - before
    assert len(read_source(io.BytesIO(made(end)))[0]) == len(SOUND)
    for outer in (end + 5000, end + 8, end + 1, end - 8):
        with pytest.raises(AudioError, match="cut off: 5000 bytes"):
            read_source(io.BytesIO(made(outer)))


def test_chunks_behind_the_samples_of_rf64_are_no_sound_where_the_long_size_counts() -> None:
    for small in (0, 0xFFFFFFFF):
        whole_file = rf64(b"RF64", len(PCM), small) + chunk(b"LIST", b"INFO" + b"loud noise" * 50)
        assert np.array_equal(read_source(io.BytesIO(whole_file))[0][:, 0] * 32768, SOUND[:, 0])


class Long:
    """A WAV on a pipe that is gigabytes long, of which few bytes are held."""

    def __init__(self, size: int, rest: bytes, bits: int = 16) -> None:
        self._parts = [riff(wav_form(bits=bits), chunk(b"data", b"", size), size=size + 36), rest]
        self._left, self._piece = size, bytes(1 << 20)

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        if self._parts[0]:
            data, self._parts[0] = self._parts[0][:size], self._parts[0][size:]
        elif self._left:
            data = self._piece[: min(size, self._left)]
            self._left -= len(data)
        else:
            data, self._parts[1] = self._parts[1][:size], self._parts[1][size:]
        return data


@pytest.mark.parametrize("size", [0x90000000, 0x7FFFF000])
def test_a_long_wav_on_a_pipe_ends_where_its_samples_do(size: int) -> None:
    with open_source(Long(size, chunk(b"LIST", b"INFO" + b"loud noise" * 50))) as source:  # type: ignore[arg-type]
        assert source.samples == (size // 2 if size == 0x90000000 else None)
        count = 0
        for block in source.blocks:
            count += len(block)
        assert not block.any()
    assert count == size // 2


def test_a_part_of_a_last_sample_hides_nothing_behind_it(tmp_path: Path) -> None:
    note, sound = chunk(b"LIST", b"INFO"), SOUND[:1000].astype("<i2").tobytes()
    for rest in b"x", b"xyz":
        width = 2 if rest == b"x" else 4
        data = riff(wav_form(width // 2), chunk(b"data", sound + rest), note)
        for way in every_way(tmp_path / "x.wav", data):
            samples, _ = read_source(way)
            assert (samples * 32768).astype("<i2").tobytes() == sound
        for way in every_way(tmp_path / "x.wav", data + data):
            with pytest.raises(AudioError):
                read_source(way)


def test_samples_go_on_behind_an_odd_size_that_stands_for_none() -> None:
    loud = np.arange(1, 3001, dtype="<i2")
    with open_source(Long(0x7FFFFFFF, b"\0" + loud.tobytes())) as source:  # type: ignore[arg-type]
        assert source.samples is None
        *_, last = source.blocks
    assert np.array_equal(np.rint(last[-3000:, 0] * 32768), loud)


def test_samples_of_24_bits_on_a_pipe_are_whole_where_the_size_is_none(tmp_path: Path) -> None:
    numbers = np.arange(1, 3001) * 997
    sound = numbers.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    form = struct.pack("<HHIIHH", 1, 1, 16000, 48000, 3, 24)
    data = riff(chunk(b"fmt ", form), b"data" + bytes(4) + sound)
    for way in every_way(tmp_path / "x.wav", data):
        samples, _ = read_source(way)
        assert np.array_equal(np.rint(samples[:, 0] * 2**23), numbers)


@pytest.mark.parametrize("padding", [b"\0", b""])
def test_a_byte_of_padding_behind_a_wav_on_a_pipe_is_no_sound(
    padding: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose size is odd and may be a placeholder. Some programs leave the padding out."""
    size = 3 * 1_000_001
    monkeypatch.setattr(whole, "_STAND_INS", ((size - 3, size + 3),))
    rest = padding + chunk(b"LIST", b"INFO" + b"loud noise" * 50)
    with open_source(Long(size, rest, 24)) as source:  # type: ignore[arg-type]
        assert source.samples is None
        assert sum(map(len, source.blocks)) == size // 3


def test_samples_behind_a_placeholder_are_sound_though_they_spell_the_name_of_a_chunk() -> None:
    """Whether a chunk follows matters only in the place where the samples may end."""
    size, more = 0x7FFFF000, 1 << 24
    with open_source(Long(size, bytes(8) + b"LIST" * (more // 4))) as source:  # type: ignore[arg-type]
        assert sum(map(len, source.blocks)) == (size + 8 + more) // 2


def test_an_empty_recording_is_none_but_where_bytes_of_sound_are_it_is_an_error(tmp_path: Path) -> None:
    empty = riff(wav_form(), chunk(b"data", b""))
    for data in empty, riff(wav_form(), chunk(b"data", b""), chunk(b"LIST", b"INFO" + bytes(99))):
        for file in every_way(tmp_path / "x", data):
            assert len(read_source(file)[0]) == 0
    with pytest.raises(AudioError, match="its 100 bytes of audio give no samples"):
        whole.check_count(0, None, 100)


def flac(samples: np.ndarray, known: bool = True) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="FLAC", subtype="PCM_16")
    data = bytearray(file.getvalue())
    if not known:
        data[18:26] = (int.from_bytes(data[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    return bytes(data)


def test_a_flac_of_unknown_length_is_read_to_its_end_and_damage_is_told(tmp_path: Path) -> None:
    sound = noise(50_000)
    want = soundfile.read(io.BytesIO(flac(sound)), dtype="float32", always_2d=True)[0]
    for known in True, False:
        data = flac(sound, known)
        for file in every_way(tmp_path / "x", data):
            assert np.array_equal(read_source(file)[0], want)
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]
        for bad in (flipped, data[:middle] + data[middle + 9000 :], data[:middle]):
            with pytest.raises(AudioError, match=r"damaged|broken"):
                read_source(io.BytesIO(bad))
    for two in (flac(sound) + flac(sound), flac(sound)[:18] + flac(sound[:9000])[18:26] + flac(sound)[26:]):
        with pytest.raises(AudioError, match="declares"):
            read_source(io.BytesIO(two))


def mp3(samples: np.ndarray, xing: bool = True) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    data = file.getvalue()
    return data if xing else data.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4))


def test_mp3_is_read_to_the_last_byte_whatever_its_first_frame_says(tmp_path: Path) -> None:
    sound = np.concatenate([noise(32000), np.zeros((48000, 1), np.float32), noise(16000)])
    data = mp3(sound)
    for file in every_way(tmp_path / "x", data):
        assert len(read_source(file)[0]) == len(sound)
    for file in every_way(tmp_path / "x", mp3(sound, xing=False)):
        assert len(sound) <= len(read_source(file)[0]) < len(sound) + 4000
    for file in every_way(tmp_path / "x", data + mp3(noise(8000))):
        assert len(read_source(file)[0]) >= len(sound) + 8000
    frame = data.index(data[:2], len(data) // 2)
    for bad in (data[:frame] + data[frame + 3000 :] + bytes(3000), mp3(sound, xing=False)[:-50]):
        with pytest.raises(AudioError, match=r"broken|cut off"):
            read_source(io.BytesIO(bad))


def test_mp3_in_a_wav(tmp_path: Path) -> None:
    data = mp3(noise(32000), xing=False)
    form = chunk(b"fmt ", struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 4000, 1, 0, 12, 1, 2, 288, 1, 1393))
    for file in every_way(tmp_path / "x", riff(form, chunk(b"data", data))):
        assert len(read_source(file)[0]) >= 32000
    for file in every_way(tmp_path / "x", riff(form, chunk(b"data", data))[:-500]):
        with pytest.raises(AudioError, match="cut off"):
            read_source(file)


def ogg(samples: np.ndarray, subtype: str = "VORBIS", rate: int = 24000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="OGG", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("samples", [100, 1000, 30001])
def test_a_chain_of_ogg_has_the_samples_of_all(tmp_path: Path, subtype: str, samples: int) -> None:
    one, two = ogg(noise(samples, 2), subtype), ogg(noise(5000, 2, 1), subtype)
    times = 2 if subtype == "OPUS" else 1
    for file in every_way(tmp_path / "x", one + two):
        found, _ = read_source(file)
        assert len(found) == times * (samples + 5000)
    assert np.array_equal(found[: times * samples], read_source(io.BytesIO(one))[0])
    assert np.array_equal(found[times * samples :], read_source(io.BytesIO(two))[0])
    with pytest.raises(AudioError, match="several recordings"):
        read_source(io.BytesIO(one + ogg(noise(5000, 1), subtype)))
    with pytest.raises(AudioError, match="several recordings"):
        read_source(io.BytesIO(one + plain_wav(len(PCM))))
    with pytest.raises(AudioError, match=r"3000 bytes from .* belong to no page"):
        read_source(io.BytesIO(one + bytes([7]) * 3000 + two))


def test_opus_is_at_48_khz_whatever_its_input_was() -> None:
    time = np.arange(48000)[:, None] / 48000
    tone = 0.3 * np.sin(2 * np.pi * 9000 * time)
    data = bytearray(ogg(tone, "OPUS", 48000))
    from nac.audio.ogg import _checksum

    at = data.index(b"OpusHead")
    for claimed in 0, 8000, 44100:
        data[at + 12 : at + 16] = claimed.to_bytes(4, "little")
        page = bytes(data[: at + 19])
        data[22:26] = _checksum(page[:27], page[27:])
        samples, source = read_source(io.BytesIO(bytes(data)))
        assert (source.sample_rate, len(samples)) == (48000, 48000)
        assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.3 / 2**0.5, rel=0.05)


def muxed(
    form: str, codec: str, samples: np.ndarray, streams: int = 1, rate: int | None = None, **options: str
) -> bytes:
    rate = rate or (RATE if codec not in ("ac3", "eac3", "wmav2") else 44100)
    with tempfile.NamedTemporaryFile() as file, av.open(file.name, "w", format=form, options=options) as container:
        made = [container.add_stream(codec, rate=rate, layout="mono") for _ in range(streams)]
        for stream in made:
            stream.bit_rate = 64000
            integers = {"pcm_s16le": np.int16, "pcm_s32le": np.int32, "tta": np.int16}.get(codec)
            kind = "flt" if codec.startswith("pcm_f") else "fltp"
            if integers:
                samples, kind = (samples * np.iinfo(integers).max).astype(integers), integers.__name__.strip("int")
                kind = f"s{kind}"
            for start in range(0, len(samples), 1024):
                block = np.ascontiguousarray(samples[start : start + 1024].T)
                frame = av.AudioFrame.from_ndarray(block, format=kind, layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        container.close()
        return Path(file.name).read_bytes()


def lossless(form: str, codec: str, samples: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        stream.codec_context.format = stream.codec.audio_formats[0]
        block = (noise(samples).T * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(block, format="s16p", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        frames = av.AudioResampler(stream.codec_context.format, "mono", RATE).resample(frame)
        container.mux([packet for part in frames for packet in stream.encode(part)])
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("mp4", "aac", {}),
        ("mp4", "aac", {"movflags": "faststart"}),
        ("matroska", "pcm_f32le", {}),
        ("matroska", "aac", {}),
        ("asf", "wmav2", {}),
        ("avi", "ac3", {}),
        ("voc", "pcm_s16le", {}),
        ("sox", "pcm_s32le", {}),
        ("tta", "tta", {}),
    ],
)
def test_containers_that_end_before_they_say_so(
    tmp_path: Path, form: str, codec: str, options: dict[str, str]
) -> None:
    data = muxed(form, codec, noise(32000), **options)
    for file in every_way(tmp_path / "x", data):
        assert len(read_source(file)[0]) >= 30000  # of WMA, the encoder keeps whole frames alone
    for file in every_way(tmp_path / "x", data[: len(data) * 3 // 4]):
        with pytest.raises(AudioError):
            read_source(file)


@pytest.mark.parametrize(
    ("form", "codec"), [("asf", "wmav2"), ("tta", "tta"), ("voc", "pcm_s16le"), ("flv", "aac")]
)
def test_one_file_behind_another_is_not_lost(tmp_path: Path, form: str, codec: str) -> None:
    data = muxed(form, codec, noise(32000))
    for file in every_way(tmp_path / "x", data + b"TAG" + bytes(125)):
        assert len(read_source(file)[0]) >= 30000
    for file in every_way(tmp_path / "x", data + data):
        with pytest.raises(AudioError, match="several recordings"):
            read_source(file)


def test_a_flash_video_ends_with_its_last_tag(tmp_path: Path) -> None:
    data = muxed("flv", "aac", noise(32000))
    for missing in (1, 4, 15, len(data) // 2):
        for file in every_way(tmp_path / "x", data[:-missing]):
            with pytest.raises(AudioError, match="cut off"):
                read_source(file)


def test_a_box_of_an_mp4_may_have_a_size_of_64_bits(tmp_path: Path) -> None:
    data = muxed("mp4", "aac", noise(8000))
    at = data.index(b"mdat") - 4
    assert data[at - 4 : at] == b"free"
    size = int.from_bytes(data[at : at + 4], "big") + 8
    large = data[: at - 8] + struct.pack(">I4sQ", 1, b"mdat", size) + data[at + 8 :]
    for file in every_way(tmp_path / "x", large):
        assert np.array_equal(read_source(file)[0], read_source(io.BytesIO(data))[0])
    with pytest.raises(AudioError, match="cut off"):
        read_source(io.BytesIO(large[:-5]))


def test_an_avi_that_went_through_a_pipe_has_no_size(tmp_path: Path) -> None:
    data = muxed("avi", "pcm_s16le", noise(32000))
    for size in (0xFFFFFFFF, 0):
        for file in every_way(tmp_path / "x", data[:4] + struct.pack("<I", size) + data[8:]):
            assert len(read_source(file)[0]) == 32000


def test_pcm_in_packets_of_parts_of_samples_is_refused(tmp_path: Path) -> None:
    """FFmpeg cuts VOC into packets of 2048 bytes, and drops those at their ends that are not a whole sample."""
    sound = (noise(8000, 3) * 32767).astype("<i2").tobytes()
    form = struct.pack("<IBBH4x", RATE, 16, 3, 4)
    block = b"\x09" + (len(form) + len(sound)).to_bytes(3, "little") + form + sound
    data = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x10A, 0x1129) + block + b"\0"
    for file in every_way(tmp_path / "x", data):
        with pytest.raises(AudioError, match="only a part of a sample"):
            read_source(file)


def test_a_wavpack_file_without_a_whole_block_is_an_error(tmp_path: Path) -> None:
    data = lossless("wv", "wavpack", 4096)
    for file in every_way(tmp_path / "x", data):
        assert len(read_source(file)[0]) == 4096
    for file in every_way(tmp_path / "x", data[:-1000]):
        with pytest.raises(AudioError, match="bytes of audio give no samples"):
            read_source(file)


@pytest.mark.parametrize(("form", "codec"), [("mp2", "mp2"), ("ac3", "ac3"), ("eac3", "eac3"), ("mp3", "mp3")])
def test_a_frame_that_is_cut_off_is_told(tmp_path: Path, form: str, codec: str) -> None:
    data = muxed(form, codec, noise(32000), **({"write_xing": "0"} if form == "mp3" else {}))
    for file in every_way(tmp_path / "x", data):
        assert len(read_source(file)[0]) >= 32000
    for file in every_way(tmp_path / "x", data[:-7]):
        with pytest.raises(AudioError, match="cut off"):
            read_source(file)


def test_frames_may_have_a_byte_of_padding_which_must_not_be_missing() -> None:
    """64 kbit/s at 22.05 kHz are 417.96 bytes a frame: the first has 417, and those after it 418."""
    data = muxed("mp2", "mp2", noise(32000), rate=22050)
    for end in (417 + 418, 417 + 3 * 418):
        assert len(read_source(io.BytesIO(data[:end]))[0]) > 0
        with pytest.raises(AudioError, match="cut off"):
            read_source(io.BytesIO(data[: end - 1]))


@pytest.mark.parametrize(
    ("codec", "rate"),
    [
        (codec, base // part)
        for codec in ("mp2", "libmp3lame")
        for base in (32000, 44100, 48000)
        for part in (1, 2)
    ],
)
def test_frames_of_every_bitrate_are_as_long_as_the_standard_says(codec: str, rate: int) -> None:
    for kbits in BITRATES[codec, rate >= 32000]:
        data = b"".join(packets(codec, rate, 1000 * kbits))
        assert len(read_source(io.BytesIO(data))[0]) > 0, kbits
        with pytest.raises(AudioError, match="cut off: 1 bytes"):
            read_source(io.BytesIO(data[:-1]))


BITRATES = {
    ("mp2", True): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    ("libmp3lame", True): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    ("mp2", False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    ("libmp3lame", False): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def packets(codec: str, rate: int, bitrate: int) -> list[bytes]:
    """Frames of MPEG audio without any container."""
    context = av.AudioCodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.bit_rate = rate, "stereo", bitrate
    context.format = "s16" if codec == "mp2" else "fltp"
    silence = np.zeros((1, 2 * 1152) if codec == "mp2" else (2, 1152), np.int16 if codec == "mp2" else np.float32)
    found = []
    for start in range(4):
        frame = av.AudioFrame.from_ndarray(silence, format=context.format.name, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 1152 * start, Fraction(1, rate)
        found += map(bytes, context.encode(frame))
    return found + [bytes(packet) for packet in context.encode(None)]


@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_a_transport_stream_cut_between_packets_is_whole_only_where_none_goes_on(codec: str) -> None:
    data = muxed("mpegts", codec, noise(20_000))
    ends = range(len(data) // 2 // 188 * 188, len(data), 188)
    goes_on = [not data[end + 1] & 0x40 for end in ends]  # ISO/IEC 13818-1: payload_unit_start_indicator
    assert sum(goes_on) > 20
    for end, inside in zip(ends, goes_on, strict=True):
        if inside:
            with pytest.raises(AudioError, match=r"cut off|broken audio"):
                read_source(io.BytesIO(data[:end]))
        else:
            assert len(read_source(io.BytesIO(data[:end]))[0]) > 8000


def test_a_last_frame_or_packet_that_is_cut_off_anywhere_is_told() -> None:
    """Also within its header, which FFmpeg passes over."""
    adts = muxed("adts", "aac", noise(32000))
    streams = [muxed("mpegts", codec, noise(32000)) for codec in ("aac", "mp2")]
    packets = [streams[0][at : at + 188] for at in range(0, len(streams[0]), 188)]
    stamped = [b"".join(stamp + packet for packet in packets) for stamp in (b"\0ime", b"\x47ime", b"\xffime")]
    last = len(adts) - adts.rindex(b"\xff\xf1")
    for data, size in (
        (adts, last),
        *((stream, 188) for stream in streams),
        *((stream, 192) for stream in stamped),
    ):
        assert len(read_source(io.BytesIO(data))[0]) >= 32000
        for missing in sorted({*range(1, min(size, 12)), size // 2, size - 1}):
            with pytest.raises(AudioError, match=r"cut off|broken audio"):
                read_source(io.BytesIO(data[:-missing]))
    tagged = adts + b"TAG" + bytes(125)
    assert len(read_source(io.BytesIO(tagged))[0]) == len(read_source(io.BytesIO(adts))[0])


@pytest.mark.parametrize(("form", "codec"), [("flac", "FLAC"), ("wav", "WAV"), ("aiff", "AIFF"), ("tta", "")])
def test_a_file_behind_an_id3_tag_is_as_whole_as_one_without(tmp_path: Path, form: str, codec: str) -> None:
    if codec:
        file = io.BytesIO()
        soundfile.write(file, SOUND, RATE, format=codec, subtype="PCM_16")
        data = file.getvalue()
    else:
        data = muxed("tta", "tta", SOUND.astype(np.float32) / 32768)
    tag = b"ID3\4\0\0\0\0\0\x16" + b"TIT2\0\0\0\3\0\0\3hi".ljust(22, b"\0")
    for way in every_way(tmp_path / "x", tag + data):
        samples, source = read_source(way)
        assert len(samples) == source.samples == len(SOUND)
        assert source.tags == (("title", "hi"),)
    for end in range(len(data) // 2, len(data) // 2 + 400):
        with pytest.raises(AudioError):
            read_source(io.BytesIO(tag + data[:end]))


def test_an_id3_tag_may_have_a_footer_which_is_no_sound() -> None:
    file = io.BytesIO()
    soundfile.write(file, SOUND, RATE, format="WAV", subtype="PCM_16")
    head, frames = b"\4\0\x10\0\0\0\x16", b"TIT2\0\0\0\3\0\0\3hi".ljust(22, b"\0")
    tagged = b"ID3" + head + frames + b"3DI" + head + file.getvalue()
    samples, source = read_source(io.BytesIO(tagged))
    assert len(samples) == source.samples == len(SOUND)
    with pytest.raises(AudioError):
        read_source(io.BytesIO(tagged[:-400]))


def test_several_tracks_are_refused_rather_than_one_kept() -> None:
    for form, codec in (("matroska", "aac"), ("ogg", "libopus")):
        with pytest.raises(AudioError, match="2 audio tracks, of which nac would keep one"):
            read_source(io.BytesIO(muxed(form, codec, noise(8000), streams=2)))
    data = muxed("mp4", "aac", noise(8000))
    assert len(read_source(io.BytesIO(data + bytes(3000)))[0]) >= 8000
    for more in (data, bytes(3000) + data):
        with pytest.raises(AudioError, match="several recordings"):
            read_source(io.BytesIO(data + more))


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("adts", "aac"),
        ("latm", "aac"),
        ("ac3", "ac3"),
        ("mpegts", "aac"),
        ("flv", "aac"),
        ("asf", "wmav2"),
        ("wv", "wavpack"),
        ("tta", "tta"),
    ],
)
def test_what_is_read_when_named_is_known_in_a_folder(tmp_path: Path, form: str, codec: str) -> None:
    data = lossless(form, codec, 4096) if codec in ("wavpack", "tta") else muxed(form, codec, noise(8000))
    assert may_be_audio(data[:HEAD])
    for file in every_way(tmp_path / "x", data):
        assert len(read_source(file)[0]) >= 4096


@pytest.mark.parametrize(
    "head", [b"", b"RIFF\0\0\0\0WEBPVP8 ", b"\xff\xd8\xff\xe0", b"\xff\xfeh\0i\0", b"PK\3\4", b"G" * 3]
)
def test_what_is_no_audio_is_none(head: bytes) -> None:
    assert kind_of(head) is None


def test_a_file_that_cannot_be_opened_may_be_audio(tmp_path: Path) -> None:
    """It is to be tried and reported, not passed over."""
    assert is_audio(tmp_path / "gone.wav")
    (tmp_path / "note.txt").write_text("no audio")
    assert not is_audio(tmp_path / "note.txt")


def test_an_mp3_behind_zeros_is_one() -> None:
    assert kind_of(bytes(100) + b"\xff\xfb\x90\x64") == "mp3"


def test_a_film_keeps_its_sound_and_is_not_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_f32le", rate=24000, layout="mono")
        film = container.add_stream("mpeg4", rate=25)
        film.width, film.height, film.pix_fmt = 64, 64, "yuv420p"
        frame = av.AudioFrame.from_ndarray(noise(24000).T.copy(), "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 24000, 0, Fraction(1, 24000)
        container.mux(sound.encode(frame))
        for _ in range(25):
            container.mux(film.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(film.encode(None))
    assert len(read_source(path)[0]) == 24000
    with pytest.raises(AudioError, match="has video besides audio"):
        nac.compress(path, tmp_path / "x.nac", sound_only=True)
    done = CliRunner().invoke(cli.main, ["compress", str(path), "-m", "nac_24khz", "--remove-source"])
    assert (done.exit_code, path.exists()) == (1, True), done.output
    nac.compress(path, tmp_path / "x.nac", model="nac_24khz")
    assert "its video is not kept" in caplog.text


@pytest.mark.parametrize("again", [1, 2])
def test_pages_of_an_ogg_that_come_twice_or_in_another_order_are_told(again: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(480_000), 48000, format="OGG", subtype="VORBIS")
    data, starts = file.getvalue(), []
    while (at := data.find(b"OggS", starts[-1] + 4 if starts else 0)) >= 0:
        starts.append(at)
    pages = [data[low:high] for low, high in zip(starts, [*starts[1:], len(data)], strict=True)]
    assert len(read_source(io.BytesIO(b"".join(pages)))[0]) == 480_000
    middle = len(pages) // 2
    twice = [*pages[: middle + again], *pages[middle:]]
    turned = [
        *pages[:middle],
        pages[middle + again],
        *pages[middle : middle + again],
        *pages[middle + again + 1 :],
    ]
    for wrong in (twice, turned):
        with pytest.raises(AudioError, match="pages are lost before byte"):
            read_source(io.BytesIO(b"".join(wrong)))


def test_tta_is_whole_up_to_the_checksum_of_its_last_frame() -> None:
    data = muxed("tta", "tta", noise(32000))
    data = data[: data.index(b"APETAGEX")]
    assert len(read_source(io.BytesIO(data))[0]) == 32000
    for missing in (1, 2, 3, 4, 5, 100):
        with pytest.raises(AudioError):
            read_source(io.BytesIO(data[:-missing]))


@pytest.mark.parametrize("count", [1, 27, 65533, 65534, 65535, 65536, 131070])
def test_pages_behind_bytes_that_belong_to_none_are_noticed_wherever_they_are(count: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(4000), 48000, format="OGG", subtype="VORBIS")
    data = file.getvalue()
    with pytest.raises(AudioError, match=f"damaged: {count} bytes from {len(data)} on belong to no page"):
        read_source(io.BytesIO(data + b"x" * count + data))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_page_is_told(tmp_path: Path, subtype: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(480_000), 48000, format="OGG", subtype=subtype)
    data = file.getvalue()
    for way in every_way(tmp_path / "x", data):
        assert read_source(way)[1].notes == ()
    for way in every_way(tmp_path / "x", data[: data.rindex(b"OggS")]):
        samples, source = read_source(way)
        assert 0 < len(samples) < 480_000
        assert "not marked as the end" in source.notes[0]


@pytest.mark.parametrize("most", [1 << 16, 1024])
def test_a_recorded_broadcast_lacks_pages_behind_its_headers_however_these_are_cut_into_pages(most: int) -> None:
    file = io.BytesIO(ogg(noise(480_000), rate=48000))
    first, second, *sound = ogg_pages(file)
    headers = OggPage.from_packets(second.packets, 1, default_size=most, wiggle_room=0)
    assert headers[-1].continued == (len(headers) > 1) == (most == 1024)
    for page in headers:
        page.serial = first.serial
    for number, page in enumerate(sound, len(headers) + 1):
        page.sequence = number
    whole = [page.write() for page in (first, *headers, *sound)]
    after = len(headers) + 1
    assert len(read_source(io.BytesIO(b"".join(whole)))[0]) == 480_000
    assert 0 < len(read_source(io.BytesIO(b"".join(whole[:after] + whole[after + 2 :])))[0]) < 480_000
    with pytest.raises(AudioError, match="1 pages are lost"):
        read_source(io.BytesIO(b"".join(whole[: after + 1] + whole[after + 2 :])))


def ogg_pages(file: io.BytesIO) -> list[OggPage]:
    pages = []
    while file.tell() < len(file.getvalue()):
        pages.append(OggPage(file))
    return pages


def test_an_ogg_of_nothing_but_headers_was_cut_off() -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(4000), 48000, format="OGG", subtype="VORBIS")
    data = file.getvalue()
    with pytest.raises(AudioError, match="no samples"):
        read_source(io.BytesIO(data[: data.rindex(b"OggS")]))
