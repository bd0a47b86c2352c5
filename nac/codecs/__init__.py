"""The neural codecs: one module per family, which implements the interface in :mod:`nac.codecs.base`."""
