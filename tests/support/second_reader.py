"""A second reader of .nac files, written from formats/nac-v1.md alone: it imports nothing from nac."""

import math
import struct
from itertools import pairwise

from second_layers import Refused, codes_of, layers_of, refuse_unless
from second_timeline import timeline

RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000]
KNOWN, TAGS, SEGMENTS, SCALES, UNIFORM, START, GAIN = (2**n for n in range(7))


def remainder(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


REMAINDERS = list(map(remainder, range(256)))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ REMAINDERS[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


class Bytes:
    """Takes fields one after the other from the front of some bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        refuse_unless(self.at + count <= len(self.data), "too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self):
        return self.take(1)[0]

    def f32(self):
        return struct.unpack("<f", self.take(4))[0]

    def varint(self):
        value = 0
        for place in range(10):
            byte = self.u8()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                refuse_unless(value < 2**64 and (byte or not place), "number too long")
                return value
        raise Refused("number too long")

    def text(self):
        try:
            return self.take(self.varint()).decode()
        except UnicodeDecodeError:
            raise Refused("not UTF-8") from None

    def rate(self):
        code = self.u8()
        refuse_unless(code <= len(RATES), "unknown rate")
        return RATES[code - 1] if code else self.varint()

    def body(self, start, limit):
        """Length, body and crc, which covers everything from ``start`` on."""
        length = self.varint()
        refuse_unless(length <= limit, "too long")
        body = self.take(length)
        covered = self.data[start : self.at]
        refuse_unless(struct.unpack("<I", self.take(4))[0] == crc32c(covered), "wrong checksum")
        return Bytes(body)

    def finish(self):
        refuse_unless(self.at == len(self.data), "too long")


def read_header(file):
    refuse_unless(file.take(8) == b"\x89NAC\r\n\x1a\n", "not a .nac file")
    refuse_unless(file.u8() == 1, "unknown version")
    body, header = file.body(0, 2**20), {}
    flags = body.varint()
    refuse_unless(flags < 128, "unknown flags")
    header["model"], header["fingerprint"] = body.text(), body.take(8).hex()
    control = any(c < " " or "\x7f" <= c <= "\x9f" for c in header["model"])
    refuse_unless(1 <= len(header["model"].encode()) <= 127 and not control, "bad model name")
    header["sample_rate"], header["frame_samples"] = body.rate(), body.varint()
    count = body.varint()
    refuse_unless(1 <= count <= 255, "bad codebooks")
    books = [[body.u8(), body.varint()] for _ in range(1 if flags & UNIFORM else count)]
    refuse_unless(all(1 <= bits <= 16 and 1 <= codes <= 2**20 for bits, codes in books), "bad codebooks")
    header["codebooks"] = books * count if flags & UNIFORM else books
    header["segment"] = [body.varint(), body.varint()] if flags & SEGMENTS else None
    frames, stride = header["segment"] or (1, 1)
    refuse_unless(1 <= frames <= 2**20 and 1 <= stride <= frames * header["frame_samples"], "bad segment")
    header["has_scale"] = bool(flags & SCALES)
    layout = body.u8()
    refuse_unless(not layout & 0x8C, "unknown layout")
    pair, network = bool(layout & 1), 1 + (layout >> 1 & 1)
    header |= {"stereo_pair": pair, "network_channels": network, "sample_format": layout >> 4}
    header["original_sample_rate"], channels = body.rate(), body.varint()
    refuse_unless(1 <= channels <= 255 and (not pair or (channels, network) == (2, 1)), "bad channels")
    header["channels"] = channels
    header["stream_codebooks"] = [body.varint() for _ in range(2 if pair else math.ceil(channels / network))]
    refuse_unless(max(header["stream_codebooks"]) <= count, "bad stream")
    header["samples"] = body.varint() if flags & KNOWN else None
    header["start"] = body.varint() if flags & START else 0
    header["gain"] = body.f32() if flags & GAIN else 1.0
    header["tags"] = [[body.text(), body.text()] for _ in range(body.varint())] if flags & TAGS else []
    body.finish()
    rates = header["sample_rate"], header["original_sample_rate"]
    refuse_unless(all(1000 <= rate <= 2**24 for rate in rates), "bad rate")
    refuse_unless(1 <= header["frame_samples"] <= 2**20, "bad frame")
    refuse_unless(max(header["samples"] or 0, header["start"]) < 2**48, "too many samples")
    refuse_unless(header["start"] or not flags & START, "bad start")
    refuse_unless(1e-38 < header["gain"] < 1e38, "bad gain")
    return header


def read_chunk(body, header):
    counts, segment = header["stream_codebooks"], header["segment"]
    first, frames, form = body.varint(), body.varint(), body.u8()
    refuse_unless(frames >= 1 and first + frames < 2**40, "bad frames")
    refuse_unless(frames * max(codes for _, codes in header["codebooks"]) <= 2**20, "too many codes")
    refuse_unless(form & 15 < 2, f"coding {form & 15}, this reader knows 0 and 1")
    refuse_unless(form < 64, "unknown form")
    present = [s for s, count in enumerate(counts) if count]
    if form & 16:
        mask = int.from_bytes(body.take(math.ceil(len(counts) / 8)), "little")
        refuse_unless(not mask & ~sum(1 << s for s in present), "bad mask")
        present = [s for s in present if mask >> s & 1]
    angle = body.u8() if header["stereo_pair"] else 0
    overhang = form >> 5 & 1
    tables = body.take(4).hex() if form & 15 else "00000000"
    saved = [[] for _ in counts]
    for s in present if form & 15 else []:
        saved[s] = [body.varint() for _ in range(body.varint())]
        refuse_unless(len(saved[s]) <= counts[s] and saved[s][-1:] != [0], "bad savings")
    refuse_unless(not segment or first % segment[0] == 0, "not at a segment's start")
    refuse_unless(not overhang or (segment and segment[0] > 1 and frames % segment[0] == 0), "bad overhang")
    segments = math.ceil(frames / segment[0]) + overhang if segment else 1
    scales = [[] for _ in counts]
    for s in present if header["has_scale"] else []:
        scales[s] = [body.f32() for _ in range(segments)]
        refuse_unless(all(map(math.isfinite, scales[s])), "bad scale")
    layers, size = layers_of(body, header, frames, present, saved)
    refuse_unless(not form & 15 or size, "nothing is range coded")
    codes = [codes_of(layers[s], header["codebooks"], frames, tables) for s in range(len(counts))]
    body.finish()
    chunk = {"first_frame": first, "frames": frames, "angle": angle, "scales": scales, "codes": codes}
    return chunk | {"overhang": bool(overhang)}


def read(data):
    """Header, chunks and samples as the vectors' .json have them; ``error`` says where reading had to stop."""
    file, found = Bytes(data), {"error": "header", "samples": None, "header": None, "chunks": []}
    try:
        found["header"] = read_header(file)
        found["error"] = "body"
        found["samples"] = read_records(file, found["header"], found["chunks"])
        found["error"] = None
    except Refused as reason:
        found["reason"] = str(reason)
    return found


def read_records(file, header, chunks):
    places, ends_at = [], 0
    while True:
        start, kind = file.at, file.u8()
        body = file.body(start, 2**24)
        if kind == ord("C"):
            chunk = read_chunk(body, header)
            refuse_unless(not chunks or chunk["first_frame"] >= ends_at, "chunks out of order")
            places.append((start, chunk["first_frame"]))
            ends_at = chunk["first_frame"] + chunk["frames"]
            chunks.append(chunk)
        elif kind == ord("E"):
            break
    length = file.at - start
    declared = body.varint()
    samples = declared - 1 if declared else header["samples"]
    refuse_unless(samples is not None and header["samples"] in (None, samples), "bad samples")
    for (byte, frame), (next_byte, next_frame) in pairwise(places):
        refuse_unless((body.varint(), body.varint()) == (next_byte - byte, next_frame - frame), "wrong index")
    refuse_unless(struct.unpack("<I", body.take(4))[0] == length, "wrong distance")
    body.finish()
    file.finish()
    end = timeline(header, chunks)["end"]
    reached = (header["start"] + samples - 1) * header["sample_rate"] < end * header["original_sample_rate"]
    refuse_unless(reached if chunks else samples == 0, "samples without frames")
    return samples
