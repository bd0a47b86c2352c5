"""Split signals into tiles and batches into items, which threads compute in parallel.

Signals are float32 [B, T, channels].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from nac.codecs import parallel as workers
from nac.codecs.devices import is_gpu, on_gpu
from nac.codecs.layers.spans import Span

TILE, ROWS = 1 << 18, 1024  # numbers and steps per tile, as measured
CPU = torch.device("cpu")


def each(function: Callable[..., tuple[Tensor, ...]], *batch: Tensor) -> tuple[Tensor, ...]:
    """Apply a function to batches [B, ...]: at once on a GPU, item by item in parallel on a CPU.

    Batches of long signals are not faster on a CPU, and rounding may depend on the shape: computed separately, an
    item's result does not depend on the rest of the batch.
    """
    if on_gpu(batch[0]) or batch[0].shape[0] == 1:
        return function(*batch)
    items = zip(*(torch.split(tensor, 1) for tensor in batch), strict=True)
    results = workers.parts([partial(function, *item) for item in items])
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def tiles(length: int, tile: int, unit: int = 1, device: torch.device = CPU) -> list[Span]:
    """Split a signal into equal tiles of at most about ``tile`` steps, a multiple of ``unit``.

    Tiles depend only on the length, not on the number of threads, because rounding depends on their shapes. For a
    GPU, the signal is one tile.
    """
    if is_gpu(device):
        tile = unit = max(length, 1)
    rows = length // unit
    several = 4 if rows >= 512 else 2 if rows >= 64 else 1  # enough for two threads; each tile has a cost
    count = max(-(-length // tile), several)
    size = max(-(-length // (count * unit)), 1) * unit
    return [Span(low, min(low + size, length) - 1) for low in range(0, length, size)]


def in_tiles(compute: Callable[[Span], None], spans: Sequence[Span]) -> None:
    """Compute tiles in parallel."""
    workers.parts([partial(compute, span) for span in spans])


def tile_of(width: int) -> int:
    """Return the steps per tile for ``width`` channels: they fit in the cache, but justify reading the weights."""
    return max(TILE // width, ROWS)
