"""A model by name, as a codec for programs."""

from __future__ import annotations

import os

from nac.codecs.base import Codec
from nac.codecs.numpy_codec import NumpyCodec
from nac.codecs.tensors import TensorCodec
from nac.weights import models


def load(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    revision: str | None = None,
    download: bool = True,
    progress: bool = False,
) -> Codec:
    """A codec with its weights, ready to use.

    ``weights``: a checkpoint of one's own, a file or a folder. ``device``: "auto", "cpu", "cuda" or "cuda:N".
    ``revision``: branch, tag or commit on the Hub. ``download``: fetch absent weights; ``progress``: with a bar on
    standard error. Raises ModelError where the model is unknown or its weights are absent, wrong or not to be had.
    """
    codec = models.load(
        name, weights=weights, device=device, revision=revision, download=download, progress=progress
    )
    return TensorCodec(codec) if isinstance(codec, NumpyCodec) else codec
