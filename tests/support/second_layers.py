"""The second reader's part that decodes layers, written from formats/nac-v1.md alone."""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

WEIGHTS = np.array([max(1, round(2**14 * 2 ** (-n / 32))) for n in range(480)])
FACTORS = [0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F]
TABLES = Path(__file__).parents[2] / "formats" / "tables"


class Refused(Exception):
    """This is not a whole .nac file of version 1."""


def refuse_unless(condition, reason):
    if not condition:
        raise Refused(reason)


def layers_of(body, header, frames, present, saved):
    """For each stream its layers, bytes if range coded, else lists of codes; and how many are range coded."""
    layers, row, coded, sum_per_frame = [{} for _ in saved], [], 0, 0
    for k, (bits, per_frame) in enumerate(header["codebooks"]):
        sum_per_frame += per_frame
        slow = sum_per_frame * header["sample_rate"] <= 2**13 * header["frame_samples"]
        for s in present:
            if header["stream_codebooks"][s] > k:
                less, count = [*saved[s], *[0] * 255][k], frames * per_frame
                if less:
                    refuse_unless(
                        slow and bits <= 12 and count <= 2**11 and less <= bits * count // 8 - count // 32,
                        "saving",
                    )
                    coded += count
                    layers[s][k] = body.take(bits * count // 8 - less)
                else:
                    row.append((s, k, bits, count))
    refuse_unless(coded <= 2**23, "too many codes")
    packed, used = int.from_bytes(body.data[body.at :], "little"), 0
    for s, k, bits, count in row:
        layers[s][k] = [packed >> place & (1 << bits) - 1 for place in range(used, used + bits * count, bits)]
        used += bits * count
    body.take(math.ceil(used / 8))
    refuse_unless(packed >> used == 0, "padding")
    return [[stream[k] for k in sorted(stream)] for stream in layers], coded


def codes_of(layers, books, frames, name):
    """The codes of a stream's layers."""
    codes, tables = [], None
    for k, layer in enumerate(layers):
        if isinstance(layer, bytes):
            if name != "00000000" and tables is None:
                tables = read_tables(name)
            first = next(n for n in range(k + 1) if len(set(map(tuple, books[n : k + 1]))) == 1)
            layer = read_layer(layer, codes[first:], k - first, frames * books[k][1], books[k][0], tables)
        codes.append(layer)
    return codes


def read_tables(name):
    """The tables, from a safetensors file."""
    path = TABLES / f"{name}.safetensors"
    refuse_unless(path.exists(), "unknown tables")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
    tables = {}
    for key, entry in header.items():
        if key != "__metadata__":
            dtype = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "BOOL": "<i1"}[entry["dtype"]]
            part = np.frombuffer(values[slice(*entry["data_offsets"])], dtype)
            tables[key] = part.reshape(entry["shape"]).astype(np.int64)
    return tables


class Bits:
    """The range decoder."""

    def __init__(self, data):
        self.code = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
        self.rest, self.range = data[8:], 2**64 - 1

    def decode(self, weights):
        sums = np.cumsum(weights)
        self.range //= int(sums[-1])
        found = int(np.searchsorted(sums, min(self.code // self.range, int(sums[-1]) - 1), "right"))
        self.code -= self.range * int(sums[found] - weights[found])
        self.range *= int(weights[found])
        while self.range < 2**48:
            self.code = self.code << 16 | int.from_bytes(self.rest[:2].ljust(2, b"\0"), "big")
            self.rest, self.range = self.rest[2:], self.range << 16
        return found


def read_layer(data, codes, book, count, bits, tables):
    """The codes of codebook number ``book`` of a group. ``codes``: those of the coarser ones."""
    if tables and len(tables["order"][0]) != 2**bits:
        tables = None
    known = bool(tables) and book < len(tables["order"])
    lows = 2 ** (bits // 2) if bits > 5 else 1
    highs = 2**bits // lows
    order = tables["order"] if tables else []
    ranks = [
        [list(order[k]).index(code) for code in row] if k < len(order) else list(row)
        for k, row in enumerate(codes)
    ]
    size = 64 if tables else count
    own = [None] * count
    coarser = ranks[-1] if ranks else None
    decoder, coded = Bits(data), list(codes)
    counts = defaultdict(lambda: [0] * max(highs, lows))
    seen, hits_misses = {}, [[1, 4], [8, 1]]
    table_weight = tables["trust"][book] if known else (256, 8)
    deep = bool(tables) and book < len(tables["embedding"])
    found = [None] * count

    def slot(t):
        begin = t - t % size
        near = [own[t - back] if t - back >= begin else 2**bits for back in (1, 2, 3)]
        near.append(2**bits if coarser is None else coarser[t])
        return sum(int(p) * factor for p, factor in zip(near, FACTORS, strict=True)) % 2**32 >> 18

    def symbol(which, context, levels, guess):
        """Decodes one; nothing is learnt yet."""
        weights = WEIGHTS[np.minimum((levels.max() - levels) // 64, 479)]
        tally = np.array(counts[context][: len(levels)])
        weights = weights + tally * (weights.sum() // table_weight[which] + 1)
        if guess is not None:
            right, wrong = hits_misses[which]
            weights[guess] += weights.sum() * min(right, 256 * wrong) // wrong
        return decoder.decode(weights)

    for step in range(min(size, count)):
        now = list(range(step, count, size))
        guesses = {t: seen.get(slot(t)) for t in now}
        hidden = {t: surroundings(tables, book, [*coded, found], t, size) if deep else None for t in now}
        high, low = {}, dict.fromkeys(now, 0)
        for t in now:
            levels = 64 * tables["high_bias"][book] if known else np.zeros(highs, np.int64)
            if deep:
                levels = levels + tables["high"][book] @ hidden[t]
            high[t] = symbol(0, None, levels, None if guesses[t] is None else guesses[t] // lows)
        for t in now if lows > 1 else []:
            part = slice(high[t] * lows, (high[t] + 1) * lows)
            levels = 64 * tables["low_bias"][book][part] if known else np.zeros(lows, np.int64)
            if deep:
                levels = levels + tables["low"][book][part] @ hidden[t]
            same = guesses[t] is not None and guesses[t] // lows == high[t]
            low[t] = symbol(1, high[t], levels, guesses[t] % lows if same else None)
        slots = {t: slot(t) for t in now}
        for t in now:
            counts[None][high[t]] += 1
            counts[high[t]][low[t]] += 1
            if guesses[t] is not None:
                right = guesses[t] // lows == high[t]
                hits_misses[0][0 if right else 1] += 2
                if right and lows > 1:
                    hits_misses[1][0 if guesses[t] % lows == low[t] else 1] += 2
            own[t] = high[t] * lows + low[t]
            seen[slots[t]] = own[t]
            found[t] = int(order[book][own[t]]) if known else own[t]
    return found


def surroundings(tables, book, codes, t, size):
    """What the network makes of the codes around code ``t``."""
    inputs, begin = [], t - t % size
    for later in tables["frames"]:
        total = np.zeros(tables["embedding"].shape[2], np.int64)
        if begin <= t + later < min(begin + size, len(codes[-1])):
            for k in range(book + (later < 0)):
                total += tables["embedding"][k][codes[k][t + later]]
        inputs.append(total)
    sums = tables["mix_bias"][book] + np.concatenate(inputs) @ tables["mix"][book]
    return (sums * tables["scale"][book] >> 20).clip(0, 1023)
