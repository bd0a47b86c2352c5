"""Reading and writing recordings: input formats, WAV, tags, resampling, stereo."""
