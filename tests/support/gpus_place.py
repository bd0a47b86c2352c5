"""The processor in a GPU's place, so that what is done there is tested where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from nac.codecs import devices


@contextmanager
def in_gpus_place() -> Iterator[None]:
    """Codecs made within compute on the processor as on a GPU: whole batches, without the processor's own ways.

    They are to be used within only, and others are not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # which codecs see to themselves on a processor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "ONE_BY_ONE", frozenset[str]())
        try:
            yield
        finally:
            torch.set_num_threads(threads)
