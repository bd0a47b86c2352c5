"""Convert codes to token sequences for language models of audio, and back.

Codes are numpy arrays or torch tensors of integers: one array [codebooks, frames], or, if the codebooks have
different numbers of codes per frame (SNAC), a list with one array [frames * codes_per_frame] per codebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A", "np.ndarray[Any, Any]", "Tensor")


def flatten(codes: A | Sequence[A]) -> A:
    """Interleave the codes of all codebooks in one sequence, ordered by time, then coarse to fine.

    With one code per frame in each codebook, the order is frame by frame, as in CSM: reshaped to [T, K], the rows
    of the result are frames. With SNAC's 1, 2 and 4 codes, each frame is a tree in depth-first order, as in
    Orpheus: 0, 1a, 2a, 2b, 1b, 2c, 2d.

    Parameters
    ----------
    codes : array [K, T], or sequence of arrays [frames * codes_per_frame]
        Codes of each codebook, coarse to fine; numpy arrays or tensors of integers.

    Returns
    -------
    array [n]
        All codes, with the same array type and dtype.

    Raises
    ------
    ValueError
        If the lengths of the arrays are not multiples of the number of frames.

    Examples
    --------
    >>> import numpy as np, nac
    >>> nac.flatten([np.array([0]), np.array([10, 11]), np.array([20, 21, 22, 23])])
    array([ 0, 10, 20, 21, 11, 22, 23])
    """
    books = list(cast("Sequence[A]", codes))
    frames = min(len(book) for book in books)
    units = [len(book) // frames if frames else 1 for book in books]
    if any(len(book) != frames * unit for book, unit in zip(books, units, strict=True)):
        lengths = [len(book) for book in books]
        raise ValueError(f"codebooks of {lengths} codes are not whole frames: the shortest must divide the others")
    joined = _concatenate([book.reshape(frames, unit) for book, unit in zip(books, units, strict=True)])
    return cast(A, joined[:, _order(units)].reshape(-1))


def unflatten(tokens: A, codes_per_frame: Sequence[int]) -> list[A]:
    """Split a sequence of codes into codebooks: the inverse of :func:`flatten`.

    Parameters
    ----------
    tokens : array [n]
        A numpy array or a tensor of integers.
    codes_per_frame : sequence of int
        For each codebook: (1, 1, 1, 1) for four codebooks of EnCodec or DAC, (1, 2, 4) for SNAC at 24 kHz.

    Returns
    -------
    list of arrays [frames * codes_per_frame]
        Codes of each codebook.

    Raises
    ------
    ValueError
        If ``n`` is not a multiple of the number of codes in a frame.

    Examples
    --------
    >>> import numpy as np, nac
    >>> nac.unflatten(np.array([0, 10, 20, 21, 11, 22, 23]), (1, 2, 4))
    [array([0]), array([10, 11]), array([20, 21, 22, 23])]
    """
    order = _order(codes_per_frame)
    if len(tokens) % len(order):
        raise ValueError(f"{len(tokens)} tokens are not a multiple of the {len(order)} codes in a frame")
    joined = tokens.reshape(-1, len(order))[:, np.argsort(order).tolist()]
    ends = np.cumsum(codes_per_frame).tolist()
    return [joined[:, end - unit : end].reshape(-1) for end, unit in zip(ends, codes_per_frame, strict=True)]


def delay(codes: A, fill: int, delays: Sequence[int] | None = None) -> A:
    """Delay each codebook by some steps, so that a language model predicts one code of each per step.

    Parameters
    ----------
    codes : array [K, T]
        Codes of each codebook, coarse to fine; a numpy array or a tensor of integers.
    fill : int
        The value for positions where a codebook has no code.
    delays : sequence of K int, optional
        The delay of each codebook in steps. By default *k* for codebook *k*, the pattern of MusicGen (Copet et al.
        2023, arXiv:2306.05284, section 2.2). Moshi's acoustic delay (Défossez et al. 2024, arXiv:2410.00037,
        section 3.4) is ``[0] + 7 * [1]`` for eight codebooks of Mimi, the first of which is semantic.

    Returns
    -------
    array [K, T + max(delays)]
        Codes with the same array type and dtype.

    Raises
    ------
    ValueError
        If the number of delays is not K, or a delay is negative.

    Examples
    --------
    >>> import numpy as np, nac
    >>> nac.delay(np.array([[1, 2, 3], [4, 5, 6]]), fill=-1)
    array([[ 1,  2,  3, -1],
           [-1,  4,  5,  6]])
    """
    steps = _delays(len(codes), delays)
    last = max(steps, default=0)
    return cast(A, _stack([_pad(row, k, last - k, fill) for row, k in zip(codes, steps, strict=True)]))


def undelay(codes: A, delays: Sequence[int] | None = None) -> A:
    """Remove the delays of codebooks: the inverse of :func:`delay`.

    Parameters
    ----------
    codes : array [K, T + max(delays)]
        The result of :func:`delay`, or of a language model with that pattern; a numpy array or a tensor.
    delays : sequence of K int, optional
        As for :func:`delay`.

    Returns
    -------
    array [K, T]
        Codes with the same array type and dtype.

    Raises
    ------
    ValueError
        If there are too few steps, the number of delays is not K, or a delay is negative.

    Examples
    --------
    >>> import numpy as np, nac
    >>> nac.undelay(np.array([[1, 2, 3, -1], [-1, 4, 5, 6]]))
    array([[1, 2, 3],
           [4, 5, 6]])
    """
    offsets = _delays(len(codes), delays)
    steps = codes.shape[1] - max(offsets, default=0)
    if steps < 0:
        raise ValueError(f"{codes.shape[1]} steps are too few for delays of up to {max(offsets)}")
    return cast(A, _stack([row[k : k + steps] for row, k in zip(codes, offsets, strict=True)]))


def _delays(codebooks: int, delays: Sequence[int] | None) -> Sequence[int]:
    if delays is None:
        return range(codebooks)
    if len(delays) != codebooks:
        raise ValueError(f"{len(delays)} delays for {codebooks} codebooks: give one for each")
    if min(delays, default=0) < 0:
        raise ValueError(f"a delay of {min(delays)} steps is negative")
    return delays


def _order(units: Sequence[int]) -> list[int]:
    """Return the order in time of a frame's codes, as indices into its codes sorted by codebook."""
    times = [(index / unit, book) for book, unit in enumerate(units) for index in range(unit)]
    return sorted(range(len(times)), key=times.__getitem__)


def _pad(row: Any, before: int, after: int, fill: int) -> Any:
    if isinstance(row, np.ndarray):
        return np.pad(row, (before, after), constant_values=fill)
    from torch.nn.functional import pad

    return pad(row, (before, after), value=fill)


def _concatenate(arrays: list[Any]) -> Any:
    if isinstance(arrays[0], np.ndarray):
        return np.concatenate(arrays, axis=1)
    import torch

    return torch.cat(arrays, dim=1)


def _stack(rows: list[Any]) -> Any:
    if isinstance(rows[0], np.ndarray):
        return np.stack(rows)
    import torch

    return torch.stack(rows)
