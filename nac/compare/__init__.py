"""Recordings beside what codecs make of them: `nac compare`."""
