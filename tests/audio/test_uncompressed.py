"""Uncompressed formats: each with every kind of sample that libsndfile writes, read as libsndfile reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from nac.audio.reading import open_source

KINDS = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST")
CASES = [
    (form, kind, endian)
    for form in FORMATS
    for kind in sorted(KINDS & set(soundfile.available_subtypes(form)))
    for endian in ("FILE", "LITTLE", "BIG")
    if soundfile.check_format(form, kind, endian)
]


@pytest.mark.parametrize(("form", "kind", "endian"), CASES, ids="-".join)
def test_samples_are_those_that_libsndfile_reads(form: str, kind: str, endian: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (3001, 2))
    soundfile.write(path, noise, 22050, subtype=kind, endian=endian, format=form)
    with open_source(path) as source:
        assert (source.sample_rate, source.channels) == (22050, 2)
        found = np.concatenate(list(source.blocks))
    wanted, _ = soundfile.read(path, dtype="float32")
    assert np.abs(wanted - noise).max() < 0.05  # the file is what it should be
    assert np.array_equal(found, wanted)
