"""Reading a pickle without running it: calls are recorded instead of executed.

A pickle is a program, and unpickling an untrusted one runs it. Only the instructions that numpy needs for arrays
of numbers and plain containers are allowed here. A global name becomes a :class:`Call` that records its arguments,
if it is one of the numpy names that arrays need.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nac.errors import FormatError

_RECONSTRUCT = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
_SCALAR = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}
_ARRAY, _DTYPE = ("numpy", "ndarray"), ("numpy", "dtype")
_GLOBALS = {*_RECONSTRUCT, *_SCALAR, _ARRAY, _DTYPE}
_INSTRUCTIONS = re.compile(
    "PROTO|FRAME|STOP|MARK|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG1|BINFLOAT|(SHORT_)?BINUNICODE"
    "|(SHORT_)?BINBYTES|BINBYTES8|EMPTY_(TUPLE|LIST|DICT)|TUPLE[123]?|APPENDS?|SETITEMS?"
    "|(LONG_)?BIN(PUT|GET)|MEMOIZE|(STACK_)?GLOBAL|REDUCE|BUILD"
)
_MOST_INSTRUCTIONS = 10_000
_KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f4", "f8", "b1"}


class Call:
    """A global name, the arguments of its call (once called), and the state set on the result."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: tuple[str, str], args: tuple[Any, ...] | None = None) -> None:
        self.name, self.args = name, args
        self.state: Any = None

    def __call__(self, *args: Any) -> Call:
        if self.args is not None:
            raise pickle.UnpicklingError("it calls something that is not a function")
        return Call(self.name, args)

    def __setstate__(self, state: Any) -> None:
        if self.args is None or self.state is not None:
            raise pickle.UnpicklingError("it sets a state on something that has none")
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Call:
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return Call((module, name))


def load(data: bytes) -> Any:
    """The content of a pickle, with numpy's objects as :class:`Call`. Raises FormatError for other objects."""
    try:
        _check(data)
        return _Unpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, FormatError) as error:
        raise FormatError(f"refused, because its pickle contains more than arrays and numbers: {error}") from None
    except Exception as error:  # a damaged pickle can raise errors of any type
        raise FormatError(f"its pickle is damaged ({type(error).__name__})") from None


def _check(data: bytes) -> None:
    """Check all instructions before running any, so that none takes more memory than the pickle has bytes."""
    file = io.BytesIO(data)
    for number, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if not _INSTRUCTIONS.fullmatch(instruction.name):
            raise FormatError(f"instruction {instruction.name}")
        if number >= _MOST_INSTRUCTIONS:
            raise FormatError(f"more than {_MOST_INSTRUCTIONS} instructions")
        if instruction.name.endswith("BINPUT") and not 0 <= (argument or 0) <= number:
            raise FormatError("a memo index far beyond those used before")
    if behind := len(data) - file.tell():
        raise FormatError(f"{behind} bytes after its end")


def array(value: Any, what: str) -> NDArray[Any]:
    """A numeric array or scalar from :func:`load`. Raises FormatError for anything else."""
    try:
        if isinstance(value, Call) and value.name in _RECONSTRUCT:
            _, shape, dtype, fortran, content = value.state
            return _from_bytes(content, _dtype(dtype), shape, "F" if fortran else "C")
        if isinstance(value, Call) and value.name in _SCALAR:
            dtype, content = value.args or ()
            return _from_bytes(content, _dtype(dtype), (), "C")
    except (TypeError, ValueError):
        raise FormatError(f"{what} is not an array of numbers") from None
    raise FormatError(f"{what} is not an array")


def _from_bytes(content: object, dtype: np.dtype[Any], shape: object, order: Any) -> NDArray[Any]:
    if not isinstance(content, bytes) or not isinstance(shape, tuple) or len(shape) > 8:
        raise TypeError
    if not all(type(size) is int and size >= 0 for size in shape):
        raise TypeError
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, Call) or value.name != _DTYPE or value.args is None or value.args[0] not in _KINDS:
        raise TypeError
    order = value.state[1]
    if order not in ("<", ">", "|"):
        raise TypeError
    dtype: np.dtype[Any] = np.dtype(value.args[0]).newbyteorder(order)
    return dtype
