"""Entry point of `nac` and `python -m nac`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command; handles interruptions even while it is being loaded."""
    _fill_standard_streams()
    try:
        from nac.cli import entry

        entry()
    except KeyboardInterrupt:
        sys.exit(130)


def _fill_standard_streams() -> None:
    """Replace closed standard streams, or the next opened file would get their number.

    Otherwise an output file, for example, would receive what a library prints. The replacement can be neither read
    nor written, like a closed stream.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number


if __name__ == "__main__":
    main()
