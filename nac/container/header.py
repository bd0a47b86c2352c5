"""The header of a .nac file: codec, channels, sample rates, length, tags."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import accumulate, chain

from nac.container.fields import Fields, text, varint
from nac.container.records import RecordReader, checksum
from nac.errors import DamageError, FormatError
from nac.spec import Codebook, CodecSpec, Segment

SIGNATURE = b"\x89NAC\r\n\x1a\n"
VERSION = 1
MAX_HEADER = 1 << 20
MAX_SAMPLES = 1 << 48
MIN_RATE, MAX_RATE = 1000, 1 << 24
MAX_FRAME = 1 << 20
MAX_CHANNELS = 255
MAX_CODES_PER_SECOND = 1 << 13
"""The most codes per second of a stream that may be range coded; the known networks have at most 2400."""
UNKNOWN_WEIGHTS = "0" * 16
"""The fingerprint of a file converted from a format that does not record it."""
_KNOWN, _TAGS, _SEGMENTS, _SCALES, _UNIFORM, _START, _GAIN = (1 << bit for bit in range(7))
_ALL_FLAGS = (1 << 7) - 1
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)


class SampleFormat(IntEnum):
    """The sample format of the recording before compression, from which decompression takes its default."""

    UNKNOWN = 0
    U8 = 1
    S16 = 2
    S24 = 3
    S32 = 4
    F32 = 5
    F64 = 6
    LOSSY = 7


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of a file's header; ``formats/nac-v1.md`` defines each of them.

    Rates are in Hz. ``network_channels`` (1 or 2) is the number of channels of the codec's network.
    ``stereo_pair``: two channels are stored as a rotated pair of streams. ``stream_codebooks``: each stream's
    number of codebooks, 0 for a silent stream. ``samples`` (per channel) and ``start`` count samples at the
    original rate; ``samples`` is None if it was unknown when the header was written. ``gain`` multiplied the
    signal before encoding and is rounded to float32. Raises FormatError for values that the format cannot
    represent.
    """

    model: str
    fingerprint: str
    sample_rate: int
    frame_samples: int
    codebooks: tuple[Codebook, ...]
    network_channels: int
    stereo_pair: bool
    stream_codebooks: tuple[int, ...]
    original_sample_rate: int
    channels: int
    sample_format: SampleFormat = SampleFormat.UNKNOWN
    samples: int | None = None
    start: int = 0
    gain: float = 1.0
    segment: Segment | None = None
    has_scale: bool = False
    tags: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        self._check_codec()
        self._check_signal()
        object.__setattr__(self, "gain", struct.unpack("<f", struct.pack("<f", self.gain))[0])

    @property
    def spec(self) -> CodecSpec:
        """The codec's specification as far as a file contains it: without family and frame multiple."""
        return CodecSpec(
            self.model,
            "",
            self.sample_rate,
            self.network_channels,
            self.frame_samples,
            self.codebooks,
            has_scale=self.has_scale,
            segment=self.segment,
            fingerprint=self.fingerprint,
        )

    @property
    def streams(self) -> tuple[tuple[int, ...], ...]:
        """The channels of each stream; both streams of a rotated pair have both channels."""
        if self.stereo_pair:
            return ((0, 1), (0, 1))
        step = self.network_channels
        return tuple(tuple(range(i, min(i + step, self.channels))) for i in range(0, self.channels, step))

    @cached_property
    def frame_bits(self) -> tuple[int, ...]:
        """The size in bits of a packed frame of each stream."""
        return tuple(
            sum(bits * codes for bits, codes in self.codebooks[:count]) for count in self.stream_codebooks
        )

    @cached_property
    def most_codes(self) -> int:
        """The most codes per frame of any codebook."""
        return max(codes for _, codes in self.codebooks)

    @cached_property
    def range_codebooks(self) -> int:
        """How many codebooks, from the coarsest on, may be range coded.

        They have at most ``MAX_CODES_PER_SECOND`` in all, which limits the time for decoding one second of audio.
        """
        codes = accumulate(book.codes_per_frame for book in self.codebooks)
        most = MAX_CODES_PER_SECOND * self.frame_samples
        return sum(count * self.sample_rate <= most for count in codes)

    def to_bytes(self) -> bytes:
        """Return signature, version and header, as at the start of a file."""
        body = self._body()
        if len(body) > MAX_HEADER:
            raise FormatError(f"a header of {len(body)} bytes; at most {MAX_HEADER} are allowed")
        head = SIGNATURE + bytes([VERSION]) + varint(len(body))
        return head + body + checksum(head, body)

    @classmethod
    def read(cls, source: RecordReader) -> Header:
        """Read the header from the start of a file.

        Raises FormatError if it is not a .nac file or this version cannot read it, DamageError if it is damaged.
        """
        _check_signature(source.read(len(SIGNATURE)))
        version = source.need(1)[0]
        if version != VERSION:
            raise FormatError(f"version {version} of the .nac format; this program only reads version {VERSION}")
        length = source.length(MAX_HEADER, "a header")
        body = source.need(length)
        if source.need(4) != checksum(SIGNATURE, bytes([version]), varint(length), body):
            raise DamageError("the header is damaged, and nothing can be read without it")
        return cls._parse(Fields(body, "header"))

    def _body(self) -> bytes:
        uniform = len(set(self.codebooks)) == 1
        flags = (
            _KNOWN * (self.samples is not None)
            | _TAGS * bool(self.tags)
            | _SEGMENTS * (self.segment is not None)
            | _SCALES * self.has_scale
            | _UNIFORM * uniform
            | _START * bool(self.start)
            | _GAIN * (self.gain != 1)
        )
        layout = self.stereo_pair | (self.network_channels - 1) << 1 | self.sample_format << 4
        parts = [varint(flags), text(self.model), bytes.fromhex(self.fingerprint)]
        parts += [_rate(self.sample_rate), varint(self.frame_samples), varint(len(self.codebooks))]
        parts += [bytes([bits]) + varint(codes) for bits, codes in self.codebooks[: 1 if uniform else None]]
        parts += [varint(field) for field in self.segment or ()]
        parts += [bytes([layout]), _rate(self.original_sample_rate), varint(self.channels)]
        parts += [varint(count) for count in self.stream_codebooks]
        if self.samples is not None:
            parts.append(varint(self.samples))
        if self.start:
            parts.append(varint(self.start))
        if self.gain != 1:
            parts.append(struct.pack("<f", self.gain))
        if self.tags:
            parts.append(varint(len(self.tags)))
            parts += [text(key) + text(value) for key, value in self.tags]
        return b"".join(parts)

    @classmethod
    def _parse(cls, fields: Fields) -> Header:
        flags = fields.varint()
        if unknown := flags & ~_ALL_FLAGS:
            raise FormatError(f"header: unknown flags {unknown:#x}; version {VERSION} has {_ALL_FLAGS:#x}")
        model, fingerprint = fields.text(), fields.take(8).hex()
        sample_rate, frame_samples = _read_rate(fields), fields.varint()
        codebooks = _read_codebooks(fields, bool(flags & _UNIFORM))
        segment = Segment(fields.varint(), fields.varint()) if flags & _SEGMENTS else None
        layout = fields.byte()
        if layout & 0b1100 or layout >> 4 > max(SampleFormat):
            raise FormatError(f"header: unknown layout {layout:#04x}")
        original_sample_rate, channels = _read_rate(fields), fields.varint()
        streams = _stream_count(bool(layout & 1), 1 + (layout >> 1 & 1), channels)
        header = cls(
            model=model,
            fingerprint=fingerprint,
            sample_rate=sample_rate,
            frame_samples=frame_samples,
            codebooks=codebooks,
            segment=segment,
            has_scale=bool(flags & _SCALES),
            stereo_pair=bool(layout & 1),
            network_channels=1 + (layout >> 1 & 1),
            sample_format=SampleFormat(layout >> 4),
            original_sample_rate=original_sample_rate,
            channels=channels,
            stream_codebooks=tuple(fields.varint() for _ in range(streams)),
            samples=fields.varint() if flags & _KNOWN else None,
            start=_nonzero(fields.varint(), "start") if flags & _START else 0,
            gain=fields.floats(1)[0] if flags & _GAIN else 1.0,
            tags=tuple((fields.text(), fields.text()) for _ in range(fields.varint())) if flags & _TAGS else (),
        )
        fields.finish()
        return header

    def _check_codec(self) -> None:
        for string in (self.model, *chain(*self.tags)):
            text(string)
        _check(1 <= len(self.model.encode()) <= 127, "a model name of 1 to 127 bytes", self.model)
        _check(not any(map(_is_control, self.model)), "a model name without control characters", self.model)
        _check(_is_fingerprint(self.fingerprint), "a fingerprint of 16 hexadecimal digits", self.fingerprint)
        _check(_is_rate(self.sample_rate), f"a sample rate of {MIN_RATE} to {MAX_RATE} Hz", self.sample_rate)
        _check(1 <= self.frame_samples <= MAX_FRAME, f"1 to {MAX_FRAME} samples per frame", self.frame_samples)
        _check(1 <= len(self.codebooks) <= 255, "1 to 255 codebooks", len(self.codebooks))
        for bits, codes in set(self.codebooks):
            _check(1 <= bits <= 16, "codebooks of 1 to 16 bits", bits)
            _check(1 <= codes <= MAX_FRAME, f"1 to {MAX_FRAME} codes per frame", codes)
        if self.segment is not None:
            frames, stride = self.segment
            _check(1 <= frames <= MAX_FRAME, f"segments of 1 to {MAX_FRAME} frames", frames)
            limit = frames * self.frame_samples
            _check(1 <= stride <= limit, f"a stride of 1 to {limit} samples, the length of a segment,", stride)

    def _check_signal(self) -> None:
        rate = self.original_sample_rate
        _check(_is_rate(rate), f"an original sample rate of {MIN_RATE} to {MAX_RATE} Hz", rate)
        streams = _stream_count(self.stereo_pair, self.network_channels, self.channels)
        _check(len(self.stream_codebooks) == streams, f"{streams} streams", len(self.stream_codebooks))
        for count in self.stream_codebooks:
            _check(0 <= count <= len(self.codebooks), f"0 to {len(self.codebooks)} codebooks per stream", count)
        _check(0 <= (self.samples or 0) < MAX_SAMPLES, f"less than {MAX_SAMPLES} samples", self.samples)
        _check(0 <= self.start < MAX_SAMPLES, f"a start below {MAX_SAMPLES}", self.start)
        _check(math.isfinite(self.gain) and 1e-38 < self.gain < 1e38, "a finite gain above zero", self.gain)


def _check(valid: bool, needed: str, found: object) -> None:
    if not valid:
        raise FormatError(f"header: needs {needed}, not {found!r:.80}")


def _check_signature(found: bytes) -> None:
    if found == SIGNATURE:
        return
    if found.startswith((b"\x89NAC\n", b"\x09NAC\r\n")):
        raise DamageError("a .nac file that was transferred in text mode, which changed its bytes")
    raise (
        FormatError("not a .nac file", remedy="compress") if found else FormatError("not a .nac file: it is empty")
    )


def _is_rate(rate: int) -> bool:
    return MIN_RATE <= rate <= MAX_RATE


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character < "\xa0"


def _is_fingerprint(string: str) -> bool:
    return len(string) == 16 and all(digit in "0123456789abcdef" for digit in string)


def _nonzero(value: int, name: str) -> int:
    _check(value > 0, f"a {name} above zero", value)
    return value


def _rate(rate: int) -> bytes:
    return bytes([_RATES.index(rate) + 1]) if rate in _RATES else b"\0" + varint(rate)


def _read_rate(fields: Fields) -> int:
    code = fields.byte()
    if code > len(_RATES):
        raise FormatError(f"header: unknown rate code {code}")
    return _RATES[code - 1] if code else fields.varint()


def _read_codebooks(fields: Fields, uniform: bool) -> tuple[Codebook, ...]:
    count = fields.varint()
    _check(1 <= count <= 255, "1 to 255 codebooks", count)
    if uniform:
        return (Codebook(fields.byte(), fields.varint()),) * count
    return tuple(Codebook(fields.byte(), fields.varint()) for _ in range(count))


def _stream_count(stereo_pair: bool, network_channels: int, channels: int) -> int:
    _check(network_channels in (1, 2), "a network of 1 or 2 channels", network_channels)
    _check(1 <= channels <= MAX_CHANNELS, f"1 to {MAX_CHANNELS} channels", channels)
    if stereo_pair:
        _check(
            (network_channels, channels) == (1, 2),
            "two channels and a network of one for a rotated pair",
            channels,
        )
        return 2
    return -(-channels // network_channels)
