"""What a program does to the disk, in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Disk:
    """The calls that matter, in order: ("sync" | "name" | "delete", path)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Path]] = []
        self._sizes: dict[Path, int] = {}
        fsync, replace, link, unlink = os.fsync, Path.replace, Path.hardlink_to, Path.unlink

        def synced(number: int) -> None:
            path = Path(f"/proc/self/fd/{number}").readlink()
            self._sizes[path] = path.stat().st_size
            self.calls.append(("sync", path))
            fsync(number)

        def replaced(part: Path, target: Path) -> Path:
            self._named(part, Path(target))
            return replace(part, target)

        def linked(path: Path, part: Path) -> None:
            self._named(Path(part), path)
            link(path, part)

        def unlinked(path: Path, missing_ok: bool = False) -> None:
            if path.exists():
                self.calls.append(("delete", path.resolve()))
            unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "replace", replaced)
        monkeypatch.setattr(Path, "hardlink_to", linked)
        monkeypatch.setattr(Path, "unlink", unlinked)

    def _named(self, part: Path, target: Path) -> None:
        part = part.resolve()
        assert ("sync", part) in self.calls, f"{target} takes its name before its bytes are on the disk"
        assert self._sizes[part] == part.stat().st_size, f"{target} was written to after it was synced"
        self.calls.append(("name", target.resolve()))

    def named(self) -> set[str]:
        return {path.name for what, path in self.calls if what == "name"}

    def place(self, what: str, name: str) -> int:
        """The number of the first such call."""
        return next(number for number, (call, path) in enumerate(self.calls) if call == what and path.name == name)


def watched(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Watch it from now on, where the system says what is open."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not say what is open")
    return Disk(monkeypatch)
