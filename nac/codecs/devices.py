"""The processor, or a GPU: which of them it is, what memory is free there, and how numbers get there and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
ONE_BY_ONE = frozenset({"cpu"})
"""Devices that do signals one by one, each in tiles that threads share; others do whole batches at once."""


class Placed(Protocol):
    """A tensor, weights or a codec."""

    @property
    def device(self) -> torch.device: ...


def on_gpu(what: Placed) -> bool:
    """Whether it is on a GPU, and is computed as that does best."""
    return is_gpu(what.device)


def is_gpu(device: torch.device) -> bool:
    """Whether it is one."""
    return device.type not in ONE_BY_ONE


class Gpu:
    """A device with memory of its own. Only :meth:`wait` waits for it and, with Metal, :meth:`give`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"

    def take(self, rows: Sequence[Tensor]) -> Tensor:
        """Tensors [B, ...] of one shape but for B, from the host or from here, as one here."""
        import torch

        if rows[0].device.type == self.device.type:
            return torch.cat(list(rows))
        shape = (sum(map(len, rows)), *rows[0].shape[1:])
        whole = torch.empty(shape, dtype=rows[0].dtype, pin_memory=self._cuda)  # or its copy would be waited for
        torch.cat(list(rows), out=whole)
        return whole.to(self.device, non_blocking=self._cuda)

    def give(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Copies on the host, which hold their numbers after :meth:`wait`: a transfer for each type of number."""
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
        """Until all that was begun by this thread is done."""
        import torch

        if self._cuda:
            torch.cuda.current_stream(self.device).synchronize()

    def free(self) -> int:
        """Bytes that may be allocated, about; 0 where they are not known."""
        import torch

        if not self._cuda:
            return 0
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + unused

    def measured(self, run: Callable[[], T]) -> tuple[T, int]:
        """What a function gives, and the most bytes that it held here at a time; 0 where they are not known."""
        import torch

        if not self._cuda:
            return run(), 0
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        result = run()
        return result, torch.cuda.max_memory_allocated(self.device) - before

    def release(self) -> None:
        """Let go of memory that is kept for later."""
        import torch

        if self._cuda:
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()
