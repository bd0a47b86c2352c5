"""Every command that reads a pipe, of unknown length and still open: what went in comes out, to the end."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from container_files import written
from toy_codec import ToyCodec
from toy_command import nac, run, wav

from nac.container import Chunk, Header, Reader

pytestmark = pytest.mark.usefixtures("toy")
RATE, CHUNK = 16000, 160_000
SAMPLES = 4 * CHUNK + 5000


@contextmanager
def live(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command whose standard input is open, and that ends well; killed where it hangs."""
    with run(*words, stdin=subprocess.PIPE) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            yield process
            assert process.wait(60) == 0, process.stderr.read().decode()
        finally:
            watchdog.cancel()


def feed(
    process: subprocess.Popen[bytes], data: bytes, *, after: threading.Thread | None = None, last: bool = False
) -> threading.Thread:
    """Write in a thread, since the command may not read on before what it wrote is read; ``last``: then close."""

    def write() -> None:
        if after:
            after.join()
        process.stdin.write(data)
        process.stdin.flush()
        if last:
            process.stdin.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


_made: list[tuple[bytes, bytes]] = []
"""The recording and its .nac file, made once."""


@pytest.fixture
def streamed() -> bytes:
    """A .nac file as a pipe makes it: neither its header nor any but its last bytes say how long it is."""
    if not _made:
        sound = wav("song.wav", SAMPLES).read_bytes()
        with live("compress", "-", "-o", "-", "--coding", "packed") as process:
            feed(process, sound[:40] + b"\xff\xff\xff\xff" + sound[44:], last=True)  # of unknown length
            _made.append((sound, process.stdout.read()))
    sound, packed = _made[0]
    Path("song.wav").write_bytes(sound)
    Path("song.nac").write_bytes(packed)
    assert Reader(io.BytesIO(packed)).header.samples is None
    return packed


LIVE = {
    "peel": ["peel", "-", "--codebooks", "1", "-o", "-"],
    "cut from the start": ["cut", "-", "--duration", "41", "-o", "-"],
    "cut from the middle": ["cut", "-", "--start", "2", "-o", "-"],
    "decompress": ["decompress", "-", "-o", "-"],
}


@pytest.mark.parametrize("case", LIVE)
def test_what_is_certain_comes_out_while_the_pipe_is_open(case: str, streamed: bytes) -> None:
    nac(*(word if word != "-" else ("song.nac" if i == 1 else "whole") for i, word in enumerate(LIVE[case])))
    whole = Path("whole").read_bytes()
    with live(*LIVE[case]) as process:
        feeder = feed(process, streamed[: 3 * len(streamed) // 4])
        early = process.stdout.read(len(whole) // 4)  # three quarters went in
        assert len(early) == len(whole) // 4, "killed while it waited"
        feed(process, streamed[3 * len(streamed) // 4 :], after=feeder, last=True)
        rest = process.stdout.read()
    assert content(early + rest) == content(whole)


@pytest.mark.parametrize("words", [LIVE["peel"], LIVE["cut from the start"], ["cat", "-", "quiet.nac", "-o", "-"]])
def test_chunks_of_a_few_bytes_wait_in_no_buffer(words: list[str]) -> None:
    soundfile.write("quiet.wav", np.zeros(SAMPLES, np.int16), RATE)
    nac("compress", "quiet.wav", "-q")
    data = Path("quiet.nac").read_bytes()
    end = len(data) - data[-8]
    assert end < 200
    with live(*words) as process:
        feeder = feed(process, data[:end])
        early = process.stdout.read(end - 40)  # the last chunks may depend on what follows
        assert len(early) == end - 40, "killed while it waited"
        feed(process, data[end:], after=feeder, last=True)
        assert Reader(io.BytesIO(early + process.stdout.read())).samples >= SAMPLES - 5000


def content(data: bytes) -> object:
    """Samples of a WAV file; header, length and codes of a .nac file, whether its length comes first or last."""
    if data[:4] == b"RIFF":
        return data[44 : 44 + 2 * SAMPLES]
    reader = Reader(io.BytesIO(data))
    chunks = [(c.first_frame, [[a.tolist() for a in c.codes(reader.header, 0)]]) for c in reader.chunks()]
    return reader.samples, reader.header.start, chunks


def test_cat_of_a_pipe_that_is_open_and_says_how_long_it_is(streamed: bytes) -> None:
    """Of unknown length, a recording lies on the disk until its end is known: what follows depends on it."""
    nac("compress", "song.wav", "-o", "known.nac", "--coding", "packed", "-q")
    known = Path("known.nac").read_bytes()
    with live("cat", "-", "song.nac", "-o", "-") as process:
        feeder = feed(process, known[: 3 * len(known) // 4])
        early = process.stdout.read(len(known) // 4)
        assert len(early) == len(known) // 4, "killed while it waited"
        feed(process, known[3 * len(known) // 4 :], after=feeder, last=True)
        joined = early + process.stdout.read()
    assert Reader(io.BytesIO(joined)).samples == 2 * SAMPLES


def test_cat_of_a_pipe_of_unknown_length_is_whole(streamed: bytes) -> None:
    with live("cat", "song.nac", "-", "-o", "-") as process:
        feed(process, streamed, last=True)
        joined = process.stdout.read()
    assert Reader(io.BytesIO(joined)).samples == 2 * SAMPLES


@pytest.mark.parametrize(("start", "duration"), [(0, 5), (0, 100), (3, None), (3, 5), (12, None), (12, 100)])
def test_a_cut_of_unknown_length_ends_where_it_should(start: int, duration: int | None, streamed: bytes) -> None:
    words = ["cut", "-", "--start", str(start), *([] if duration is None else ["--duration", str(duration)])]
    with live(*words, "-o", "-") as process:
        feed(process, streamed, last=True)
        part = process.stdout.read()
    left = SAMPLES - start * RATE
    assert Reader(io.BytesIO(part)).samples in (None, min(left, left if duration is None else duration * RATE))
    Path("part.nac").write_bytes(part)
    nac("decompress", "part.nac", "-o", "part.wav", "-f")
    nac("decompress", "song.nac", "-o", "all.wav", "-f")
    everything = np.frombuffer(Path("all.wav").read_bytes()[44:], "<i2")
    wanted = everything[start * RATE :][: None if duration is None else duration * RATE]
    assert np.array_equal(np.frombuffer(Path("part.wav").read_bytes()[44:], "<i2"), wanted)


LONG = {
    "info": ["info", "IN", "--json"],
    "info --plot": ["info", "IN", "--plot", "out"],
    "verify": ["verify", "IN", "--json"],
    "verify --recover": ["verify", "IN", "--recover", "out", "--json"],
    "codes": ["codes", "IN", "-o", "out", "--format", "npz", "-q"],
    "peel": ["peel", "IN", "--codebooks", "1", "-o", "out", "-q"],
    "cut": ["cut", "IN", "--start", "30", "-o", "out", "-q"],
    "decompress": ["decompress", "IN", "-o", "out", "--format", "wav", "-q"],
}


@pytest.fixture(scope="module")
def long_file() -> bytes:
    """More than what commands read, copy or keep at a time."""
    spec = ToyCodec().spec
    header = Header(
        model="toy",
        fingerprint=spec.fingerprint,
        sample_rate=RATE,
        frame_samples=40,
        codebooks=spec.codebooks,
        network_channels=1,
        stereo_pair=False,
        stream_codebooks=(2,),
        original_sample_rate=RATE,
        channels=1,
        samples=4 * 40 * 4000 - 1,
    )
    codes = np.random.default_rng(0).integers(0, 256, (2, 40 * 4000))
    chunks = [Chunk.pack(header, 4000 * n, 4000, [list(codes)], coding="packed") for n in range(4)]
    return written(header, chunks, header.samples).getvalue()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of Unix")
@pytest.mark.parametrize("case", LONG)
def test_a_long_pipe_that_comes_in_odd_parts_is_read_to_its_end(case: str, long_file: bytes) -> None:
    assert len(long_file) > 1 << 20
    found = []
    os.mkfifo("pipe.nac")
    Path("file.nac").write_bytes(long_file)

    def write() -> None:
        with Path("pipe.nac").open("wb", buffering=0) as pipe, suppress(BrokenPipeError):
            for start in range(0, len(long_file), 30_011):
                pipe.write(long_file[start : start + 30_011])

    for name in ("file.nac", "pipe.nac"):
        thread = threading.Thread(target=write, daemon=True)
        if name == "pipe.nac":
            thread.start()
        said = nac(*(name if word == "IN" else word for word in LONG[case])).stdout.replace(name, "")
        found.append((said, Path("out").read_bytes().replace(name.encode(), b"") if "out" in LONG[case] else b""))
        Path("out").unlink(missing_ok=True)
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [1, 3, 21])
def test_an_odd_chunk_before_the_samples_leaves_a_pipe_live(size: int) -> None:
    """Chunks of odd size are followed by a byte that pads them."""
    sound = wav("song.wav", 3 * CHUNK).read_bytes()
    note = b"note" + struct.pack("<I", size) + b"x" * size + b"\0"
    data = sound[:36] + note + b"data\xff\xff\xff\xff" + sound[44:]
    with live("compress", "-", "-o", "-", "--coding", "packed") as process:
        feeder = feed(process, data[: 44 + len(note) + 5 * CHUNK])
        assert len(process.stdout.read(CHUNK)) == CHUNK  # a byte a sample; two chunks and a half went in
        feed(process, b"", after=feeder, last=True)
        process.stdout.read()
