"""Recordings in and out: reading, writing, WAV, tags, resampling, stereo."""
