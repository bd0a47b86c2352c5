"""The .nac container: header, chunks of codes, reading, writing, verifying. Needs no PyTorch and no model."""

from nac.container.chunk import Chunk
from nac.container.header import Header, SampleFormat
from nac.container.index import Entry, Index
from nac.container.reader import Reader
from nac.container.recover import Recovery
from nac.container.timeline import Lost
from nac.container.verify import Verified, verify
from nac.container.writer import Writer

__all__ = [
    "Chunk",
    "Entry",
    "Header",
    "Index",
    "Lost",
    "Reader",
    "Recovery",
    "SampleFormat",
    "Verified",
    "Writer",
    "verify",
]
