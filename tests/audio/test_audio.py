"""Audio files and pipes in and out."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nac.audio.kinds import is_audio
from nac.audio.reading import open_source
from nac.audio.wav import WavOutput
from nac.audio.writing import OUTPUT_FORMATS, OutputFormat, open_sink
from nac.container.header import SampleFormat
from nac.errors import AudioError

FORMATS = [
    ("WAV", "PCM_U8", SampleFormat.U8),
    ("WAV", "PCM_16", SampleFormat.S16),
    ("WAV", "PCM_24", SampleFormat.S24),
    ("WAV", "PCM_32", SampleFormat.S32),
    ("WAV", "FLOAT", SampleFormat.F32),
    ("WAV", "DOUBLE", SampleFormat.F64),
    ("WAV", "ULAW", SampleFormat.S16),
    ("WAVEX", "PCM_24", SampleFormat.S24),
    ("RF64", "PCM_16", SampleFormat.S16),
    ("FLAC", "PCM_24", SampleFormat.S24),
    ("AIFF", "PCM_16", SampleFormat.S16),
    ("AU", "PCM_16", SampleFormat.S16),
    ("CAF", "ALAC_16", SampleFormat.S16),
    ("W64", "FLOAT", SampleFormat.F32),
    ("OGG", "VORBIS", SampleFormat.LOSSY),
    ("OGG", "OPUS", SampleFormat.LOSSY),
    ("MP3", "MPEG_LAYER_III", SampleFormat.LOSSY),
]


def tone(samples: int = 30_000, channels: int = 2) -> np.ndarray:
    time = np.arange(samples)[:, None] / 48000
    return (0.5 * np.sin(2 * np.pi * np.array([440, 880, 330, 550, 220, 660, 110, 990])[:channels] * time)).astype(
        "f4"
    )


def read(file: Path | io.IOBase) -> tuple[np.ndarray, int, SampleFormat, int | None]:
    with open_source(file) as source:
        samples = np.concatenate([np.zeros((0, source.channels), np.float32), *source.blocks])
        return samples, source.sample_rate, source.sample_format, source.samples


class Stream(io.RawIOBase):
    """Bytes that arrive a few at a time and cannot be sought."""

    def __init__(self, data: bytes, step: int = 1000) -> None:
        self._file, self._step = io.BytesIO(data), step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._step if size < 0 else min(size, self._step))


@pytest.mark.parametrize(("form", "subtype", "expected"), FORMATS)
@pytest.mark.parametrize("way", ["path", "object", "pipe"])
def test_formats(tmp_path: Path, form: str, subtype: str, expected: SampleFormat, way: str) -> None:
    path = tmp_path / "misleading.txt"
    soundfile.write(path, tone(), 48000, format=form, subtype=subtype)
    assert is_audio(path)
    file = {"path": path, "object": io.BytesIO(path.read_bytes()), "pipe": Stream(path.read_bytes())}[way]
    samples, rate, sample_format, count = read(file)
    want = soundfile.read(path, dtype="float32", always_2d=True)[0]
    assert (rate, sample_format, count) == (48000, expected, len(want))
    assert np.abs(samples - want).max() <= (1e-4 if form in ("MP3", "OGG") else 0)


@pytest.mark.parametrize("channels", range(1, 9))
def test_channels(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "x.flac", tone(1000, channels), 48000)
    assert read(tmp_path / "x.flac")[0].shape == (1000, channels)


def wav(samples: int = 1000, *, data_size: int | None = None, extra: bytes = b"") -> bytes:
    """A 16-bit stereo WAV of counting samples."""
    body = np.arange(samples * 2, dtype="<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 2, 48000, 192000, 4, 16)
    size = len(body) if data_size is None else data_size
    parts = b"WAVEfmt " + struct.pack("<I", 16) + form + extra + b"data" + struct.pack("<I", size) + body
    riff = len(parts) if data_size is None else data_size
    return b"RIFF" + struct.pack("<I", riff) + parts


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36])
def test_a_wav_pipe_may_not_know_its_length(size: int) -> None:
    samples, _, _, count = read(Stream(wav(data_size=size)))
    assert count is None
    assert np.array_equal(samples.ravel() * 32768, np.arange(2000))


def test_an_empty_wav_pipe_is_empty_whatever_follows() -> None:
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + bytes(4)
    body += b"LIST" + struct.pack("<I", 2000) + b"x" * 2000
    samples, _, _, count = read(Stream(b"RIFF" + struct.pack("<I", len(body)) + body))
    assert len(samples) == count == 0


def test_a_wav_that_breaks_off_is_an_error_from_a_pipe_and_from_a_file(tmp_path: Path) -> None:
    whole = wav()
    (tmp_path / "cut.wav").write_bytes(whole[:-7])
    for source in (Stream(whole[:-7]), tmp_path / "cut.wav", io.BytesIO(whole[:-7])):
        with pytest.raises(AudioError, match="cut off: 8 bytes are missing"):
            read(source)


def test_a_cut_wav_of_floats_is_an_error_and_a_long_one_of_unknown_length_is_not(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((1000, 2)), 8000, subtype="FLOAT")
    data = (tmp_path / "x.wav").read_bytes()
    for source in (io.BytesIO(data[:-100]), Stream(data[:-100])):
        with pytest.raises(AudioError, match="cut off"):
            read(source)
    assert len(read(io.BytesIO(data + b"LIST" + bytes(10)))[0]) == 1000
    assert len(read(io.BytesIO(wav(data_size=0xFFFFFFFF)))[0]) == 1000


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("form", "subtype", "bits"),
    [
        *[(form, "PCM_16", 16) for form in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU")],
        *[(form, "PCM_24", 24) for form in ("RF64", "W64", "AIFF", "CAF", "AU")],
        *[(form, "FLOAT", 32) for form in ("RF64", "W64", "AIFF", "CAF", "AU")],
        *[(form, "ULAW", 8) for form in ("WAV", "W64", "AIFF", "CAF", "AU")],
    ],
)
def test_a_file_of_any_kind_that_breaks_off_is_an_error(
    tmp_path: Path, form: str, subtype: str, bits: int, channels: int
) -> None:
    path, width = tmp_path / "x", channels * bits // 8
    soundfile.write(path, np.zeros((2000, channels)), 8000, format=form, subtype=subtype)
    whole = path.read_bytes()
    assert len(read(path)[0]) == len(read(Stream(whole))[0]) == 2000
    cut = whole[: -1 - len(whole) // 4]
    path.write_bytes(cut)
    lost = 2000 - (len(cut) - (len(whole) - 2000 * width)) // width
    for source in (path, io.BytesIO(cut), Stream(cut)):
        with pytest.raises(AudioError, match=rf"cut off: {lost * width} bytes are missing"):
            read(source)


@pytest.mark.parametrize(("form", "at"), [("AU", 8), ("CAF", 4084)])
def test_a_file_whose_writer_could_not_tell_its_length_is_read_to_its_end(form: str, at: int) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(2000), 8000, format=form, subtype="PCM_16")
    data = bytearray(file.getvalue())
    size = 8 if form == "CAF" else 4
    assert 4000 <= int.from_bytes(data[at : at + size], "big") <= 4004
    data[at : at + size] = b"\xff" * size
    assert len(read(io.BytesIO(bytes(data)))[0]) == 2000


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_that_ends_within_a_page_is_told(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "x.ogg"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (40000, 1))
    soundfile.write(path, sound, 24000, format="OGG", subtype=subtype)
    whole = path.read_bytes()
    assert len(read(path)[0]) == (40000 if subtype == "VORBIS" else 80000)  # Opus is always at 48 kHz
    last = whole.rindex(b"OggS")
    for length in (len(whole) // 2, last + 3, last + 20, last + 27, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(AudioError, match="cut off"):
            read(path)
    path.write_bytes(whole[:last])  # a recording of a broadcast may end like that, with a whole page
    read(path)


@pytest.mark.parametrize(("rate", "channels"), [(24000, 1), (24000, 2), (44100, 1), (44100, 2)])
def test_an_mp3_that_ends_before_its_first_frame_says_so_is_told(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "x.mp3"
    soundfile.write(path, tone(40_000, channels), rate, format="MP3")
    whole = path.read_bytes()
    for tags in b"", b"ID3\4\0\0\0\0\2\0" + bytes(256):
        path.write_bytes(tags + whole + b"TAG".ljust(128, b"\0"))
        assert len(read(path)[0]) == 40_000
        path.write_bytes(tags + whole[:-1000])
        with pytest.raises(AudioError, match="cut off: 1000 bytes"):
            read(path)
    bare = whole.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4))
    path.write_bytes(bare)
    assert 40_000 <= len(read(path)[0]) < 45_000  # with what the encoder put around them
    path.write_bytes(bare[: len(whole) // 2])  # which is no end of a frame
    with pytest.raises(AudioError, match=r"cut off: \d+ bytes are missing of its last frame"):
        read(path)


def test_a_page_of_an_ogg_file_that_is_not_whole_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.ogg"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (40000, 1))
    soundfile.write(path, sound, 24000, format="OGG", subtype="VORBIS")
    whole = path.read_bytes()
    pages = [page.start() for page in re.finditer(b"OggS", whole)]
    for at in [0, *pages[2:]]:
        path.write_bytes(whole[: at + 40] + b"hole" + whole[at + 44 :])
        with pytest.raises(AudioError, match="damaged: the page that ends at byte"):
            read(path)
    path.write_bytes(whole[: pages[3]] + whole[pages[4] :])
    with pytest.raises(AudioError, match=r"damaged: 1 pages are lost before byte"):
        read(path)
    one, two = (whole[slice(*pages[at : at + 2])] for at in (2, 3))
    again, swapped = one + one + two, two + one
    for part in (again, swapped):
        path.write_bytes(whole[: pages[2]] + part + whole[pages[4] :])
        with pytest.raises(AudioError, match=r"damaged: (some|1) pages are lost"):
            read(path)
    path.write_bytes(whole + whole)  # of which libsndfile reads the first half
    assert len(read(path)[0]) == 80000
    path.write_bytes(whole + b"TAG".ljust(128, b"\0"))
    assert len(read(path)[0]) == 40000


def test_what_surrounds_the_samples_of_a_wav_is_passed_over() -> None:
    pipe = Stream(wav(extra=b"LIST" + struct.pack("<I", 5) + b"12345\0") + b"id3 tags and the like")
    samples, _, _, count = read(pipe)
    assert (len(samples), count) == (1000, 1000)
    assert pipe.read() == b""  # taken to the end, so that the writer is not cut off


def test_a_wav_pipe_that_ends_in_a_sample_gives_the_whole_ones() -> None:
    samples, *_ = read(Stream(wav(data_size=0xFFFFFFFF)[:-3]))
    assert len(samples) == 999


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"hello world, this is text",
        bytes(100),
        b"\xff\xfb" * 50,
        b"ID3",
        b"OggS",
    ],
    ids=["empty", "start", "no chunks", "text", "zeros", "false mp3", "start of tags", "start of ogg"],
)
@pytest.mark.parametrize("way", ["path", "pipe"])
def test_what_is_no_audio_is_refused_in_one_line(tmp_path: Path, data: bytes, way: str) -> None:
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(AudioError) as error:
        read(tmp_path / "x.wav" if way == "path" else Stream(data))
    assert "\n" not in str(error.value)


def test_broken_tags_of_what_is_no_audio_are_not_spoken_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.flac").write_bytes(b"fLaC" + bytes(range(256)) * 9)
    with pytest.raises(AudioError):
        read(tmp_path / "x.flac")
    assert not caplog.records


def test_a_wav_of_a_kind_that_nobody_knows(tmp_path: Path) -> None:
    data = bytearray(wav())
    data[20:22] = struct.pack("<H", 9999)
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(AudioError):
        read(tmp_path / "x.wav")


def test_a_named_pipe_is_read_like_any_other(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(wav()))
    writer.start()
    samples, *_ = read(tmp_path / "fifo")
    writer.join()
    assert len(samples) == 1000


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.wav", "no such file"), (tmp_path, "not a file")):
        with pytest.raises(AudioError, match=message):
            read(path)


def test_a_header_that_claims_much_allocates_little() -> None:
    import tracemalloc

    data = b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 0xFFFFFFF0) + b"x" * 50
    tracemalloc.start()
    with pytest.raises(AudioError):
        read(Stream(data))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_m4a_is_read_by_ffmpeg(tmp_path: Path) -> None:
    write_m4a(tmp_path / "x.m4a", tone(48000))
    samples, rate, sample_format, count = read(tmp_path / "x.m4a")
    assert (rate, sample_format) == (48000, SampleFormat.LOSSY)
    assert count == len(samples) >= 48000
    error = samples[4000:44000] - tone(48000)[4000:44000]
    assert np.sqrt(np.mean(error**2)) < 0.03
    piped, *_ = read(Stream((tmp_path / "x.m4a").read_bytes()))
    assert np.array_equal(piped, samples)


def write_m4a(path: Path, samples: np.ndarray) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize("samples", [0, 1, 50_000])
def test_outputs_have_the_samples_given(form: str, way: str, samples: int) -> None:
    file = io.BytesIO() if way == "file" else Sink()
    output = OUTPUT_FORMATS[form]
    if samples == 0 and form not in ("wav", "ogg"):
        with pytest.raises(AudioError, match="without samples"), open_sink(file, output, 48000, 2, 0):
            pass
        return
    with open_sink(file, output, output.sample_rate(44100), 2, samples) as sink:
        for start in range(0, samples, 7000):
            sink.write(tone(samples)[start : start + 7000])
    if way == "file":
        assert file.tell() == len(file.getvalue())
    back, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
    assert rate == output.sample_rate(44100)
    assert len(back) == samples
    if samples > 1000:
        assert np.abs(back[1000:-2000] - tone(samples)[1000:-2000]).max() < (
            1e-4 if form in ("wav", "flac") else 0.1
        )


class Sink(io.RawIOBase):
    """Takes bytes and cannot seek."""

    def __init__(self) -> None:
        self._data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def getvalue(self) -> bytes:
        return bytes(self._data)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_samples_of_24_bits_come_out_as_they_are(form: str) -> None:
    full = 1 << 23
    numbers = np.array([-full, 1 - full, -full // 3, -1, 0, 1, full // 3, full - 2, full - 1])
    out = io.BytesIO()
    with open_sink(out, OUTPUT_FORMATS[form].with_bits("24"), 48000, 1, len(numbers)) as sink:
        sink.write((numbers[:, None] / full).astype(np.float32))
    out.seek(0)
    assert np.array_equal(soundfile.read(out, dtype="int32")[0] >> 8, numbers)


def test_wav_output_is_what_libsndfile_writes() -> None:
    mine, theirs = io.BytesIO(), io.BytesIO()
    out = WavOutput(mine, 44100, 2, None)
    numbers = np.round(tone(5000) * 32768).astype(np.int16)
    out.write(tone(5000))
    out.close()
    soundfile.write(theirs, numbers, 44100, format="WAV", subtype="PCM_16")
    assert mine.getvalue() == theirs.getvalue()


def test_samples_beyond_full_scale_are_not_wrapped() -> None:
    file = io.BytesIO()
    out = WavOutput(file, 8000, 1, 4)
    out.write(np.array([[1.5], [-1.5], [1.0], [-1.0]], np.float32))
    out.close()
    assert np.frombuffer(file.getvalue()[44:], "<i2").tolist() == [32767, -32768, 32767, -32768]


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_samples_beyond_full_scale_are_written_as_full_scale(form: str) -> None:
    loud, found = 2.5 * tone(9600), []
    for sound in loud, np.clip(loud, -1, 1):
        with open_sink(file := io.BytesIO(), OUTPUT_FORMATS[form], 48000, 2, len(sound)) as sink:
            sink.write(sound)
        found.append(soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0])
    assert np.array_equal(*found)


def test_wav_beyond_4_gib_says_so() -> None:
    pipe = Sink()
    WavOutput(pipe, 48000, 2, 1 << 31)
    with open_source(Stream(pipe.getvalue())) as source:
        assert source.samples == 1 << 31
    assert pipe.getvalue()[:4] == b"RF64"


def test_a_full_disk_is_an_error_in_every_format() -> None:
    class Full(io.BytesIO):
        def write(self, data: bytes) -> int:
            if self.tell() > 5000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    for output in OUTPUT_FORMATS.values():
        with pytest.raises(OSError, match="No space"):
            write_noise(Full(), output)


def write_noise(file: io.BytesIO, output: OutputFormat) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (400_000, 2)).astype(np.float32)
    with open_sink(file, output, 48000, 2, len(noise)) as sink:
        for start in range(0, len(noise), 20_000):
            sink.write(noise[start : start + 20_000])


# Opus: RFC 6716, section 2. MP3: ISO 11172-3 and 13818-3, section 2.4.2.3, and the extension to lower rates. FLAC:
# what libFLAC takes. Vorbis: libvorbis has modes up to 200 kHz, and the highest common rate below. WAV: as .nac.
HELD: dict[str, Callable[[int], bool]] = {
    "opus": lambda rate: rate in {8000, 12000, 16000, 24000, 48000},
    "mp3": lambda rate: rate in {base // part for base in (32000, 44100, 48000) for part in (1, 2, 4)},
    "flac": lambda rate: rate <= 655_350,
    "ogg": lambda rate: rate <= 192_000,
    "wav": lambda rate: rate <= 1 << 24,
}


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_a_rate_is_kept_or_becomes_the_next_that_the_format_has(form: str) -> None:
    """Every common rate, and every one that a format has with what is beside it."""
    common = {6000, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 37800, 44056, 44100, 48000, 50000, 64000}
    common |= {88200, 96000, 176400, 192_000, 352_800, 384_000, 655_350, 1 << 24}
    rates = sorted({rate + by for rate in common for by in (-1, 0, 1) if 1000 <= rate + by <= 1 << 24})
    held = [rate for rate in rates if HELD[form](rate)]
    for rate in rates:
        wanted = next((other for other in held if other >= rate), held[-1])
        assert OUTPUT_FORMATS[form].sample_rate(rate) == wanted, rate


@pytest.mark.parametrize("form", ["opus", "mp3", "flac"])
def test_the_encoder_takes_the_rates_of_its_format_and_no_others(form: str) -> None:
    block = np.zeros((4000, 1), np.float32)
    for rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 655_350, 655_351):
        with nullcontext() if HELD[form](rate) else pytest.raises(AudioError, match=f"cannot write {form}"):
            with open_sink(file := io.BytesIO(), OUTPUT_FORMATS[form], rate, 1, len(block)) as sink:
                sink.write(block)
            assert soundfile.info(io.BytesIO(file.getvalue())).samplerate == rate


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_an_error_before_the_first_sample_is_the_one_that_is_told(form: str) -> None:
    with pytest.raises(KeyError), open_sink(io.BytesIO(), OUTPUT_FORMATS[form], 48000, 1, None):
        raise KeyError


def test_a_block_of_any_length_is_written() -> None:
    """With two million samples at once, libsndfile's Vorbis overruns the stack."""
    file = io.BytesIO()
    with open_sink(file, OUTPUT_FORMATS["ogg"], 48000, 1, 1 << 21) as sink:
        sink.write(np.zeros((1 << 21, 1), np.float32))
    assert soundfile.info(io.BytesIO(file.getvalue())).frames == 1 << 21


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_blocks_without_samples_do_not_count_wherever_they_are(form: str) -> None:
    sound, none = tone(9600), tone(0)
    for blocks in ([none, sound], [sound, none], [none, sound, none, none], [sound[:4000], none, sound[4000:]]):
        with open_sink(file := io.BytesIO(), OUTPUT_FORMATS[form], 48000, 2, None) as sink:
            for block in blocks:
                sink.write(block)
        assert soundfile.info(io.BytesIO(file.getvalue())).frames == len(sound)


def test_wav_comes_back_at_any_rate_that_a_file_has(tmp_path: Path) -> None:
    import nac

    for rate in (1000, 655_351, 1_000_000):
        soundfile.write(tmp_path / "in.wav", np.zeros(rate // 20, np.int16) + 1000, rate)
        nac.compress(tmp_path / "in.wav", tmp_path / "a.nac", model="nac_24khz", force=True)
        nac.decompress(tmp_path / "a.nac", tmp_path / "out.wav", force=True)
        found = soundfile.info(tmp_path / "out.wav")
        assert (found.samplerate, found.frames) == (rate, rate // 20)


def test_tags_upon_tags_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tags.wav").write_bytes(b"ID3\4\0\0\0\0\0\0" * 20_000)
    with pytest.raises(AudioError), open_source(tmp_path / "tags.wav"):
        pass
