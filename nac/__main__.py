"""`python -m nac` is `nac`."""

from nac.commands import entry

entry()
