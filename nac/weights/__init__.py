"""The models, and finding, downloading, verifying and loading their weights."""
