"""What training on codes needs: datasets, shards, token patterns."""
