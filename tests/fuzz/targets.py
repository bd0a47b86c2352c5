"""What is fuzzed. A target takes any bytes; nothing but NacError may come of it, and what it accepts must hold."""

from __future__ import annotations

import io
import logging
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from safetensors.numpy import save as save_numpy

from nac.audio.kinds import HEAD, kind_of
from nac.audio.reading import open_source
from nac.audio.tags import LONGEST, MOST, read_tags
from nac.audio.writing import OUTPUT_FORMATS, open_sink
from nac.codecs.soundstream.tflite import read_operators
from nac.container import Chunk, Reader, Recovery, Writer, header, records, verify
from nac.container import codebooks as coded_layers
from nac.container.fields import Fields
from nac.container.tables import FOLDER, NONE, find_tables
from nac.errors import AudioError, FormatError, NacError
from nac.files import cutting, peeling
from nac.files.nacfile import NacFile
from nac.files.verify import save
from nac.interop.arrays import convert_codes
from nac.interop.convert import FORMATS, convert
from nac.spec import Codebook

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))


@cache
def vectors() -> list[bytes]:
    """The files of formats/vectors."""
    return [path.read_bytes() for path in sorted((ROOT / "formats/vectors").glob("*.nac"))]


class Pipe(io.BytesIO):
    """Cannot seek."""

    def seekable(self) -> bool:
        return False


def head(data: bytes) -> None:
    """The body of a file's header."""
    try:
        found = header.Header._parse(Fields(data, "header"))
    except FormatError:
        return
    written = found.to_bytes()
    assert header.Header.read(records.RecordReader(io.BytesIO(written))) == found


def chunk(data: bytes) -> None:
    """The body of a chunk, behind one byte that chooses the header it goes with."""
    headers = _headers()
    head = headers[data[0] % len(headers)] if data else headers[0]
    try:
        found = Chunk.from_bytes(head, data[1:])
    except FormatError:
        return
    assert Chunk.from_bytes(head, found.to_bytes(head)) == found
    # Range decoding takes a hundred times as long as all the rest, and is the target "coding" of its own.
    if _has_tables(found) and zlib.crc32(data) % (16 if found.frames < 40 else 256) == 0:
        (streams,) = Chunk.codes_all(head, [found], head.stream_codebooks)
        for layers, codes in zip(found.layers, streams, strict=True):
            assert [len(array) for array in codes] == [
                found.frames * book.codes_per_frame for book in head.codebooks[: len(layers)]
            ]


def coding(data: bytes) -> None:
    """Range coding: any bytes are codes, and codes come back from the bytes that they become."""
    if len(data) < 4:
        return
    bits, count, books, tables = 1 + data[0] % 12, 1 + data[1] % 8, 1 + data[2] % 3, data[3]
    book, rows = Codebook(bits), [data[4 + number :: books] for number in range(books)]
    most = coded_layers.saving(book, count, 1)  # what is not shorter than packed is taken for packed
    if most < 0:
        return
    packed = coded_layers.StreamBytes([row[:most] for row in rows], [book] * books)
    tables_used = find_tables(_tables()[tables % len(_tables())])
    (codes,) = coded_layers.decode([packed], count, tables_used)
    assert all(len(array) == count and int(array.max()) < 1 << bits for array in codes)
    plain = coded_layers.StreamCodes(codes, packed.books, 5)
    (layers,) = coded_layers.encode([plain], count, tables_used, "range")
    (again,) = coded_layers.decode([coded_layers.StreamBytes(layers, packed.books)], count, tables_used)
    assert all(np.array_equal(a, b) for a, b in zip(codes, again, strict=True))


@cache
def _tables() -> list[str]:
    """None, and those in the package, whatever codes they are for."""
    return [NONE, *sorted(path.stem for path in FOLDER.glob("*.safetensors"))]


def _has_tables(chunk: Chunk) -> bool:
    """Whether the tables that a chunk is coded with, if any, are here: else its codes are refused."""
    try:
        find_tables(chunk.tables)
    except FormatError:
        return False
    return True


@cache
def _headers() -> list[header.Header]:
    """Those of the test vectors, once each."""
    found: dict[header.Header, None] = {}
    for data in vectors():
        with suppress(FormatError):
            found[Reader(io.BytesIO(data)).header] = None
    return list(found)


def container(data: bytes) -> None:
    """A .nac file read in order, out of order, as a pipe, and for what is whole of it."""
    file = io.BytesIO(data)
    try:
        reader = Reader(file)
    except FormatError:
        return
    chunks, whole = list[Chunk](), True
    try:
        chunks.extend(reader.chunks())
    except FormatError:
        whole = False
    _in_any_order(reader, chunks, whole)
    short = [chunk for chunk in chunks if _has_tables(chunk) and chunk.frames < 40]
    Chunk.codes_all(reader.header, short, reader.header.stream_codebooks)
    try:
        saved = [part for part in Recovery(io.BytesIO(data)) if isinstance(part, Chunk)]
        assert saved == chunks or not whole
    except FormatError:
        assert not whole
    if whole:
        found = verify(Pipe(data))
        assert found.chunks == len(chunks) == len(saved)
        _written_again(found.header, chunks, found.samples)


def _in_any_order(reader: Reader, chunks: list[Chunk], whole: bool) -> None:
    try:
        assert len(reader.index) == len(chunks) or not whole
        for number in reversed(range(min(len(reader.index), 50))):
            chunk = reader.chunk(number)
            assert not whole or chunk == chunks[number]
    except FormatError:
        assert not whole


def _written_again(head: header.Header, chunks: list[Chunk], samples: int) -> None:
    """Chunks that were read can be written, and are then the same."""
    out = io.BytesIO()
    writer = Writer(out, head)
    for chunk in chunks:
        writer.write(chunk)
    writer.finish(samples)
    reader = Reader(io.BytesIO(out.getvalue()))
    assert reader.header == head
    assert list(reader.chunks()) == chunks


class _Right(bytes):
    """A checksum that is right whatever was stored."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


@contextmanager
def _unchecked() -> Iterator[None]:
    """Checksums are not looked at, so that what lies behind them is reached."""
    kept = header.checksum, records.checksum
    header.checksum = records.checksum = lambda *parts: _Right(4)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        header.checksum, records.checksum = kept  # type: ignore[attr-defined]


def unchecked(data: bytes) -> None:
    """The same, past the checksums."""
    with _unchecked():
        container(data)


def peel(data: bytes) -> None:
    """A lower bitrate of any file."""
    with _unchecked():
        _refusing(lambda: peeling.peel(Pipe(data), io.BytesIO(), codebooks=1))
        _refusing(lambda: peeling.peel(Pipe(data), io.BytesIO(), codebooks=2))


def recover(data: bytes) -> None:
    """What `nac verify --recover` writes is a whole file."""
    out = io.BytesIO()
    with _unchecked():
        try:
            save(Recovery(io.BytesIO(data)), out)
        except NacError:
            return
        verify(io.BytesIO(out.getvalue()))


def codes(data: bytes) -> None:
    """A stretch of codes, as `nac.read_codes` reads them."""
    with _unchecked():
        _refusing(lambda: NacFile(io.BytesIO(data)).codes())
        _refusing(lambda: NacFile(io.BytesIO(data)).codes(start=0.5, duration=0.1))
        _refusing(lambda: NacFile(io.BytesIO(data)).info())


def foreign(data: bytes) -> None:
    """Files of other codecs become whole .nac files, which can become them again."""
    out = io.BytesIO()
    try:
        made = convert(io.BytesIO(data), out, format="nac")
    except NacError:
        return
    verify(io.BytesIO(out.getvalue()))
    again = io.BytesIO()
    convert(io.BytesIO(out.getvalue()), again, format=made.format)
    model = made.model if made.format == "dac" else None
    convert(io.BytesIO(again.getvalue()), io.BytesIO(), model=model)


def to_foreign(data: bytes) -> None:
    """Any .nac file to other formats; past the checksums."""
    with _unchecked():
        for name in FORMATS:
            _refusing(lambda name=name: convert(io.BytesIO(data), io.BytesIO(), format=name))


def cut(data: bytes) -> None:
    """A part of any file; what comes of it is a whole file."""
    for start, duration in ((0.0, 0.02), (0.03, None)):
        out = io.BytesIO()
        with _unchecked():
            try:
                cutting.cut(Pipe(data), out, start=start, duration=duration)
            except NacError:
                continue
            verify(io.BytesIO(out.getvalue()))


def wav(data: bytes) -> None:
    """Plain samples, and Ogg pages, in files and from pipes; others are FFmpeg's."""
    if kind_of(data[:HEAD]) not in ("wav", "w64", "aiff", "au", "caf", "sphere", "ogg"):
        return
    log = logging.getLogger("nac")
    log.disabled = True
    try:
        for file in (io.BytesIO(data), Pipe(data)):
            with suppress(AudioError), open_source(file) as source:
                for block in source.blocks:
                    assert block.shape[1] == source.channels
                    assert np.isfinite(block).all()
    finally:
        log.disabled = False


def arrays(data: bytes) -> None:
    """Codes in .npz, .npy and .safetensors, as files of their own or as those of a model."""
    for model in (None, "encodec_24khz", "snac_24khz"):
        out = io.BytesIO()
        try:
            convert_codes(io.BytesIO(data), out, format="nac", model=model)
        except NacError:
            continue
        verify(io.BytesIO(out.getvalue()))


def tags(data: bytes) -> None:
    """What is kept of the tags of an audio file is text, and little of it."""
    log = logging.getLogger("nac")
    log.disabled = True
    try:
        found = read_tags(io.BytesIO(data))
    finally:
        log.disabled = False
    assert len(found) <= MOST
    assert sum(len(key.encode()) + len(value.encode()) for key, value in found) <= LONGEST


def tflite(data: bytes) -> None:
    """The operators of a TFLite file."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        _refusing(lambda: read_operators(Path(file.name), "main", ("CONV_2D", "ADD")))


def checkpoint(data: bytes) -> None:
    """Tensors in safetensors, pickles and zip files of them, brought into form."""
    from nac.codecs import checkpoints, dac, encodec

    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        try:
            tensors, _ = checkpoints.read(Path(file.name))
        except NacError:
            return
        for canonical in (encodec.canonical, dac.canonical):
            _refusing(lambda canonical=canonical: canonical(checkpoints.folded(tensors)))


def _refusing(action: Callable[[], object]) -> None:
    with suppress(NacError):
        action()


def _bodies(kind: int) -> Iterator[tuple[header.Header, bytes]]:
    for data in vectors():
        with suppress(FormatError):
            source = records.RecordReader(io.BytesIO(data))
            head = header.Header.read(source)
            while (record := source.record()).type != records.END:
                if record.type == kind:
                    yield head, record.body


@cache
def foreign_files() -> list[bytes]:
    """Those that the reference packages wrote."""
    return [path.read_bytes() for path in sorted((ROOT / "tests/data/interop").glob("*.[ed]*c"))]


@cache
def _converted() -> list[bytes]:
    made = [io.BytesIO() for _ in foreign_files()]
    for data, out in zip(foreign_files(), made, strict=True):
        convert(io.BytesIO(data), out)
    return [out.getvalue() for out in made]


def _chunk_seeds() -> list[bytes]:
    bodies = [bytes([_headers().index(head)]) + body for head, body in _bodies(records.CHUNK)]
    return bodies + [
        bytes([_headers().index(head)]) + chunk.part(head, chunk.first_frame, chunk.first_frame + 9).to_bytes(head)
        for head, chunk in _range_coded()
    ]


def _range_coded() -> Iterator[tuple[header.Header, Chunk]]:
    for head, body in _bodies(records.CHUNK):
        with suppress(FormatError):
            chunk = Chunk.from_bytes(head, body)
            if chunk.is_coded(head) and _has_tables(chunk) and head.segment is None:
                yield head, chunk


def _head_seeds() -> list[bytes]:
    return [head.to_bytes()[10:-4] for head in _headers()]


def _waves() -> list[bytes]:
    made = []
    for form, subtype in (
        *(("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("RF64", "PCM_U8"), ("WAV", "FLOAT")),
        *(("W64", "PCM_16"), ("AIFF", "PCM_24"), ("CAF", "PCM_16"), ("AU", "ULAW")),
    ):
        file = io.BytesIO()
        soundfile.write(file, np.zeros((20, 2)), 8000, format=form, subtype=subtype)
        made.append(file.getvalue())
    return made


def _arrays() -> list[bytes]:
    """Small files of codes: those of test vectors, and bare ones."""
    made = [io.BytesIO() for _ in range(6)]
    for number, form in enumerate(("npz", "safetensors")):
        convert_codes(ROOT / f"formats/vectors/{('mono', 'pair')[number]}.nac", made[number], format=form)
    codes = np.arange(16).reshape(2, 8)
    np.save(made[2], codes)
    np.savez_compressed(made[3], **{"stream.0": codes})
    np.savez(made[4], **{f"stream.0.codebook.{n}": np.arange(2 << n) for n in range(3)})
    made[5].write(save_numpy({"stream.0": codes}))
    return [file.getvalue() for file in made]


def _tagged() -> list[bytes]:
    """A little audio of every kind, with tags."""
    made = []
    for output in OUTPUT_FORMATS.values():
        file = io.BytesIO()
        with open_sink(
            file, output, 8000, 1, 400, (("title", "a"), ("comment", "b" * 30), ("other", "c"))
        ) as sink:
            sink.write(np.zeros((400, 1), np.float32))
        made.append(file.getvalue())
    atoms = _atom(b"\xa9nam", _atom(b"data", bytes([0, 0, 0, 1, 0, 0, 0, 0]) + b"title"))
    handler = _atom(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    meta = _atom(b"meta", bytes(4) + handler + _atom(b"ilst", atoms))
    return [*made, _atom(b"ftyp", b"M4A " + bytes(4)) + _atom(b"moov", _atom(b"udta", meta))]


def _atom(name: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + name + body


def _graphs() -> list[bytes]:
    from lyra_files import model, tensor

    weight = tensor("weight", np.ones((2, 3), np.int8), (np.ones(2), 0))
    ends = [tensor("in", None, (0.5, 3)), tensor("out")]
    return [
        model("main", [{"kind": kind, "inputs": [ends[0], weight, None], "outputs": [ends[1]]}]) for kind in _KINDS
    ]


_KINDS = ("CONV_2D", "ADD")


def _checkpoints() -> list[bytes]:
    import torch

    tensors = {
        "encoder.model.0.conv.conv.weight_g": torch.ones(2, 1),
        "encoder.model.0.conv.conv.weight_v": torch.ones(2, 3),
    }
    made = [io.BytesIO(), io.BytesIO()]
    torch.save({"state_dict": tensors, "metadata": {"kwargs": {}}}, made[0])
    torch.save(tensors, made[1], _use_new_zipfile_serialization=False)
    plain = {name: tensor.numpy() for name, tensor in tensors.items()}
    return [*(file.getvalue() for file in made), save_numpy(plain)]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "head": (head, _head_seeds),
    "chunk": (chunk, _chunk_seeds),
    "coding": (coding, lambda: [bytes([bits, 23, 3, 1]) + bytes(range(40)) for bits in (3, 9, 11)]),
    "container": (container, vectors),
    "unchecked": (unchecked, vectors),
    "peel": (peel, vectors),
    "recover": (recover, vectors),
    "codes": (codes, vectors),
    "foreign": (foreign, foreign_files),
    "to_foreign": (to_foreign, _converted),
    "cut": (cut, lambda: vectors() + _converted()),
    "wav": (wav, lambda: _waves() + _tagged()),
    "arrays": (arrays, _arrays),
    "tags": (tags, _tagged),
    "tflite": (tflite, _graphs),
    "checkpoint": (checkpoint, _checkpoints),
}
"""What is fuzzed, and what is known to be good."""


@cache
def seeds(name: str) -> list[bytes]:
    """What to begin with: good inputs, and those in corpus/, which take other ways through the code.

    Fuzzing has found these; each is a line, in hexadecimal.
    """
    found = Path(__file__).parent / "corpus" / f"{name}.txt"
    lines = found.read_text().split() if found.exists() else []
    return TARGETS[name][1]() + [bytes.fromhex(line) for line in lines]
