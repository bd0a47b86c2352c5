"""The vectors tell a reader with a mistake from one without: the second reader gets mistakes, one at a time.

Not among them: limits of megabytes, which test_container_limits.py holds, and what changes nothing.
"""

import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
VECTORS = Path(__file__).parents[2] / "formats" / "vectors"
READER, LAYERS, TIMELINE = "second_reader", "second_layers", "second_timeline"
MISTAKES = [
    # Elementary fields.
    (READER, "0x82F63B78", "0xEDB88320"),
    (READER, "(byte or not place)", "True"),
    (
        READER,
        "refuse_unless(value < 2**64 and (byte or not place)",
        "value %= 2**64; refuse_unless((byte or not place)",
    ),
    (READER, ".decode()", '.decode("utf-8", "replace")'),
    (READER, ".decode()", '.decode("latin-1")'),
    (READER, ".decode()", '.decode("utf-8", "surrogatepass")'),
    (READER, "refuse_unless(code <= len(RATES)", "code = min(code, len(RATES)); refuse_unless(True"),
    (READER, "176400, 192000", "192000, 176400"),
    (READER, "if code else self.varint()", "if code else self.u8()"),
    (READER, "== crc32c(covered)", "!= 0"),
    (READER, 'refuse_unless(self.at == len(self.data), "too long")', "pass"),
    # The header.
    (READER, '== b"\\x89NAC\\r\\n\\x1a\\n"', '[:4] == b"\\x89NAC"'),
    (READER, "file.u8() == 1", "file.u8() >= 1"),
    (READER, "flags < 128", "True"),
    (READER, 'c < " " or ', ""),
    (READER, '"\\x7f" <= c', '"\\x7f" < c'),
    (READER, 'c <= "\\x9f"', 'c < "\\x9f"'),
    (READER, 'c <= "\\x9f"', 'c <= "\\xa0"'),
    (READER, 'c < " "', 'c <= " "'),
    (READER, '1 <= len(header["model"]', '0 <= len(header["model"]'),
    (READER, ".encode()) <= 127", ".encode()) <= 126"),
    (READER, ".encode()) <= 127", ".encode()) <= 128"),
    (READER, "1 <= count <= 255", "0 <= count <= 255"),
    (READER, "1 <= count <= 255", "1 <= count <= 254"),
    (READER, "1 <= count <= 255", "1 <= count <= 256"),
    (READER, "1 if flags & UNIFORM else count", "1"),
    (READER, "1 <= bits <= 16", "1 <= bits <= 15"),
    (READER, "1 <= bits <= 16", "1 <= bits <= 17"),
    (READER, "1 <= bits <= 16", "0 <= bits <= 16"),
    (READER, "1 <= codes <= 2**20", "0 <= codes <= 2**20"),
    (READER, "1 <= codes <= 2**20", "1 <= codes < 2**20"),
    (READER, "1 <= codes <= 2**20", "1 <= codes"),
    (READER, "1 <= frames <= 2**20", "1 <= frames < 2**20"),
    (READER, "1 <= frames <= 2**20", "1 <= frames"),
    (READER, "1 <= stride <= frames", "0 <= stride <= frames"),
    (READER, '1 <= stride <= frames * header["frame_samples"]', '1 <= stride < frames * header["frame_samples"]'),
    (READER, '1 <= stride <= frames * header["frame_samples"]', "1 <= stride"),
    (READER, "layout & 0x8C", "layout & 0x84"),
    (READER, "layout & 0x8C", "layout & 0x88"),
    (READER, "layout & 0x8C", "layout & 0x0C"),
    (READER, "layout >> 1 & 1", "layout >> 1 & 0"),
    (READER, "layout >> 4", "layout >> 5"),
    (READER, "1 <= channels <= 255", "0 <= channels <= 255"),
    (READER, "1 <= channels <= 255", "1 <= channels < 255"),
    (READER, "1 <= channels <= 255", "1 <= channels <= 256"),
    (READER, "(not pair or (channels, network) == (2, 1))", "True"),
    (READER, "(channels, network) == (2, 1)", "channels == 2"),
    (READER, "(channels, network) == (2, 1)", "network == 1"),
    (READER, "math.ceil(channels / network)", "channels // network"),
    (READER, "2 if pair else", "1 if pair else"),
    (READER, 'max(header["stream_codebooks"]) <= count', "True"),
    (READER, 'max(header["stream_codebooks"]) <= count', 'header["stream_codebooks"][0] <= count'),
    (READER, "1000 <= rate <= 2**24", "rate <= 2**24"),
    (READER, "1000 <= rate <= 2**24", "1000 < rate <= 2**24"),
    (READER, "1000 <= rate <= 2**24", "1000 <= rate < 2**24"),
    (READER, "1000 <= rate <= 2**24", "1000 <= rate"),
    (READER, 'rates = header["sample_rate"], header["original_sample_rate"]', 'rates = header["sample_rate"],'),
    (
        READER,
        'rates = header["sample_rate"], header["original_sample_rate"]',
        'rates = header["original_sample_rate"],',
    ),
    (READER, '1 <= header["frame_samples"] <= 2**20', '1 < header["frame_samples"] <= 2**20'),
    (READER, '1 <= header["frame_samples"] <= 2**20', '1 <= header["frame_samples"] < 2**20'),
    (READER, '1 <= header["frame_samples"] <= 2**20', '1 <= header["frame_samples"]'),
    (READER, 'max(header["samples"] or 0, header["start"]) < 2**48', 'header["start"] < 2**48'),
    (READER, 'max(header["samples"] or 0, header["start"]) < 2**48', '(header["samples"] or 0) < 2**48'),
    (
        READER,
        'max(header["samples"] or 0, header["start"]) < 2**48',
        'max(header["samples"] or 0, header["start"]) < 2**48 - 1',
    ),
    (READER, 'header["start"] or not flags & START', "True"),
    (READER, "if flags & START else 0", "if flags & START and flags & KNOWN else 0"),
    (READER, '<= count, "bad stream"', "<= count and any(header['stream_codebooks']), \"bad stream\""),
    (READER, '1e-38 < header["gain"] < 1e38', '0 < header["gain"] < 1e38'),
    (READER, '1e-38 < header["gain"] < 1e38', '1e-38 < header["gain"]'),
    (READER, '1e-38 < header["gain"] < 1e38', '1e-37 < header["gain"] < 1e37'),
    (READER, '1e-38 < header["gain"] < 1e38', 'not (header["gain"] <= 1e-38 or header["gain"] >= 1e38)'),
    (READER, '1e-38 < header["gain"] < 1e38', 'abs(header["gain"]) > 1e-38'),
    # Chunks.
    (READER, "frames >= 1 and", "frames >= 0 and"),
    (READER, "first + frames < 2**40", "first + frames <= 2**40"),
    (READER, "first + frames < 2**40", "first + frames < 2**40 - 1"),
    (READER, "first + frames < 2**40", "first < 2**40"),
    (READER, '<= 2**20, "too many codes"', '< 2**20, "too many codes"'),
    (READER, '<= 2**20, "too many codes"', '<= 2**21, "too many codes"'),
    (READER, 'max(codes for _, codes in header["codebooks"])', 'header["codebooks"][0][1]'),
    (READER, 'max(codes for _, codes in header["codebooks"])', "1"),
    (READER, 'for _, codes in header["codebooks"])', 'for _, codes in header["codebooks"][: max(counts)])'),
    (READER, "form & 15 < 2", "form & 3 < 2"),
    (READER, "form & 15 < 2", "True"),
    (READER, "form < 64", "True"),
    (READER, "form < 64", "form < 128"),
    (READER, "math.ceil(len(counts) / 8)", "1"),
    (READER, "not mask & ~sum(1 << s for s in present)", "True"),
    (READER, "not mask & ~sum(1 << s for s in present)", "mask < 1 << len(counts)"),
    (READER, "not mask & ~sum(1 << s for s in present)", "mask"),
    (READER, "not mask & ~sum(1 << s for s in present)", "mask != sum(1 << s for s in present)"),
    (READER, 'body.u8() if header["stereo_pair"] else 0', "0"),
    (READER, "len(saved[s]) <= counts[s] and ", ""),
    (READER, " and saved[s][-1:] != [0]", ""),
    (READER, "first % segment[0] == 0", "True"),
    (READER, "segment[0] > 1 and ", ""),
    (READER, "and frames % segment[0] == 0)", ")"),
    (READER, "not overhang or (segment and", "not overhang or (not segment or"),
    (READER, "+ overhang if segment else 1", "if segment else 1"),
    (READER, "math.ceil(frames / segment[0])", "frames // segment[0]"),
    (READER, "if segment else 1\n", "if segment else 0\n"),
    (READER, "all(map(math.isfinite, scales[s]))", "True"),
    (READER, "all(map(math.isfinite, scales[s]))", "scales[s] == scales[s] and math.inf not in scales[s]"),
    (READER, 'for s in present if header["has_scale"]', 'for s in present[::-1] if header["has_scale"]'),
    (
        READER,
        "[body.varint() for _ in range(body.varint())]\n        r",
        "[body.varint() for _ in range(body.u8())]\n        r",
    ),
    (READER, "not form & 15 or size", "True"),
    (READER, "present, saved)\n", "present[::-1], saved)\n"),
    (READER, 'chunk["first_frame"] >= ends_at', 'chunk["first_frame"] > ends_at'),
    (READER, 'chunk["first_frame"] >= ends_at', 'chunk["first_frame"] >= ends_at - 1'),
    (READER, 'chunk["first_frame"] >= ends_at', 'chunk["first_frame"] == ends_at'),
    # The end.
    (READER, 'elif kind == ord("E"):', 'elif kind == ord("E") or kind == ord("X"):'),
    (READER, 'elif kind == ord("E"):', 'elif kind != ord("E"):\n            raise Refused("type")\n        else:'),
    (READER, "declared - 1 if declared", "declared if declared"),
    (READER, 'header["samples"] in (None, samples)', "True"),
    (
        READER,
        'samples is not None and header["samples"] in (None, samples)',
        'not declared or header["samples"] is None',
    ),
    (READER, "samples is not None and", "(samples := samples or 0) is not None and"),
    (READER, "(next_byte - byte, next_frame - frame)", "(next_byte, next_frame)"),
    (READER, "== (next_byte - byte, next_frame - frame)", "!= (0, 0)"),
    (
        READER,
        "(body.varint(), body.varint()) == (next_byte - byte, next_frame - frame)",
        "(body.varint(), body.varint())[0] == next_byte - byte",
    ),
    (
        READER,
        "(body.varint(), body.varint()) == (next_byte - byte, next_frame - frame)",
        "(body.varint(), body.varint())[1] == next_frame - frame",
    ),
    (READER, "[0] == length", "[0] <= length"),
    (READER, "[0] == length", "[0] >= length"),
    (READER, "    body.finish()\n    file.finish()", "    file.finish()"),
    (READER, "    file.finish()\n", ""),
    (READER, "reached if chunks else samples == 0", "True"),
    (READER, "reached if chunks else samples == 0", "reached if chunks else True"),
    (READER, '(header["start"] + samples - 1)', "(samples - 1)"),
    (READER, '(header["start"] + samples - 1)', '(header["start"] + samples)'),
    (READER, '* header["sample_rate"] < end', '* header["sample_rate"] <= end'),
    # Layers.
    (LAYERS, "bits <= 12", "bits <= 11"),
    (LAYERS, "bits <= 12", "bits <= 13"),
    (LAYERS, "count <= 2**11", "count < 2**11"),
    (LAYERS, "count <= 2**11", "count <= 2**12"),
    (LAYERS, "- count // 32", "- count // 32 - 1"),
    (LAYERS, "- count // 32", "- count // 32 + 1"),
    (LAYERS, "- count // 32", "- -(-count // 32)"),
    (LAYERS, "slow and ", ""),
    (LAYERS, "<= 2**13 *", "< 2**13 *"),
    (LAYERS, "<= 2**13 *", "<= 2**14 *"),
    (LAYERS, "sum_per_frame += per_frame", "sum_per_frame = per_frame"),
    (LAYERS, "bits * count // 8 - less", "-(-bits * count // 8) - less"),
    (LAYERS, 'header["stream_codebooks"][s] > k', 'header["stream_codebooks"][s] >= k > 0 or not k'),
    (LAYERS, "packed >> place & (1 << bits) - 1", "packed >> place & (1 << bits - 1) - 1"),
    (LAYERS, "used += bits * count", "used += -(-bits * count // 8) * 8"),
    (LAYERS, "math.ceil(used / 8)", "used // 8"),
    (LAYERS, 'refuse_unless(packed >> used == 0, "padding")', "pass"),
    (LAYERS, "first = next(", "first = 0 and next("),
    (LAYERS, "len(set(map(tuple, books[n : k + 1]))) == 1", "tuple(books[n]) == tuple(books[k])"),
    (LAYERS, "k - first, frames", "k, frames"),
    (LAYERS, "codes[first:]", "codes"),
    # Range coding.
    (LAYERS, 'data[:8].ljust(8, b"\\0"), "big"', 'data[:8].rjust(8, b"\\0"), "big"'),
    (LAYERS, "2**64 - 1", "2**64"),
    (LAYERS, "min(self.code // self.range, int(sums[-1]) - 1)", "self.code // self.range % int(sums[-1])"),
    (LAYERS, "self.code << 16 | int", "(self.code << 16) % 2**64 | int"),
    (LAYERS, "< 2**48", "< 2**47"),
    (LAYERS, '.ljust(2, b"\\0")', '.ljust(2, b"\\xff")'),
    (LAYERS, '.ljust(2, b"\\0")', '.rjust(2, b"\\0")'),
    (LAYERS, '"right"))', '"left"))'),
    (LAYERS, 'len(tables["order"][0]) != 2**bits', "False"),
    (LAYERS, "if bits > 5 else 1", "if bits > 4 else 1"),
    (LAYERS, "if bits > 5 else 1", "if bits > 6 else 1"),
    (LAYERS, "2 ** (bits // 2)", "2 ** (-(-bits // 2))"),
    (LAYERS, "list(order[k]).index(code)", "code"),
    (LAYERS, "int(order[book][own[t]]) if known else own[t]", "own[t]"),
    (LAYERS, "size = 64 if", "size = 32 if"),
    (LAYERS, "size = 64 if tables else count", "size = 64 if known else count"),
    (LAYERS, "size = 64 if tables else count", "size = count"),
    (LAYERS, "size = 64 if tables else count", "size = 64"),
    (LAYERS, "[[1, 4], [8, 1]]", "[[1, 4], [1, 4]]"),
    (LAYERS, "[[1, 4], [8, 1]]", "[[8, 1], [8, 1]]"),
    (LAYERS, "else (256, 8)", "else (256, 256)"),
    (LAYERS, "else (256, 8)", "else (8, 8)"),
    (LAYERS, 'tables["trust"][book] if known', 'tables["trust"][min(book, len(tables["trust"]) - 1)] if tables'),
    (LAYERS, 'book < len(tables["embedding"])', 'book < len(tables["order"])'),
    (LAYERS, 'book < len(tables["embedding"])', "book < 1"),
    (LAYERS, "else 2**bits for back", "else 0 for back"),
    (LAYERS, "2**bits if coarser is None", "0 if coarser is None"),
    (LAYERS, "if t - back >= begin", "if t - back >= 0"),
    (LAYERS, "% 2**32 >> 18", "% 2**32 >> 17"),
    (LAYERS, "0xC2B2AE35, 0x27D4EB2F", "0x27D4EB2F, 0xC2B2AE35"),
    (LAYERS, "// 64, 479)", "// 64, 400)"),
    (LAYERS, "round(2**14 * 2 ** (-n / 32))", "int(2**14 * 2 ** (-n / 32))"),
    (LAYERS, "2**14 * 2 **", "2**15 * 2 **"),
    (LAYERS, "// table_weight[which] + 1)", "// table_weight[which])"),
    (LAYERS, "weights.sum() * min(right, 256 * wrong) // wrong", "weights.sum() * right // wrong"),
    (LAYERS, "min(right, 256 * wrong)", "min(right, 128 * wrong)"),
    (
        LAYERS,
        "weights.sum() * min(right, 256 * wrong) // wrong",
        "weights.sum() * (min(right, 256 * wrong) // wrong)",
    ),
    (LAYERS, "counts[None][high[t]] += 1", "counts[None][high[t]] += 2"),
    (LAYERS, "counts[high[t]][low[t]] += 1", "counts[0][low[t]] += 1"),
    (LAYERS, "hits_misses[0][0 if right else 1] += 2", "hits_misses[0][0 if right else 1] += 1"),
    (LAYERS, "if right and lows > 1", "if lows > 1"),
    (LAYERS, "same = guesses[t] is not None and guesses[t] // lows == high[t]", "same = guesses[t] is not None"),
    (LAYERS, "seen[slots[t]] = own[t]", "seen.setdefault(slots[t], own[t])"),
    (LAYERS, "for t in now:\n            counts", "for t in now[::-1]:\n            counts"),
    (LAYERS, "- t % size\n    for later", "\n    for later"),
    (LAYERS, "book + (later < 0)", "book"),
    (LAYERS, "book + (later < 0)", "book + (later <= 0)"),
    (LAYERS, "if begin <= t + later", "if 0 <= t + later"),
    (LAYERS, "min(begin + size, len(codes[-1]))", "len(codes[-1])"),
    (LAYERS, ">> 20).clip(0, 1023)", ">> 20).clip(0, 1024)"),
    (LAYERS, ">> 20).clip(0, 1023)", ">> 20).clip(-1023, 1023)"),
    (LAYERS, '* tables["scale"][book] >> 20', '* tables["scale"][book] // 2**20 + 1'),
    (LAYERS, 'tables["mix_bias"][book] +', "0 +"),
    (LAYERS, '"I8": "<i1", "I16": "<i2"', '"I8": "<u1", "I16": "<u2"'),
    # Time.
    (TIMELINE, "* stride + frame % per_segment", "* per_segment * length + frame % per_segment"),
    (TIMELINE, "frame % per_segment * length", "0"),
    (TIMELINE, 'if chunk["overhang"]', "if False"),
    (TIMELINE, "// per_segment + 1) * stride", "// per_segment) * stride"),
    (TIMELINE, 'header["start"] * header["sample_rate"] / header["original_sample_rate"]', "0"),
    (TIMELINE, 'header["start"] * header["sample_rate"] / header["original_sample_rate"]', 'header["start"]'),
    (TIMELINE, "if row[0] > end:", "if row[0] >= end:"),
    (TIMELINE, 'end = row[-1] + header["frame_samples"]', "end = row[-1]"),
    (TIMELINE, "// 50", "// 100"),
    (TIMELINE, "// 50, None", "/ 50, None"),
    (TIMELINE, "or row[0] in missing", ""),
    (TIMELINE, "+ 128) % 256 - 128", ")"),
    (TIMELINE, "+ 128) % 256 - 128", "+ 127) % 256 - 127"),
    (TIMELINE, "(sample - row[0] + 1)", "(sample - row[0])"),
    (TIMELINE, "(sample - row[0] + 1)", "(sample + 1)"),
    (TIMELINE, 'before = chunk["angle"]', "before = found if row[0] <= sample else None"),
]


@cache
def vectors():
    """All of them, those first that are read soonest, as their descriptions' lengths tell."""
    names = sorted(VECTORS.glob("*.nac"), key=lambda path: path.with_suffix(".json").stat().st_size)
    return [
        (name.read_bytes(), json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))) for name in names
    ]


@cache
def source(name):
    return (SUPPORT / f"{name}.py").read_text(encoding="utf-8")


def modules(monkeypatch, changed):
    """The second reader's modules, with other sources than they have."""
    made = {}
    for name in (LAYERS, TIMELINE, READER):
        made[name] = ModuleType(name)
        made[name].__file__ = str(SUPPORT / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, made[name])
        exec(compile(changed.get(name) or source(name), f"{name}.py", "exec"), made[name].__dict__)
    return made


def agrees(made, data, want):
    """Whether a reader finds in a file what it must, and stops where it must."""
    want = dict(want)
    times = want.pop("timeline", {})
    try:
        found = made[READER].read(data)
        spans = made[TIMELINE].timeline(found["header"], found["chunks"]) if times else {}
        turns = [
            (made[TIMELINE].angle(found["header"], found["chunks"], sample) - angle + 128) % 256 - 128
            for sample, angle in times.get("angles", [])
        ]
    except Exception:
        return False
    for chunk in found["chunks"]:
        del chunk["overhang"]
    return (
        {key: found[key] for key in want} == want
        and spans == {key: times[key] for key in spans}
        and all(abs(turn) < 1e-6 for turn in turns)
    )


def test_without_a_mistake_all_agree(monkeypatch):
    made = modules(monkeypatch, {})
    assert all(agrees(made, data, want) for data, want in vectors())


@pytest.mark.parametrize(("name", "right", "wrong"), MISTAKES)
def test_a_mistake_is_caught(monkeypatch, name, right, wrong):
    assert right in source(name)
    made = modules(monkeypatch, {name: source(name).replace(right, wrong, 1)})
    assert not all(agrees(made, data, want) for data, want in vectors())
