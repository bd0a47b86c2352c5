"""Codes for training: reading parts, the dataset, patterns of tokens."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from code_files import HEADER, SNAC, file
from container_files import CountingFile, speech, written
from torch.utils.data import DataLoader

import nac
from nac.container import Chunk
from nac.errors import NacError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, seconds in enumerate((3.0, 0.5, 7.3)):
        file(tmp_path / f"{number % 2}" / f"{number}.nac", seconds, seed=number)
    (tmp_path / "other.txt").write_text("no codes")
    return tmp_path


def test_crops_follow_one_another(folder: Path) -> None:
    data = nac.Dataset(folder, seconds=1.0, codebooks=4)
    assert [Path(path).name for path in data.paths] == ["0.nac", "2.nac", "1.nac"]
    assert len(data) == 3 + 7
    for index in range(10):
        codes = data[index]
        path, frames = data.where(index)
        assert codes.dtype == torch.int64
        assert codes.shape == (4, 75)
        whole = np.stack(nac.read_codes(path)[0])
        assert np.array_equal(codes.numpy(), whole[:4, frames.start : frames.stop])
    assert data.where(3) == (data.paths[1], range(75))
    assert torch.equal(data[-1], data[9])
    assert len({tuple(data[i].flatten().tolist()) for i in range(10)}) == 10
    with pytest.raises(IndexError):
        data[10]
    assert len(nac.Dataset(folder, frames=75)) == 10
    assert len(nac.Dataset(folder, frames=500)) == 1


def test_whole_files(folder: Path) -> None:
    data = nac.Dataset(folder)
    assert [tuple(codes.shape) for codes in data] == [(8, 225), (8, 548), (8, 38)]


def test_codebooks_of_several_rates(tmp_path: Path) -> None:
    codes = file(tmp_path / "x.nac", 12, SNAC)
    data = nac.Dataset(tmp_path, frames=50)
    assert [tuple(book.shape) for book in data[1]] == [(50,), (100,), (200,)]
    for book, whole, unit in zip(data[1], codes, (1, 2, 4), strict=True):
        assert np.array_equal(book.numpy(), whole[50 * unit : 100 * unit])
    tokens = nac.Dataset(tmp_path, frames=50, transform=nac.flatten)[1]
    assert tokens.shape == (350,)
    back = nac.unflatten(tokens, (1, 2, 4))
    assert all(torch.equal(a, b) for a, b in zip(back, data[1], strict=True))
    batch = next(iter(DataLoader(data, batch_size=2)))
    assert [tuple(book.shape) for book in batch] == [(2, 50), (2, 100), (2, 200)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same(folder: Path, method: str) -> None:
    data = nac.Dataset(folder, frames=60)
    alone = torch.stack([data[index] for index in range(len(data))])
    loader = DataLoader(
        data,
        batch_size=4,
        num_workers=1 + (method == "fork"),
        multiprocessing_context=multiprocessing.get_context(method),
    )
    assert torch.equal(torch.cat(list(loader)), alone)
    assert len(pickle.dumps(data)) < 5000


def test_what_does_not_go_together_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NacError, match=r"no \.nac files"):
        nac.Dataset(folder / "0" / "nothing")
    with pytest.raises(NacError, match="not both"):
        nac.Dataset(folder, seconds=1, frames=75)
    with pytest.raises(NacError, match="at least 1 frame, not 0"):
        nac.Dataset(folder, seconds=0.001)
    with pytest.raises(NacError, match="have 8 codebooks"):
        nac.Dataset(folder, codebooks=9)
    with pytest.raises(NacError, match="have 8 codebooks"):
        nac.Dataset(folder, stream=1)
    file(folder / "snac.nac", 3, SNAC)
    with pytest.raises(NacError, match=r"snac\.nac: made with snac_24khz"):
        nac.Dataset(folder)
    (folder / "snac.nac").write_bytes(b"?")
    with pytest.raises(NacError, match=r"snac\.nac: not a"):
        nac.Dataset(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_codes_of_other_weights_are_refused(tmp_path: Path, packed: bool) -> None:
    """They have the same shape and mean other sounds."""
    file(tmp_path / "in" / "a.nac", 1)
    file(tmp_path / "in" / "b.nac", 1, replace(HEADER, fingerprint="fedcba9876543210"))
    if packed:
        nac.pack([tmp_path / "in"], tmp_path / "shards")
    with pytest.raises(NacError, match="made with encodec_24khz fedcba9876543210, but"):
        list(nac.Dataset(tmp_path / ("shards" if packed else "in")))


def test_a_cut_begins_with_its_start(tmp_path: Path) -> None:
    codes = file(tmp_path / "x.nac", 4, start=48_000 + 100)
    data = nac.Dataset(tmp_path, frames=75)
    assert len(data) == 4
    assert np.array_equal(data[0].numpy(), np.stack(codes)[:, 150:225])


def test_missing_frames_are_minus_one(tmp_path: Path) -> None:
    rows = [np.full(100, number) for number in range(8)]
    chunks = [Chunk.pack(HEADER, first, 100, [rows]) for first in (0, 300)]
    (tmp_path / "x.nac").write_bytes(written(HEADER, chunks, 400 * 320).getvalue())
    data = nac.Dataset(tmp_path, frames=50)
    assert [int(data[index][1, 0]) for index in range(8)] == [1, 1, -1, -1, -1, -1, 1, 1]
    assert (nac.read_codes(tmp_path / "x.nac", start=2, duration=1)[0][0] == -1).all()


def test_reading_a_part_reads_little() -> None:
    data, _ = speech(chunks=400, frames=50)
    counting = CountingFile(data)
    with nac.open(counting) as opened:
        found = opened.codes(start=150.03, duration=0.5)
    assert len(found[0][0]) == 26
    index = 400 * 3
    assert counting.count < index + 700  # of 18,000 bytes


def test_flatten_by_hand() -> None:
    encodec = np.array([[1, 2, 3], [4, 5, 6]])
    assert nac.flatten(encodec).tolist() == [1, 4, 2, 5, 3, 6]
    # As Orpheus has SNAC's codes: 0, 1a, 2a, 2b, 1b, 2c, 2d of each frame.
    snac = [np.array([1, 2]), np.array([10, 11, 20, 21]), np.array([100, 101, 102, 103, 200, 201, 202, 203])]
    tokens = [1, 10, 100, 101, 11, 102, 103, 2, 20, 200, 201, 21, 202, 203]
    assert nac.flatten(snac).tolist() == tokens
    assert nac.flatten([torch.from_numpy(book) for book in snac]).tolist() == tokens
    four = [np.arange(1), np.arange(2), np.arange(4), np.arange(8)]
    assert nac.flatten(four).tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 1, 2, 4, 5, 3, 6, 7]
    for back, book in zip(nac.unflatten(np.array(tokens), (1, 2, 4)), snac, strict=True):
        assert back.tolist() == book.tolist()
    assert nac.unflatten(torch.tensor([1, 4, 2, 5, 3, 6]), (1, 1))[1].tolist() == [4, 5, 6]
    with pytest.raises(ValueError, match="whole frames"):
        nac.flatten([np.arange(2), np.arange(3)])
    with pytest.raises(ValueError, match="multiple of the 7 codes"):
        nac.unflatten(np.arange(8), (1, 2, 4))


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_delay_by_hand(kind) -> None:
    codes = kind([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    delayed = nac.delay(codes, fill=0)
    assert delayed.tolist() == [[1, 2, 3, 4, 0, 0], [0, 5, 6, 7, 8, 0], [0, 0, 9, 10, 11, 12]]
    assert nac.undelay(delayed).tolist() == codes.tolist()
    assert type(delayed) is type(codes)
    with pytest.raises(ValueError, match="too few"):
        nac.undelay(codes[:, :1])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("frames", [0, 1, 2, 9])
@pytest.mark.parametrize("delays", [None, [0], [3], [0, 0, 0], [0, 1, 1], [2, 2, 0], [3, 3, 3]])
def test_delay_and_back_for_any_number_of_frames(kind: Any, frames: int, delays: list[int] | None) -> None:
    books, last = (3, 2) if delays is None else (len(delays), max(delays))
    codes = kind(np.arange(books * frames).reshape(books, frames))
    delayed = nac.delay(codes, -1, delays)
    assert tuple(delayed.shape) == (books, frames + last)
    assert (delayed == -1).sum() == books * last
    back = nac.undelay(delayed, delays)
    assert tuple(back.shape) == (books, frames)
    assert back.tolist() == codes.tolist()
    if last:
        with pytest.raises(ValueError, match=f"{last - 1} steps are too few for delays of up to {last}"):
            nac.undelay(delayed[:, : last - 1], delays)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_patterns_of_mimis_codes_by_hand(kind) -> None:
    codes = kind([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    moshis = nac.delay(codes, 2048, [0, 1, 1])
    assert moshis.tolist() == [[1, 2, 3, 4, 2048], [2048, 5, 6, 7, 8], [2048, 9, 10, 11, 12]]
    assert nac.undelay(moshis, [0, 1, 1]).tolist() == codes.tolist()
    assert nac.delay(codes, 0, [2, 2, 0]).tolist()[0] == [0, 0, 1, 2, 3, 4]
    assert nac.flatten(codes).reshape(4, 3).tolist() == [[1, 5, 9], [2, 6, 10], [3, 7, 11], [4, 8, 12]]  # CSM's
    for delays, match in (([0, 1], "2 delays for 3 codebooks"), ([0, -1, 1], "-1 steps")):
        with pytest.raises(ValueError, match=match):
            nac.delay(codes, 0, delays)
        with pytest.raises(ValueError, match=match):
            nac.undelay(codes, delays)


def test_an_announced_week_is_no_memory(tmp_path: Path) -> None:
    chunk = Chunk.pack(HEADER, 0, 1, [[np.zeros(1, int)] * 8])
    data = written(replace(HEADER, samples=320), [chunk], 320).getvalue()
    head = replace(HEADER, samples=320).to_bytes()
    for samples in (24000 * 86400 * 700, (1 << 48) - 1):
        claim = replace(HEADER, samples=samples, original_sample_rate=1000).to_bytes()
        (tmp_path / "a.nac").write_bytes(claim + data[len(head) :])
        with pytest.raises(NacError, match=r"a\.nac: .* bytes would become"):
            nac.Dataset(tmp_path)[0]
        assert len(nac.Dataset(tmp_path, frames=10)[5]) == 8


@pytest.mark.parametrize("frames", [None, 10])
def test_an_announced_week_in_a_shard_is_neither_memory_nor_items(tmp_path: Path, frames: int | None) -> None:
    """It would take an hour of nothing but silent items, all of whose numbers are shuffled."""
    chunk = Chunk.pack(HEADER, 0, 1, [[np.zeros(1, int)] * 8])
    data = written(replace(HEADER, samples=320), [chunk], 320).getvalue()
    head = replace(HEADER, samples=320).to_bytes()
    claim = replace(HEADER, samples=24000 * 86400 * 7, original_sample_rate=1000).to_bytes()
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, content in ("a.nac", data), ("b.nac", claim + data[len(head) :]):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    items = iter(nac.Dataset(tmp_path, frames=frames))
    if frames is None:
        assert next(items).shape == (8, 1)
    with pytest.raises(NacError, match=r"b\.nac: .* bytes would become"):
        next(items)
