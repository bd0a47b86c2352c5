"""Base class of codecs in numpy, which start in a fraction of the time that importing PyTorch takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nac.codecs.base import Array
from nac.codecs.layers.one_thread import ONE_THREAD
from nac.codecs.windows import WindowedCodec


class NumpyCodec(WindowedCodec[Array]):
    """A codec in numpy with a finite receptive field. See :class:`nac.codecs.windows.WindowedCodec`."""

    def _array(self, values: Array, kind: type[np.float32] | type[np.int64], device: object = None) -> Array:
        return np.asarray(values, kind)

    def _signal(self, values: Array, kind: type[np.float32] | type[np.int64]) -> Array:
        return np.asarray(values, kind)

    def _numpy(self, array: Array) -> Array:
        return array

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with ONE_THREAD:
            yield

    @property
    def _on_gpu(self) -> bool:
        return False
