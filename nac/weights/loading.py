"""List the models, and load one as a codec for PyTorch programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nac.codecs.base import Codec
from nac.codecs.layers.numpy_codec import NumpyCodec
from nac.codecs.tensors import TensorCodec
from nac.weights import models as known
from nac.weights.models import Status

if TYPE_CHECKING:
    import torch


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    revision: str | None = None,
    download: bool = True,
    progress: bool = False,
    fast: bool = False,
) -> Codec:
    """Load a codec with its weights.

    Parameters
    ----------
    name : str
        A model's name, as listed by `nac models`.
    weights : path, optional
        Your own checkpoint, a file or a folder, instead of the official weights.
    device : str or torch.device
        "auto" (CUDA if available, else CPU), "cpu", "cuda", "cuda:N" or "mps".
    revision : str, optional
        Branch, tag or commit on the Hub.
    download : bool
        Download the weights if they are not on this machine.
    progress : bool
        Show the progress of the download on standard error.
    fast : bool
        Decode in half precision where that is faster: see :func:`nac.decompress`. Codes are not affected.

    Returns
    -------
    Codec
        A codec whose inputs and outputs are PyTorch tensors.

    Raises
    ------
    ModelError
        If the model is unknown, or its weights are missing, wrong or cannot be downloaded.

    Examples
    --------
    >>> import nac, torch
    >>> codec = nac.load("nac_24khz")
    >>> codes = codec.encode(torch.zeros(1, 1, 24000), codebooks=4)
    >>> len(codes.arrays), codes.arrays[0].shape
    (4, torch.Size([1, 75]))
    """
    codec = known.load(
        name, weights=weights, device=device, revision=revision, download=download, progress=progress, fast=fast
    )
    made: Codec = TensorCodec(codec) if isinstance(codec, NumpyCodec) else codec
    # Everything needed has been downloaded by now.
    made._reload = lambda where: load(
        name, weights=weights, device=where, revision=revision, download=False, fast=fast
    )
    return made


def models() -> list[Status]:
    """List all models, also those of installed packages.

    Returns
    -------
    list of Status
        For each model: name, about, sample_rate (Hz), channels, kbps (lowest and highest of one stream), size
        (bytes), licence, source, and, if its weights are on this machine (``present``), their path and
        fingerprint.

    Raises
    ------
    ModelError
        If ``NAC_WEIGHTS`` is not a folder.

    Examples
    --------
    >>> import nac
    >>> "nac_24khz" in [model.name for model in nac.models() if model.present]
    True
    """
    return known.status()
