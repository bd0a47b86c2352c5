"""Where the tests find data. Recordings and weights lie outside the repository and may be absent."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import settings

# Who starts the tests may ignore signals (nohup, a job in the background), and children would inherit that.
for _name in ("SIGHUP", "SIGINT", "SIGTERM"):
    if (_number := getattr(signal, _name, None)) and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

# Without a buffer, a flush that is missing would not be noticed.
os.environ.pop("PYTHONUNBUFFERED", None)
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command does, for busy machines


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """At least four: many tests wait for programs that they start, or for a lock, and need no processor then."""
    return max(4, os.cpu_count() or 1)


# Time is measured where it matters; elsewhere a busy machine is no error.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that talks to a server has to say so with its mark."""
    if request.node.get_closest_marker("network") is not None:
        return
    connect = socket.socket.connect

    def connect_here(one: socket.socket, address: tuple[str, int] | str) -> None:
        if one.family in (socket.AF_INET, socket.AF_INET6):
            pytest.fail(f"connects to {address} without @pytest.mark.network")
        connect(one, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """A toy codec is the only model, and the current folder is an empty one."""
    from toy_command import install_toy

    monkeypatch.chdir(tmp_path)
    return install_toy(monkeypatch)


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("there is no ../shared with recordings and weights")
    return folder


@pytest.fixture(scope="session")
def lyra_weights(shared: Path) -> Path:
    return shared / "weights" / "lyra-v2"


@pytest.fixture(scope="session")
def shared_audio(shared: Path) -> Path:
    return shared / "audio"


@pytest.fixture(scope="session")
def random_lyra_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SoundStream's three files, with random weights."""
    from lyra_files import write_models

    return write_models(tmp_path_factory.mktemp("lyra"))
