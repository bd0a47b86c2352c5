"""Measure the quality and the speed of codecs."""
