"""Compressed audio, read with FFmpeg (through PyAV).

FFmpeg is given bytes, never a name, so it cannot open another file, whatever a file's content asks for. It may use
only the formats that match the file's first bytes, each of which reads one file, and no protocol at all.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from nac.audio import layout
from nac.audio.kinds import Kind
from nac.audio.resample import Samples
from nac.audio.tags import Tags, kept
from nac.audio.view import View, reason
from nac.audio.whole import REMEDY, check_count, damaged
from nac.container.header import SampleFormat
from nac.errors import AudioError

if TYPE_CHECKING:
    from av import AudioFrame, AudioLayout, Packet

_ANY = "mp3,flac,aac,tta,wv,ape,mpc,mpc8,ac3,eac3,dts,oma,dsf,wav,aiff"
_FORMATS: dict[Kind, str] = {
    "sphere": "nistsphere",
    "mp3": "mp3",
    "id3": _ANY,
    "aac": "aac",
    "ac3": "ac3,eac3",
    "dts": "dts,dtshd",
    "loas": "loas",
    "mp4": "mov",
    "amr": "amr",
    "wavpack": "wv",
    "musepack": "mpc,mpc8",
    "shorten": "shn",
    "realmedia": "rm",
}
"""FFmpeg's names of formats, where they differ from those of :mod:`nac.audio.kinds`."""
_SCALES = {
    "u8": (np.uint8, 2.0**-7),
    "s16": (np.int16, 2.0**-15),
    "s32": (np.int32, 2.0**-31),
    "s64": (np.int64, 2.0**-63),
    "flt": (np.float32, 1.0),
    "dbl": (np.float64, 1.0),
}
_ADTS_HEADER = 7
"""Bytes of the header of an AAC frame; FFmpeg passes over a last frame that has no more."""
_PCM = re.compile(r"pcm_[suf](8|16|24|32|64)(?:[lb]e)?")
_EXACT = ("flac", "wavpack", "tta", "ape", "tak")
"""Codecs whose files declare their number of samples."""


class FFmpegInput:
    """A file that FFmpeg reads, from byte ``start`` to ``end``. Raises AudioError if FFmpeg cannot read it.

    ``notes``: remarks on the file for the user, complete once it has been read.
    """

    def __init__(self, file: BinaryIO, kind: Kind, start: int, end: int) -> None:
        import av

        self.notes: tuple[str, ...] = ()
        self._kind, self._size, self._view = kind, end - start, View(file, start, end)
        names = _FORMATS.get(kind, kind)
        try:
            self._container = av.open(
                self._view,
                "r",
                format=None if "," in names else names,
                options={"format_whitelist": names, "protocol_whitelist": "none"},
                metadata_errors="replace",
            )
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"FFmpeg cannot read it as audio ({reason(error)})") from None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        import av

        if not self._container.streams.audio:
            raise AudioError("holds no audio")
        if len(self._container.streams.audio) > 1:
            raise AudioError(
                f"{len(self._container.streams.audio)} audio tracks, of which nac would keep one "
                "(`ffmpeg -i IN -map 0:a:0 OUT.wav` takes the first)"
            )
        self._stream = self._container.streams.audio[0]
        covers = av.stream.Disposition.attached_pic
        self.has_video = any(not one.disposition & covers for one in self._container.streams.video)
        if self.has_video:
            self.notes += ("its video is not kept",)
        context = self._stream.codec_context
        if context is None:
            raise AudioError("its audio codec is unknown to FFmpeg")
        context.thread_count = 1  # files are decoded in parallel already; errors then also come at the right frame
        if context.name == "flac":
            context.options = {"err_detect": "crccheck+explode"}
        self.tags: Tags = kept(self._container.metadata.items())
        self.sample_rate = int(self._stream.rate or 0)
        self._count, self._last, self.channels = 0, None, 0
        self._frames = self._decoded()
        self._next = next(self._frames, None)
        if context.format is None:
            check_count(0, None, self._size)
        first = self._next or context
        speakers = _kept(first.layout)
        self.sample_rate, self.channels = first.sample_rate or self.sample_rate, speakers.nb_channels
        if not self.sample_rate or not self.channels:
            raise AudioError("audio without a sample rate or channels")
        names = [channel.name for channel in speakers.channels]
        mask, self._order = layout.of_names(names)
        self.mask = layout.of_mask(mask, self.channels)
        self.sample_format = self._sample_format()
        self.samples = self._announced()

    def read(self, size: int) -> Samples:
        """The next ``size`` samples or slightly more, [n, channels]; n = 0 at the end.

        Raises AudioError if samples are missing.
        """
        parts: list[Samples] = []
        while self._next is not None and sum(map(len, parts)) < size:
            parts.append(self._samples(self._next))
            self._count += len(parts[-1])
            self._next = next(self._frames, None)
        if not parts:
            check_count(self._count, self.samples, self._packets)
            return np.zeros((0, self.channels), np.float32)
        return np.concatenate(parts)

    def close(self) -> None:
        self._container.close()

    def _decoded(self) -> Iterator[AudioFrame]:
        import av

        self._packets = 0
        last = None
        try:
            for packet in self._container.demux(self._stream):
                if last is not None and packet.size and (rest := self._part_of_sample(last)):
                    raise damaged(f"{rest} bytes at {self._time} are only a part of a sample")
                last = packet if packet.size else last
                self._packets += packet.size
                try:
                    frames = packet.decode()
                except (av.FFmpegError, ValueError) as error:
                    self._pass_over(packet, error)
                else:
                    for frame in frames:
                        _kept(frame.layout)
                    yield from frames
        except (av.FFmpegError, ValueError) as error:
            raise self._broken(error) from None
        frame_size = _FRAME_SIZES.get(self._stream.codec_context.name)
        if last is not None and frame_size is not None:
            lacking = frame_size(bytes(last)[:6]) - last.size
            if lacking > 0:
                raise AudioError(f"cut off: {lacking} bytes are missing of its last frame ({REMEDY})")
        rest = self._size - self._packets
        if self._kind == "aac" and 0 < rest <= _ADTS_HEADER:
            self._view.seek(-rest, os.SEEK_END)
            if self._view.read(1) == b"\xff":
                raise AudioError(f"cut off: it ends within its last frame ({REMEDY})")

    def _part_of_sample(self, packet: Packet[Any]) -> int:
        """Bytes after the last whole sample of all channels in a packet of PCM, which FFmpeg drops."""
        bits = _PCM.fullmatch(self._stream.codec_context.name)
        return packet.size % max(1, self.channels * int(bits[1]) // 8) if bits else 0

    def _samples(self, frame: AudioFrame) -> Samples:
        """The samples of a frame, channels in the order of the layout."""
        if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
            raise AudioError(
                f"{self.sample_rate} Hz with {self.channels} channels up to {self._time}, then "
                f"{frame.sample_rate} Hz with {frame.layout.nb_channels}; a .nac file has one rate"
            )
        if self._stream.codec_context.name == "flac" and self._kind == "flac" and frame.pts is not None:
            lost = round(frame.pts * (frame.time_base or 0) * self.sample_rate) - self._count
            if lost > 0:
                raise damaged(f"{lost} samples are lost at {self._time}")
        samples = _numbers(frame, self.channels)
        return samples if self._order is None else samples[:, self._order]

    def _pass_over(self, packet: Packet[Any], error: Exception) -> None:
        """Continue after a packet that is not audio; raise AudioError if it may have been audio."""
        if self._kind not in ("mp3", "id3") or _holds_frame(bytes(packet)):
            raise self._broken(error)
        self.notes += (f"{packet.size} bytes that are not MP3 were skipped",)

    def _broken(self, error: Exception) -> AudioError:
        return AudioError(f"broken audio at {self._time} ({reason(error)}; {REMEDY})")

    @property
    def _time(self) -> str:
        return f"{self._count / max(1, self.sample_rate):.3f} s"

    def _announced(self) -> int | None:
        """The declared number of samples, for formats that declare it exactly."""
        name, extra = self._stream.codec_context.name, self._stream.codec_context.extradata or b""
        if name == "flac" and self._kind == "flac" and len(extra) >= 18:
            return int.from_bytes(extra[10:18], "big") & ((1 << 36) - 1) or None
        if name in _EXACT and self._kind == name and self._stream.duration:
            return round(self._stream.duration * (self._stream.time_base or 0) * self.sample_rate)
        return None

    def _sample_format(self) -> SampleFormat:
        context = self._stream.codec_context
        if not int(context.codec.properties) & 4:  # lossless
            return SampleFormat.S16 if context.name in ("pcm_alaw", "pcm_mulaw") else SampleFormat.LOSSY
        extra = context.extradata or b""
        if context.name == "flac" and len(extra) >= 18:
            return _integer(((extra[12] & 1) << 4 | extra[13] >> 4) + 1)
        if context.name == "alac" and len(extra) >= 18:
            return _integer(extra[17])
        if context.name.startswith("pcm_s24"):
            return SampleFormat.S24
        return _OF_FORMAT.get(context.format.name.rstrip("p"), SampleFormat.LOSSY)


_OF_FORMAT = {
    "u8": SampleFormat.U8,
    "s16": SampleFormat.S16,
    "s32": SampleFormat.S32,
    "flt": SampleFormat.F32,
    "dbl": SampleFormat.F64,
}


def _kept(speakers: AudioLayout) -> AudioLayout:
    """A layout, for as long as the program runs, unless it is a usual one: some fifty bytes.

    One in an order of its own lies in memory that belongs to its frame, and that PyAV frees with the layout too.
    """
    if speakers.name not in ("mono", "stereo"):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(speakers))
    return speakers


def _integer(bits: int) -> SampleFormat:
    for most, form in ((8, SampleFormat.U8), (16, SampleFormat.S16), (24, SampleFormat.S24)):
        if bits <= most:
            return form
    return SampleFormat.S32


def _numbers(frame: AudioFrame, channels: int) -> Samples:
    """The samples of a frame [n, channels], channels in the file's order."""
    if frame.format.is_planar and channels > 8:  # PyAV reads past the last of many planes
        from av import AudioResampler

        (frame,) = AudioResampler(frame.format.packed, frame.layout, frame.sample_rate).resample(frame)
    kind, scale = _SCALES[frame.format.name.rstrip("p")]
    planes = frame.planes[: channels if frame.format.is_planar else 1]
    columns = channels // len(planes)
    count = frame.samples * columns
    arrays = [np.frombuffer(memoryview(plane), kind, count).reshape(-1, columns) for plane in planes]
    with np.errstate(over="ignore", invalid="ignore"):
        samples: Samples = np.concatenate(arrays, axis=1).astype(np.float32)
    if kind == np.uint8:
        samples -= np.float32(128)
    if scale != 1:
        samples *= np.float32(scale)
    return samples


_BITRATES = {
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s, by version and layer (ISO/IEC 11172-3, section 2.4.2.3, and 13818-3)."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _mpeg_frame(head: bytes) -> int:
    """Bytes of a frame of MPEG audio, layer II or III, with this header; 0 if it is not one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rates, bitrate, rate = _BITRATES.get((1 if version == 3 else 2, layer)), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rates is None or not 0 < bitrate < 15 or rate == 3:
        return 0
    slots = 72 if layer == 3 and version != 3 else 144
    return slots * rates[bitrate - 1] * 1000 // _RATES[version][rate] + (head[2] >> 1 & 1)


def _holds_frame(data: bytes) -> bool:
    """Whether a frame of MPEG audio begins anywhere in these bytes."""
    at = data.find(b"\xff")
    while at >= 0:
        if _mpeg_frame(data[at : at + 4]):
            return True
        at = data.find(b"\xff", at + 1)
    return False


def _ac3_frame(head: bytes) -> int:
    """Bytes of a frame of AC-3 or E-AC-3 that begins so; 0 if none does (ETSI TS 102 366, 4.4.1 and E.1.3.1)."""
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:  # E-AC-3 says so many words
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    code, rate = head[4] & 63, head[4] >> 6
    if code >= 2 * len(_AC3_BITRATES) or rate == 3:
        return 0
    bitrate = _AC3_BITRATES[code >> 1]
    return 2 * (bitrate * 2, bitrate * 320 // 147 + (code & 1), bitrate * 3)[rate]


_AC3_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_FRAME_SIZES: dict[str, Callable[[bytes], int]] = {
    **dict.fromkeys(("mp2", "mp2float", "mp3", "mp3float"), _mpeg_frame),
    **dict.fromkeys(("ac3", "eac3"), _ac3_frame),
}
"""By FFmpeg's names of codecs whose frames say how long they are, and that take one which is cut off."""
