"""What a worker does before and after its files, without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_command import ROOT, install_toy

from nac.cluster import workers
from nac.cluster.jobs import Action
from nac.cluster.worker import Worker, scratch
from nac.errors import NacError
from nac.files.conversion import Compression
from nac.files.encoding import Encoding
from nac.files.notes import Notes
from nac.version import __version__ as nac_version


def test_a_worker_says_which_weights_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = install_toy(monkeypatch)

    def said(model: str | None) -> tuple[str, ...]:
        return Worker(Action(Compression(Encoding()), "src", "dst", str, {}, {}, model), Notes()).ready()

    first = said("toy")
    assert first == (nac_version, codec.spec.fingerprint)
    codec.spec = replace(codec.spec, fingerprint="of others")
    assert said("toy") == (nac_version, "of others")
    assert said(None) == (nac_version, "toy")


def test_workers_with_other_weights_are_refused() -> None:
    def start(*versions: str) -> None:
        together = workers.Workers(Action(Compression(Encoding()), "src", "dst", str, {}, {}), options, print)
        for version in versions:
            together._mark_ready(workers.Started(None), (nac_version, version))

    options = workers.WorkerOptions()
    start("these", "these")
    with pytest.raises(NacError, match=r"the machines have different versions .*, those; .*, these") as raised:
        start("these", "those")
    assert raised.value.remedy == "model"


def test_what_a_killed_worker_held_is_deleted_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from nac.cluster.worker import scratch; held = scratch(); print(held[0], flush=True); input()"
    settings: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = []
    for _ in range(2):
        environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen([sys.executable, "-c", code], env=environment, **settings))
    killed, living = started
    folders = [Path(worker.stdout.readline().strip()) for worker in started]
    (folders[0] / "fetched").mkdir()
    (folders[0] / "fetched" / "a.wav").touch()
    killed.kill()
    killed.wait()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder, held = scratch()
    with held:
        assert set(tmp_path.iterdir()) == {folders[1], Path(folder)}
    living.communicate("\n")
