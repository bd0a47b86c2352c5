"""Outputs that appear whole or not at all, and folders here or on object stores."""
