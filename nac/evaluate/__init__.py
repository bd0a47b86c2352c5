"""How good and how fast a codec is."""
