"""Limits of megabytes, from both sides; formats/vectors has all smaller ones."""

import io
from dataclasses import replace

import pytest
import second_reader
from container_files import UNKNOWN, speech

from nac.container import Chunk, Header, verify
from nac.container.fields import varint
from nac.container.header import SIGNATURE
from nac.container.records import RecordReader, checksum, frame
from nac.errors import DamageError, FormatError
from nac.spec import Codebook


def header_of(size: int) -> bytes:
    """A header whose body has so many bytes."""
    other = len(replace(UNKNOWN, tags=(("k", "x" * (1 << 17)),)).to_bytes()) - (1 << 17)
    tags = (("k", "x" * (size - other + 16)),)
    body = replace(UNKNOWN, tags=tags)._body()
    assert len(body) == size
    head = SIGNATURE + b"\1" + varint(size)
    return head + body + checksum(head, body)


def test_a_header_has_a_mebibyte_at_most():
    data = header_of(1 << 20)
    assert Header.read(RecordReader(io.BytesIO(data))).to_bytes() == data
    assert second_reader.read(data)["header"] is not None
    longer = header_of((1 << 20) + 1)
    with pytest.raises(DamageError, match="claims 1048577 bytes; at most 1048576"):
        Header.read(RecordReader(io.BytesIO(longer)))
    assert second_reader.read(longer)["header"] is None
    with pytest.raises(FormatError, match="at most 1048576"):
        replace(UNKNOWN, tags=(("k", "x" * (1 << 20)),)).to_bytes()


def test_a_record_has_sixteen_mebibytes_at_most():
    data, _ = speech(chunks=1)
    head = len(UNKNOWN.to_bytes())
    longest = frame(0x58, bytes(1 << 24))
    assert verify(io.BytesIO(data[:head] + longest + data[head:])).chunks == 1
    claim = b"X" + varint((1 << 24) + 1) + bytes((1 << 24) + 1)
    with pytest.raises(DamageError, match="claims 16777217 bytes; at most 16777216"):
        verify(io.BytesIO(data[:head] + claim + checksum(claim) + data[head:]))
    with pytest.raises(FormatError, match="at most 16777216"):
        frame(0x58, bytes((1 << 24) + 1))


def test_a_chunk_has_so_many_range_coded_codes_at_most():
    """4096 layers of 2048 codes each, a byte for 32 of them."""

    def body(last: int) -> tuple[Header, bytes]:
        counts = (255,) * 16 + (last,)
        header = replace(
            UNKNOWN, sample_rate=8000, channels=17, codebooks=(Codebook(12),) * 255, stream_codebooks=counts
        )
        saved = b"".join(varint(count) + varint(3072 - 64) * count for count in counts)
        return header, varint(0) + varint(2048) + b"\1" + bytes(4) + saved + bytes(64 * sum(counts))

    header, most = body(16)
    chunk = Chunk.from_bytes(header, most)
    assert sum(map(len, chunk.layers)) == 4096
    with pytest.raises(FormatError, match="8390656 range coded codes; 1 to 8388608 are allowed"):
        Chunk.from_bytes(*body(17))
