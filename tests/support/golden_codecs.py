"""The networks whose numbers and bytes tests/data/golden keeps: random weights, but for the one in the package."""

from __future__ import annotations

from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.family import Packaged
from nac.codecs.fingerprint import RANDOM
from nac.codecs.registry import MODELS
from nac.weights import models


def codec_of(name: str, narrow: dict[str, Codec]) -> Codec:
    """The network in the package as it is; others with random weights, narrow where they are slow."""
    if any(isinstance(source, Packaged) for source in MODELS[name].sources):
        return models.load(name)
    codec = narrow[name] if name in narrow else registry.random(MODELS[name].spec)[0]
    # Random numbers may differ in the last bits on another processor, and so would their fingerprint.
    codec.spec = codec.spec.with_fingerprint(RANDOM)
    return codec
