"""Outputs that appear whole or not at all, folders here or on object stores, and shards."""
