"""Functions of tensors that threads run side by side: their many short steps do not wait for Python's lock.

TorchScript is the one thing in PyTorch that does this without a C++ compiler at hand.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, cast

from typing_extensions import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


_lock = threading.Lock()  # what warnings are ignored is the process's


class compiled(Generic[P, R]):
    """A decorator: the function as TorchScript, made when it is first called; itself on a GPU or without that.

    Its first argument is a tensor. Either way the same operations give the same numbers.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        update_wrapper(self, function)
        self._function, self._script = function, cast(Any, None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if not cast(Any, args[0]).is_cpu:
            return self._function(*args, **kwargs)
        if self._script is None:
            self._script = self._compile()
        return cast(R, self._script(*args, **kwargs))

    def _compile(self) -> Any:
        import torch

        with _lock, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of what is to follow TorchScript, nothing runs without a C++ compiler
            try:
                return torch.jit.script(self._function)
            except (AttributeError, RuntimeError, OSError):
                return self._function
