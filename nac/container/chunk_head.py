"""The first fields of a chunk's body: which layers follow, how each is coded, and how long it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nac.container import codebooks as coded_layers
from nac.container.fields import Fields, varint
from nac.container.header import Header
from nac.container.tables import NONE
from nac.errors import FormatError
from nac.spec import Codebook

PACKED, RANGE = 0, 1
MAX_CODED = 1 << 23
MAX_CODES = 1 << 20
MAX_FRAME_NUMBER = 1 << 40
_CODING, _MASK, _OVERHANG = 0x0F, 0x10, 0x20  # bits of the form byte


class ChunkHead(NamedTuple):
    """The first fields of a chunk's body; with the file's header they determine the length of the rest.

    The fields are those of :class:`nac.container.chunk.Chunk`; ``present``: the streams that are not silent;
    ``saved``: for each stream, how many bytes range coding saves in its first layers.
    """

    first_frame: int
    frames: int
    coding: int
    overhang: bool
    present: tuple[int, ...]
    angle: int
    tables: str
    saved: list[list[int]]

    @classmethod
    def read(cls, header: Header, fields: Fields) -> ChunkHead:
        first_frame, frames, form = fields.varint(), fields.varint(), fields.byte()
        if form & ~(_CODING | _MASK | _OVERHANG):
            raise FormatError(f"chunk: unknown form {form:#04x}")
        present = tuple(stream for stream, count in enumerate(header.stream_codebooks) if count)
        if form & _MASK:
            mask = int.from_bytes(fields.take((len(header.stream_codebooks) + 7) // 8), "little")
            if mask & ~sum(1 << stream for stream in present):
                raise FormatError("chunk: its mask contains streams without codebooks")
            present = tuple(stream for stream in present if mask >> stream & 1)
        angle = fields.byte() if header.stereo_pair else 0
        coding, name = form & _CODING, NONE
        saved: list[list[int]] = [[] for _ in header.stream_codebooks]
        if coding == RANGE:
            name = fields.take(4).hex()
            for stream in present:
                count = fields.varint()
                if count > header.stream_codebooks[stream]:
                    raise FormatError(f"chunk: {count} range coded layers for a stream with fewer codebooks")
                saved[stream] = [fields.varint() for _ in range(count)]
        head = cls(first_frame, frames, coding, bool(form & _OVERHANG), present, angle, name, saved)
        head.check(header)
        return head

    def to_bytes(self, header: Header) -> bytes:
        form, mask = self.coding | _OVERHANG * self.overhang, b""
        if len(self.present) < sum(map(bool, header.stream_codebooks)):
            form |= _MASK
            bits = sum(1 << stream for stream in self.present)
            mask = bits.to_bytes((len(header.stream_codebooks) + 7) // 8, "little")
        head = varint(self.first_frame) + varint(self.frames) + bytes([form]) + mask
        head += bytes([self.angle]) * header.stereo_pair
        if self.coding != RANGE:
            return head
        lists = b"".join(
            b"".join(map(varint, [len(row), *row])) for row in map(self.saved.__getitem__, self.present)
        )
        return head + bytes.fromhex(self.tables) + lists

    def check(self, header: Header) -> None:
        if self.coding not in (PACKED, RANGE):
            raise FormatError(f"chunk: unknown coding {self.coding}; this program reads {PACKED} and {RANGE}")
        if not 0 <= self.first_frame <= self.first_frame + self.frames < MAX_FRAME_NUMBER:
            raise FormatError(f"chunk: frame {self.first_frame} is out of range (below {MAX_FRAME_NUMBER})")
        if self.frames < 1 or self.frames * header.most_codes > MAX_CODES:
            raise FormatError(f"chunk: {self.frames} frames; 1 to {MAX_CODES} codes of a codebook are allowed")
        if not 0 <= self.angle < (256 if header.stereo_pair else 1):
            raise FormatError(f"chunk: angle {self.angle} is out of range")
        if header.segment is not None and self.first_frame % header.segment.frames:
            raise FormatError(f"chunk: its first frame {self.first_frame} is not the first of a segment")
        if self.overhang:
            unit = header.segment.frames if header.segment else 1
            if unit < 2 or self.frames % unit:
                raise FormatError(f"chunk: {self.frames} frames in segments of {unit} cannot have an overhang")
        if self.coding == RANGE:
            self._check_range(header)

    def _check_range(self, header: Header) -> None:
        codes = 0
        for row in self.saved:
            if row and not row[-1]:
                raise FormatError("chunk: the last layer of its list of range coded ones is not range coded")
            if len(row) > header.range_codebooks:
                most = header.range_codebooks
                raise FormatError(
                    f"chunk: codebook {len(row)} is range coded; at this rate only the first {most} may be"
                )
            for saved, book in zip(row, header.codebooks, strict=False):
                if saved:
                    codes += self._check_layer(book, saved)
        if not codes or codes > MAX_CODED:
            raise FormatError(f"chunk: {codes} range coded codes; 1 to {MAX_CODED} are allowed")

    def _check_layer(self, book: Codebook, saved: int) -> int:
        """Return the number of codes in a range-coded layer. Raises FormatError if it cannot be range coded."""
        if not coded_layers.can_be_coded(book, self.frames):
            raise FormatError(f"chunk: {self.frames} frames of {book.bits} bits cannot be range coded")
        most = coded_layers.saving(book, self.frames, coded_layers.least_bytes(book, self.frames))
        if saved > most:
            raise FormatError(f"chunk: a layer is {saved} bytes shorter than packed; at most {most} are allowed")
        return self.frames * book.codes_per_frame

    def saved_by(self, stream: int, codebook: int) -> int:
        """Return how many bytes range coding saves in a layer: 0 if it is packed."""
        row = self.saved[stream]
        return row[codebook] if codebook < len(row) else 0

    def segments(self, header: Header) -> int:
        return -(-self.frames // header.segment.frames) + self.overhang if header.segment else 1

    def order(self, header: Header) -> Iterator[tuple[int, int, int]]:
        """Yield (codebook, stream, packed bits) for each layer, in stored order."""
        for codebook, (bits, per_frame) in enumerate(header.codebooks[: max(header.stream_codebooks)]):
            for stream in self.present:
                if header.stream_codebooks[stream] > codebook:
                    yield codebook, stream, bits * self.frames * per_frame


def plausible(header: Header, fields: Fields, length: int) -> bool:
    """Return whether a chunk's body could start with these fields and have ``length`` bytes.

    ``fields``: the first :func:`head_bytes` bytes of the body, or all of it if it is shorter.
    """
    try:
        head = ChunkHead.read(header, fields)
    except FormatError:
        return False
    scales = head.segments(header) * len(head.present) * header.has_scale
    coded, packed = 0, head.frames * sum(header.frame_bits[stream] for stream in head.present)
    for stream in head.present:
        for saved, book in zip(head.saved[stream], header.codebooks, strict=False):
            if saved:
                packed -= head.frames * book.codes_per_frame * book.bits
                coded += coded_layers.saving(book, head.frames, saved)
    return fields.position + 4 * scales + coded + (packed + 7) // 8 == length


def head_bytes(header: Header) -> int:
    """Return how many bytes :func:`plausible` needs: an upper bound for the fields before scales and layers."""
    return 64 + 3 * sum(header.stream_codebooks) + 2 * len(header.stream_codebooks)
