"""The neural codecs, one module a family, behind the interface of :mod:`nac.codecs.base`."""
