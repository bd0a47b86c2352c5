"""What the library logs, told by the command: with the name of the file it is about, where that is known."""

from __future__ import annotations

from nac.cli import report
from nac.files.notes import Notes


class Spoken(Notes):
    """Lines that are about no file are told at once."""

    def other(self, line: str) -> None:
        report.warning("", line)


NOTES = Spoken()
