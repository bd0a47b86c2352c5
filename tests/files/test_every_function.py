"""What holds of every function that reads or writes .nac files, whatever it does with them."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from container_files import Pipe, written
from toy_codec import ToyCodec
from toy_command import wav

import nac
from nac.audio.writing import OUTPUT_FORMATS
from nac.container import Reader, Writer, verify
from nac.files import conversion, playing
from nac.files import verify as checking
from nac.files.names import audio_name
from nac.weights import loaded, models

RATE = 16000


@pytest.fixture(autouse=True)
def song(toy: ToyCodec, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A recording of 26 seconds and its .nac file of three chunks; the loudspeaker is no more than a list."""
    monkeypatch.setattr(playing, "speaker", lambda *_: nullcontext([].append))
    wav("song.wav", samples=26 * RATE)
    nac.compress("song.wav", "song.nac", model="toy", codebooks=2, coding="packed")
    return Path("song.nac").read_bytes()


def played(src: Any, **part: Any) -> None:
    playing.play(src, load=lambda _: ToyCodec(), **part)


def read_open(src: Any, **part: float) -> None:
    with nac.open(src) as file:
        if part:
            file.codes(**part)
        file.read()


READING: dict[str, Callable[..., Any]] = {
    "read": nac.read,
    "read_codes": nac.read_codes,
    "info": nac.info,
    "check": checking.check,
    "play": played,
    "open": read_open,
}
WRITING: dict[str, Callable[..., Any]] = {
    "decompress": nac.decompress,
    "decompress to flac, verify": lambda src, out: nac.decompress(src, out, format="flac", verify=True),
    "decompress to wav, verify": lambda src, out: nac.decompress(src, out, verify=True),
    "peel": lambda src, out: nac.peel(src, out, codebooks=1),
    "cut": lambda src, out: nac.cut(src, out, start=1),
    "cat": lambda src, out: nac.cat([src, src], out),
    "recover": checking.recover,
    "compress": lambda src, out: nac.compress("song.wav", out, model="toy"),
    "compress, verify": lambda src, out: nac.compress("song.wav", out, model="toy", verify=True),
    "write": lambda src, out: nac.write(out, np.zeros(9), RATE),
}
MADE_OF_NAC = ("peel", "cut", "cat")


@pytest.mark.parametrize("name", [*READING, *WRITING])
@pytest.mark.parametrize("state", ["whole", "damaged", "absent", "no .nac file"])
def test_what_it_opens_it_closes(name: str, state: str, song: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if state == "absent":
        Path("song.nac").unlink()
    elif state != "whole":
        Path("song.nac").write_bytes(song[:-9000] if state == "damaged" else b"RIFF" + bytes(99))
    opened, original = list[Any](), Path.open

    def noted(path: Path, *how: Any, **more: Any) -> Any:
        opened.append(original(path, *how, **more))
        return opened[-1]

    monkeypatch.setattr(Path, "open", noted)
    with suppress(nac.NacError):
        READING[name]("song.nac") if name in READING else WRITING[name]("song.nac", Path("out"))
    assert all(file.closed for file in opened)
    assert opened or state == "absent" or name in ("write", "compress", "compress, verify")


@pytest.mark.parametrize("name", [name for name in WRITING if name != "recover"])
def test_an_output_in_memory_is_left_at_its_end(name: str) -> None:
    """So that what is written next follows it."""
    out = io.BytesIO()
    WRITING[name]("song.nac", out)
    assert out.tell() == len(out.getvalue()) > 0


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_audio_in_memory_that_was_read_back_is_left_at_its_end(form: str) -> None:
    out = io.BytesIO()
    nac.decompress("song.nac", out, format=form, duration=0.1, verify=True)
    assert out.tell() == len(out.getvalue()) > 0


def opened_to_write(src: Any, out: Any) -> None:
    with nac.open(out, "w", sample_rate=RATE, channels=1) as file:
        file.write(np.zeros(9))


@pytest.mark.parametrize("name", [*WRITING, "open to write"])
def test_an_output_that_exists_is_refused_before_a_model_is_loaded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may have to be downloaded first."""
    Path("out").write_bytes(b"mine")
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("loaded"))
    loaded.forget()
    with pytest.raises(FileExistsError, match="out exists"):
        WRITING.get(name, opened_to_write)("song.nac", Path("out"))
    assert Path("out").read_bytes() == b"mine"


@pytest.mark.parametrize("name", [name for name in WRITING if name.endswith("verify")])
def test_an_output_that_cannot_be_read_back_is_refused_before_anything_is_written(name: str) -> None:
    out = Pipe()
    with pytest.raises(nac.NacError, match="this output cannot be verified"):
        WRITING[name]("song.nac", out)
    assert not out.data


@pytest.mark.parametrize("name", MADE_OF_NAC)
@pytest.mark.parametrize("left", [0.4, 0.9, 0.999])
def test_what_is_made_of_damaged_files_is_never_whole(name: str, left: float, song: bytes) -> None:
    """Not even where chunks are sent on as they come, so that all that can be wrong is the end."""
    data = song[: int(left * len(song))]
    for src in (io.BytesIO(data), Pipe(data, most=5000)):
        out = Pipe(most=5000)
        with pytest.raises(nac.FormatError):
            nac.cat([src], out) if name == "cat" else WRITING[name](src, out)
        with pytest.raises(nac.FormatError):
            verify(io.BytesIO(bytes(out.data)))


@pytest.mark.parametrize("name", ["read", "play", "decompress", "decompress to flac, verify", *MADE_OF_NAC])
def test_a_file_is_checked_to_its_end_though_its_sound_ends_before(name: str, song: bytes) -> None:
    """One that was cut has more frames than are heard; from a pipe they come after all that is needed."""
    part = io.BytesIO()
    nac.cut(io.BytesIO(song), part, start=4, duration=7.01)
    data = part.getvalue()
    do = READING.get(name) or (lambda src: WRITING[name](src, io.BytesIO()))
    if name == "cat":
        do = lambda src: nac.cat([src], io.BytesIO())  # noqa: E731
    elif name == "cut":
        do = lambda src: nac.cut(src, io.BytesIO())  # noqa: E731
    for made in (io.BytesIO, lambda data: Pipe(data, most=5000)):
        do(made(data))
        for bad in (data[:-1], data + b"x", data[:-1] + bytes([data[-1] ^ 1]), data[:-20]):
            with pytest.raises(nac.FormatError):
                do(made(bad))


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_recording_that_ends_in_an_exception_is_never_whole(kind: type[BaseException]) -> None:
    """Of any kind: no file is left, and a file object that had some of it gets no end."""

    def fail(out: Any) -> None:
        with nac.open(out, "w", sample_rate=RATE, channels=1) as file:
            file.write(np.zeros(25 * RATE, np.float32))
            raise kind

    pipe = Pipe(most=5000)
    for out in (Path("x.nac"), pipe):
        with pytest.raises(kind):
            fail(out)
    assert not [path for path in Path().iterdir() if "x.nac" in path.name]
    with pytest.raises(nac.FormatError):
        verify(io.BytesIO(bytes(pipe.data)))


NAN, INF = float("nan"), float("inf")
PART: dict[str, Callable[..., Any]] = {
    **{name: READING[name] for name in ("read", "read_codes", "play", "open")},
    "decompress": lambda src, **part: nac.decompress(src, io.BytesIO(), **part),
    "cut": lambda src, **part: nac.cut(src, io.BytesIO(), **part),
    "decode": lambda src, **part: nac.decode(Path(src).read_bytes(), **part),
}


@pytest.mark.parametrize("name", PART)
def test_a_part_that_cannot_be_is_a_wrong_argument(name: str) -> None:
    for part in (*({"start": start} for start in (-1.0, NAN, INF, -INF)), {"duration": -1.0}, {"duration": NAN}):
        with pytest.raises(ValueError, match="invalid part") as caught:
            PART[name]("song.nac", **part)
        assert isinstance(caught.value, nac.NacError)
    PART[name]("song.nac", start=25.0, duration=INF)


@pytest.mark.parametrize("name", PART)
def test_a_part_may_begin_at_the_end_and_not_after_it(name: str) -> None:
    for duration in (None, 0.0, 1.0, INF):
        PART[name]("song.nac", start=26.0, duration=duration)
        for start in ((26 * RATE + 1) / RATE, 1e6):
            with pytest.raises(ValueError, match=r"^starts after the end: .* of 26.000 s") as caught:
                PART[name]("song.nac", start=start, duration=duration)
            assert isinstance(caught.value, nac.NacError)


@pytest.mark.parametrize("more", [-1, 1])
def test_audio_that_is_read_back_has_neither_fewer_samples_nor_more(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(file: Any) -> None:
        file.seek(0)
        file.truncate()
        soundfile.write(file, np.zeros(26 * RATE + more, np.int16), RATE, format="WAV")

    monkeypatch.setattr(conversion, "sync", changed)
    with pytest.raises(nac.NacError, match=f"gave {26 * RATE + more} samples, not {26 * RATE}"):
        nac.decompress("song.nac", "out.wav", verify=True)
    assert not Path("out.wav").exists()


def test_a_recording_of_known_length_keeps_it_when_its_end_is_lost(song: bytes) -> None:
    index = Reader(io.BytesIO(song)).index
    for end in (index[2].offset, index[1].offset):
        assert not checking.recover(io.BytesIO(song[:end]), Path("whole.nac"), force=True).ok
        assert len(nac.read("whole.nac")[0]) == 26 * RATE


@pytest.mark.parametrize("name", [name for name in WRITING if name not in ("recover", "write")])
def test_a_result_tells_of_the_bytes_it_knows(name: str, song: bytes) -> None:
    source = "song.wav" if name.startswith("compress") else "song.nac"
    count = 2 if name == "cat" else 1
    result = WRITING[name](source, Path("out"))
    assert (result.input, result.output) == (" + ".join([source] * count), "out")
    assert (result.bytes_in, result.bytes_out) == (count * Path(source).stat().st_size, Path("out").stat().st_size)
    if name.startswith("compress"):
        return
    if name == "cat":  # what is known of one is not what both have
        result = nac.cat(["song.nac", io.BytesIO(song)], Path("again"))
        assert (result.input, result.bytes_in) == ("song.nac + -", None)
    else:
        result = WRITING[name](io.BytesIO(song), Path("again"))
        assert (result.input, result.bytes_in) == ("-", None)


def test_a_rate_of_bits_that_is_told_is_that_of_what_was_written() -> None:
    for name in MADE_OF_NAC:
        told = WRITING[name]("song.nac", Path(name))
        assert told.kbps == nac.info(name).kbps
        assert told.seconds == nac.info(name).seconds


def test_an_ending_before_nac_is_the_outputs_where_its_format_is_wanted() -> None:
    for form in OUTPUT_FORMATS:
        assert audio_name(f"a.b.{form}.nac") == audio_name(f"a.b.{form}.nac", form) == f"a.b.{form}"
        assert audio_name(f"a.b.{form.upper()}.NAC", form) == f"a.b.{form.upper()}"
        assert audio_name("a.b.nac", form) == f"a.b.{form}"
        assert audio_name(f"a.{form}.x", form) == f"a.{form}.{form}"
        for other in OUTPUT_FORMATS.keys() - {form}:
            assert audio_name(f"a.b.{form}.nac", other) == f"a.b.{form}.{other}"


def test_formats_are_named_in_any_case() -> None:
    for form, name in (("WAV", "x"), ("Flac", "x"), (None, "y.WAV"), (None, "y.Flac"), (None, "y")):
        nac.decompress("song.nac", name, format=form, force=True)
        assert soundfile.info(name).format == ("FLAC" if "Flac" in (form, name[2:]) else "WAV")


@pytest.mark.parametrize("gain", [0.25, 1.0, 2.0])
def test_a_recording_has_its_own_level_by_every_way(
    gain: float, song: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gain below 1 keeps what exceeds full scale from being clipped; where it would be, it stays."""
    heard = list[np.ndarray]()
    monkeypatch.setattr(playing, "speaker", lambda *_: nullcontext(heard.append))
    plain, _ = nac.read(io.BytesIO(song))
    reader = Reader(io.BytesIO(song))
    data = written(replace(reader.header, gain=gain), reader.chunks(), reader.samples).getvalue()
    played(io.BytesIO(data))
    with nac.open(io.BytesIO(data)) as file:
        blocks = [file.read(70_000), *file.blocks(90_001)]
    floats, integers = io.BytesIO(), io.BytesIO()
    nac.decompress(io.BytesIO(data), floats, bits="float")
    nac.decompress(io.BytesIO(data), integers, bits="24")
    for found in (nac.read(io.BytesIO(data))[0], nac.decode(data)[0], np.concatenate(blocks), sound_of(floats)):
        assert np.array_equal(found, plain / np.float32(gain))
    for found in (np.concatenate(heard), sound_of(integers)):
        assert np.abs(found - plain / max(gain, 1)).max() < 1e-6


def sound_of(file: io.BytesIO) -> np.ndarray:
    file.seek(0)
    return soundfile.read(file, dtype="float32", always_2d=True)[0]


WEEK = 7 * 86400 * RATE


@pytest.mark.parametrize("name", ["read", "decompress", "play", "open", "decode"])
def test_a_week_of_silence_is_refused_before_any_of_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can seek says at once how long it is."""
    wav("short.wav", samples=400)
    nac.compress("short.wav", "short.nac", model="toy")
    monkeypatch.setattr(ToyCodec, "decode_frames", lambda *_: pytest.fail("decoded"))
    with Path("short.nac").open("rb") as short, Path("long.nac").open("wb") as long:
        reader = Reader(short)
        writer = Writer(long, replace(reader.header, samples=None))
        writer.write(reader.chunk(0))
        writer.extend(WEEK)
        writer.finish(WEEK)
    with pytest.raises(nac.NacError, match="nearly all silence"):
        PART[name]("long.nac")
