"""The second reader's part that decodes layers, written from formats/nac-v1.md alone."""

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

WEIGHTS = np.array([max(1, round(2**14 * 2 ** (-n / 32))) for n in range(480)])
HISTORY = [(0, -1), (0, -2), (0, -3), (1, 0)]
FACTORS = [0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F]
PRIORS = Path(__file__).parents[1] / "nac" / "container" / "priors"


class Refused(Exception):
    """This is not a whole .nac file of version 1."""


def refuse_unless(condition, reason):
    if not condition:
        raise Refused(reason)


def layers_of(body, header, frames, present, saved):
    """For each stream its layers, bytes if range coded, else lists of codes; and how many are range coded."""
    layers, row, coded = [{} for _ in saved], [], 0
    for k, (bits, per_frame) in enumerate(header["codebooks"]):
        for s in present:
            if header["stream_codebooks"][s] > k:
                less, count = [*saved[s], *[0] * 255][k], frames * per_frame
                if less:
                    refuse_unless(
                        bits <= 12 and count <= 2**13 and less <= bits * count // 8 - count // 32, "bad saving"
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


def codes_of(layers, books, frames, prior):
    """The codes of a stream's layers."""
    codes, tables = [], None
    for k, layer in enumerate(layers):
        if isinstance(layer, bytes):
            if prior != "00000000" and tables is None:
                tables = read_prior(prior)
            first = next(n for n in range(k + 1) if len(set(map(tuple, books[n : k + 1]))) == 1)
            layer = read_layer(layer, codes[first:], k - first, frames * books[k][1], books[k][0], tables)
        codes.append(layer)
    return codes


def read_prior(name):
    """The tables as nested lists, from a safetensors file."""
    path = PRIORS / f"{name}.safetensors"
    refuse_unless(path.exists(), "unknown tables")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
    tables = {}
    for key, entry in header.items():
        if key != "__metadata__":
            dtype = {"I8": "<i1", "I16": "<i2", "BOOL": "<i1"}[entry["dtype"]]
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


def read_layer(data, codes, book, count, bits, prior):
    """The codes of codebook number ``book`` of a group. ``codes``: those of the coarser ones."""
    entries = 2**bits
    decoder, own = Bits(data), []
    codes = [*codes, own]

    def near(up, later):
        at = len(own) + later
        return codes[book - up][at] if up <= book and 0 <= at < (len(own) if up == 0 else count) else entries

    known = bool(prior) and book < len(prior["bias"])
    bias = prior["bias"][book] if known else np.zeros(entries, np.int64)
    trust = prior["trust"][book] if known else 256
    deep = bool(prior) and book < len(prior["embedding"])
    counts, seen, right, wrong = np.zeros(entries, np.int64), defaultdict(lambda: entries), 1, 4
    for place in range(count):
        levels = 64 * bias + (outside(prior, book, near) if deep else 0)
        weights = WEIGHTS[np.minimum((levels.max() - levels) // 64, 479)]
        weights = weights + counts * (weights.sum() // trust + 1)
        slot = sum(near(*place) * factor for place, factor in zip(HISTORY, FACTORS, strict=True)) % 2**32 >> 18
        guess = seen[slot]
        if guess < entries:
            weights[guess] += weights.sum() * min(right, 64 * wrong) // wrong
        code = decoder.decode(weights)
        if guess < entries:
            right, wrong = right + 2 * (code == guess), wrong + 2 * (code != guess)
        seen[slot] = code
        counts[code] += 1
        own.append(code)
    return own


def outside(prior, book, near):
    """What the surroundings add to the level of each code, times 64."""
    hidden = np.zeros(prior["out"].shape[2], np.int64)
    for mix, (up, later) in zip(prior["mix"][book], prior["contexts"], strict=True):
        if up <= book and near(up, later) < prior["out"].shape[1]:
            hidden += (prior["embedding"][book - up][near(up, later)] @ mix + 512) // 1024
    return prior["out"][book] @ hidden.clip(-1023, 1023)
