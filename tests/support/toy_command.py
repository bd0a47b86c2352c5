"""The `nac` command with a toy codec as its only model, within the test's process and in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from toy_codec import ToyCodec

from nac import cli
from nac.codecs import registry
from nac.codecs.family import Model
from nac.weights import models

ROOT = Path(__file__).parents[2]
SOURCE = models.Web("https://localhost/none", (models.File("toy.bin", 10),))


def install_toy(monkeypatch: pytest.MonkeyPatch) -> ToyCodec:
    """Make a toy codec the only model."""
    codec = ToyCodec()
    monkeypatch.setattr(
        registry, "MODELS", {"toy": Model(codec.spec, "tests", "none", (SOURCE,), codec.decode_plan)}
    )
    monkeypatch.setattr(models, "load", lambda name, **_: registry.find(name) and codec)
    monkeypatch.setattr(models, "present", lambda: ["toy"])
    return codec


def nac(*words: str | Path, stdin: bytes | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(cli.main, [os.fspath(w) for w in words], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def wav(name: str | Path, samples: int = 20_000, channels: int = 1, rate: int = 16000, seed: int = 0) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    sound = random.integers(-9000, 9000, (samples, channels)).astype(np.int16)
    soundfile.write(os.fsencode(path), sound, rate, format="WAV")
    return path


def run(*words: str, **options: object) -> subprocess.Popen[bytes]:
    code = (
        "import sys; sys.path[:0] = [sys.argv.pop(1), sys.argv.pop(1)]\n"
        "from nac import cli; from nac.codecs import registry; from nac.codecs.family import Model\n"
        "from nac.weights import models; from toy_codec import ToyCodec\n"
        "codec = ToyCodec()\n"
        "registry.MODELS = {'toy': Model(codec.spec, 'tests', 'none', (), codec.decode_plan)}\n"
        "models.load = lambda name, **_: codec; models.present = lambda: ['toy']\n"
        "cli.entry()"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(ROOT / "tests" / "support"), *words]
    return subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options})
