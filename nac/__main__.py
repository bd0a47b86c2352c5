"""Where `nac`, or `python -m nac`, begins."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The command; an interruption is not an error even while it is still being loaded."""
    _fill_standard_streams()
    try:
        from nac.cli import entry

        entry()
    except KeyboardInterrupt:
        sys.exit(130)


def _fill_standard_streams() -> None:
    """Put something in the place of standard streams that are closed, or the next file opened would get it.

    Then it would be an output, say, that gets what a library prints. What is put there can be neither read nor
    written, as a closed one.
    """
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free


if __name__ == "__main__":
    main()
