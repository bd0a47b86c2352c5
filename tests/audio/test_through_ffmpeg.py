"""Formats that FFmpeg reads: the samples and their kind, and how long a container says that it is."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sound_files import RATE, every_way, noise, read_source

from nac.audio.ffmpeg import _integer, _mpeg_frame
from nac.container.header import SampleFormat
from nac.errors import AudioError

SAMPLES = np.array([-1, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 0], np.float64)


def encoded(form: str, codec: str, kind: str, numbers: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    """A file of one channel, whose samples have a kind that FFmpeg names so."""
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono", format=kind)
        frame = av.AudioFrame.from_ndarray(numbers.reshape(1, -1), format=kind, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("codec", "kind", "form"),
    [
        ("pcm_u8", "u8", SampleFormat.U8),
        ("pcm_s16le", "s16", SampleFormat.S16),
        ("pcm_s24le", "s32", SampleFormat.S24),
        ("pcm_s32le", "s32", SampleFormat.S32),
        ("pcm_f32le", "flt", SampleFormat.F32),
        ("pcm_f64le", "dbl", SampleFormat.F64),
        ("flac", "s16", SampleFormat.S16),
        ("flac", "s32", SampleFormat.S24),
        ("alac", "s16p", SampleFormat.S16),
        ("alac", "s32p", SampleFormat.S24),
        ("tta", "u8", SampleFormat.U8),
        ("tta", "s16", SampleFormat.S16),
        ("wavpack", "u8p", SampleFormat.S16),  # which FFmpeg makes of them,
        ("wavpack", "s16p", SampleFormat.S16),
        ("wavpack", "s32p", SampleFormat.S32),
        ("wavpack", "fltp", SampleFormat.F32),
    ],
)
def test_samples_in_matroska_are_those_that_were_put_in(codec: str, kind: str, form: SampleFormat) -> None:
    if kind[:3] in ("flt", "dbl"):
        numbers = SAMPLES.astype(np.float32 if kind.startswith("flt") else np.float64)
    else:
        bits = int(kind.strip("usp"))
        numbers = (SAMPLES * 2 ** (bits - 1) + (128 if bits == 8 else 0)).astype(
            f"{kind[0].replace('s', 'i')}{bits // 8}"
        )
    samples, source = read_source(io.BytesIO(encoded("matroska", codec, kind, np.tile(numbers, 600))))
    assert samples[:, 0].tolist() == SAMPLES.tolist() * 600
    assert source.sample_format == form


@pytest.mark.parametrize("codec", ["pcm_alaw", "pcm_mulaw"])
def test_logarithmic_samples_have_16_bits(codec: str) -> None:
    numbers = np.tile((SAMPLES[1:] * 32767).astype(np.int16), 100)
    samples, source = read_source(io.BytesIO(encoded("nut", codec, "s16", numbers)))
    assert np.abs(samples[:, 0] * 32768 - numbers).max() <= 512
    assert source.sample_format == SampleFormat.S16


def test_bits_have_the_smallest_kind_of_sample_that_holds_them() -> None:
    least = {
        SampleFormat.U8: (1, 8),
        SampleFormat.S16: (9, 16),
        SampleFormat.S24: (17, 24),
        SampleFormat.S32: (25, 32),
    }
    for form, bits in least.items():
        assert [_integer(count) for count in bits] == [form, form]


KBITS = [
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    320,
    384,
    448,
    512,
    576,
    640,
]  # A/52, table 5.18


@pytest.mark.parametrize("rate", [32000, 44100, 48000])
@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_frames_of_ac3_of_every_bitrate_are_as_long_as_the_standard_says(codec: str, rate: int) -> None:
    for kbits in KBITS:
        data = ac3(codec, rate, 1000 * kbits)
        assert len(read_source(io.BytesIO(data))[0]) > 0, kbits
        with pytest.raises(AudioError, match="cut off: 1 bytes"):
            read_source(io.BytesIO(data[:-1]))


def ac3(codec: str, rate: int, bitrate: int) -> bytes:
    context = av.AudioCodecContext.create(codec, "w")
    context.sample_rate, context.layout, context.bit_rate, context.format = rate, "stereo", bitrate, "fltp"
    found = []
    for start in range(3):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1536), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 1536 * start, Fraction(1, rate)
        found += map(bytes, context.encode(frame))
    return b"".join([*found, *map(bytes, context.encode(None))])


def mp3(rate: int = 24000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise(20_000, channels), rate, format="MP3")
    return file.getvalue()


@pytest.mark.parametrize("other", [(48000, 1), (24000, 2)])
def test_a_recording_that_goes_on_at_another_rate_or_with_other_channels_is_refused(
    other: tuple[int, int],
) -> None:
    assert len(read_source(io.BytesIO(mp3() + mp3()))[0]) >= 40_000
    with pytest.raises(AudioError, match=r"a \.nac file has one rate"):
        read_source(io.BytesIO(mp3() + mp3(*other)))


def test_a_first_frame_of_mp3_may_tell_its_bytes_without_the_number_of_frames() -> None:
    data = mp3()
    at = min(at for name in (b"Xing", b"Info") if (at := data.find(name)) >= 0)
    assert data[at + 7] & 3 == 3
    size, first = data[at + 12 : at + 16], _mpeg_frame(data[:4])
    only = data[: at + 7] + b"\2" + size + bytes(first - at - 12) + data[first:]
    frames = data[: at + 7] + b"\5" + data[at + 8 : at + 12] + b"\xff" * (first - at - 12) + data[first:]
    none = data[: at + 7] + b"\0" + bytes(first - at - 8) + data[first:]
    declares, ends = "that it declares", "of its last frame"
    for form, message in ((data, declares), (only, declares), (frames, ends), (none, ends)):
        whole = form[: int.from_bytes(size, "big")]
        assert len(read_source(io.BytesIO(whole))[0]) >= 20_000
        with pytest.raises(AudioError, match=f"cut off: .* missing {message}"):
            read_source(io.BytesIO(whole[:-20]))


@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\2\0" + bytes(256)], ids=["bare", "tagged"])
@pytest.mark.parametrize("junk", [b"ab", b"\xff\x01", b"\xff", b"\xff\xfb\0\0", b"\xff\xfb\xf0\0"])
def test_bytes_behind_an_mp3_that_hold_no_frame_are_skipped_and_told(junk: bytes, tag: bytes) -> None:
    """A frame is missing where one begins, so these have none: no bitrate, or one that no frame has."""
    whole = tag + mp3()
    samples, source = read_source(io.BytesIO(whole + junk * 100))
    assert len(samples) >= 20_000
    assert source.notes == (f"{100 * len(junk)} bytes that are not MP3 were skipped",)


def matroska(codec: str = "pcm_s16le", **options: str) -> bytes:
    return encoded("matroska", codec, "s16", np.arange(-4000, 4000, dtype=np.int16), **options)


SEGMENT = bytes.fromhex("18538067")


@pytest.mark.parametrize("length", range(3, 9))
def test_a_size_in_matroska_has_one_to_eight_bytes(length: int) -> None:
    """And may be unknown, which all of its bits say."""
    data = matroska()
    at = data.index(SEGMENT) + 4
    body = data[at + 8 :]
    marked = (len(body) | 1 << 7 * length).to_bytes(length, "big")
    unknown = ((1 << 7 * length + 1) - 1).to_bytes(length, "big")
    for size in (marked, unknown):
        whole = data[:at] + size + body
        assert len(read_source(io.BytesIO(whole))[0]) == 8000
        if size is marked:
            with pytest.raises(AudioError, match="cut off: 1 bytes"):
                read_source(io.BytesIO(whole[:-1]))
            with pytest.raises(AudioError, match="several recordings"):
                read_source(io.BytesIO(whole + whole))


def test_the_last_box_of_an_mp4_may_go_up_to_the_end(tmp_path: Path) -> None:
    numbers = np.arange(-4000, 4000, dtype=np.int16)
    data = encoded("mov", "pcm_s16le", "s16", numbers)
    at = data.rindex(b"moov") - 4
    assert at + int.from_bytes(data[at : at + 4], "big") == len(data)
    for way in every_way(tmp_path / "x", data[:at] + bytes(4) + data[at + 4 :]):
        assert (read_source(way)[0][:, 0] * 32768).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("form", "codec", "kind"),
    [("asf", "pcm_s16le", "s16"), ("avi", "pcm_s16le", "s16"), ("sox", "pcm_s32le", "s32")],
)
def test_a_container_is_whole_or_lacks_as_many_bytes_as_it_does(form: str, codec: str, kind: str) -> None:
    data = encoded(form, codec, kind, np.arange(-4000, 4000).astype(f"i{int(kind[1:]) // 8}"))
    assert len(read_source(io.BytesIO(data))[0]) == 8000
    for missing in (1, 2, 500):
        with pytest.raises(AudioError, match=f"cut off: {missing} bytes"):
            read_source(io.BytesIO(data[:-missing]))


def test_a_broadcast_in_asf_tells_no_size() -> None:
    data = bytearray(encoded("asf", "pcm_s16le", "s16", np.arange(-4000, 4000, dtype=np.int16)))
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    data[at + 40 : at + 48] = (len(data) + 1000).to_bytes(8, "little")
    with pytest.raises(AudioError, match="cut off: 1000 bytes"):
        read_source(io.BytesIO(data))
    data[at + 88] |= 1
    assert len(read_source(io.BytesIO(data))[0]) == 8000


@pytest.mark.parametrize("order", ["<", ">"])
def test_sox_of_either_byte_order_is_whole_or_cut_off(order: str) -> None:
    numbers = np.arange(-4000, 4000) << 16
    note = b"a note  "
    head = struct.pack(f"{order}IIQdII", 0x586F532E, 28 + len(note), len(numbers), float(RATE), 1, len(note))
    data = head + note + numbers.astype(f"{order}i4").tobytes()
    assert data[:4] == (b".SoX" if order == "<" else b"XoS.")
    assert (read_source(io.BytesIO(data))[0][:, 0] * 32768).tolist() == (numbers >> 16).tolist()
    for missing in (1, 4, 400):
        with pytest.raises(AudioError, match=f"cut off: {missing} bytes"):
            read_source(io.BytesIO(data[:-missing]))


def test_an_8svx_is_whole_or_cut_off() -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(3000), RATE, format="SVX", subtype="PCM_16")
    data = file.getvalue()
    assert len(read_source(io.BytesIO(data))[0]) == 3000
    for missing in (1, 500):
        with pytest.raises(AudioError, match=f"cut off: {missing} bytes"):
            read_source(io.BytesIO(data[:-missing]))


def test_dsd_is_whole_or_cut_off() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, 4096 * 3, np.uint8).tobytes()
    form = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, 2822400, 1, len(blocks) * 8, 4096, 0)
    sound = b"data" + struct.pack("<Q", 12 + len(blocks)) + blocks
    data = b"DSD " + struct.pack("<QQQ", 28, 28 + len(form) + len(sound), 0) + form + sound
    assert len(read_source(io.BytesIO(data))[0]) == len(blocks)
    for missing in (1, 4096, 5000):
        with pytest.raises(AudioError, match=f"cut off: {missing} bytes"):
            read_source(io.BytesIO(data[:-missing]))
