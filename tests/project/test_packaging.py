"""What is handed out: a wheel and an archive of sources, and what is said about them."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import yaml

from nac.version import __version__

ROOT = Path(__file__).parents[2]


def test_wheel_and_sources_are_built_and_whole(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="build is not installed")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    # From a copy, so that nothing is left in the folder, and what git does not know stays out.
    sources = tmp_path / "sources"
    sources.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not in a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("nac/", "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).exists():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            # The weights need not be whole to be packed.
            (sources / name).write_bytes((ROOT / name).read_bytes()[:100_000])
    made = subprocess.run([*words, str(sources)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = tmp_path.glob(f"nac_audio-{__version__}-py3-none-any.whl")
    (archive,) = tmp_path.glob(f"nac_audio-{__version__}.tar.gz")
    package = {str(path.relative_to(sources)) for path in (sources / "nac").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as held:
        names = set(held.namelist())
        metadata = message_from_string(held.read(f"nac_audio-{__version__}.dist-info/METADATA").decode())
    assert package <= names
    assert not {name for name in names if not name.startswith(("nac/", "nac_audio-"))}
    assert (metadata["License-Expression"], metadata["Version"]) == ("MIT", __version__)
    with tarfile.open(archive) as held_too:
        assert {f"nac_audio-{__version__}/{name}" for name in package | {"LICENSE"}} <= set(held_too.getnames())


def test_version_and_date_are_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if re.match(r"## \d", line))
    assert citation["version"] == __version__
    assert newest == f"## {__version__} ({citation['date-released']})"
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
