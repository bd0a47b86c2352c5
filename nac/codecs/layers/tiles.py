"""A signal in tiles, a batch in items: parts that threads compute side by side.

Signals are float32 [B, T, channels].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from nac.codecs import parallel as workers
from nac.codecs.layers.spans import Span

TILE, ROWS = 1 << 18, 1024  # numbers and steps of a signal that are computed at a time, as measured
CPU = torch.device("cpu")


def each(function: Callable[..., tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
    """A function of batches [B, ...]: at once on a GPU, item by item and side by side on a CPU.

    A CPU gains nothing from batches of long signals, and the rounding of a product may depend on its shape:
    one by one, an item's result does not depend on what else is in the batch.
    """
    if not batch[0].is_cpu or batch[0].shape[0] == 1:
        return function(*batch)
    items = zip(*(torch.split(tensor, 1) for tensor in batch), strict=True)
    results = workers.parts([partial(function, *item) for item in items])
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def tiles(length: int, tile: int, unit: int = 1, device: torch.device = CPU) -> list[Span]:
    """Equal parts of a signal to compute side by side, in whole ``unit``, of about ``tile`` steps at most.

    They depend on its length alone, not on how many threads there are: with them go the shapes, and the rounding.
    A GPU has no use for them, and gets one.
    """
    if device.type != "cpu":
        tile = unit = max(length, 1)
    rows = length // unit
    several = 4 if rows >= 512 else 2 if rows >= 64 else 1  # for two threads, and each tile has its price
    count = max(-(-length // tile), several)
    size = max(-(-length // (count * unit)), 1) * unit
    return [Span(low, min(low + size, length) - 1) for low in range(0, length, size)]


def in_tiles(compute: Callable[[Span], None], spans: Sequence[Span]) -> None:
    workers.parts([partial(compute, span) for span in spans])


def tile_of(width: int) -> int:
    """Steps in a tile of a signal with so many channels: few enough for the cache, enough to read weights for."""
    return max(TILE // width, ROWS)
