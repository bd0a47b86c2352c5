"""Atomic output files, folders on this machine or on object stores, and shards."""
