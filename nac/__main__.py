"""`python -m nac` is `nac`."""

from nac.cli import entry

entry()
