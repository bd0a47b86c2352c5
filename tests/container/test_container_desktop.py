"""file(1) and desktops know a .nac file when they see one."""

import io
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from container_files import SPEECH

from nac.container import Writer
from nac.container.header import SIGNATURE

FORMATS = Path(__file__).parents[2] / "formats"
MIME = "{http://www.freedesktop.org/standards/shared-mime-info}"
needs_file = pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")


def file_says(path, *options):
    command = ["file", "-b", "-m", FORMATS / "nac.magic", *options, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@needs_file
@pytest.mark.parametrize("tag", [0, 100, 20000], ids=["length-1-byte", "length-2-bytes", "length-3-bytes"])
def test_file_shows_version_and_model(tmp_path, tag):
    nac = io.BytesIO()
    Writer(nac, replace(SPEECH, samples=0, tags=(("comment", "x" * tag),) if tag else ())).finish(0)
    path = tmp_path / "some.nac"
    path.write_bytes(nac.getvalue())
    assert file_says(path) == "NAC neural codec audio, version 1, model soundstream_16khz"
    assert file_says(path, "--mime-type") == "audio/x-nac"


@needs_file
def test_file_knows_a_later_version_but_not_its_model():
    assert file_says(FORMATS / "vectors" / "version-2.nac") == "NAC neural codec audio, version 2"


@needs_file
def test_file_does_not_take_anything_else_for_nac():
    assert "NAC" not in file_says(FORMATS / "vectors" / "text.nac")
    assert "NAC" not in file_says(FORMATS / "vectors" / "flip-signature.nac")


def test_the_mime_type_has_the_signature_and_the_extension():
    [mime] = ET.parse(FORMATS / "nac-mime.xml").getroot()
    assert mime.get("type") == "audio/x-nac"
    assert mime.find(f"{MIME}glob").get("pattern") == "*.nac"
    match = mime.find(f"{MIME}magic/{MIME}match")
    assert (match.get("type"), match.get("offset")) == ("string", "0")
    assert match.get("value").encode().decode("unicode_escape").encode("latin-1") == SIGNATURE


@pytest.mark.skipif(shutil.which("update-mime-database") is None, reason="update-mime-database is not installed")
def test_a_desktop_takes_the_mime_type(tmp_path):
    packages = tmp_path / "packages"
    packages.mkdir()
    shutil.copy(FORMATS / "nac-mime.xml", packages)
    subprocess.run(["update-mime-database", tmp_path], check=True, capture_output=True)
    assert "audio/x-nac:*.nac" in (tmp_path / "globs2").read_text(encoding="utf-8")
    assert SIGNATURE in (tmp_path / "magic").read_bytes()
