"""Whole .nac files: made, decoded, cut, joined, peeled, verified."""
