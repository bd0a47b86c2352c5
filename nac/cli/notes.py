"""Prints what the library logs, with the name of the file it is about if known."""

from __future__ import annotations

from nac.cli import report
from nac.files.notes import Notes


class Spoken(Notes):
    """Lines that are not about a file are printed at once."""

    def other(self, line: str) -> None:
        report.warning("", line)


NOTES = Spoken()
