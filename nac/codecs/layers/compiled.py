"""Functions of tensors that threads run in parallel: their many short steps do not wait for Python's global lock.

TorchScript is the only part of PyTorch that achieves this without a C++ compiler.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, cast

from typing_extensions import ParamSpec, TypeVar

from nac.codecs.devices import on_gpu

P = ParamSpec("P")
R = TypeVar("R")


_lock = threading.Lock()  # the warning filters are shared by all threads


class compiled(Generic[P, R]):
    """A decorator that compiles a function with TorchScript on its first call.

    The function itself is used on a GPU and if it cannot be compiled; the operations and results are the same. Its
    first argument must be a tensor.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        update_wrapper(self, function)
        self._function, self._script = function, cast(Any, None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if on_gpu(cast(Any, args[0])):
            return self._function(*args, **kwargs)
        if self._script is None:
            self._script = self._compile()
        return cast(R, self._script(*args, **kwargs))

    def _compile(self) -> Any:
        import torch

        with _lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, but its successors need a C++ compiler
            try:
                return torch.jit.script(self._function)
            except (AttributeError, RuntimeError, OSError):
                return self._function
