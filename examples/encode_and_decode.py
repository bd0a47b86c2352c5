"""Use a codec in a program: encode samples and decode codes, at once and as a stream.

python encode_and_decode.py recording.flac
"""

import sys

import soundfile
import soxr
import torch

import nac

codec = nac.load("nac_24khz")
print(f"{codec.spec.name}: {codec.spec.sample_rate} Hz, {len(codec.spec.codebooks)} codebooks, on {codec.device}")

# Codecs take float32 [batch, channels, samples] at their own sample rate; nac.compress converts recordings to it.
samples, sample_rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
mono = soxr.resample(samples.mean(axis=1), sample_rate, codec.spec.sample_rate)
audio = torch.from_numpy(mono)[None, None]

codes = codec.encode(audio, codebooks=8)
print(f"{codes.frames(codec.spec)} frames of {len(codes.arrays)} codes: {codec.spec.kbps(8):g} kbit/s")
restored = codec.decode(codes, length=audio.shape[-1])
assert restored.shape == audio.shape

# The first codebooks can be decoded alone; they contain most of the signal.
coarse = codec.decode(codes.prefix(2), length=audio.shape[-1])
for name, signal in (("8 codebooks", restored), ("2 codebooks", coarse)):
    print(f"{name}: level {20 * torch.log10(signal.std() / audio.std()):+.1f} dB of the original's")

# A long signal can be encoded in blocks, with the same result.
encoder = codec.encoder(codebooks=8)
parts = [encoder.push(block) for block in audio.split(4800, dim=-1)]
streamed = nac.Codes.join([*parts, encoder.flush()])
assert all(torch.equal(a, b) for a, b in zip(streamed.arrays, codes.arrays, strict=True))
