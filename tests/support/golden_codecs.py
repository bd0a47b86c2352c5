"""The networks whose numbers and bytes tests/data/golden keeps: random weights, but for nac_24khz."""

from __future__ import annotations

import seeded_fullband

from nac.codecs import registry
from nac.codecs.base import Codec
from nac.codecs.family import Packaged
from nac.codecs.fingerprint import RANDOM
from nac.codecs.registry import MODELS
from nac.weights import models


def codec_of(name: str, narrow: dict[str, Codec]) -> Codec:
    """nac_24khz as it is in the package; others with random weights, narrow where they are slow."""
    if name == "nac_48khz":  # its weights in the package will be trained on
        codec: Codec = seeded_fullband.codec()
    elif any(isinstance(source, Packaged) for source in MODELS[name].sources):
        return models.load(name)
    else:
        codec = narrow[name] if name in narrow else registry.random(MODELS[name].spec)[0]
    # Random numbers may differ in the last bits on another processor, and so would their fingerprint.
    codec.spec = codec.spec.with_fingerprint(RANDOM)
    return codec
