"""Training on codes: datasets, shards, token patterns."""
