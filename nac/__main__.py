"""Where `nac`, or `python -m nac`, begins."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The command; an interruption is not an error even while it is still being loaded."""
    try:
        from nac.cli import entry

        entry()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
