"""Devices: CPU or GPU, free memory, and copies between the host and a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
ONE_BY_ONE = frozenset({"cpu"})
"""Devices that process signals one by one, in tiles for several threads; others process whole batches."""


class Placed(Protocol):
    """A tensor, weights or a codec."""

    @property
    def device(self) -> torch.device: ...


def on_gpu(what: Placed) -> bool:
    """Return whether something is on a GPU, so that it is computed in whole batches."""
    return is_gpu(what.device)


def is_gpu(device: torch.device) -> bool:
    """Return whether a device is a GPU."""
    return device.type not in ONE_BY_ONE


class Gpu:
    """A device with its own memory. Only :meth:`wait` and, with Metal, :meth:`give` wait for it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"

    def take(self, rows: Sequence[Tensor]) -> Tensor:
        """Concatenate tensors [B, ...] from the host or the device into one on the device."""
        import torch

        if rows[0].device.type == self.device.type:
            return torch.cat(list(rows))
        shape = (sum(map(len, rows)), *rows[0].shape[1:])
        # Pinned, so that the copy is not waited for.
        whole = torch.empty(shape, dtype=rows[0].dtype, pin_memory=self._cuda)
        torch.cat(list(rows), out=whole)
        return whole.to(self.device, non_blocking=self._cuda)

    def give(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Copy tensors to the host, one transfer for each dtype. The copies are complete after :meth:`wait`."""
        import torch

        found: dict[int, Tensor] = {}
        for dtype in {tensor.dtype for tensor in tensors}:
            alike = [number for number, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[number].reshape(-1) for number in alike])
            host = torch.empty(flat.shape, dtype=dtype, pin_memory=self._cuda)
            host.copy_(flat, non_blocking=self._cuda)
            parts = torch.split(host, [tensors[number].numel() for number in alike])
            found.update({n: part.view(tensors[n].shape) for n, part in zip(alike, parts, strict=True)})
        return tuple(found[number] for number in range(len(tensors)))

    def wait(self) -> None:
        """Wait until everything that this thread started is done."""
        import torch

        if self._cuda:
            torch.cuda.current_stream(self.device).synchronize()

    def free(self) -> int:
        """Return approximately the bytes of free memory, or 0 if unknown."""
        import torch

        if not self._cuda:
            return 0
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + unused

    def measured(self, run: Callable[[], T]) -> tuple[T, int]:
        """Return a function's result, and the peak memory of its call in bytes, or 0 if unknown."""
        import torch

        if not self._cuda:
            return run(), 0
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        result = run()
        return result, torch.cuda.max_memory_allocated(self.device) - before

    def release(self) -> None:
        """Free memory that PyTorch keeps for later."""
        import torch

        if self._cuda:
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
