"""Small models for tests of downloads: the real specifications, other files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from nac.codecs import registry
from nac.codecs.family import File, Hub, Model, Web, WeightsSource
from nac.codecs.registry import MODELS
from nac.weights import models

SPEC = MODELS["dac_16khz"].spec


def data(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


def toy(name: str, *sources: WeightsSource) -> Model:
    return Model(replace(SPEC, name=name), "a toy", "MIT", sources)


def add(*args: object) -> None:
    """Add a toy model to the table, in a process of its own."""
    model = toy(*args)  # type: ignore[arg-type]
    registry.MODELS[model.name] = model  # type: ignore[index]


def attempt(what: object, *args: object, **options: object) -> None:
    """Print what a call gives, or its error."""
    try:
        print(what(*args, **options), flush=True)  # type: ignore[operator]
    except models.ModelError as error:
        print("refused:", error, flush=True)


PRELUDE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + (
    "from toy_models import *; from nac.weights.models import *; from nac.weights import models\n"
)


def command(code: str) -> list[str]:
    """A process that runs code with the names of this module and of nac.weights.models."""
    return [sys.executable, "-c", PRELUDE + code]


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Its environment, with caches in ``folder`` and nothing of the user's settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "NAC_"))}
    caches = {"HF_HOME": str(folder / "hf"), "NAC_CACHE": str(folder / "nac")}
    return clean | caches | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"} | settings


def start(folder: Path, code: str, **settings: str) -> subprocess.Popen[str]:
    """Start such a process."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(code), env=environment(folder, **settings), stdout=pipe, stderr=pipe, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """Lines of standard output, and standard error; the process must have ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines(), err


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def files(folder: Path) -> list[str]:
    """Files below a folder, without locks and what is kept about them."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    known = {".lock", ".json", ".TAG"}
    return sorted(path.name for path in found if path.suffix not in known and path.parent.name != "refs")


__all__ = ["File", "Hub", "Path", "Web", "add", "attempt"]
